"""Torch: always there."""

from __future__ import annotations

from copy import deepcopy
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tomoseg.engine.base import Probabilities, Stack
from tomoseg.unet import Convolutions, UNet


def limit_torch_threads(threads: int) -> None:
    """Let torch use at most `threads` processor threads."""
    torch.set_num_threads(threads)


def gpu() -> str:
    """Return the name of the GPU that torch would run on; nothing where there is none."""
    return f"cuda {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""


class TorchEngine:
    """Runs a network with torch: batch norms folded into convolutions, channels last, on a GPU if there is any.

    Parameters
    ----------
    network
        In evaluation mode; it is copied.
    precision
        f32, which is not replaced by TF32 on a GPU, or bf16, which rounds differently for tiles of different sizes;
        the first convolution is in f32 always: half and more of the labels that bf16 changes are changed there.
    """

    def __init__(self, network: UNet, *, precision: Literal["f32", "bf16"] = "f32") -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        folded = _fold(network) if precision == "f32" else _round(_fold(network))
        self._network = folded.to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, stack: Stack) -> Probabilities:
        """Return class probabilities (class, y, x) of network input (channel, y, x), whole pooling cells."""
        image = torch.from_numpy(np.ascontiguousarray(stack))[None].to(self._device)
        with torch.inference_mode():
            logits = self._network(image.contiguous(memory_format=torch.channels_last))[0].float()
            probabilities: Probabilities = torch.softmax(logits, dim=0).cpu().numpy()
        return probabilities


def _fold(network: UNet) -> UNet:
    """Return a copy of a network in evaluation mode whose batch norms are part of the convolutions before them."""
    folded = UNet(network.config)
    folded.load_state_dict(network.state_dict())
    folded.eval()
    for block in folded.modules():
        if isinstance(block, Convolutions):
            for place in range(0, len(block), 3):
                block[place] = fuse_conv_bn_eval(block[place], block[place + 1])  # type: ignore[type-var, arg-type]
                block[place + 1] = nn.Identity()
    return folded


def _round(folded: UNet) -> UNet:
    """Return a network without batch norms in bf16 but for its first convolution; it is changed."""
    first = deepcopy(folded.first[0])
    folded.to(torch.bfloat16)
    folded.first[0] = nn.Sequential(first, _Rounded())
    return folded


class _Rounded(nn.Module):
    """Turns what it is given to bf16."""

    def forward(self, features: Tensor) -> Tensor:
        """Return features of the same shape."""
        return features.bfloat16()
