"""Tortuosity factor of a phase: how much its windings and necks slow down what diffuses through it.

The phase conducts, all else does not. Concentrations are 1 on the face where the axis begins and 0 on the one where it
ends, nothing passes the other four, and the steady state is solved with one finite volume a voxel. What flows
then, over what would flow if everything conducted, is the effective diffusivity relative to the bulk's:
D_eff / D = fraction / tau (S. J. Cooper, A. Bertei, P. R. Shearing, J. A. Kilner, N. P. Brandon, 2016, DOI
10.1016/j.softx.2016.09.002). tau is 1 for straight channels, and never less.

The equations are solved by conjugate gradients (M. R. Hestenes, E. Stiefel, 1952, DOI 10.6028/jres.049.044). Each step
is preconditioned by the diagonal plus a solution of the same problem on coarse cells, each a connected piece of the
phase in a cube of a few voxels, so that the number of steps hardly grows with the volume (constants on cells as in
R. A. Nicolaides, 1987, DOI 10.1137/0724027).

The flow is found as the energy that it dissipates. That is least for the true concentrations (Thomson's principle): an
error in them enters squared, and steps left out make tau a little too small, never too large.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cc3d
import numpy as np
from jaxtyping import Bool, Float64, Int32, Int64
from scipy.sparse import coo_array, csr_array
from scipy.sparse.linalg import splu

from tomoseg.quantify.grid import Edges

_COARSE_EDGE = 6
"""Of the cubes of coarse cells, in voxels. Smaller ones save steps, and take memory and time before the first."""

_RESIDUAL = 1e-8
"""Of the energy, what the residual is worth: tau is right within some 1e-6 then."""

_MOST_STEPS = 5000
"""A hundred times what porous bodies take."""

Vector = Float64[np.ndarray, " cell"]
Apply = Callable[[Vector], Vector]


@dataclass(frozen=True)
class Transport:
    """How a phase conducts along an axis; what it does not have is None, and says why.

    Attributes
    ----------
    fraction
        Share of the phase in all voxels, 0 to 1.
    percolating
        Share of its parts that reach from face to face in all voxels.
    diffusivity
        Effective diffusivity relative to that in the bulk of the phase, D_eff / D, 0 to `fraction`.
    tau
        Tortuosity factor, `fraction` over `diffusivity`, 1 or more.
    steps
        Of conjugate gradients.
    residual
        What is left of the equations, as a share of the energy.
    why_not
        Why there is no `diffusivity` and no `tau`.
    """

    fraction: float
    percolating: float
    diffusivity: float | None
    tau: float | None
    steps: int
    residual: float
    why_not: str | None = None


@dataclass(frozen=True)
class _Network:
    """Voxels as nodes, the faces that they share as conductances, in units of a face's across the axis.

    `low`, `high` are the nodes of each face, `low` before `high`; `inlet` and `outlet` the nodes on the two end faces.
    """

    n: int
    low: Int32[np.ndarray, " face"]
    high: Int32[np.ndarray, " face"]
    conductance: Float64[np.ndarray, " face"]
    inlet: Int32[np.ndarray, " first"]
    outlet: Int32[np.ndarray, " last"]

    @property
    def diagonal(self) -> Vector:
        """All that a node is joined to; from its centre to an end face it is half a voxel."""
        sides = (np.bincount(nodes, self.conductance, self.n) for nodes in (self.low, self.high))
        ends = (np.bincount(nodes, minlength=self.n) for nodes in (self.inlet, self.outlet))
        return np.asarray(sum(sides) + 2.0 * sum(ends), np.float64)

    def joined(self, cells: Int64[np.ndarray, " cell"], n: int) -> _Network:
        """Return the network of cells, each the nodes of its number taken for one."""
        low, high = cells[self.low], cells[self.high]
        apart = low != high
        return _Network(n, low[apart].astype(np.int32), high[apart].astype(np.int32), self.conductance[apart],
                        cells[self.inlet].astype(np.int32), cells[self.outlet].astype(np.int32))  # fmt: skip


def tortuosity(phase: Bool[np.ndarray, "z y x"], *, axis: int, voxel_size: Edges) -> Transport:
    """Return tortuosity factor and effective diffusivity of a phase along an axis.

    Only what reaches from face to face through voxels that share faces conducts, and only that is solved for; the
    fraction in D_eff / D = fraction / tau is that of the whole phase, dead ends and isolated parts included.

    Parameters
    ----------
    phase
        Where the phase is, bool (z, y, x). What lies outside does not conduct.
    axis
        Along which it flows: 0 z, 1 y, 2 x.
    voxel_size
        Edges of a voxel along (z, y, x), in any one unit.

    Returns
    -------
        Without `tau` where the phase does not percolate, is absent, or the equations could not be solved.

    Examples
    --------
    >>> channel = np.zeros((4, 5, 6), bool)
    >>> channel[:, :2, :3] = True
    >>> found = tortuosity(channel, axis=0, voxel_size=(1, 1, 1))
    >>> round(found.tau, 6), round(found.diffusivity, 6)
    (1.0, 0.2)
    >>> tortuosity(channel, axis=1, voxel_size=(1, 1, 1)).why_not
    'does not percolate along y'
    """
    fraction = float(phase.mean())
    through = _through(phase, axis=axis)
    percolating = float(through.mean())
    if not percolating:
        why = f"does not percolate along {'zyx'[axis]}" if fraction else "is absent"
        return Transport(fraction, 0.0, None, None, 0, 0.0, why)
    flow, steps, residual = _flow(np.moveaxis(through, axis, 0), _ratios(voxel_size, axis=axis))
    if residual > _RESIDUAL:
        return Transport(fraction, percolating, None, None, steps, residual, f"is not solved in {steps} steps")
    length, width = phase.shape[axis], phase.size // phase.shape[axis]
    diffusivity = flow * length / width
    return Transport(fraction, percolating, diffusivity, fraction / diffusivity, steps, residual)


def _through(phase: Bool[np.ndarray, "z y x"], *, axis: int) -> Bool[np.ndarray, "z y x"]:
    """Return the parts that reach from face to face."""
    parts, n = cc3d.connected_components(np.ascontiguousarray(phase), connectivity=6, return_N=True)
    first, last = (np.unique(np.take(parts, end, axis=axis)) for end in (0, -1))
    chosen = np.zeros(n + 1, bool)
    chosen[np.intersect1d(first, last)] = True
    chosen[0] = False
    return np.asarray(chosen[parts])


def _ratios(voxel_size: Edges, *, axis: int) -> Edges:
    """Return conductances of a voxel's faces along the axis and along the two others, in that of the first."""
    edge = voxel_size[axis]
    first, second = (edge / other for order, other in enumerate(voxel_size) if order != axis)
    return 1.0, first**2, second**2


