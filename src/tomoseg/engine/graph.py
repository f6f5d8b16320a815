"""A network as an ONNX graph, with or without the window inside."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from tomoseg.extras import load_extra
from tomoseg.unet import UNet
from tomoseg.window import Window

OPSET = 20


class Probable(nn.Module):
    """A network followed by softmax: network input (batch, channel, y, x) in, class probabilities out."""

    def __init__(self, network: UNet) -> None:
        super().__init__()
        self.network = network

    def forward(self, stack: Tensor) -> Tensor:
        """Return class probabilities (batch, class, y, x)."""
        return torch.softmax(self.network(stack), dim=1)


class FromGrey(nn.Module):
    """The same with the window before it: grey values (batch, channel, y, x) in."""

    def __init__(self, network: UNet, window: Window) -> None:
        super().__init__()
        self.probable = Probable(network)
        self.low, self.width = window.low, window.width

    def forward(self, grey: Tensor) -> Tensor:
        """Return class probabilities (batch, class, y, x)."""
        found: Tensor = self.probable((grey - self.low) / self.width)
        return found


def to_onnx(module: nn.Module, *, channels: int, grid: int, given: str) -> Any:
    """Return the ONNX model (a protobuf) of a module; y and x may be any whole pooling cells.

    Parameters
    ----------
    module
        `Probable` or `FromGrey`.
    channels
        Input channels.
    grid
        Edge of the pooling cells in pixels.
    given
        Name of the input; the output is `probabilities`.

    Raises
    ------
    SettingError
        If the extra `onnx` is not installed.
    """
    load_extra("onnxscript", extra="onnx", purpose="making an ONNX graph")
    onnx = load_extra("onnx", extra="onnx", purpose="making an ONNX graph")
    cells_y, cells_x = torch.export.Dim("cells_y", min=1, max=1 << 16), torch.export.Dim("cells_x", min=1, max=1 << 16)
    argument = "grey" if isinstance(module, FromGrey) else "stack"
    with torch.no_grad(), _quiet():
        program: Any = torch.onnx.export(
            module.eval(),
            (torch.zeros(1, channels, 4 * grid, 6 * grid),),
            dynamo=True,
            external_data=False,
            opset_version=OPSET,
            input_names=[given],
            output_names=["probabilities"],
            dynamic_shapes={argument: {2: grid * cells_y, 3: grid * cells_x}},
            verbose=False,
        )
    buffer = io.BytesIO()
    program.save(buffer)
    return onnx.load_from_string(buffer.getvalue())


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what torch says of packages that it doesn't need here from the user."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)
