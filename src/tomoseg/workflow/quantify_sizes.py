"""What `--sizes` asks for, block by block: balls that fit, particles, two-point correlation."""

from __future__ import annotations

from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from jaxtyping import Int64

from tomoseg.quantify.chords import PENCIL_VOXELS, pencils
from tomoseg.quantify.correlation import Pairs, count_pairs
from tomoseg.quantify.grid import Grid, cut
from tomoseg.quantify.particles import Runs, whole_runs, window_runs
from tomoseg.quantify.sizes import Sizes, cover_block, default_radii, largest_distance
from tomoseg.quantify.watershed import Basins, BlockBasins, find_basins, join
from tomoseg.volume import Region
from tomoseg.workflow.console import Console
from tomoseg.workflow.segmentation import Work, open_again
from tomoseg.workflow.spreading import Spread

_MOST_RADIUS = 64
"""In voxels: larger balls would take more memory than a block; what they would cover, balls of this size cover too."""


_GUARD_IN_RADII = 2.25
"""How far around a block its particles are looked at, in radii of the largest ball: seldom is it not enough."""


@dataclass(frozen=True)
class SizeSums:
    """What is measured of sizes in the whole.

    Attributes
    ----------
    balls
        What balls of each size cover in each block.
    particles
        All particles, cut ones too.
    runs
        Runs of voxels inside the mask along z, y and x.
    pairs
        Pairs of voxels by lag, of each block, int64 (block, counted, axis, lag).
    """

    balls: tuple[Sizes, ...]
    particles: Basins
    runs: tuple[Runs, Runs, Runs]
    pairs: Int64[np.ndarray, "block counted axis lag"]


def measure_sizes(work: Work, grid: Grid, *, spread: Spread, console: Console) -> SizeSums:
    """Measure sizes; the result is the same for any blocks and any number of workers."""
    n, numbers = len(grid), range(len(grid))
    largest = max(console.track(spread(reach, numbers), "finding the largest balls", n))
    radii = tuple(default_radii(largest, voxel_size_um=work.voxel_size).tolist())
    balls = tuple(console.track(spread(cover, [(number, radii) for number in numbers]), "measuring sizes", n))
    guard = _GUARD_IN_RADII * largest / min(work.voxel_size)
    basins = console.track(spread(basins_of, [(number, guard) for number in numbers]), "splitting particles", n)
    particles = join(basins, voxel_size_um=work.voxel_size)
    pairs = np.stack(list(console.track(spread(pairs_of, numbers), "correlating", n)))
    return SizeSums(balls, particles, _window(work, grid, spread=spread, console=console), pairs)


def reach(work: Work, number: int) -> float:
    """Return the largest distance from a voxel of a block to another phase."""
    segmentation = open_again(work)
    grid = cut(segmentation.shape, edge=work.block)
    most = _MOST_RADIUS * min(work.voxel_size)
    return largest_distance(
        segmentation.read, grid[number], shape=grid.shape, voxel_size_um=work.voxel_size, most_um=most
    )


def cover(work: Work, asked: tuple[int, tuple[float, ...]]) -> Sizes:
    """Return what balls of the given radii cover in a block."""
    (number, radii), segmentation = asked, open_again(work)
    grid = cut(segmentation.shape, edge=work.block)
    return cover_block(
        segmentation.read,
        grid[number],
        shape=grid.shape,
        radii_um=radii,
        voxel_size_um=work.voxel_size,
        n_classes=len(work.classes),
    )


def basins_of(work: Work, asked: tuple[int, float]) -> BlockBasins:
    """Return the basins of a block, read with a guard at first."""
    (number, guard), segmentation = asked, open_again(work)
    grid = cut(segmentation.shape, edge=work.block)
    return find_basins(segmentation.read, grid[number], shape=grid.shape, voxel_size_um=work.voxel_size, guard=guard)


def pairs_of(work: Work, number: int) -> Pairs:
    """Count the pairs of voxels whose first is in a block."""
    segmentation = open_again(work)
    grid = cut(segmentation.shape, edge=work.block)
    return count_pairs(segmentation.read, grid[number], shape=grid.shape, n_classes=len(work.classes))


def runs_of(work: Work, where: tuple[int, Region]) -> Runs:
    """Count the runs inside the mask along an axis in a region that is whole along it."""
    axis, region = where
    return window_runs(open_again(work).read(region), axis=axis)


def _window(work: Work, grid: Grid, *, spread: Spread, console: Console) -> tuple[Runs, Runs, Runs]:
    if open_again(work).source.view.all_inside and not work.nowhere:
        along_z, along_y, along_x = (whole_runs(grid.shape, axis=axis) for axis in range(3))
        return along_z, along_y, along_x
    found = []
    for axis, name in enumerate("zyx"):
        lines = [(axis, one) for one in pencils(grid.shape, axis=axis, most_voxels=PENCIL_VOXELS)]
        found.append(reduce(add, console.track(spread(runs_of, lines), f"measuring the mask along {name}", len(lines))))
    along_z, along_y, along_x = found
    return along_z, along_y, along_x
