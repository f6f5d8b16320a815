"""Connected parts of every phase, block by block, and what they connect.

Voxels belong together where they share a face. Across edges and corners alone nothing is conducted in a
finite-volume model, and with faces only no two phases can pass through each other at an edge: of four voxels
around an edge, two and two of a kind, either pair would be joined by 18 or 26 neighbours, the crossing pair as
well. Every phase is treated alike, which faces alone allow without joining two that cross.

A volume is done in three passes: `find_parts` a block, in any order and in other processes; `merge` over what
these gave, which is small; `mark_parts` a block, for whoever needs to know what part a voxel is in.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from itertools import pairwise, product

import cc3d
import numpy as np
from jaxtyping import Bool, Int64, UInt, UInt8
from scipy.sparse import coo_array, csgraph

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import Grid, Labels, Shape
from tomoseg.volume.base import Region

CUT = 6
"""Column of `touches` for the mask's edge, after the faces low z, high z, low y, high y, low x, high x."""

Plane = UInt[np.ndarray, "_ _"]
"""Part of each voxel on a block's face, from 1; 0 outside the mask."""

Planes = tuple[Plane | None, Plane | None, Plane | None]


class Status(IntEnum):
    """What is known of a part along an axis, for the activity of a triple-phase boundary on it."""

    PERCOLATES = 0
    """It reaches from one face of the volume to the opposite one."""
    ISOLATED = 1
    """It ends inside the volume on all sides."""
    UNKNOWN = 2
    """It does not percolate here, but goes on beyond the scan or the mask."""


@dataclass(frozen=True)
class BlockParts:
    """The connected parts of one block, and what is needed to join them to the next block's.

    Attributes
    ----------
    number
        Of the block in the grid.
    classes
        Class of each part.
    voxels
        Voxels of each part.
    touches
        Whether a part touches the volume's low and high faces along z, y, x, and the mask's edge (`CUT`).
    low, high
        The first and last plane of the block along z, y, x; None on the volume's face.
    """

    number: int
    classes: UInt8[np.ndarray, " part"]
    voxels: Int64[np.ndarray, " part"]
    touches: Bool[np.ndarray, "part 7"]
    low: Planes
    high: Planes


@dataclass(frozen=True)
class Parts:
    """The connected parts of a volume. Their order depends on the blocks, all else does not.

    Attributes
    ----------
    classes
        Class of each part.
    voxels
        Voxels of each part.
    touches
        Whether a part touches the volume's low and high faces along z, y, x, and the mask's edge (`CUT`).
    of_block
        For each block: which part of the volume its own parts 1, 2, ... belong to.
    """

    classes: UInt8[np.ndarray, " part"]
    voxels: Int64[np.ndarray, " part"]
    touches: Bool[np.ndarray, "part 7"]
    of_block: tuple[Int64[np.ndarray, _], ...]


def find_parts(labels: Labels, *, number: int, grid: Grid) -> BlockParts:
    """Return the connected parts of a block.

    Parameters
    ----------
    labels
        Class indices of the block, uint8 (z, y, x), `UNLABELLED` outside the mask.
    number
        Of the block in `grid`.
    grid
        The blocks of the volume.

    Examples
    --------
    >>> from tomoseg.quantify.grid import cut
    >>> labels = np.array([[[0, 1, 0, 255]]], np.uint8)
    >>> parts = find_parts(labels, number=0, grid=cut((1, 1, 4), edge=4))
    >>> parts.classes, parts.touches[:, CUT]
    (array([0, 1, 0], dtype=uint8), array([False, False,  True]))
    """
    parts, n = _components(labels)
    voxels = np.bincount(parts.ravel(), minlength=n + 1).astype(np.int64)
    classes = np.zeros(n + 1, np.uint8)
    classes[parts] = labels
    low, high = _planes(parts, grid[number], grid.shape)
    touches = np.zeros((n + 1, CUT + 1), bool)
    for axis in range(3):
        for side, inner in enumerate((low[axis], high[axis])):
            if inner is None:
                touches[_plane(parts, axis, -side), 2 * axis + side] = True
    if not parts.all():
        touches[_beside_mask(parts), CUT] = True
    return BlockParts(number, classes[1:], voxels[1:], touches[1:], low, high)


def _components(labels: Labels) -> tuple[UInt[np.ndarray, "z y x"], int]:
    """Return the part of each voxel from 1, and their number; the same whenever it is called on the same block."""
    # One is added because 0 means background to cc3d: classes begin at 1, and UNLABELLED comes round to 0.
    shifted = labels + np.uint8(256 - UNLABELLED)
    parts, n = cc3d.connected_components(shifted, connectivity=6, return_N=True)
    return np.ascontiguousarray(parts), int(n)


def _plane(parts: UInt[np.ndarray, "z y x"], axis: int, index: int) -> Plane:
    return np.asarray(np.take(parts, index, axis=axis))


