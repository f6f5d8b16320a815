"""Measurements of what `--transport` asks for: tortuosity factors, effective diffusivities, shortest paths."""

from __future__ import annotations

from dataclasses import replace
from itertools import product

import numpy as np

from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.names import Names
from tomoseg.quantify.quantities import AXES, WHOLE, Counted, absent, flat, sampled
from tomoseg.quantify.sampling import Spread, jackknife
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
        conducts, paths = (_or_whole(of(found, phase, axis), found) for of in (_conduction, _paths))
        why = _no_transport(found, phase, axis, counted=counted, names=names)
        along = f"{name} along {AXES[axis]}"
        settings: dict[str, object] = {
            "parts": len(found.cells),
            "of": found.n_cells,
            "longest_edge_voxels": found.edge,
            "parts_percolating": int((found.diffusivity[:, phase, axis] > 0).sum()),
        }
        numbers += [
            sampled(f"{what} {along}", its, order, unit="1", method=method, source=source, why_not=why,
                     settings=settings)
            for what, its, order, method, source in (
                ("tortuosity factor", conducts, 0, _DIFFUSION, _COOPER),
                ("effective diffusivity", conducts, 1, f"{_DIFFUSION}; over that in the bulk of the phase", _COOPER),
                ("geodesic tortuosity", paths, 0, _SHORTEST, _STENZEL),
            )
        ]  # fmt: skip
    return numbers


def _conduction(found: Transports, phase: int, axis: int) -> Spread:
    """Return tortuosity factor and effective diffusivity: means of all parts give both, in a ratio the first.

    Few parts make wide intervals, which end where nothing can be: at a factor of 1, and at 0.
    """
    shares, flows = found.fraction[:, phase, axis], found.diffusivity[:, phase, axis]
    sums = np.stack([shares, flows, np.ones(len(flows))], axis=1) * found.cells[:, None]
    if not flows.any():
        return _nothing(2)
    # a single part that percolates is all that flows: without it there is no factor
    fewest = FEWEST_PARTS if (flows > 0).sum() > 1 else len(flows) + 1
    spread = jackknife(sums, lambda its: np.array([its[0] / its[1], its[1] / its[2]]), fewest=fewest)
    return replace(spread, low=np.maximum(spread.low, [1.0, 0.0]))


def _paths(found: Transports, phase: int, axis: int) -> Spread:
    """Return the geodesic tortuosity, of the parts that have one."""
    there = np.isfinite(found.path[:, phase, axis])
    if not there.any():
        return _nothing(1)
    cells = found.cells[there]
    sums = np.stack([found.path[there, phase, axis] * cells, cells], axis=1)
    spread = jackknife(sums, lambda its: its[:1] / its[1], fewest=FEWEST_PARTS)
    return replace(spread, low=np.maximum(spread.low, 1.0))


def _or_whole(its: Spread, found: Transports) -> Spread:
    """Return a number of a volume that is one part as a property of the whole."""
    return replace(its, why_not=WHOLE) if found.n_cells == 1 else its


def _nothing(n: int) -> Spread:
    """Return `n` numbers that there are not."""
    nothing = np.full(n, np.nan)
    return Spread(nothing, nothing, nothing, 0)


def _no_transport(found: Transports, phase: int, axis: int, *, counted: Counted, names: Names) -> str | None:
    """Return why a phase has no tortuosity along an axis."""
    flows = found.diffusivity[:, phase, axis]
    if not len(found.cells):
        return f"not defined: no part of {found.edge} voxels lies wholly inside the field of view"
    if not found.fraction[:, phase].any():
        return absent(names.classes[phase])
    if np.isnan(flows).any():
        return "not defined: the equations of diffusion could not be solved"
    if not flows.any():
        where = "" if found.n_cells == 1 else f" in any of {len(flows)} parts"
        return f"not defined: {names.classes[phase]} does not percolate along {AXES[axis]}{where}"
    return flat(counted)
