"""Measurements of what `--sizes` asks for: balls that fit, particles, correlation lengths."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from jaxtyping import Float64, Int64

from tomoseg.quantify.correlation import Pairs, covariance, decay_lags, two_point
from tomoseg.quantify.grid import Edges, Shape
from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.names import Names
from tomoseg.quantify.particles import QUANTILES, Particles, Runs, volume_shares, weighted_quantile, whole_particles
from tomoseg.quantify.quantities import AXES, TORQUATO, WHOLE, Counted, absent, sampled
from tomoseg.quantify.sampling import Sums, Values
from tomoseg.quantify.sizes import Sizes, covered_shares, median_diameter
from tomoseg.quantify.watershed import SHARE, Basins

_HILDEBRAND = "Hildebrand, Ruegsegger 1997, DOI 10.1046/j.1365-2818.1997.1340694.x"
_MUENCH = "Muench, Gasser, Holzer, Flatt 2006, DOI 10.1111/j.1551-2916.2006.01121.x"
_SPLIT = f"watershed on the distance to other phases, split at necks {100 * SHARE:.0f} % narrower"
_WEIGHTED = "sphere of the particle's volume; whole particles, weighted against the border's cut"
_DRAWN = 64
_TOO_LITTLE, _ENOUGH = 0.5, 0.8
_FEW = 20  # particles, of which sizes are hardly those of the material
"""Of a phase, made up by whole particles with their weights: the rest is in particles that are never seen whole."""


def size_distribution(sizes: Sizes, names: Names) -> list[Measurement]:
    """Return the median diameter of each class, and the share of it in balls of each diameter as its setting."""
    found = []
    for index, name in enumerate(names.classes):
        shares, median = covered_shares(sizes, index=index), median_diameter(sizes, index=index)
        missing = not sizes.voxels[index]
        found.append(
            Measurement(
                name=f"median diameter {name}",
                value=median,
                unit=names.length,
                method="diameter that half of the phase exceeds in local thickness",
                source=_HILDEBRAND,
                settings={} if missing else {"diameters": (2 * sizes.radii_um).tolist(), "covered": shares.tolist()},
                note=absent(name)
                if missing
                else WHOLE
                if median is not None
                else "not defined: outside the balls tried",
            )
        )
    return found


def particle_sizes(
    found: Basins, names: Names, *, runs: Sequence[Runs], shape: Shape, voxel_size_um: Edges
) -> list[Measurement]:
    """Return the number of particles of each class per volume, and their diameters."""
    voxel = float(np.prod(voxel_size_um))
    window = voxel * float(runs[0] @ np.arange(len(runs[0])))
    measured = []
    for index, name in enumerate(names.classes):
        its = whole_particles(found, index=index, runs=runs, shape=shape, voxel_um3=voxel)
        measured += _of_class(its, name, unit=names.length, window_um3=window)
    return measured


def _of_class(its: Particles, name: str, *, unit: str, window_um3: float) -> list[Measurement]:
    note, there = _about(its, name), its.made_up is not None
    known = its.made_up is not None and its.made_up >= _TOO_LITTLE
    numbers: list[tuple[str, float | None, str, str]] = [
        (f"particles {name} wholly inside", float(len(its.voxels)) if there else None, "1", _SPLIT),
        (f"particles {name} per volume", float(its.weights.sum()) / window_um3 if known else None, f"1/{unit}3",
         f"{_SPLIT}; whole particles, weighted against the border's cut"),
    ]  # fmt: skip
    for share in QUANTILES:
        value = weighted_quantile(its.diameters_um, its.weights * its.voxels, share) if known else None
        numbers.append((f"particle diameter {name} D{100 * share:.0f} by volume", value, unit, _WEIGHTED))
    value = weighted_quantile(its.diameters_um, its.weights, 0.5) if known else None
    numbers.append((f"particle diameter {name} median by number", value, unit, _WEIGHTED))
    return [
        Measurement(name=what, value=value, unit=its_unit, method=method, source=_MUENCH,
                    note=WHOLE if value is not None and what.endswith("wholly inside") else note,
                    settings=_curve(its) if known and "D50" in what else {})
        for what, value, its_unit, method in numbers
    ]  # fmt: skip


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
