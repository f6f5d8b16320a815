"""Torch: always there."""

from __future__ import annotations

from typing import Literal

import numpy as np
import torch
from torch import nn
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
        f32, which is not replaced by TF32 on a GPU, or bf16, which rounds differently for tiles of different sizes.
    """

    def __init__(self, network: UNet, *, precision: Literal["f32", "bf16"] = "f32") -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
        self._type = torch.bfloat16 if precision == "bf16" else torch.float32
        folded = _fold(network).to(self._device, self._type)
        self._network = folded.to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, stack: Stack) -> Probabilities:
        """Return class probabilities (class, y, x) of network input (channel, y, x), whole pooling cells."""
        image = torch.from_numpy(np.ascontiguousarray(stack))[None].to(self._device, self._type)
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
