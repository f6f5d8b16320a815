"""All numbers of a measured segmentation, and how they are written."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from operator import add

import numpy as np

from tomoseg.intervals import correlation_length
from tomoseg.quantify import Measurement
from tomoseg.quantify.grid import Edges, Grid
from tomoseg.quantify.names import Names
from tomoseg.quantify.quantities import (
    Counted,
    chord_lengths,
    connectivities,
    euler_densities,
    interface_areas,
    line_activity,
    mean_curvatures,
    phase_fractions,
    representative_volumes,
    triple_lines,
)
from tomoseg.quantify.resolution import FEWEST
from tomoseg.quantify.size_quantities import correlation_lengths, particle_sizes, size_distribution
from tomoseg.quantify.transport_quantities import transport_numbers
from tomoseg.volume import Region
from tomoseg.workflow.quantify_run import Sums
from tomoseg.workflow.quantify_sizes import SizeSums
from tomoseg.workflow.segmentation import Segmentation

_BELLA = "Bella, Ferri, Hernandez-Orallo, Ramirez-Quintana, ICDM 2010, 737, DOI 10.1109/ICDM.2010.75"


def measurements(segmentation: Segmentation, found: Sums) -> list[Measurement]:
    """Return all numbers, in the order in which a reader looks for them."""
    names = names_of(segmentation)
    edges = segmentation.voxel_size_um or (1.0, 1.0, 1.0)
    counted_blocks = counted(segmentation, found)
    return [
        *phase_fractions(counted_blocks, names),
        *_from_probabilities(segmentation, names),
        *representative_volumes(found.counts, names, voxel=float(np.prod(edges))),
        *interface_areas(counted_blocks, names),
        *mean_curvatures(counted_blocks, names, voxel_size=edges),
        *euler_densities(
            np.sum([block.euler for block in found.blocks], axis=0), counted_blocks, names, voxel=float(np.prod(edges))
        ),
        *triple_lines(counted_blocks, names),
        *line_activity(found.activity, counted_blocks, names),
        *connectivities(found.parts, counted_blocks, names),
        *chord_lengths(found.chords, edges, names),
        *(_of_sizes(found.sizes, counted_blocks, names, grid=found.grid, edges=edges) if found.sizes else []),
        *(transport_numbers(found.transport, counted_blocks, names) if found.transport else []),
    ]


def names_of(segmentation: Segmentation) -> Names:
    """Return what numbers are called, and their unit of length."""
    return Names(tuple(item.name for item in segmentation.classes), "um" if segmentation.voxel_size_um else "voxel")


def _of_sizes(sizes: SizeSums, counted: Counted, names: Names, *, grid: Grid, edges: Edges) -> list[Measurement]:
    return [
        *size_distribution(sizes.balls, counted, names),
        *particle_sizes(sizes.particles, counted, names, runs=sizes.runs, grid=grid, voxel_size_um=edges),
        *correlation_lengths(sizes.pairs, counted, names, voxel_size_um=edges),
    ]


def counted(segmentation: Segmentation, found: Sums) -> Counted:
    """Return the sums of each block by which numbers have intervals."""
    counts = np.array(found.grid.counts)
    sizes = np.array(segmentation.shape) / counts
    return Counted(
        np.stack([block.counts.profiles[0].sum(axis=1) for block in found.blocks]),
        [block.surfaces for block in found.blocks],
        [block.lines for block in found.blocks],
        np.stack(np.unravel_index(np.arange(len(found.blocks)), tuple(counts)), axis=1),
        (float(sizes[0]), float(sizes[1]), float(sizes[2])),
        correlation(segmentation),
        np.stack([block.cubes for block in found.blocks]),
        reduce(add, (block.at_half for block in found.blocks)) if min(segmentation.shape) >= FEWEST else None,
    )


def correlation(segmentation: Segmentation) -> float:
    """Return the correlation length of the classes in voxels: the longest in the three middle planes."""
    depth, height, width = segmentation.shape
    z, y, x = depth // 2, height // 2, width // 2
    planes = [
        Region(z, z + 1, 0, height, 0, width),
        Region(0, depth, y, y + 1, 0, width),
        Region(0, depth, 0, height, x, x + 1),
    ]
    return float(
        max(correlation_length(np.squeeze(segmentation.read(plane), axis=axis)) for axis, plane in enumerate(planes))
    )


def _from_probabilities(segmentation: Segmentation, names: Names) -> list[Measurement]:
    """Return the fractions by the network's probabilities, where `predict` summed them over just these voxels."""
    sums = segmentation.record.get("summary", {}).get("mean_probability", {})
    source = segmentation.source
    whole = source.view.all_inside and source.region.shape == source.volume.shape
    if not whole or set(sums) != set(names.classes):
        return []
    return [
        Measurement(
            name=f"phase fraction {name} by probabilities",
            value=float(sums[name]),
            unit="1",
            method="mean of the network's calibrated probabilities, which counts voxels that two phases share in part",
            source=_BELLA,
        )
        for name in names.classes
    ]


def lines(found: Sequence[Measurement], *, axis: str) -> list[str]:
    """Return the numbers in words: those along another axis than `axis` are left to the report."""
    others = tuple(f" along {other}" for other in "zyx" if other != axis)
    shown = [one for one in found if not one.name.endswith(others)]
    width = max(len(one.name) for one in shown)
    told = [f"{one.name:{width}}  {in_words(one)}{_beside(one)}" for one in shown]
    why = next((one.note for one in found if one.name.startswith("phase fraction") and one.interval is None), None)
    return [*told, f"no intervals: {why}"] if why else told


def _beside(one: Measurement) -> str:
    """Return what labelled slices say of a number."""
    for what in ("corrected", "uncorrected"):
        if what in one.settings:
            return f", {what} {number(float(one.settings[what]))}"
    return f", {one.settings['segmentation']}" if "segmentation" in one.settings else ""


def in_words(one: Measurement) -> str:
    """Return a number with its interval and unit.

    Examples
    --------
    >>> in_words(Measurement(name="pore", value=0.3, unit="1", interval=(0.28, 0.32), method="", source=""))
    '0.3000 (0.2800 to 0.3200)'
    """
    if one.value is None:
        return one.note or "not defined"
    unit = "" if one.unit == "1" else f" {unit_in_words(one.unit)}"
    if one.interval is None:
        return f"{number(one.value)}{unit}"
    low, high = one.interval
    return f"{number(one.value)} ({number(low)} to {number(high)}){unit}"


def unit_in_words(unit: str) -> str:
    """Return a unit as people write it.

    Examples
    --------
    >>> unit_in_words("um/um3"), unit_in_words("1/voxel2")
    ('µm/µm³', '1/voxel²')
    """
    return unit.replace("um", "µm").replace("2", "²").replace("3", "³")


def number(value: float) -> str:
    """Return a number with four digits.

    Examples
    --------
    >>> number(0.3), number(12345.6), number(0.00093), number(117.0), number(365_237_477.2)
    ('0.3000', '12346', '0.0009300', '117', '3.652e+08')
    """
    if value == round(value) and abs(value) < 1e9:
        return f"{value:.0f}"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e6 else f"{value:#.4g}".rstrip(".")
