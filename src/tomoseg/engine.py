"""How a trained network is run."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from tomoseg.unet import DoubleConvolution, UNet

Stack = Float32[np.ndarray, "channel y x"]
Probabilities = Float32[np.ndarray, "class y x"]


def limit_torch_threads(threads: int) -> None:
    """Let torch use at most `threads` processor threads."""
    torch.set_num_threads(threads)


@runtime_checkable
class Engine(Protocol):
    """Runs a network on one stack."""

    def run(self, stack: Stack) -> Probabilities:
        """Return class probabilities (class, y, x) of network input (channel, y, x), whole pooling cells."""
        ...


class TorchEngine:
    """Runs a network with torch in float32: batch norms folded into convolutions, channels last, on a GPU if any.

    Half precision rounds differently for tiles of different sizes; then they would leave a trace.
    """

    def __init__(self, network: UNet) -> None:
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._network = _fold(network).to(self._device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]

    def run(self, stack: Stack) -> Probabilities:
        """Return class probabilities (class, y, x) of network input (channel, y, x), whole pooling cells."""
        image = torch.from_numpy(np.ascontiguousarray(stack))[None].to(self._device)
        with torch.inference_mode():
            logits = self._network(image.contiguous(memory_format=torch.channels_last))[0]
            probabilities: Probabilities = torch.softmax(logits, dim=0).cpu().numpy()
        return probabilities


def _fold(network: UNet) -> UNet:
    """Return a copy of a network in evaluation mode whose batch norms are part of the convolutions before them."""
    folded = UNet(network.config)
    folded.load_state_dict(network.state_dict())
    folded.eval()
    for block in folded.modules():
        if isinstance(block, DoubleConvolution):
            for place in (0, 3):
                block[place] = fuse_conv_bn_eval(block[place], block[place + 1])  # type: ignore[type-var, arg-type]
                block[place + 1] = nn.Identity()
    return folded
