"""How much of each phase there is, along which slices, and how large a volume must be to know it.

Counts of blocks are added up: `count_block` a block, in any order and in other processes; `gather` over what these
gave. The counts are kept for each slice along each axis and for each cell, a small cube aligned with the volume's
origin. Cells make cubes of twice, four times, ... their edge, whose fractions scatter less the larger they are.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int64, Integer

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import Labels, Shape
from tomoseg.volume.base import Region

CELL = 16
"""Edge of the finest cubes in voxels."""

FEWEST_CUBES = 8
"""Below this number of cubes the scatter of their fractions says nothing: its own relative std is above a half."""

Profile = Int64[np.ndarray, "class _"]
"""Voxels of each class in each slice along an axis."""


@dataclass(frozen=True)
class BlockCounts:
    """Voxels of each class in a block.

    Attributes
    ----------
    region
        The block.
    profiles
        Voxels in each of the block's slices along z, y, x, int64 (class, slice).
    cells
        Voxels in each cell that the block meets, in this block only, int64 (class, z, y, x).
    cell
        Edge of the cells in voxels.
    """

    region: Region
    profiles: tuple[Profile, Profile, Profile]
    cells: Int64[np.ndarray, "class z y x"]
    cell: int


@dataclass(frozen=True)
class PhaseCounts:
    """Voxels of each class in a volume.

    Attributes
    ----------
    profiles
        Voxels in each slice along z, y, x, int64 (class, slice).
    cells
        Voxels in each cell, int64 (class, z, y, x); the last along an axis may be smaller.
    cell
        Edge of the cells in voxels.
    """

    profiles: tuple[Profile, Profile, Profile]
    cells: Int64[np.ndarray, "class z y x"]
    cell: int

    @property
    def voxels(self) -> Int64[np.ndarray, " class"]:
        """Voxels of each class in the volume."""
        return np.asarray(self.profiles[0].sum(axis=1))


def count_block(labels: Labels, region: Region, *, n_classes: int, cell: int = CELL) -> BlockCounts:
    """Count the voxels of each class in a block, by slice and by cell.

    Parameters
    ----------
    labels
        Class indices of the block, uint8 (z, y, x); `UNLABELLED` outside the mask counts nowhere.
    region
        Where the block lies in the volume.
    n_classes
        Classes of the volume.
    cell
        Edge of the cells in voxels.

    Raises
    ------
    ValueError
        If a class index is neither below `n_classes` nor `UNLABELLED`.

    Examples
    --------
    >>> labels = np.array([[[0, 1, 1, 255]]], np.uint8)
    >>> counts = count_block(labels, Region.whole((1, 1, 4)), n_classes=2, cell=2)
    >>> counts.profiles[2].tolist(), counts.cells.tolist()
    ([[1, 0, 0, 0], [0, 1, 1, 0]], [[[[1, 0]]], [[[1, 1]]]])
    """
    _check_classes(labels, n_classes)
    cells = np.stack([_cells(labels == index, region, cell) for index in range(n_classes)])
    z, y, x = (_profile(labels, axis, n_classes) for axis in range(3))
    return BlockCounts(region, (z, y, x), cells, cell)


def _check_classes(labels: Labels, n_classes: int) -> None:
    strange = labels[(labels >= n_classes) & (labels != UNLABELLED)]
    if strange.size:
        raise ValueError(f"the labels hold class {strange[0]}; there are {n_classes} classes, from 0")


def _profile(labels: Labels, axis: int, n_classes: int) -> Profile:
    others = tuple(other for other in range(3) if other != axis)
    return np.stack([np.count_nonzero(labels == index, axis=others) for index in range(n_classes)]).astype(np.int64)


def _cells(phase: Bool[np.ndarray, "z y x"], region: Region, cell: int) -> Int64[np.ndarray, "cz cy cx"]:
    """Return the phase's voxels in each cell that the region meets; cells are aligned with the volume's origin."""
    counts: Integer[np.ndarray, "_ _ _"] = phase.view(np.uint8)
    for axis, (start, stop) in enumerate(_extents(region)):
        borders = np.maximum(np.arange(start // cell * cell, stop, cell) - start, 0)
        counts = np.add.reduceat(counts, borders, axis=axis, dtype=np.int32)
    return counts.astype(np.int64)


def _extents(region: Region) -> tuple[tuple[int, int], tuple[int, int], tuple[int, int]]:
    return (region.z0, region.z1), (region.y0, region.y1), (region.x0, region.x1)


def gather(blocks: Iterable[BlockCounts], *, shape: Shape, n_classes: int, cell: int = CELL) -> PhaseCounts:
    """Add up the counts of blocks.

    Parameters
    ----------
    blocks
        What `count_block` gave for each block, in any order.
    shape
        Voxels of the volume along (z, y, x).
    n_classes, cell
        As `count_block` was given.

    Raises
    ------
    ValueError
        If a block was counted with cells of another edge.

    Examples
    --------
    >>> labels, left, right = np.array([[[0, 1, 1]]], np.uint8), Region(0, 1, 0, 1, 0, 1), Region(0, 1, 0, 1, 1, 3)
    >>> blocks = [count_block(labels[part.slices], part, n_classes=2) for part in (left, right)]
    >>> gather(blocks, shape=(1, 1, 3), n_classes=2).voxels
    array([1, 2])
    """
    z, y, x = (np.zeros((n_classes, size), np.int64) for size in shape)
    total = PhaseCounts((z, y, x), np.zeros((n_classes, *(-(-size // cell) for size in shape)), np.int64), cell)
    for block in blocks:
        if block.cell != cell:
            raise ValueError(f"a block was counted in cells of {block.cell} voxels, not {cell}")
        extents = _extents(block.region)
        for whole, own, (start, stop) in zip(total.profiles, block.profiles, extents, strict=True):
            whole[:, start:stop] += own
        place = tuple(slice(start // cell, -(-stop // cell)) for start, stop in extents)
        total.cells[(slice(None), *place)] += block.cells
    return total


def fractions(voxels: Int64[np.ndarray, "class *slices"]) -> Float64[np.ndarray, "class *slices"]:
    """Return each class's share of the voxels inside the mask, of a volume or of each of its slices, 0 to 1.

    Returns
    -------
        NaN where nothing is inside the mask.

    Examples
    --------
    >>> fractions(np.array([[1, 0], [3, 0]]))
    array([[0.25,  nan],
           [0.75,  nan]])
    """
    visible = voxels.sum(axis=0, keepdims=True)
    return np.asarray(np.divide(voxels, visible, out=np.full(voxels.shape, np.nan), where=visible > 0))


@dataclass(frozen=True)
class Scatter:
    """How a phase's fraction scatters over the cubes of one edge that tile the volume.

    Attributes
    ----------
    edge
        Of the cubes in voxels.
    cubes
        How many lie wholly inside the volume and the mask.
    mean
        Of their fractions.
    std
        Of their fractions, about this mean with one degree of freedom less; None for a single cube.
    """

    edge: int
    cubes: int
    mean: float
    std: float | None


def scatter(counts: PhaseCounts, *, index: int) -> tuple[Scatter, ...]:
    """Return the scatter of a phase's fraction over cubes of one, two, four, ... cells, while a whole one is there.

    Parameters
    ----------
    counts
        Of the volume.
    index
        The phase's class.

    Examples
    --------
    >>> labels = np.zeros((2, 2, 4), np.uint8)
    >>> labels[:, :, 2:] = 1
    >>> whole = Region.whole(labels.shape)
    >>> counts = gather([count_block(labels, whole, n_classes=2, cell=2)], shape=labels.shape, n_classes=2, cell=2)
    >>> scatter(counts, index=1)
    (Scatter(edge=2, cubes=2, mean=0.5, std=0.7071067811865476),)
    """
    phase, visible, edge = counts.cells[index], counts.cells.sum(axis=0), counts.cell
    found: list[Scatter] = []
    while (whole := visible == edge**3).any():
        shares = phase[whole] / edge**3
        std = float(shares.std(ddof=1)) if len(shares) > 1 else None
        found.append(Scatter(edge, len(shares), float(shares.mean()), std))
        phase, visible, edge = _doubled(phase), _doubled(visible), 2 * edge
    return tuple(found)


def _doubled(counts: Int64[np.ndarray, "cz cy cx"]) -> Int64[np.ndarray, "dz dy dx"]:
    """Return the counts of cubes of two cells along each axis; cells left over at the end make no cube."""
    z, y, x = (size // 2 for size in counts.shape)
    even = counts[: 2 * z, : 2 * y, : 2 * x]
    return np.asarray(even.reshape(z, 2, y, 2, x, 2).sum(axis=(1, 3, 5)))


@dataclass(frozen=True)
class IntegralRange:
    """The volume that counts as one independent sample of a phase, or why it can't be told.

    Attributes
    ----------
    volume_um3
        The integral range in cubic micrometres.
    fraction
        The phase's fraction in the cubes.
    relative_std
        Of the integral range, from the number of cubes.
    edge
        Edge in voxels of the cubes that it was taken from.
    note
        Why there is no value, or why it is a lower bound.
    """

    volume_um3: float | None = None
    fraction: float | None = None
    relative_std: float | None = None
    edge: int | None = None
    note: str | None = None


def integral_range(scatters: Sequence[Scatter], *, voxel_um3: float) -> IntegralRange:
    """Return the integral range A of a phase.

    The fraction f in volumes V that are large against A has the variance::

        var(V) = f (1 - f) A / V

    A is taken from the largest cubes of which there are eight or more (C. Lantuéjoul, 1991,
    DOI 10.1111/j.1365-2818.1991.tb03099.x). Where cubes of half that edge give less than half of it the cubes are not
    large against the structure, and A is a lower bound.

    Parameters
    ----------
    scatters
        The phase's `scatter`.
    voxel_um3
        Volume of a voxel in cubic micrometres.

    Examples
    --------
    >>> integral_range([Scatter(16, 64, 0.5, 0.05), Scatter(32, 9, 0.5, 0.02)], voxel_um3=1.0).volume_um3
    52.4288
    >>> integral_range([Scatter(16, 4, 0.5, 0.05)], voxel_um3=1.0).note
    'only 4 cubes of 16 voxels are wholly inside; 8 are needed'
    """
    enough = [one for one in scatters if one.cubes >= FEWEST_CUBES]
    if not enough:
        most = scatters[0].cubes if scatters else 0
        edge = f" of {scatters[0].edge} voxels" if scatters else ""
        return IntegralRange(note=f"only {most} cubes{edge} are wholly inside; {FEWEST_CUBES} are needed")
    ranges = [_range(one) for one in enough]
    last = enough[-1]
    if ranges[-1] is None:
        return IntegralRange(fraction=last.mean, edge=last.edge, note="the cubes hold nothing or nothing else")
    rises = len(ranges) > 1 and ranges[-2] is not None and ranges[-1] > 2 * ranges[-2]
    note = f"a lower bound: it still grows with the cubes at {last.edge} voxels" if rises else None
    spread = float(np.sqrt(2 / (last.cubes - 1)))
    return IntegralRange(ranges[-1] * voxel_um3, last.mean, spread, last.edge, note)


def _range(one: Scatter) -> float | None:
    """Return V var(V) / (f (1 - f)) in voxels; None where the phase is absent or alone."""
    if one.std is None or not 0 < one.mean < 1:
        return None
    return float(one.edge**3 * one.std**2 / (one.mean * (1 - one.mean)))


def volume_needed(found: IntegralRange, *, relative_error: float) -> float | None:
    """Return the volume in cubic micrometres in which a phase's fraction f is known to a relative error.

    Two standard deviations are the error (T. Kanit et al., 2003, DOI 10.1016/S0020-7683(03)00143-4)::

        V = 4 A (1 - f) / (f error^2)

    Parameters
    ----------
    found
        The phase's integral range A.
    relative_error
        Half the 95 % interval over the fraction, above 0.

    Returns
    -------
        None where the integral range has no value.

    Examples
    --------
    >>> volume_needed(IntegralRange(volume_um3=2.0, fraction=0.5), relative_error=0.5)
    32.0
    """
    if found.volume_um3 is None or found.fraction is None:
        return None
    return 4 * found.volume_um3 * (1 - found.fraction) / (found.fraction * relative_error**2)
