"""How far areas and lines depend on the voxel: the same of every second voxel along each axis.

An interface's error falls with the square of the voxel's edge where its bends are wide. So no more than a third of what
half the resolution loses is lost at the full one: L. F. Richardson, Philosophical Transactions A 210 (1911) 307, DOI
10.1098/rsta.1911.0009. Where features are a few voxels wide the error falls faster, and a third is too much.
"""

from __future__ import annotations

import numpy as np

from tomoseg.quantify.grid import Labels, Shape, within
from tomoseg.quantify.steps import VoxelSize
from tomoseg.quantify.surfaces import SurfaceSums, measure_surfaces, surface_guard
from tomoseg.quantify.triple_lines import LineSums, line_guard, measure_lines
from tomoseg.volume import Region

FEWEST = 8
"""Voxels that a volume needs along each axis: half of them still have an inside."""


def full_guard(voxel_size: VoxelSize) -> Shape:
    """Return how many voxels around its own a block needs along (z, y, x) for its areas and lines.

    Examples
    --------
    >>> full_guard((1.0, 1.0, 1.0))
    (10, 10, 10)
    """
    z, y, x = np.maximum(surface_guard(voxel_size=voxel_size), line_guard(voxel_size=voxel_size)).tolist()
    return z, y, x


def half_guard(voxel_size: VoxelSize) -> Shape:
    """Return how many it needs for those at half the resolution.

    Examples
    --------
    >>> half_guard((1.0, 1.0, 1.0))
    (22, 22, 22)
    """
    z, y, x = (2 * (one + 1) for one in full_guard(voxel_size))
    return z, y, x


def measure_at_half(
    labels: Labels, region: Region, box: Region, *, n_classes: int, voxel_size: VoxelSize = (1.0, 1.0, 1.0)
) -> tuple[SurfaceSums, LineSums]:
    """Return areas and lengths of a block by every second voxel of the volume.

    Parameters
    ----------
    labels
        Class indices of `box`, uint8 (z, y, x).
    region, box
        The block, and it with `half_guard` voxels around it, or as many as there are, in voxels of the volume.
    n_classes
        Number of classes.
    voxel_size
        Edges of a voxel along (z, y, x) in any unit, which sums come in.

    Examples
    --------
    >>> labels = np.zeros((16, 16, 16), np.uint8)
    >>> labels[..., 8:] = 1
    >>> whole = Region.whole(labels.shape)
    >>> areas, _ = measure_at_half(labels, whole, whole, n_classes=2)
    >>> float(areas.pair_areas[0, 1])
    256.0
    """
    z, y, x = (slice(start % 2, None, 2) for start in (box.z0, box.y0, box.x0))
    half = np.ascontiguousarray(labels[z, y, x])
    ends = [end for part in within(_halved(region), _halved(box)) for end in (part.start, part.stop)]
    size = 2 * voxel_size[0], 2 * voxel_size[1], 2 * voxel_size[2]
    own = Region(*ends)
    return (
        measure_surfaces(half, n_classes=n_classes, voxel_size=size, own=own),
        measure_lines(half, n_classes=n_classes, voxel_size=size, own=own),
    )


def _halved(region: Region) -> Region:
    """Return which of the even voxels lie in a region, counted among themselves."""
    ends = (region.z0, region.z1, region.y0, region.y1, region.x0, region.x1)
    return Region(*(-(-end // 2) for end in ends))
