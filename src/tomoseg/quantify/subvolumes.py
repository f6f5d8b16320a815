"""Which parts of a volume stand for the whole, where all of it would take too long."""

from __future__ import annotations

import numpy as np
from jaxtyping import Int64

TRANSPORT_EDGE = 160
"""Longest edge in voxels: some 2 s and 600 MB a phase and axis, 1.3 GB where almost all is one phase."""

MOST_SUBVOLUMES = 8


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
