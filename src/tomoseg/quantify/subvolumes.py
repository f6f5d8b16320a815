"""Which parts of a volume stand for the whole, where all of it would take too long."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64

TRANSPORT_EDGE = 160
"""Longest edge in voxels: some 2 s and 600 MB a phase and axis, 1.3 GB where almost all is one phase."""

MOST_SUBVOLUMES = 8

FEWEST_PARTS = 4
"""That it takes for an interval."""


def spread_out(places: Int64[np.ndarray, "cell axis"], *, n: int) -> list[int]:
    """Return up to `n` cells, far from each other: the middle one, then whichever is farthest from all before.

    Parameters
    ----------
    places
        Of the cells to choose from in their grid (z, y, x).
    n
        How many at most.

    Examples
    --------
    >>> spread_out(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3], [0, 0, 4]]), n=3)
    [2, 0, 4]
    """
    middle = (places.min(axis=0) + places.max(axis=0)) / 2
    chosen = [int(((places - middle) ** 2).sum(axis=1).argmin())]
    while len(chosen) < min(n, len(places)):
        apart = ((places[:, None] - places[chosen]) ** 2).sum(axis=2).min(axis=1)
        chosen.append(int(apart.argmax()))
    return chosen


@dataclass(frozen=True)
class Transports:
    """How each phase conducts in parts of a volume.

    Attributes
    ----------
    cells
        Voxels of each part that it was measured in, int64 (cell,).
    fraction, diffusivity
        Share of each phase, and its effective diffusivity along each axis over the bulk's, float64 (cell, phase, axis);
        0 where it does not percolate, nan where the equations could not be solved.
    path
        Geodesic tortuosity, nan where no path leads through, float64 (cell, phase, axis).
    edges
        Shortest and longest edge of the parts in voxels.
    n_cells
        Parts that the volume was cut into.
    """

    cells: Int64[np.ndarray, " cell"]
    fraction: Float64[np.ndarray, "cell phase axis"]
    diffusivity: Float64[np.ndarray, "cell phase axis"]
    path: Float64[np.ndarray, "cell phase axis"]
    edges: tuple[int, int]
    n_cells: int
