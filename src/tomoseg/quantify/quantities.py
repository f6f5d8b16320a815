"""From sums over blocks to measurements with a unit, an interval and a source."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import combinations

import numpy as np
from jaxtyping import Float64, Int64

from tomoseg.quantify.chords import Chords, mean_chord
from tomoseg.quantify.connectivity import Parts, Status, connectivity
from tomoseg.quantify.curvature import CASES, cube_curvatures
from tomoseg.quantify.grid import Edges
from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.names import Names
from tomoseg.quantify.phases import PhaseCounts, integral_range, scatter, volume_needed
from tomoseg.quantify.resolution import AT_HALF, HalfSums
from tomoseg.quantify.sampling import Spread, Sums, Values, independent_blocks, jackknife
from tomoseg.quantify.surfaces import SURFACE_SIGMA, SurfaceSums
from tomoseg.quantify.triple_lines import LINE_SIGMA, LineSums, class_triples

AXES = "zyx"

_LEAST_SHARE = 0.25
"""Of the variance of independent blocks; less than for a segmentation's errors, whose neighbours are alike.

Where a block has much of a phase, its neighbours may have less of it, and the whole then varies less than its blocks.
"""

_CONTAINS = (
    "sampling only: how another piece of this material of the same size would differ; not the segmentation's error"
)
TORQUATO = "Torquato, Random heterogeneous materials, 2002, DOI 10.1007/978-1-4757-6355-3"
_LANTUEJOUL = "Lantuejoul 1991, DOI 10.1111/j.1365-2818.1991.tb03099.x"
_TORIWAKI = "Toriwaki, Yonekura, Forma 17 (2002) 183"
_LENOIR = "Lenoir, Malgouyres, Revenu, DGCI 1996, LNCS 1176, 101, DOI 10.1007/3-540-62005-2"
_OF_LINES = f"as of faces: {_LENOIR}"
_HOSHEN = "Hoshen, Kopelman, Phys. Rev. B 14 (1976) 3438, DOI 10.1103/PhysRevB.14.3438"
_NORMALS = "voxel faces weighted by the local normal"
_TANGENTS = "voxel edges around which three classes meet in turn, weighted by the local tangent"
_LEGLAND = "Legland, Kieu, Devaux, Image Anal. Stereol. 26 (2007) 83, DOI 10.5566/ias.v26.p83-92"
_SECTIONS = "Euler numbers of sections by lattice planes in 13 directions; edges, like those at triple lines, included"
_FACES = "parts connected by voxel faces"
WHOLE = "a property of the scan as a whole: one sample"
ABSENT = "is absent"


@dataclass(frozen=True)
class Counted:
    """The additive sums of all blocks, and how far apart blocks are independent.

    Attributes
    ----------
    voxels
        Of each class in each block, int64 (block, class).
    surfaces, lines
        One a block.
    cells
        Place of each block in the grid of blocks, int64 (block, axis).
    edges
        Mean edges of a block along (z, y, x), in voxels.
    correlation
        Correlation length of the classes in voxels.
    cubes
        How many cubes look like each case in each block, int64 (block, class, case); none where it is not asked for.
    at_half
        Sums of the whole by every second voxel along each axis; None where there are too few.
    """

    voxels: Int64[np.ndarray, "block class"]
    surfaces: Sequence[SurfaceSums]
    lines: Sequence[LineSums]
    cells: Int64[np.ndarray, "block axis"]
    edges: tuple[float, float, float]
    correlation: float
    cubes: Int64[np.ndarray, "block class case"] = field(default_factory=lambda: np.zeros((0, 0, CASES), np.int64))
    at_half: HalfSums | None = None

    def spread(self, sums: Float64[np.ndarray, "block sum"], statistic: Callable[[Sums], Values]) -> Spread:
        """Return numbers of the whole with their intervals over independent blocks."""
        found = independent_blocks(self.cells, self.edges, length=self.correlation)
        places, groups = np.unique(found, axis=0, return_inverse=True)
        together = np.zeros((len(places), sums.shape[1]))
        np.add.at(together, groups.ravel(), sums)
        return jackknife(together, statistic, places=places, least_share=_LEAST_SHARE)


def phase_fractions(counted: Counted, names: Names) -> list[Measurement]:
    """Return the share of each class in the voxels that count."""
    found = counted.spread(counted.voxels.astype(np.float64), lambda sums: sums / sums.sum())
    return [
        sampled(names.fraction(order), found, order, unit="1", method="share of voxels", source=TORQUATO)
        for order in range(len(names.classes))
    ]


def representative_volumes(counts: PhaseCounts, names: Names, *, voxel: float) -> list[Measurement]:
    """Return the volume that must be measured to know each fraction within a relative error of 5 %."""
    found = []
    for index, name in enumerate(names.classes):
        its = integral_range(scatter(counts, index=index), voxel_um3=voxel)
        found.append(
            Measurement(
                name=f"volume that tells the phase fraction {name} within 5 %",
                value=volume_needed(its, relative_error=0.05),
                unit=f"{names.length}3",
                method="from the integral range, the scatter of the fraction over cubes",
                source=_LANTUEJOUL,
                note=its.note,
            )
        )
    return found


def euler_densities(
    total: Int64[np.ndarray, " class"], counted: Counted, names: Names, *, voxel: float
) -> list[Measurement]:
    """Return the Euler number of each class per volume."""
    volume = voxel * float(counted.voxels.sum())
    return [
        Measurement(
            name=f"Euler number {name} per volume",
            value=float(number) / volume if voxels else None,
            unit=f"1/{names.length}3",
            method="corners, edges, faces and voxels counted, voxels connected by faces",
            source=_TORIWAKI,
            note=WHOLE if voxels else absent(name),
        )
        for name, number, voxels in zip(names.classes, total, counted.voxels.sum(axis=0), strict=True)
    ]


def interface_areas(counted: Counted, names: Names) -> list[Measurement]:
    """Return the area per volume of each class's surface, and of the interface of each pair."""
    n = len(names.classes)
    pairs = list(combinations(range(n), 2))
    sums = np.stack(
        [np.concatenate([one.areas.ravel(), one.stair_areas.ravel(), one.volumes]) for one in counted.surfaces]
    )

    def densities(its: Sums) -> Values:
        areas, stairs = its[: 3 * n * n].reshape(3, n, n), its[3 * n * n : -3].reshape(3, n, n)
        smooth, rough = (SurfaceSums(one, one, its[-3:]).densities for one in (areas, stairs))
        return np.array([*smooth.sum(axis=0), *(smooth[pair] for pair in pairs), *(rough[pair] for pair in pairs)])

    found, unit = counted.spread(sums, densities), f"1/{names.length}"
    settings: dict[str, object] = {"sigma_voxels": SURFACE_SIGMA}
    why = [_no_area(counted, (i,), names) for i in range(n)] + [_no_area(counted, pair, names) for pair in pairs]
    named = [f"surface area {name} per volume" for name in names.classes]
    named += [names.area(*pair) for pair in pairs]
    told: list[dict[str, object]] = [{} for _ in named]
    for i in range(len(pairs)):
        told[n + i]["counted_in_full"] = float(found.values[n + len(pairs) + i])
    if counted.at_half is not None:
        half = counted.at_half.surfaces.densities
        for its, value in zip(told, [*half.sum(axis=0), *(half[pair] for pair in pairs)], strict=True):
            its[AT_HALF] = float(value)
    return [
        sampled(
            name, found, order, unit=unit, method=_NORMALS, source=_LENOIR, why_not=no, settings={**settings, **its}
        )
        for order, (name, no, its) in enumerate(zip(named, why, told, strict=True))
    ]


