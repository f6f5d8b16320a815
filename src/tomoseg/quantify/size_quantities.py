"""Measurements of what `--sizes` asks for: balls that fit, particles, correlation lengths."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
from jaxtyping import Float64, Int64

from tomoseg.quantify.correlation import Pairs, covariance, decay_lags, two_point
from tomoseg.quantify.grid import Edges, Grid
from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.names import Names
from tomoseg.quantify.particles import QUANTILES, Particles, Runs, volume_shares, whole_particles
from tomoseg.quantify.quantities import AXES, TORQUATO, WHOLE, Counted, absent, sampled
from tomoseg.quantify.sampling import NOTHING, Spread, Sums, Values
from tomoseg.quantify.size_intervals import median_spread, number_spread, quantile_spreads
from tomoseg.quantify.sizes import Sizes, covered_shares, exceeded_diameter
from tomoseg.quantify.watershed import SHARE, Basins

_HILDEBRAND = "Hildebrand, Ruegsegger 1997, DOI 10.1046/j.1365-2818.1997.1340694.x"
_MUENCH = "Muench, Gasser, Holzer, Flatt 2006, DOI 10.1111/j.1551-2916.2006.01121.x"
_SPLIT = f"watershed on the distance to other phases, split at necks {100 * SHARE:.0f} % narrower"
_WEIGHTED = "sphere of the particle's volume; whole particles, weighted against the border's cut"
_DRAWN = 64
_TOO_LITTLE, _ENOUGH = 0.5, 0.8
"""Of a phase, made up by whole particles with their weights: the rest is in particles that are never seen whole."""

_FEW = 20  # particles, of which sizes are hardly those of the material


def size_distribution(balls: Sequence[Sizes], counted: Counted, names: Names) -> list[Measurement]:
    """Return the median diameter of each class, and the share of it in balls of each diameter as its setting.

    Parameters
    ----------
    balls
        What balls cover in each block.
    counted
        How far apart blocks are independent.
    names
        Of the classes.
    """
    return [_median(balls, counted, index=index, names=names) for index in range(len(names.classes))]


def _median(balls: Sequence[Sizes], counted: Counted, *, index: int, names: Names) -> Measurement:
    whole = reduce(add, balls)
    name, there = names.classes[index], bool(whole.voxels[index])
    known = exceeded_diameter(whole, index=index, share=0.5) is not None
    shares = covered_shares(whole, index=index)
    return sampled(
        f"median diameter {name}",
        median_spread(balls, index=index, counted=counted) if known else NOTHING,
        0,
        unit=names.length,
        method="diameter that half of the phase exceeds in local thickness",
        source=_HILDEBRAND,
        why_not=None if known else "not defined: outside the balls tried" if there else absent(name),
        settings={"diameters": (2 * whole.radii_um).tolist(), "covered": shares.tolist()} if there else {},
    )


def particle_sizes(
    found: Basins, counted: Counted, names: Names, *, runs: Sequence[Runs], grid: Grid, voxel_size_um: Edges
) -> list[Measurement]:
    """Return the number of particles of each class per volume, and their diameters.

    Parameters
    ----------
    found
        The particles of the volume.
    counted
        The blocks' voxels, and how far apart blocks are independent.
    names
        Of the classes.
    runs
        Of the mask along z, y and x.
    grid
        The blocks.
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres.
    """
    voxel = float(np.prod(voxel_size_um))
    window = voxel * float(runs[0] @ np.arange(len(runs[0])))
    measured = []
    for index, name in enumerate(names.classes):
        its = whole_particles(found, index=index, runs=runs, shape=grid.shape, voxel_um3=voxel)
        measured += _of_class(its, name, counted, grid=grid, unit=names.length, window_um3=window)
    return measured


def _of_class(
    its: Particles, name: str, counted: Counted, *, grid: Grid, unit: str, window_um3: float
) -> list[Measurement]:
    note, there = _about(its, name), its.made_up is not None
    known = its.made_up is not None and its.made_up >= _TOO_LITTLE
    numbers = [
        (f"particles {name} per volume", f"1/{unit}3", f"{_SPLIT}; whole particles, weighted against the border's cut"),
        *((f"particle diameter {name} D{100 * share:.0f} by volume", unit, _WEIGHTED) for share in QUANTILES),
        (f"particle diameter {name} median by number", unit, _WEIGHTED),
    ]
    spreads = _spreads(its, counted, grid=grid, window_um3=window_um3) if known else [NOTHING] * len(numbers)
    if note != WHOLE:  # something is missing: an interval of sampling alone would promise too much
        spreads = [replace(one, why_not=note) for one in spreads]
    return [
        Measurement(name=f"particles {name} wholly inside", value=float(len(its.voxels)) if there else None, unit="1",
                    method=_SPLIT, source=_MUENCH, note=WHOLE if there else note),
        *(
            sampled(what, one, 0, unit=its_unit, method=method, source=_MUENCH, why_not=None if known else note,
                    settings=_curve(its) if known and "D50" in what else {})
            for (what, its_unit, method), one in zip(numbers, spreads, strict=True)
        ),
    ]  # fmt: skip


def _spreads(its: Particles, counted: Counted, *, grid: Grid, window_um3: float) -> list[Spread]:
    """Return particles per volume, the quantiles of their diameters by volume, and the median by number."""
    number, by_volume = number_spread(its, counted=counted, grid=grid), its.weights * its.voxels
    asked = [*((by_volume, share) for share in QUANTILES), (its.weights, 0.5)]
    values, low, high = (ends / window_um3 for ends in (number.values, number.low, number.high))
    return [
        replace(number, values=values, low=low, high=high),
        *quantile_spreads(its, asked, counted=counted, grid=grid),
    ]


def _about(its: Particles, name: str) -> str:
    """Return why there are no numbers of particles, or that the largest are missing in them."""
    if its.made_up is None:
        return absent(name)
    if not len(its.voxels):
        return f"not defined: no particle {name} lies wholly inside"
    told = f"whole particles make up {100 * its.made_up:.0f} % of {name}"
    if its.made_up < _TOO_LITTLE:
        return f"not defined: {told}, weighted as they are; the others are too large for this volume"
    if len(its.voxels) < _FEW:
        return f"of {len(its.voxels)} whole particles {name} only: it tells little of the material"
    return WHOLE if its.made_up >= _ENOUGH else f"{told}, weighted as they are: the largest may be missing"


def _curve(its: Particles) -> dict[str, object]:
    low, high = its.diameters_um[[0, -1]]
    diameters = np.geomspace(low, high, _DRAWN)
    # Ends that rounding has moved past a particle would leave it out.
    diameters[[0, -1]] = low, high
    return {
        "diameters": diameters.tolist(),
        "share_of_volume": volume_shares(its, diameters).tolist(),
        "made_up": its.made_up,
    }


def correlation_lengths(
    blocks: Int64[np.ndarray, "block counted axis lag"], counted: Counted, names: Names, *, voxel_size_um: Edges
) -> list[Measurement]:
    """Return the correlation length of each class, mean over the axes and along each, with S2 as its setting."""
    asked = [(f"correlation length {name}", index, [0, 1, 2]) for index, name in enumerate(names.classes)]
    asked += [
        (f"correlation length {name} along {AXES[axis]}", index, [axis])
        for index, name in enumerate(names.classes)
        for axis in range(3)
    ]

    def along(sums: Sums) -> Float64[np.ndarray, "class axis"]:
        return np.asarray(decay_lags(covariance(two_point(sums.reshape(blocks.shape[1:])))) * np.array(voxel_size_um))

    def lengths(sums: Sums) -> Values:
        its = along(sums)
        return np.array([its[index, axes].mean() for _, index, axes in asked])

    found = counted.spread(blocks.reshape(len(blocks), -1).astype(np.float64), lengths)
    total = blocks.sum(axis=0)
    undecayed = np.isnan(along(total.astype(np.float64).ravel()))
    return [
        sampled(name, found, order, unit=names.length, source=TORQUATO,
                method=f"lag at which the covariance has fallen to 1/e{', mean over z, y and x' * (len(axes) > 1)}",
                why_not=_no_length(total, index, [axis for axis in axes if undecayed[index, axis]], names),
                settings=_probabilities(total, index, axes[0], voxel_size_um) if len(axes) == 1 else None)
        for order, (name, index, axes) in enumerate(asked)
    ]  # fmt: skip


def _no_length(total: Pairs, index: int, undecayed: Sequence[int], names: Names) -> str | None:
    """Return why a class has no correlation length; None where it has one."""
    if not undecayed:
        return None
    voxels, every = total[1 + index, 0, 0], total[0, 0, 0]
    if not voxels:
        return absent(names.classes[index])
    if voxels == every:
        return f"not defined: {names.classes[index]} is alone"
    axis = undecayed[0]
    longest = int(np.flatnonzero(total[0, axis]).max())
    if not longest:
        return f"not defined: the volume is one voxel thick along {AXES[axis]}"
    return (
        f"not defined: the covariance of {names.classes[index]} is above 1/e up to {longest} voxels along {AXES[axis]}"
    )


def _probabilities(total: Pairs, index: int, axis: int, edges: Edges) -> dict[str, object]:
    """Return S2 of a class along an axis by lag, where there are pairs."""
    lags = np.flatnonzero(total[0, axis])
    if not total[1 + index].any():
        return {}
    return {"lags": (lags * edges[axis]).tolist(), "s2": two_point(total)[index, axis, lags].tolist()}