def _planes(parts: UInt[np.ndarray, "z y x"], region: Region, shape: Shape) -> tuple[Planes, Planes]:
    """Return the block's first and last planes along (z, y, x), in as few bytes as hold them."""
    small = np.min_scalar_type(int(parts.max()))

    def planes(index: int, outer: tuple[bool, bool, bool]) -> Planes:
        z, y, x = (None if out else _plane(parts, axis, index).astype(small) for axis, out in enumerate(outer))
        return z, y, x

    depth, height, width = shape
    return (
        planes(0, (region.z0 == 0, region.y0 == 0, region.x0 == 0)),
        planes(-1, (region.z1 == depth, region.y1 == height, region.x1 == width)),
    )


def _beside_mask(parts: UInt[np.ndarray, "z y x"]) -> UInt[np.ndarray, " part"]:
    """Return the parts that share a face with a masked voxel of the block."""
    found = [np.zeros(0, parts.dtype)]
    for axis in range(3):
        along = np.moveaxis(parts, axis, 0)
        found += [along[:-1][along[1:] == 0], along[1:][along[:-1] == 0]]
    return np.unique(np.concatenate(found))


def merge(blocks: Sequence[BlockParts], grid: Grid) -> Parts:
    """Join the parts of all blocks where they touch across the blocks' faces.

    A union-find (R. E. Tarjan, 1975, DOI 10.1145/321879.321884) over pairs of parts, as connected components of the
    graph of blocks' parts.

    Parameters
    ----------
    blocks
        What `find_parts` gave for each block, in any order.
    grid
        The blocks of the volume.

    Raises
    ------
    ValueError
        If a block is missing or there twice.

    Examples
    --------
    >>> from tomoseg.quantify.grid import cut
    >>> labels, grid = np.array([[[0, 0, 1, 0]]], np.uint8), cut((1, 1, 4), edge=1)
    >>> blocks = [find_parts(labels[block.slices], number=n, grid=grid) for n, block in enumerate(grid)]
    >>> sorted(zip(merge(blocks, grid).classes.tolist(), merge(blocks, grid).voxels.tolist()))
    [(0, 1), (0, 2), (1, 1)]
    """
    ordered = sorted(blocks, key=lambda block: block.number)
    if [block.number for block in ordered] != list(range(len(grid))):
        raise ValueError(f"{len(ordered)} blocks of parts were given, not each of the volume's {len(grid)} once")
    starts = np.cumsum([0, *(len(block.classes) for block in ordered)])
    local = Parts(
        np.concatenate([block.classes for block in ordered]),
        np.concatenate([block.voxels for block in ordered]),
        np.concatenate([block.touches for block in ordered]),
        of_block=tuple(np.arange(a, b) for a, b in pairwise(starts)),
    )
    pairs, cut = _across(ordered, grid, starts)
    local.touches[cut, CUT] = True
    return _joined(local, pairs[:, local.classes[pairs[0]] == local.classes[pairs[1]]])


def _across(
    blocks: Sequence[BlockParts], grid: Grid, starts: Int64[np.ndarray, " block"]
) -> tuple[Int64[np.ndarray, "2 pair"], Int64[np.ndarray, " part"]]:
    """Return which parts face each other across blocks' faces, and which face the mask; numbered over all blocks."""
    pairs, cut = [np.zeros((2, 0), np.int64)], [np.zeros(0, np.int64)]
    for number, axis in product(range(len(grid)), range(3)):
        other = grid.after(number, axis=axis)
        if other is None:
            continue
        here, there = _facing(blocks[number].high[axis], blocks[other].low[axis])
        a, b = here + starts[number] - 1, there + starts[other] - 1
        pairs.append(np.stack([a, b])[:, (here > 0) & (there > 0)])
        cut += [a[(here > 0) & (there == 0)], b[(here == 0) & (there > 0)]]
    return np.concatenate(pairs, axis=1), np.concatenate(cut)


def _facing(high: Plane | None, low: Plane | None) -> Int64[np.ndarray, "2 pair"]:
    """Return each pair of parts once that shares voxel faces across two blocks' planes."""
    if high is None or low is None:
        raise ValueError("a block between others has no plane there; its parts were found for another grid")
    span = int(low.max()) + 1
    codes = np.unique(high.astype(np.int64) * span + low)
    return np.stack(np.divmod(codes, span))


def _joined(local: Parts, pairs: Int64[np.ndarray, "2 pair"]) -> Parts:
    n_local = len(local.classes)
    graph = coo_array((np.ones(pairs.shape[1], np.int8), (pairs[0], pairs[1])), shape=(n_local, n_local))
    n, joined = csgraph.connected_components(graph, directed=False)
    classes, voxels, touches = np.zeros(n, np.uint8), np.zeros(n, np.int64), np.zeros((n, CUT + 1), bool)
    classes[joined] = local.classes
    np.add.at(voxels, joined, local.voxels)
    np.logical_or.at(touches, joined, local.touches)
    return Parts(classes, voxels, touches, tuple(joined[own].astype(np.int64) for own in local.of_block))