def mean_curvatures(counted: Counted, names: Names, *, voxel_size: Edges) -> list[Measurement]:
    """Return each class's integral of mean curvature per volume, and the mean curvature of its surface.

    The latter is the integral over the surface's area, above 0 where the class bulges outwards.
    """
    blocks = zip(counted.cubes, counted.surfaces, strict=True)
    sums = np.stack([_cubes_and_areas(*block) for block in blocks])
    found = counted.spread(sums, lambda its: _curvatures(its, voxel_size))
    half = np.full(found.values.shape, np.nan)
    if (its := counted.at_half) is not None:
        z, y, x = voxel_size
        half = _curvatures(_cubes_and_areas(its.cubes, its.surfaces), (2 * z, 2 * y, 2 * x))
    named = [(f(i), i) for f in (names.integral, names.curvature) for i in range(len(names.classes))]
    return [
        sampled(
            name,
            found,
            order,
            unit=f"1/{names.length}2" if name.startswith("integral") else f"1/{names.length}",
            method=_SECTIONS if name.startswith("integral") else f"{_SECTIONS}; over the surface's area",
            source=_LEGLAND,
            why_not=_no_area(counted, (i,), names) or _no_curvature(counted, found.values[order], names.classes[i]),
            settings={AT_HALF: float(half[order])} if np.isfinite(half[order]) else {},
        )
        for order, (name, i) in enumerate(named)
    ]


