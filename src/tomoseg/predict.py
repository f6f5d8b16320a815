"""Slices in, class probabilities out, tile by tile."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, Shaped, UInt8

from tomoseg.engine import Engine, Probabilities
from tomoseg.labels import UNLABELLED
from tomoseg.tiles import Tile, cut, tile_for_memory, tiles
from tomoseg.unet_config import UNetConfig
from tomoseg.window import Window

Slice = Shaped[np.ndarray, "y x"]
Index = UInt8[np.ndarray, "y x"]

MOST_EDGE = 1024
"""Largest edge of a tile: larger ones gain little and leave the processor's caches."""

DEFAULT_MEMORY = 2_000_000_000
_BYTES_PER_PIXEL_AND_CHANNEL = 24  # measured: the peak of a forward pass, by the channels of its largest step
_SLACK_OF_VIEWS = 1.3  # measured: several views in one batch, and what the allocator keeps of layers so large
_BYTES_OF_INPUT, _BYTES_OF_OUTPUT = 12, 8  # a value of the stack, its copies in the engine's order; logits and softmax


@dataclass(frozen=True)
class Runner:
    """A network ready to run on slices: the same engine, window and tiles for all of them.

    Attributes
    ----------
    engine
        Runs the network.
    network
        Its config.
    window
        Turns grey values into network input.
    tile
        Edge of a tile's part in pixels.
    """

    engine: Engine
    network: UNetConfig
    window: Window
    tile: int

    def parts(
        self,
        stack: Sequence[Slice],
        *,
        box: tuple[slice, slice] | None = None,
    ) -> Iterator[tuple[tuple[slice, slice], Float32[np.ndarray, "class y x"]]]:
        """Yield the class probabilities of a slice tile by tile, with where each lies in the slice.

        Parameters
        ----------
        stack
            Grey values of the slice and its context, rising in z, each (y, x).
        box
            The part (y, x) to be covered; all without it.
        """
        whole = (stack[0].shape[0], stack[0].shape[1])
        for part in self.tiles(whole, box):
            given = np.stack([self.plane(values, part, shape=whole, origin=(0, 0)) for values in stack])
            yield self.placed(part, self.engine.run(given), box=box)

    def tiles(self, shape: tuple[int, int], box: tuple[slice, slice] | None) -> list[Tile]:
        """Return the tiles that cover a slice of `shape` (y, x), or a box of it."""
        return list(tiles(shape, tile=self.tile, halo=self.network.halo, grid=self.network.grid, box=box))

    def plane(
        self, values: Slice, part: Tile, *, shape: tuple[int, int], origin: tuple[int, int]
    ) -> Float32[np.ndarray, "height width"]:
        """Return one channel of the network's input for a tile: the grey values of a slice in the window."""
        return self.window.apply(cut(values, part, shape=shape, origin=origin))

    def placed(
        self, part: Tile, given: Probabilities, *, box: tuple[slice, slice] | None
    ) -> tuple[tuple[slice, slice], Float32[np.ndarray, "class inner_y inner_x"]]:
        """Return what the network gave for a tile without its halo, and where it lies in the slice."""
        return _clipped(part.core, given[(slice(None), *part.inner)], box)

    def segment(self, stack: Sequence[Slice]) -> Index:
        """Return the most probable class of each pixel, uint8 (y, x)."""
        found = np.full(stack[0].shape, UNLABELLED, np.uint8)
        for core, probabilities in self.parts(stack):
            found[core] = probabilities.argmax(axis=0)
        return found


def _clipped(
    core: tuple[slice, slice], given: Float32[np.ndarray, "class y x"], box: tuple[slice, slice] | None
) -> tuple[tuple[slice, slice], Float32[np.ndarray, "class inner_y inner_x"]]:
    """Leave out what a tile has before the box, whose tiles start on the pooling grid."""
    if box is None:
        return core, given
    starts = [max(0, wanted.start - has.start) for has, wanted in zip(core, box, strict=True)]
    inside = tuple(slice(has.start + skip, has.stop) for has, skip in zip(core, starts, strict=True))
    return (inside[0], inside[1]), given[:, starts[0] :, starts[1] :]


def choose_tile(network: UNetConfig, *, memory: int = DEFAULT_MEMORY) -> int:
    """Return the edge of a tile whose forward pass takes at most `memory` bytes, no larger than `MOST_EDGE`.

    Examples
    --------
    >>> choose_tile(UNetConfig(classes=3)), choose_tile(UNetConfig(classes=3), memory=100_000_000)
    (1024, 368)
    """
    edge = tile_for_memory(memory, bytes_per_pixel=bytes_per_pixel(network), halo=network.halo, grid=network.grid)
    return min(MOST_EDGE, edge)


def bytes_per_pixel(network: UNetConfig) -> int:
    """Return the bytes that a forward pass takes at its peak for each pixel that is fed.

    Examples
    --------
    >>> bytes_per_pixel(UNetConfig(classes=3)), bytes_per_pixel(UNetConfig(classes=3, mirrored=2))
    (420, 1092)
    """
    # each step has a quarter of the pixels of the one above it
    channels = max(-(-width // (1 << 2 * step)) for step, width in enumerate(network.widths))
    given_and_found = _BYTES_OF_INPUT * network.channels + _BYTES_OF_OUTPUT * network.classes
    one_view = _BYTES_PER_PIXEL_AND_CHANNEL * -(-channels // network.stem**2) + given_and_found
    return one_view if network.mirrored == 1 else round(_SLACK_OF_VIEWS * network.mirrored * one_view)


def read_stack(read: Callable[[int], Slice], channels: Sequence[int]) -> list[Slice]:
    """Return the slices `channels`, each read once."""
    found = {z: read(z) for z in set(channels)}
    return [found[z] for z in channels]
