"""How phases conduct, measured in parts of a segmentation that are far from each other."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.geodesic import geodesic_tortuosity
from tomoseg.quantify.grid import Edges, Grid, cut
from tomoseg.quantify.subvolumes import MOST_SUBVOLUMES, TRANSPORT_EDGE, Transports, spread_out
from tomoseg.quantify.transport import tortuosity
from tomoseg.workflow.console import Console
from tomoseg.workflow.segmentation import Segmentation, Work, open_again
from tomoseg.workflow.spreading import Spread


class Asked(NamedTuple):
    """A part of the volume and a phase in it."""

    cell: int
    phase: int


class Conducts(NamedTuple):
    """The share of a phase in a part; along an axis its effective diffusivity over the bulk's, its geodesic tortuosity.

    Both are nan where they are unknown.
    """

    fraction: float
    diffusivity: float
    path: float


def measure_transport(segmentation: Segmentation, *, spread: Spread, console: Console) -> Transports:
    """Measure how each phase conducts along each axis, in the whole if it is small enough, else in parts of it.

    A part that is not all inside the field of view is left out: its edge there is none of the phase.
    """
    grid, n = cut(segmentation.shape, edge=TRANSPORT_EDGE), len(segmentation.classes)
    cells = _whole(segmentation, grid, spread=spread, console=console)
    places = np.stack(np.unravel_index(np.array(cells, np.int64), grid.counts), axis=1)
    chosen = [cells[place] for place in spread_out(places, n=MOST_SUBVOLUMES)] if cells else []
    asked = [Asked(*one) for one in product(chosen, range(n))]
    found = list(console.track(spread(conduct, asked), "measuring transport", len(asked)))
    values = np.array(found, np.float64).reshape(len(chosen), n, 3, 3)
    sizes = np.array([np.prod(grid[cell].shape) for cell in chosen], np.int64)
    edges = [edge for region in grid for edge in region.shape]
    return Transports(sizes, values[..., 0], values[..., 1], values[..., 2], (min(edges), max(edges)), len(grid))


def _whole(segmentation: Segmentation, grid: Grid, *, spread: Spread, console: Console) -> list[int]:
    """Return the parts of which every voxel counts."""
    if segmentation.source.view.all_inside and not segmentation.nowhere:
        return list(range(len(grid)))
    counts = console.track(spread(all_counts, range(len(grid))), "finding parts inside the field of view", len(grid))
    return [cell for cell, whole in enumerate(counts) if whole]


def all_counts(work: Work, cell: int) -> bool:
    """Return whether every voxel of a part counts."""
    segmentation = open_again(work)
    return not (segmentation.read(cut(segmentation.shape, edge=TRANSPORT_EDGE)[cell]) == UNLABELLED).any()


def conduct(work: Work, asked: Asked) -> list[Conducts]:
    """Measure how a phase conducts in a part, along z, y and x."""
    segmentation = open_again(work)
    phase = segmentation.read(cut(segmentation.shape, edge=TRANSPORT_EDGE)[asked.cell]) == asked.phase
    return [_along(phase, axis, work.voxel_size) for axis in range(3)]


def _along(phase: Bool[np.ndarray, "z y x"], axis: int, edges: Edges) -> Conducts:
    found = tortuosity(phase, axis=axis, voxel_size=edges)
    path = geodesic_tortuosity(phase, axis=axis, voxel_size=edges) if found.percolating else None
    flow = found.diffusivity if found.diffusivity is not None else np.nan if found.percolating else 0.0
    return Conducts(found.fraction, flow, np.nan if path is None else path)