def _no_curvature(counted: Counted, value: float, name: str) -> str | None:
    """Return why a class that has an interface, as far as its voxels go, has no curvature."""
    if not counted.cubes.any():
        return "not defined: nowhere do 2 x 2 x 2 voxels lie inside the mask"
    return None if np.isfinite(value) else f"not defined: {name} has no surface"


def _cubes_and_areas(cubes: Int64[np.ndarray, "class case"], surfaces: SurfaceSums) -> Sums:
    """Return cubes by class and case, areas by axis and class, and these areas' volumes, in a row.

    Cubes are only counted here, so that their sums are the same for any blocks to the last digit.
    """
    return np.concatenate([cubes.ravel(), surfaces.areas.sum(axis=1).ravel(), surfaces.volumes])


def _curvatures(sums: Sums, voxel_size: Edges) -> Values:
    """Return integrals of mean curvature per volume, then those per area; nan where there is neither."""
    n = (len(sums) - 3) // (CASES + 3)
    cubes, areas, volumes = sums[: n * CASES].reshape(n, CASES), sums[n * CASES : -3].reshape(3, n), sums[-3:, None]
    integrals, volume = cubes @ cube_curvatures(voxel_size), np.prod(voxel_size) * cubes.sum(axis=1)
    densities = np.divide(integrals, volume, out=np.full(n, np.nan), where=volume > 0)
    area = np.divide(areas, volumes, out=np.zeros_like(areas), where=volumes > 0).sum(axis=0)
    return np.concatenate([densities, np.divide(densities, area, out=np.full(n, np.nan), where=area > 0)])


def triple_lines(counted: Counted, names: Names) -> list[Measurement]:
    """Return the length per volume of the lines where three classes meet, for each triple."""
    triples = class_triples(len(names.classes))
    sums = np.stack(
        [np.concatenate([one.lengths.ravel(), one.stair_lengths.ravel(), one.volumes]) for one in counted.lines]
    )
    size = 3 * len(triples)

    def densities(its: Sums) -> Values:
        lengths, stairs = its[:size].reshape(3, -1), its[size : 2 * size].reshape(3, -1)
        return np.concatenate([LineSums(one, one, its[-3:]).densities for one in (lengths, stairs)])

    found = counted.spread(sums, densities)
    half = None if counted.at_half is None else counted.at_half.lines.densities
    return [
        sampled(names.line(triple), found, order, unit=f"{names.length}/{names.length}3", method=_TANGENTS,
                 source=_OF_LINES, why_not=_no_area(counted, triple, names),
                 settings={"sigma_voxels": LINE_SIGMA, "counted_in_full": float(found.values[len(triples) + order]),
                           **({} if half is None else {AT_HALF: float(half[order])})})
        for order, triple in enumerate(triples)
    ]  # fmt: skip


def line_activity(
    activity: Float64[np.ndarray, "axis triple status"], counted: Counted, names: Names
) -> list[Measurement]:
    """Return how much of each triple's lines is active, inactive or unknown along each axis, per volume."""
    total = sum(one.volumes for one in counted.lines)
    volume = float(np.mean(total))
    found = []
    for order, triple in enumerate(class_triples(len(names.classes))):
        no = _no_area(counted, triple, names)
        for axis, its in enumerate(activity[:, order]):
            for status, word in (
                (Status.PERCOLATES, "active"),
                (Status.ISOLATED, "inactive"),
                (Status.UNKNOWN, "unknown"),
            ):
                found.append(
                    Measurement(
                        name=f"{names.line(triple)}, {word} along {AXES[axis]}",
                        value=None if no or not volume else float(its[status]) / volume,
                        unit=f"{names.length}/{names.length}3",
                        method=f"{_TANGENTS}; active where all three phases percolate, inactive where one is isolated",
                        source=_OF_LINES,
                        note=no or WHOLE,
                    )
                )
    return found