def part_status(parts: Parts, *, axis: int) -> UInt8[np.ndarray, " part"]:
    """Return the `Status` of each part along an axis (0 z, 1 y, 2 x), uint8 (part,).

    Examples
    --------
    >>> touches = np.array([[1, 1, 0, 0, 0, 0, 0], [0] * 7, [1, 0, 0, 0, 0, 0, 0]], bool)
    >>> parts = Parts(np.zeros(3, np.uint8), np.ones(3, np.int64), touches, ())
    >>> [Status(status).name for status in part_status(parts, axis=0)]
    ['PERCOLATES', 'ISOLATED', 'UNKNOWN']
    """
    status = np.full(len(parts.classes), Status.UNKNOWN, np.uint8)
    status[~parts.touches.any(axis=1)] = Status.ISOLATED
    status[_ends(parts, axis).all(axis=1)] = Status.PERCOLATES
    return status


def _ends(parts: Parts, axis: int) -> Bool[np.ndarray, "part 2"]:
    return np.asarray(parts.touches[:, 2 * axis : 2 * axis + 2])


def mark_parts(
    labels: Labels, values: UInt8[np.ndarray, " part"], *, of_block: Int64[np.ndarray, " local"]
) -> UInt8[np.ndarray, "z y x"]:
    """Return for each voxel of a block the value of its part, uint8 (z, y, x); `UNLABELLED` outside the mask.

    Parameters
    ----------
    labels
        Class indices of the block, the same as `find_parts` was given.
    values
        A value for each part of the volume, such as its `part_status`.
    of_block
        The block's entry in `Parts.of_block`.

    Raises
    ------
    ValueError
        If the block has another number of parts than it had.

    Examples
    --------
    >>> labels = np.array([[[0, 1, 255]]], np.uint8)
    >>> mark_parts(labels, np.array([7, 8, 9], np.uint8), of_block=np.array([2, 0]))
    array([[[  9,   7, 255]]], dtype=uint8)
    """
    found, n = _components(labels)
    if n != len(of_block):
        raise ValueError(f"the block has {n} parts, but {len(of_block)} were found in it before; it was changed since")
    return np.asarray(np.append(np.uint8(UNLABELLED), values[of_block])[found])


@dataclass(frozen=True)
class Connectivity:
    """How a phase hangs together, in voxels; `share` gives them as shares of the phase.

    Attributes
    ----------
    parts
        Number of connected parts.
    voxels
        Voxels of the phase.
    percolating
        Voxels in parts that reach from one face of the volume to the opposite one, along (z, y, x).
    dead_ended
        Voxels in parts that touch one of these two faces only, along (z, y, x).
    isolated
        Voxels in parts that touch no face of the volume and no edge of the mask.
    """

    parts: int
    voxels: int
    percolating: tuple[int, int, int]
    dead_ended: tuple[int, int, int]
    isolated: int

    def share(self, voxels: int) -> float | None:
        """Return `voxels` as a share of the phase's, 0 to 1; None for a phase that is absent."""
        return voxels / self.voxels if self.voxels else None


def connectivity(parts: Parts, *, n_classes: int) -> tuple[Connectivity, ...]:
    """Return how each phase hangs together (class,).

    Where a mask hides a face of the volume wholly, nothing can reach it: along that axis nothing percolates.

    Examples
    --------
    >>> from tomoseg.quantify.grid import cut
    >>> labels, grid = np.array([[[0, 0, 1, 0]]], np.uint8), cut((1, 1, 4), edge=9)
    >>> pore, solid = connectivity(merge([find_parts(labels, number=0, grid=grid)], grid), n_classes=2)
    >>> pore.parts, pore.share(pore.percolating[2]), pore.share(pore.dead_ended[2])
    (2, 0.0, 1.0)
    """
    return tuple(_of_class(parts, parts.classes == index) for index in range(n_classes))


def _of_class(parts: Parts, chosen: Bool[np.ndarray, " part"]) -> Connectivity:
    def voxels(which: Bool[np.ndarray, " part"]) -> int:
        return int(parts.voxels[chosen & which].sum())

    n_ends = [_ends(parts, axis).sum(axis=1) for axis in range(3)]
    through, dead = ([voxels(np.asarray(n == wanted)) for n in n_ends] for wanted in (2, 1))
    return Connectivity(
        parts=int(chosen.sum()),
        voxels=voxels(chosen),
        percolating=(through[0], through[1], through[2]),
        dead_ended=(dead[0], dead[1], dead[2]),
        isolated=voxels(np.logical_not(parts.touches.any(axis=1))),
    )
