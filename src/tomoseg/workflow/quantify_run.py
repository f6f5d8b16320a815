"""A segmentation measured block by block, in this process or in several."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from jaxtyping import Float64, Int32, Int64, UInt8

from tomoseg.quantify.chords import PENCIL_VOXELS, Chords, count_chords, pencils
from tomoseg.quantify.coarse import BlockCells, cell_voxels, count_cells, gather_cells
from tomoseg.quantify.connectivity import BlockParts, Parts, Status, find_parts, mark_parts, merge, part_status
from tomoseg.quantify.curvature import count_cubes
from tomoseg.quantify.euler import euler_numbers
from tomoseg.quantify.grid import Grid, cut, grown, within
from tomoseg.quantify.phases import BlockCounts, PhaseCounts, count_block, gather
from tomoseg.quantify.resolution import HalfSums, full_guard, half_guard, measure_at_half
from tomoseg.quantify.subvolumes import Transports
from tomoseg.quantify.surfaces import SurfaceSums, measure_surfaces
from tomoseg.quantify.triple_lines import LineEdges, LineSums, line_edges, sum_edges
from tomoseg.volume import Region
from tomoseg.workflow.console import Console
from tomoseg.workflow.quantify_sizes import SizeSums, measure_sizes
from tomoseg.workflow.quantify_transport import measure_transport
from tomoseg.workflow.segmentation import Segmentation, Work, open_again
from tomoseg.workflow.spreading import Spread, spread_work


@dataclass(frozen=True)
class BlockSums:
    """What is measured in one block.

    Attributes
    ----------
    number
        Of the block in the grid.
    counts
        Voxels of each class, by plane and by cell.
    euler
        Euler number of each class, int64 (class,).
    surfaces, lines
        Areas and lengths.
    cubes
        How many cubes look like each case, int64 (class, case), for curvatures.
    at_half
        The same by every second voxel along each axis.
    edges, edge_voxels
        The edges of triple lines, and the four voxels around each in voxels of the volume, int32 (edge, 4, 3).
    parts
        Connected parts.
    cells
        Its part of a coarse copy of the volume.
    """

    number: int
    counts: BlockCounts
    euler: Int64[np.ndarray, " class"]
    surfaces: SurfaceSums
    lines: LineSums
    cubes: Int64[np.ndarray, "class case"]
    at_half: HalfSums
    edges: LineEdges
    edge_voxels: Int32[np.ndarray, "edge 4 3"]
    parts: BlockParts
    cells: BlockCells


@dataclass(frozen=True)
class Sums:
    """What is measured in the whole.

    Attributes
    ----------
    grid
        The blocks.
    blocks
        What is measured in each, in the grid's order.
    parts
        Connected parts of the whole.
    counts
        Voxels of each class in the whole, by plane and by cell.
    chords
        Along z, y and x.
    sizes
        Balls that fit, particles, correlation; None where they were not asked for.
    transport
        How phases conduct in parts of the volume; None where it was not asked for.
    activity
        Length of the triple lines by triple and by `Status` along z, y and x, float64 (axis, triple, status); active is
        what touches percolating parts only, inactive what touches an isolated part.
    cells
        Voxels of each class in the cells of a coarse copy, int32 (class, z, y, x); for pictures.
    """

    grid: Grid
    blocks: tuple[BlockSums, ...]
    parts: Parts
    counts: PhaseCounts
    chords: tuple[Chords, Chords, Chords]
    activity: Float64[np.ndarray, "axis triple status"]
    sizes: SizeSums | None
    cells: Int32[np.ndarray, "class z y x"]
    transport: Transports | None = None


@dataclass(frozen=True)
class Asked:
    """Voxels of a block whose part's status is asked for.

    Attributes
    ----------
    number
        Of the block.
    voxels
        In voxels of the volume, int32 (voxel, axis); `rows` says which voxel of which edge each is.
    status
        `Status` along z, y and x of each part of the block, uint8 (axis, part).
    """

    number: int
    voxels: Int32[np.ndarray, "voxel 3"]
    rows: Int64[np.ndarray, " voxel"]
    status: UInt8[np.ndarray, "axis part"]


def measure(
    segmentation: Segmentation, work: Work, *, workers: int, scheduler: str | None = None, console: Console
) -> Sums:
    """Measure a segmentation; the result is the same for any number of workers.

    Raises
    ------
    InputError
        If it cannot be read, or holds a value that is no class.
    """
    grid = cut(segmentation.shape, edge=work.block)
    with spread_work(work, workers, scheduler) as spread:
        blocks = tuple(console.track(spread(measure_block, range(len(grid))), "measuring blocks", len(grid)))
        parts = merge([block.parts for block in blocks], grid)
        activity = _activity(blocks, parts, grid=grid, spread=spread, console=console)
        chords = _chords(grid, spread=spread, console=console)
        sizes = measure_sizes(work, grid, spread=spread, console=console) if work.sizes else None
        transport = measure_transport(segmentation, spread=spread, console=console) if work.transport else None
    counts = gather((block.counts for block in blocks), shape=grid.shape, n_classes=len(work.classes))
    cells = gather_cells(
        (block.cells for block in blocks),
        shape=grid.shape,
        cell=cell_voxels(grid.shape, work.voxel_size),
        n_classes=len(work.classes),
    )
    return Sums(grid, blocks, parts, counts, chords, activity, sizes, cells, transport)


def measure_block(work: Work, number: int) -> BlockSums:
    """Measure one block with as much around it as directions need."""
    segmentation = open_again(work)
    grid = cut(segmentation.shape, edge=work.block)
    region, n = grid[number], len(work.classes)
    wide, box = (grown(region, by=by(work.voxel_size), shape=grid.shape) for by in (half_guard, full_guard))
    around = segmentation.read(wide)
    labels = np.ascontiguousarray(around[within(box, wide)])
    inner = Region(*(end for part in within(region, box) for end in (part.start, part.stop)))
    its_own = np.ascontiguousarray(labels[inner.slices])
    edges = line_edges(labels, n_classes=n, voxel_size=work.voxel_size, own=inner)
    start = np.array([box.z0, box.y0, box.x0], np.int32)
    return BlockSums(
        number,
        count_block(its_own, region, n_classes=n),
        euler_numbers(labels, n_classes=n, connectivity=6, own=inner),
        measure_surfaces(labels, n_classes=n, voxel_size=work.voxel_size, own=inner),
        sum_edges(edges, labels, n_classes=n, voxel_size=work.voxel_size, own=inner),
        count_cubes(labels, n_classes=n, own=inner),
        measure_at_half(around, region, wide, n_classes=n, voxel_size=work.voxel_size),
        edges,
        edges.voxels + start,
        find_parts(its_own, number=number, grid=grid),
        count_cells(its_own, region, cell=cell_voxels(grid.shape, work.voxel_size), n_classes=n),
    )


def measure_chords(work: Work, where: tuple[int, Region]) -> Chords:
    """Count the chords along an axis in a region that is whole along it."""
    axis, region = where
    return count_chords(open_again(work).read(region), axis=axis, n_classes=len(work.classes))


def look_up(work: Work, asked: Asked) -> UInt8[np.ndarray, "axis voxel"]:
    """Return the status along z, y and x of the parts that voxels of a block are in."""
    segmentation = open_again(work)
    region = cut(segmentation.shape, edge=work.block)[asked.number]
    labels = segmentation.read(region)
    at = tuple((asked.voxels - np.array([region.z0, region.y0, region.x0])).T)
    local = np.arange(asked.status.shape[1])
    return np.stack([mark_parts(labels, status, of_block=local)[at] for status in asked.status])


def _activity(
    blocks: Sequence[BlockSums], parts: Parts, *, grid: Grid, spread: Spread, console: Console
) -> Float64[np.ndarray, "axis triple status"]:
    """Return the length of each triple's lines by what is known of the parts that they touch."""
    status = np.stack([part_status(parts, axis=axis) for axis in range(3)])
    voxels = np.concatenate([block.edge_voxels for block in blocks]).reshape(-1, 3)
    where = grid.numbers(voxels)
    asked = []
    for number in np.unique(where):
        rows = np.flatnonzero(where == number)
        asked.append(Asked(int(number), voxels[rows], rows, status[:, parts.of_block[number]]))
    found = np.zeros((3, len(voxels)), np.uint8)
    for one, its in zip(
        asked, console.track(spread(look_up, asked), "following triple lines", len(asked)), strict=True
    ):
        found[:, one.rows] = its
    lengths = np.concatenate([block.edges.lengths for block in blocks])
    triples = np.concatenate([block.edges.triples for block in blocks])
    activity = np.zeros((3, blocks[0].lines.lengths.shape[1], len(Status)))
    for axis, several in enumerate(found.reshape(3, -1, 4)):
        isolated, through = (several == Status.ISOLATED).any(axis=1), (several == Status.PERCOLATES).all(axis=1)
        its = np.select([isolated, through], [Status.ISOLATED, Status.PERCOLATES], Status.UNKNOWN)
        np.add.at(activity[axis], (triples, its), lengths)
    return activity


def _chords(grid: Grid, *, spread: Spread, console: Console) -> tuple[Chords, Chords, Chords]:
    lines = [(axis, one) for axis in range(3) for one in pencils(grid.shape, axis=axis, most_voxels=PENCIL_VOXELS)]
    found: tuple[list[Chords], ...] = ([], [], [])
    for (axis, _), one in zip(
        lines, console.track(spread(measure_chords, lines), "measuring chords", len(lines)), strict=True
    ):
        found[axis].append(one)
    along_z, along_y, along_x = (reduce(add, several) for several in found)
    return along_z, along_y, along_x