def connectivities(parts: Parts, counted: Counted, names: Names) -> list[Measurement]:
    """Return for each class how many parts it has, and how much of it percolates, ends dead or is isolated.

    Along an axis along which the volume is one voxel thick each part touches both faces, and that tells nothing.
    """
    thin = {axis: _one_voxel(axis) for axis in _flat_axes(counted)}
    found = []
    for name, one in zip(names.classes, connectivity(parts, n_classes=len(names.classes)), strict=True):
        numbers: list[tuple[str, float | None, str | None]]
        numbers = [
            (f"number of parts {name}", float(one.parts) if one.voxels else None, None),
            (f"isolated fraction {name}", one.share(one.isolated), flat(counted)),
        ]
        for axis, (through, dead) in enumerate(zip(one.percolating, one.dead_ended, strict=True)):
            numbers.append((f"percolating fraction {name} along {AXES[axis]}", one.share(through), thin.get(axis)))
            numbers.append((f"dead-ended fraction {name} along {AXES[axis]}", one.share(dead), thin.get(axis)))
        for what, value, no in numbers:
            why_not = absent(name) if value is None else no
            found.append(
                Measurement(
                    name=what,
                    value=None if why_not else value,
                    unit="1",
                    method=_FACES,
                    source=_HOSHEN,
                    note=why_not or WHOLE,
                )
            )
    return found


def chord_lengths(chords: Sequence[Chords], edges: Sequence[float], names: Names) -> list[Measurement]:
    """Return the mean chord length of each class along each axis."""
    found = []
    for axis, (one, edge) in enumerate(zip(chords, edges, strict=True)):
        for name, value in zip(names.classes, mean_chord(one, edge_um=edge), strict=True):
            found.append(
                Measurement(
                    name=f"mean chord length {name} along {AXES[axis]}",
                    value=float(value) if np.isfinite(value) else None,
                    unit=names.length,
                    method="voxels per interface crossing",
                    source=TORQUATO,
                    note=WHOLE if np.isfinite(value) else f"{name} meets no interface along {AXES[axis]}",
                )
            )
    return found


def sampled(
    name: str,
    found: Spread,
    order: int,
    *,
    unit: str,
    method: str,
    source: str,
    why_not: str | None = None,
    settings: Mapping[str, object] | None = None,
) -> Measurement:
    """Return a number with its interval over blocks, or why there is none."""
    if why_not is not None:
        return Measurement(
            name=name,
            value=None,
            unit=unit,
            method=method,
            source=source,
            settings=dict(settings or {}),
            note=why_not,
        )
    ends = float(found.low[order]), float(found.high[order])
    no = found.why_not or (
        None if np.isfinite(ends).all() else "no interval: without one of the blocks it has no value"
    )
    return Measurement(
        name=name,
        value=float(found.values[order]),
        unit=unit,
        interval=None if no else ends,
        interval_contains=None if no else f"{_CONTAINS} (jackknife over {found.n_blocks} blocks)",
        method=method,
        source=source,
        settings=dict(settings or {}),
        note=no,
    )


def absent(name: str) -> str:
    """Return why a phase that is not there has no numbers."""
    return f"not defined: {name} {ABSENT}"


def _no_area(counted: Counted, classes: Sequence[int], names: Names) -> str | None:
    """Return why classes have no interface at all; None where they have one, be it of size 0."""
    voxels = counted.voxels.sum(axis=0)
    for i in classes:
        if not voxels[i]:
            return absent(names.classes[i])
    return flat(counted)


def flat(counted: Counted) -> str | None:
    """Return along which axis the volume is a single slice, where nothing of three dimensions is defined."""
    flat = _flat_axes(counted)
    return _one_voxel(flat[0]) if flat else None


def _flat_axes(counted: Counted) -> list[int]:
    return [axis for axis in range(3) if round(counted.edges[axis] * (counted.cells[:, axis].max() + 1)) == 1]


def _one_voxel(axis: int) -> str:
    return f"not defined: the volume is one voxel thick along {AXES[axis]}"
