"""How far areas, lines and curvatures depend on the voxel: the same of every second voxel along each axis.

An interface's error falls with the square of the voxel's edge where its bends are wide. So about a third of what half
the resolution loses is lost at the full one: L. F. Richardson, Philosophical Transactions A 210 (1911) 307, DOI
10.1098/rsta.1911.0009. Where phases are few voxels wide that is no bound: at a mean chord of 5 voxels triple lines lose
two thirds at half the resolution, and a third at the full one; at 9 a third, and a twentieth.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64

from tomoseg.quantify.curvature import count_cubes
from tomoseg.quantify.grid import Labels, Shape, within
from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.steps import VoxelSize
from tomoseg.quantify.surfaces import SurfaceSums, measure_surfaces, surface_guard
from tomoseg.quantify.triple_lines import LineSums, line_guard, measure_lines
from tomoseg.volume import Region

AT_HALF = "at_half_resolution"
"""Among a number's settings: the same by every second voxel along each axis."""

MOST_BY_RESOLUTION = 0.02
"""Share of a number that the resolution may cost before people are warned: a third of its change at half of it."""

FEWEST = 8
"""Voxels that a volume needs along each axis: half of them still have an inside."""

_MAY_BE_0 = ("mean curvature", "integral of mean curvature")  # a change relative to it tells nothing


@dataclass(frozen=True)
class HalfSums:
    """Sums over every second voxel along each axis; add those of all blocks to get the whole volume's.

    Attributes
    ----------
    surfaces, lines
        Areas and lengths.
    cubes
        How many cubes of these voxels look like each case, int64 (class, case); see `tomoseg.quantify.curvature`.
    """

    surfaces: SurfaceSums
    lines: LineSums
    cubes: Int64[np.ndarray, "class case"]

    def __add__(self, other: HalfSums) -> HalfSums:
        """Return the sums over both."""
        return HalfSums(self.surfaces + other.surfaces, self.lines + other.lines, self.cubes + other.cubes)


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
) -> HalfSums:
    """Return areas, lengths and cubes of a block by every second voxel of the volume.

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
    >>> found = measure_at_half(labels, whole, whole, n_classes=2)
    >>> float(found.surfaces.pair_areas[0, 1])
    256.0
    """
    z, y, x = (slice(start % 2, None, 2) for start in (box.z0, box.y0, box.x0))
    half = np.ascontiguousarray(labels[z, y, x])
    ends = [end for part in within(_halved(region), _halved(box)) for end in (part.start, part.stop)]
    size = 2 * voxel_size[0], 2 * voxel_size[1], 2 * voxel_size[2]
    own = Region(*ends)
    return HalfSums(
        measure_surfaces(half, n_classes=n_classes, voxel_size=size, own=own),
        measure_lines(half, n_classes=n_classes, voxel_size=size, own=own),
        count_cubes(half, n_classes=n_classes, own=own),
    )


def change_at_half(one: Measurement) -> float | None:
    """Return by which share a number changes at half the resolution; None where that is not known, or tells nothing.

    Examples
    --------
    >>> one = Measurement(name="a", value=2.0, unit="1/um", method="", source="", settings={"at_half_resolution": 1.9})
    >>> round(change_at_half(one), 6)
    -0.05
    """
    half, value = one.settings.get(AT_HALF), one.settings.get("uncorrected", one.value)
    return None if half is None or not value or one.name.startswith(_MAY_BE_0) else float(half) / float(value) - 1


def coarse(found: Sequence[Measurement]) -> str | None:
    """Return a warning where numbers hang on the resolution; None where none does."""
    changes = {one.name: change for one in found if (change := change_at_half(one)) is not None}
    name = min(changes, key=lambda one: changes[one], default=None)
    if name is None or -changes[name] / 3 <= MOST_BY_RESOLUTION:
        return None
    return (
        f"the voxels are coarse for this structure: at half the resolution the {name} would be "
        f"{-100 * changes[name]:.0f} % less, and a third of that may be missing here, more where phases are few voxels "
        "wide. No interval contains it; a scan with smaller voxels tells"
    )


def _halved(region: Region) -> Region:
    """Return which of the even voxels lie in a region, counted among themselves."""
    ends = (region.z0, region.z1, region.y0, region.y1, region.x0, region.x1)
    return Region(*(-(-end // 2) for end in ends))
