"""How much memory a prediction takes, and the blocks and tiles that keep to what was promised."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from pydantic import BaseModel, ConfigDict

from tomoseg.ends import MARGIN
from tomoseg.engine import EngineChoice
from tomoseg.errors import SettingError
from tomoseg.unet_config import UNetConfig
from tomoseg.volume.turned import Axis, turn_shape
from tomoseg.workflow.predict_plan import THICKNESS, Lanes, Shape

EDGES = (1024, 768, 512, 384, 256, 128)
"""Edges of a block in pixels, of which the largest is taken that the memory allows."""

_TILES = (1024, 896, 768, 640, 512, 448, 384, 320, 256, 192, 128, 96, 64)
_CODEC_BYTES = 60_000_000  # zarr's threads, imagecodecs, the allocator's slack
_BYTES_OF_FORETOLD = 40  # a pixel: sums in float64 while a slice beyond an end is made
CLUSTER_BYTES = 30_000_000
"""Memory of Dask in a process."""

TRIED_EDGE = 512
"""Edge in pixels of the stack on which the network is tried before a run."""

_PROCESS_BYTES = {
    "torch f32": 340_000_000,
    "torch bf16": 340_000_000,
    "openvino int8": 190_000_000,
    "openvino bf16": 470_000_000,
    "openvino f32": 470_000_000,
    "onnx f32": 165_000_000,
}
"""Resident memory of a process in which an engine has run a small tile (measured): the libraries that it loads."""


def parse_memory(text: str) -> int:
    """Read an amount of memory in bytes.

    Raises
    ------
    SettingError
        If it has another form.

    Examples
    --------
    >>> parse_memory("500MB"), parse_memory("1.5GB")
    (500000000, 1500000000)
    """
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*(KB|MB|GB|TB)", text.strip().upper())
    if found is None or float(found[1]) == 0:
        raise SettingError(f"--memory {text!r} is no amount of memory; write it like 500MB or 2GB")
    return int(float(found[1]) * 1000 ** (["KB", "MB", "GB", "TB"].index(found[2]) + 1))


@dataclass(frozen=True)
class Promise:
    """How the memory that was promised is shared.

    Attributes
    ----------
    total
        Bytes promised for all.
    first
        Bytes that go to a process which only leads.
    processes, extra
        Processes that compute, and bytes of each that are not for voxels.
    """

    total: int
    first: int = 0
    processes: int = 1
    extra: int = 0

    @property
    def each(self) -> int:
        """Bytes for what a computing process needs.

        Examples
        --------
        >>> Promise(1000, first=200, processes=2, extra=30).each
        370
        """
        return (self.total - self.first) // self.processes - self.extra

    def enough(self, needed: int) -> int:
        """Return the total with which each computing process has `needed` bytes.

        Examples
        --------
        >>> Promise(1000, first=200, processes=2, extra=30).enough(370)
        1000
        """
        return self.first + self.processes * (needed + self.extra)


class NotEnoughError(Exception):
    """Not even the smallest blocks and tiles fit.

    Attributes
    ----------
    least
        Bytes of a process that these take.
    """

    def __init__(self, least: int) -> None:
        super().__init__(least)
        self.least = least


def process_bytes(engine: EngineChoice) -> int:
    """Return the memory that a process takes before it has any voxels, whether it is there yet or not."""
    return _PROCESS_BYTES[str(engine)]


def trial_bytes(lanes: Lanes, bytes_per_pixel: int) -> int:
    """Return the memory that trying the network takes."""
    return lanes.computing * TRIED_EDGE**2 * bytes_per_pixel


class Needs(BaseModel):
    """What decides how much memory a process takes.

    Attributes
    ----------
    shape
        Voxels of the volume along (z, y, x).
    itemsize
        Bytes of a grey value.
    network
        Its channels, halo and classes count.
    outputs
        Bytes a voxel that are written: labels, probabilities, uncertainty.
    axes
        Along which the network runs.
    bytes_per_pixel
        Of a forward pass, for each pixel that is fed.
    threads
        Processor threads of the process.
    process
        Bytes of the process before it has any voxels.
    reading
        Bytes that a read takes beside its result.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    shape: Shape
    itemsize: int
    network: UNetConfig
    outputs: int
    axes: Literal["z", "zyx"]
    bytes_per_pixel: int
    threads: int
    process: int
    reading: int = 0

    def of(self, block: Shape, tile: int) -> int:
        """Return the bytes that a process takes at its peak, for a block's edges and a tile's."""
        axes: tuple[Axis, ...] = ("z",) if self.axes == "z" else ("z", "y", "x")
        return max(self._across(turn_shape(self.shape, axis), block, tile) for axis in axes)

    def _across(self, shape: Shape, block: Shape, tile: int) -> int:
        """Return the same for the volume turned so that planes are taken across its first axis."""
        depth, height, width = (min(edge, size) for edge, size in zip(block, shape, strict=True))
        halo, context = 2 * self.network.halo, 2 * self.network.context
        seen = (height + halo + 2 * MARGIN) * (width + halo + 2 * MARGIN)
        slab = (depth + context) * seen * self.itemsize + self.reading
        foretelling = seen * _BYTES_OF_FORETOLD if context else 0
        kept = depth * height * width * self._kept_bytes
        fed = (min(tile, height) + halo) * (min(tile, width) + halo)
        lanes = Lanes.of(self.threads)
        running = lanes.computing * fed * self.bytes_per_pixel
        return self.process + _CODEC_BYTES + lanes.in_flight * (slab + kept + foretelling) + running

    @property
    def _kept_bytes(self) -> int:
        """Bytes a voxel of what a block gives, of its compressed copy and its mask; along axes what comes in, too."""
        classes = self.network.classes
        return 1 + 2 * self.outputs + (3 * 2 * classes if self.axes == "zyx" else 0)


def choose_block(needs: Needs, *, memory: int) -> tuple[Shape, int]:
    """Return the block's edges and the tile's edge that cost the least of those that `memory` bytes allow.

    Raises
    ------
    NotEnoughError
        If none fits; it says what the smallest take.
    """
    # along y and x a chunk has 256 voxels, of which a block has whole ones
    edges = [edge for edge in EDGES if needs.axes == "z" or edge % 256 == 0]
    pairs = [((THICKNESS, edge, edge), tile) for edge in edges for tile in _TILES if tile <= edge]
    fitting = [pair for pair in pairs if needs.of(*pair) <= memory]
    if not fitting:
        raise NotEnoughError(min(needs.of(*pair) for pair in pairs))
    return min(fitting, key=lambda pair: _cost(needs, *pair))


def _cost(needs: Needs, block: Shape, tile: int) -> float:
    """Return the work for a pixel: what is run twice in halos, and, much cheaper, what is read twice."""
    halo = 2 * needs.network.halo
    longest = max(needs.shape[1:])
    run, read = min(tile, longest), min(block[1], longest)
    return float(((run + halo) / run) ** 2 + 0.05 * ((read + halo) / read) ** 2)
