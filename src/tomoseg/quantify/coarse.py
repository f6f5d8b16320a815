"""A coarse copy of a segmentation, for pictures of the whole: how many voxels of each class there are in cells."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int32

from tomoseg.quantify.grid import Labels, Shape
from tomoseg.quantify.steps import VoxelSize
from tomoseg.volume.base import Region

CELLS = 72
"""Along the longest edge of a volume, about."""


@dataclass(frozen=True)
class BlockCells:
    """The part of cells that lies in a block.

    Attributes
    ----------
    first
        The first cell along (z, y, x).
    counts
        Voxels of each class in each cell, int32 (class, z, y, x).
    """

    first: Shape
    counts: Int32[np.ndarray, "class z y x"]


def cell_voxels(shape: Shape, voxel_size: VoxelSize, *, cells: int = CELLS) -> Shape:
    """Return how many voxels along (z, y, x) make a cell, which is as near to a cube as whole voxels allow.

    Examples
    --------
    >>> cell_voxels((1000, 1440, 1440), (1.0, 1.0, 1.0)), cell_voxels((40, 720, 720), (4.0, 1.0, 1.0))
    ((20, 20, 20), (2, 10, 10))
    """
    edge = max(size * one for size, one in zip(shape, voxel_size, strict=True)) / cells
    z, y, x = (max(1, round(edge / one)) for one in voxel_size)
    return z, y, x


def count_cells(labels: Labels, region: Region, *, cell: Shape, n_classes: int) -> BlockCells:
    """Return how many voxels of each class a block has in each cell.

    Parameters
    ----------
    labels
        Class indices of the block, uint8 (z, y, x); `UNLABELLED` is in no class.
    region
        The block.
    cell
        Voxels of a cell along (z, y, x).
    n_classes
        Number of classes.
    """
    lows = (region.z0, region.y0, region.x0)
    counts = []
    for order in range(n_classes):
        its = labels == order
        for axis, (low, step, size) in enumerate(zip(lows, cell, labels.shape, strict=True)):
            ends = np.arange(low // step + 1, (low + size - 1) // step + 1) * step - low
            its = np.add.reduceat(its, np.r_[0, ends], axis=axis, dtype=np.int32)
        counts.append(its)
    z, y, x = (low // step for low, step in zip(lows, cell, strict=True))
    return BlockCells((z, y, x), np.stack(counts))


def gather_cells(
    blocks: Iterable[BlockCells], *, shape: Shape, cell: Shape, n_classes: int
) -> Int32[np.ndarray, "class z y x"]:
    """Return how many voxels of each class there are in each cell of the whole, int32 (class, z, y, x)."""
    cells = tuple(-(-size // step) for size, step in zip(shape, cell, strict=True))
    whole = np.zeros((n_classes, *cells), np.int32)
    for one in blocks:
        there = tuple(slice(low, low + n) for low, n in zip(one.first, one.counts.shape[1:], strict=True))
        whole[(slice(None), *there)] += one.counts
    return whole
