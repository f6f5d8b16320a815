"""What a segmentation does to the numbers, measured in slabs of neighbouring labelled slices as in a volume.

A network that goes slice by slice smooths within slices and is uneven between them. Sections along the slices see the
one and not the other: at much noise an interface can lack 3 % of its length in them and have its whole area in space.
Where labelled slices are neighbours, both are counted as `quantify` counts them.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import combinations

import numpy as np
from jaxtyping import Float64, UInt8

from tomoseg.intervals import even_parts
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import grown, within
from tomoseg.quantify.resolution import full_guard
from tomoseg.quantify.sections import Tiles
from tomoseg.quantify.steps import VoxelSize
from tomoseg.quantify.surfaces import measure_surfaces
from tomoseg.quantify.triple_lines import measure_lines
from tomoseg.volume import Region

Labels = UInt8[np.ndarray, "z y x"]

THINNEST = 8
"""Slices of a slab: with fewer, most normals are cut off at its faces."""

THICKNESS = 16
"""Longer runs are cut into slabs of that many slices and more, so that few slices are held at a time."""


def slabs_of(numbers: Sequence[int]) -> list[slice]:
    """Return the slabs that slices of these rising numbers make: runs of neighbours, long ones cut evenly.

    Examples
    --------
    >>> slabs_of([3, 4, 5, 9]), slabs_of(range(40))
    ([slice(0, 3, None), slice(3, 4, None)], [slice(0, 20, None), slice(20, 40, None)])
    """
    breaks = np.flatnonzero(np.diff(numbers) != 1) + 1
    starts = [0, *breaks.tolist()]
    ends = [*breaks.tolist(), len(numbers)]
    return [
        slice(start + part.start, start + part.stop)
        for start, end in zip(starts, ends, strict=True)
        for part in even_parts(end - start, THICKNESS)
    ]


def slab_tiles(label: Labels, found: Labels, *, n_classes: int, edge: int, voxel_size: VoxelSize) -> Tiles:
    """Return what adds up to numbers of a slab, labelled and predicted, tile by tile.

    Parameters
    ----------
    label, found
        Class indices of a slab, uint8 (z, y, x); voxels that are not labelled count in neither.
    n_classes
        Number of classes.
    edge
        Smallest edge of a tile along y and x in voxels.
    voxel_size
        Edges of a voxel along (z, y, x) in any unit, which densities come in.

    Returns
    -------
    array (tile, way, number)
        Way 0 is labelled, 1 predicted; voxels of each class, then area per volume of each pair and length per volume
        of each triple times voxels, as `sections.number_names`.

    Examples
    --------
    >>> label = np.zeros((8, 8, 8), np.uint8)
    >>> label[..., 4:] = 1
    >>> slab_tiles(label, label, n_classes=2, edge=8, voxel_size=(1.0, 1.0, 1.0))[0, 1].tolist()
    [256.0, 256.0, 73.14285714285714]
    """
    ways = label, np.where(label == UNLABELLED, label, found)
    tiles = list(_tiles(label.shape, edge))
    return np.array([[_numbers(way, tile, n_classes, voxel_size) for way in ways] for tile in tiles])


def _tiles(shape: tuple[int, ...], edge: int) -> Iterator[Region]:
    depth, height, width = shape
    for rows in even_parts(height, edge):
        for columns in even_parts(width, edge):
            yield Region(0, depth, rows.start, rows.stop, columns.start, columns.stop)


def _numbers(labels: Labels, tile: Region, n: int, voxel_size: VoxelSize) -> Float64[np.ndarray, " number"]:
    """Return the numbers of a tile, its densities times its voxels: a slab holds fewer faces across z than along."""
    depth, height, width = labels.shape
    box = grown(tile, by=full_guard(voxel_size), shape=(depth, height, width))
    around = np.ascontiguousarray(labels[box.slices])
    own = Region(*(end for part in within(tile, box) for end in (part.start, part.stop)))
    counts = np.bincount(around[own.slices].ravel(), minlength=256)[:n].astype(np.float64)
    areas = measure_surfaces(around, n_classes=n, voxel_size=voxel_size, own=own).densities
    lines = measure_lines(around, n_classes=n, voxel_size=voxel_size, own=own).densities
    pairs = [areas[pair] for pair in combinations(range(n), 2)]
    return np.concatenate([counts, counts.sum() * np.array([*pairs, *lines])])
