"""How phases conduct, measured in parts of a segmentation that are far from each other."""

from __future__ import annotations

from itertools import product
from typing import NamedTuple

import numpy as np

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.geodesic import geodesic_tortuosity
from tomoseg.quantify.grid import Grid, cut
from tomoseg.quantify.subvolumes import MOST_SUBVOLUMES, TRANSPORT_EDGE, Transports, spread_out
from tomoseg.quantify.transport import tortuosity
from tomoseg.workflow.console import Console
from tomoseg.workflow.segmentation import Segmentation, Work, open_again
from tomoseg.workflow.spreading import Spread


class Asked(NamedTuple):
    """A part of the volume, a phase in it, and the axis (0 z, 1 y, 2 x) along which it conducts."""

    cell: int
    phase: int
    axis: int


class Conducts(NamedTuple):
    """Share of a phase in a part, its effective diffusivity over the bulk's, its geodesic tortuosity; nan: unknown."""

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
    asked = [Asked(*one) for one in product(chosen, range(n), range(3))]
    found = list(console.track(spread(conduct, asked), "measuring transport", len(asked)))
    values = np.array(found, np.float64).reshape(len(chosen), n, 3, 3)
    sizes = np.array([np.prod(grid[cell].shape) for cell in chosen], np.int64)
    return Transports(sizes, values[..., 0], values[..., 1], values[..., 2], TRANSPORT_EDGE, len(grid))


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


def conduct(work: Work, asked: Asked) -> Conducts:
    """Measure how a phase conducts in a part."""
    segmentation = open_again(work)
    phase = segmentation.read(cut(segmentation.shape, edge=TRANSPORT_EDGE)[asked.cell]) == asked.phase
    found = tortuosity(phase, axis=asked.axis, voxel_size=work.voxel_size)
    path = geodesic_tortuosity(phase, axis=asked.axis, voxel_size=work.voxel_size) if found.percolating else None
    flow = found.diffusivity if found.diffusivity is not None else np.nan if found.percolating else 0.0
    return Conducts(found.fraction, flow, np.nan if path is None else path)
