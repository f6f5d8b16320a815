"""Measurements of what `--transport` asks for: tortuosity factors, effective diffusivities, shortest paths."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.names import Names
from tomoseg.quantify.quantities import AXES, WHOLE, Counted, absent, flat, sampled
from tomoseg.quantify.sampling import EDGE_IN_LENGTHS, NOTHING, Spread, Sums, Values, jackknife
from tomoseg.quantify.subvolumes import FEWEST_PARTS, Transports

_DIFFUSION = "steady diffusion through the phase, a finite volume a voxel, tau = fraction / (D_eff / D)"
_COOPER = "Cooper, Bertei, Shearing, Kilner, Brandon 2016, DOI 10.1016/j.softx.2016.09.002"
_SHORTEST = (
    "mean length of the shortest paths through the phase, voxel to voxel in 26 directions, over the straight one"
)
_STENZEL = "Stenzel, Pecho, Holzer, Neumann, Schmidt 2016, DOI 10.1002/aic.15160"


def transport_numbers(found: Transports, counted: Counted, names: Names) -> list[Measurement]:
    """Return tortuosity factor, effective diffusivity and geodesic tortuosity of each class along each axis."""
    numbers = []
    for (phase, name), axis in product(enumerate(names.classes), range(3)):
        why, flows = _no_transport(found, phase, axis, counted=counted, names=names), found.diffusivity[:, phase, axis]
        settings: dict[str, object] = {
            "parts": len(found.cells),
            "of": found.n_cells,
            "longest_edge_voxels": found.edges[1],
            "parts_percolating": int((flows > 0).sum()),
        }
        for what, of, method, source in (
            ("tortuosity factor", _factor, _DIFFUSION, _COOPER),
            ("effective diffusivity", _flow, f"{_DIFFUSION}; over that in the bulk of the phase", _COOPER),
            ("geodesic tortuosity", _paths, _SHORTEST, _STENZEL),
        ):
            its = _with_parts(of(found, phase, axis), found, counted) if why is None else NOTHING
            numbers.append(
                sampled(f"{what} {name} along {AXES[axis]}", its, 0, unit="1", method=method, source=source,
                        why_not=why, settings=settings)
            )  # fmt: skip
    return numbers


def _factor(found: Transports, phase: int, axis: int) -> Spread:
    """Return the tortuosity factor, the ratio of mean fraction and mean effective diffusivity; no end is below 1."""
    shares, flows = found.fraction[:, phase, axis], found.diffusivity[:, phase, axis]
    sums = np.stack([shares, flows], axis=1) * found.cells[:, None]
    if len(flows) > 1 and (flows > 0).sum() == 1:  # without that part there is no factor
        return replace(NOTHING, values=_ratio(sums.sum(axis=0)), why_not=f"one of {len(flows)} parts percolates")
    spread = jackknife(sums, _ratio, fewest=FEWEST_PARTS)
    return replace(spread, low=np.maximum(spread.low, 1.0))


def _flow(found: Transports, phase: int, axis: int) -> Spread:
    """Return the mean effective diffusivity; no end is below 0."""
    sums = np.stack([found.diffusivity[:, phase, axis] * found.cells, found.cells], axis=1)
    spread = jackknife(sums, _ratio, fewest=FEWEST_PARTS)
    return replace(spread, low=np.maximum(spread.low, 0.0))


def _paths(found: Transports, phase: int, axis: int) -> Spread:
    """Return the mean geodesic tortuosity of the parts that have one; no end is below 1."""
    there = np.isfinite(found.path[:, phase, axis])
    cells = found.cells[there]
    spread = jackknife(np.stack([found.path[there, phase, axis] * cells, cells], axis=1), _ratio, fewest=FEWEST_PARTS)
    return replace(spread, low=np.maximum(spread.low, 1.0))


def _ratio(its: Sums) -> Values:
    return np.asarray(its[:1] / its[1])


def _with_parts(its: Spread, found: Transports, counted: Counted) -> Spread:
    """Return a number with its interval, if its parts are several and independent."""
    if found.n_cells == 1:
        return replace(its, why_not=WHOLE)
    if min(found.edges) < EDGE_IN_LENGTHS * counted.correlation:
        alike = f"the structure is alike over {counted.correlation:.0f}"
        return replace(its, why_not=f"parts of {found.edges[0]} voxels are not independent, {alike}")
    return its


def _no_transport(found: Transports, phase: int, axis: int, *, counted: Counted, names: Names) -> str | None:
    """Return why a phase has no tortuosity along an axis."""
    flows = found.diffusivity[:, phase, axis]
    if not len(found.cells):
        return f"not defined: no part of {found.edges[1]} voxels lies wholly inside the field of view"
    if not found.fraction[:, phase].any():
        return absent(names.classes[phase])
    if np.isnan(flows).any():
        return "not defined: the equations of diffusion could not be solved"
    if not flows.any():
        where = "" if found.n_cells == 1 else f" in any of {len(flows)} parts"
        return f"not defined: {names.classes[phase]} does not percolate along {AXES[axis]}{where}"
    return flat(counted)
