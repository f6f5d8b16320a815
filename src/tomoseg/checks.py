"""Validation data: parts of labelled slices, cut once with a halo, on which training chooses its best weights."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32, UInt8

from tomoseg.degrade import add_gaussian_noise
from tomoseg.labels import UNLABELLED
from tomoseg.slices import Scan, context_slices
from tomoseg.splits import Block, validation_part
from tomoseg.tiles import Tile, cut
from tomoseg.window import Window

MOST_PIXELS = 500_000
"""Pixels validated on at a time: a few per cent of a five-minute budget on two cores."""


@dataclass(frozen=True)
class Check:
    """A part of a validation slice.

    Attributes
    ----------
    image
        Network input (channel, y, x): the part and a halo around it, whole pooling cells.
    inner
        Where the part lies in the network's output.
    label
        Class indices of the part.
    """

    image: Float32[np.ndarray, "channel y x"]
    inner: tuple[slice, slice]
    label: UInt8[np.ndarray, "part_y part_x"]


def make_checks(
    scan: Scan,
    zs: Sequence[int],
    *,
    block: Block | None,
    context: int,
    window: Window,
    noise_grey: float,
    halo: int,
    grid: int,
    seed: int,
) -> tuple[Check, ...]:
    """Cut the validation data of a scan: the `block` of each slice of `zs`, or the slices' middles.

    Parameters
    ----------
    scan
        Where from.
    zs
        Slices that validate.
    block
        Rectangle that validates; whole slices without it, of which at most `MOST_PIXELS` are taken in all.
    context, window, halo, grid
        As the network has them.
    noise_grey
        Std, in grey values, of the noise that is added, the same at each call.
    seed
        Of that noise.
    """
    part = block or _middle(scan.volume.shape[1:])
    tile = _as_tile(part, halo, grid)
    made = []
    for z in validated(zs, part):
        label = validation_part(scan.read_label(z), block)[part.slices]
        if (label != UNLABELLED).any():
            channels = context_slices(z, numbers=scan.numbers, context=context)
            grey = np.stack([cut(scan.read_grey(channel), tile) for channel in channels])
            noisy = add_gaussian_noise(grey, noise_grey, rng=np.random.default_rng([seed, z]))
            made.append(Check(window.apply(noisy), tile.inner, label))
    return tuple(made)


def check_of_tile(
    stack: Float32[np.ndarray, "channel y x"], label: UInt8[np.ndarray, "y x"], *, halo: int, grid: int
) -> Check:
    """Return a check of a tile in window units, continued by reflection where the network looks beyond it."""
    tile = _as_tile(Block(0, label.shape[0], 0, label.shape[1]), halo, grid)
    return Check(np.ascontiguousarray(cut(stack, tile)), tile.inner, label)


def validated(zs: Sequence[int], part: Block) -> list[int]:
    """Return the slices of which `part` validates: evenly spaced ones, `MOST_PIXELS` in all.

    Examples
    --------
    >>> validated(range(9), Block(0, 500, 0, 500))
    [2, 6]
    """
    most = max(1, MOST_PIXELS // ((part.y1 - part.y0) * (part.x1 - part.x0)))
    return list(zs) if len(zs) <= most else [zs[int((i + 0.5) * len(zs) / most)] for i in range(most)]


def _middle(shape: tuple[int, ...]) -> Block:
    edge = int(MOST_PIXELS**0.5)
    y0, x0 = (max(0, (size - edge) // 2) for size in shape)
    return Block(y0, min(y0 + edge, shape[0]), x0, min(x0 + edge, shape[1]))


def _as_tile(part: Block, halo: int, grid: int) -> Tile:
    height, width = (-(-size // grid) * grid + 2 * halo for size in (part.y1 - part.y0, part.x1 - part.x0))
    return Tile(part.y0, part.y1, part.x0, part.x1, halo, height, width)