def _flow(through: Bool[np.ndarray, "a b c"], ratios: Edges) -> tuple[float, int, float]:
    """Return what flows along the first axis, in a face's conductance; the steps it took, and the residual."""
    network = _network(through, ratios)
    precondition = _two_levels(network, _coarse_cells(through))
    start = 1 - (np.nonzero(through)[0] + 0.5) / len(through)
    return _descend(network, start, precondition)


def _network(through: Bool[np.ndarray, "a b c"], ratios: Edges) -> _Network:
    n = int(through.sum())
    nodes = np.zeros(through.shape, np.int32)
    nodes[through] = np.arange(n, dtype=np.int32)
    low, high, conductance = [], [], []
    for axis, ratio in enumerate(ratios):
        before, after = ((slice(None),) * axis + (part,) for part in (slice(-1), slice(1, None)))
        both = through[before] & through[after]
        low.append(nodes[before][both])
        high.append(nodes[after][both])
        conductance.append(np.full(len(low[-1]), ratio))
    ends = (nodes[end][through[end]] for end in (0, -1))
    return _Network(n, np.concatenate(low), np.concatenate(high), np.concatenate(conductance), *ends)


def _coarse_cells(through: Bool[np.ndarray, "a b c"]) -> Int64[np.ndarray, " cell"]:
    """Return for each node its coarse cell, from 0: the connected pieces of the phase in each cube."""
    places = [np.arange(size, dtype=np.uint32) // _COARSE_EDGE for size in through.shape]
    _, height, width = (int(place[-1]) + 1 for place in places)
    a, b, c = np.ix_(*places)
    cubes = np.where(through, (a * height + b) * width + c + 1, 0).astype(np.uint32)
    pieces = cc3d.connected_components(cubes, connectivity=6)
    return np.asarray(pieces[through], np.int64) - 1


def _two_levels(network: _Network, cells: Int64[np.ndarray, " cell"]) -> Apply:
    """Return what approximates the solution for a residual: node by node, plus on coarse cells."""
    diagonal, n = network.diagonal, int(cells.max()) + 1
    solve: Any = splu(
        _matrix(network.joined(cells, n)).tocsc(),
        permc_spec="MMD_AT_PLUS_A",
        diag_pivot_thresh=0.0,
        options={"SymmetricMode": True},
    ).solve

    def precondition(residual: Vector) -> Vector:
        coarse = solve(np.bincount(cells, residual, n))
        return np.asarray(residual / diagonal + coarse[cells])

    return precondition


def _matrix(network: _Network) -> csr_array[Any, tuple[int, int]]:
    nodes, n = np.arange(network.n, dtype=np.int32), network.n
    rows = np.concatenate([network.low, network.high, nodes])
    columns = np.concatenate([network.high, network.low, nodes])
    values = np.concatenate([-network.conductance, -network.conductance, network.diagonal])
    return coo_array((values, (rows, columns)), shape=(n, n)).tocsr()


def _descend(network: _Network, start: Vector, precondition: Apply) -> tuple[float, int, float]:
    """Return the least energy of concentrations, the steps of conjugate gradients, and the residual by the energy."""
    matrix = _matrix(network)
    source = 2.0 * np.bincount(network.inlet, minlength=network.n)
    residual = source - matrix @ start
    energy = 2.0 * len(network.inlet) - float(start @ (source + residual))
    step = better = precondition(residual)
    worth = float(residual @ better)
    for steps in range(_MOST_STEPS):
        if worth <= _RESIDUAL * energy:
            return energy, steps, worth / energy
        ahead = matrix @ step
        length = worth / float(step @ ahead)
        residual -= length * ahead
        energy -= length * worth
        better = precondition(residual)
        before, worth = worth, float(residual @ better)
        step = better + (worth / before) * step
    return energy, _MOST_STEPS, worth / energy
