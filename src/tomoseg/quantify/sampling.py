"""How much a number would vary from one piece of the material to the next: intervals over blocks of the volume.

A scan is one piece of a material. Sums that are taken block by block (voxels, areas, lengths) tell how much the next
piece would differ: each block is left out once, and the spread of what is left is the number's own (the jackknife:
J. W. Tukey 1958; B. Efron, C. Stein, The jackknife estimate of variance, Ann. Stat. 9 (1981) 586, DOI
10.1214/aos/1176345462). Neighbouring blocks must be nearly independent: their edges are at least `EDGE_IN_LENGTHS`
correlation lengths. Nearly is not quite: six neighbours that are alike by a tenth double the variance. So where blocks
lie side by side, the products of neighbours count as well (T. G. Conley, GMM estimation with cross sectional
dependence, J. Econometrics 92 (1999) 1, DOI 10.1016/S0304-4076(98)00084-0), with the weights of a flat top (D. N.
Politis, J. P. Romano, Bias-corrected nonparametric spectral estimation, J. Time Ser. Anal. 16 (1995) 67, DOI
10.1111/j.1467-9892.1995.tb00223.x).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.ndimage import correlate1d
from scipy.stats import t as student

FEWEST_BLOCKS = 8
"""With fewer, the spread over blocks says too little about itself."""

EDGE_IN_LENGTHS = 2.0
LEVEL = 0.95

_FLAT_TOP, _TRIANGLE = 2.0, 1.0
"""Weights of the neighbours over those of a triangle (1/2 by a face, 1/4 by an edge, 1/8 by a corner)."""

_FEWEST_DEGREES = 4.0
LEAST_SHARE = 0.75
"""Of the variance of independent blocks, what the products of neighbours must leave: they may be negative by chance."""

Sums = Float64[np.ndarray, " sum"]
Values = Float64[np.ndarray, " value"]


@dataclass(frozen=True)
class Spread:
    """Numbers with their intervals, or why there are none.

    Attributes
    ----------
    values
        The numbers of the whole.
    low, high
        Ends of the 95 % intervals; nan where there are none.
    n_blocks
        Blocks that the spread is taken over.
    why_not
        Why there are no intervals.
    """

    values: Values
    low: Values
    high: Values
    n_blocks: int
    why_not: str | None = None


NOTHING = Spread(np.full(1, np.nan), np.full(1, np.nan), np.full(1, np.nan), 0)
"""Of one number that there is not."""


def jackknife(
    blocks: Float64[np.ndarray, "block sum"],
    statistic: Callable[[Sums], Values],
    *,
    places: Int64[np.ndarray, "block axis"] | None = None,
    fewest: int = FEWEST_BLOCKS,
    least_share: float = LEAST_SHARE,
    of: str = "the volume holds",
) -> Spread:
    """Return what `statistic` makes of the sums over all blocks, with intervals from leaving out each block once.

    Parameters
    ----------
    blocks
        Additive sums of each block.
    statistic
        Numbers of any sums; it must be smooth, as fractions and densities are.
    places
        Of the blocks in a grid, each its own; blocks whose places differ by 1 or less along all axes are neighbours.
        Without it blocks are independent.
    fewest
        Blocks that it takes.
    least_share
        Of the variance of independent blocks, that the interval is of at least, 0 to 1.
    of
        What blocks are of, for the reason why there are no intervals.

    Examples
    --------
    >>> voxels = np.array([[30.0, 100], [40, 100], [35, 100], [31, 100], [39, 100], [34, 100], [36, 100], [35, 100]])
    >>> found = jackknife(voxels, lambda sums: sums[:1] / sums[1])
    >>> [round(float(end[0]), 3) for end in (found.values, found.low, found.high)]
    [0.35, 0.321, 0.379]
    """
    total, n = blocks.sum(axis=0), len(blocks)
    values = statistic(total)
    nothing = np.full(values.shape, np.nan)
    if n < fewest:
        blocks_there = "1 independent block" if n == 1 else f"{n} independent blocks"
        return Spread(values, nothing, nothing, n, f"{of} {blocks_there}; it takes {fewest}")
    without = np.stack([statistic(total - block) for block in blocks])
    variance, degrees = _variance(without - without.mean(axis=0), places, least_share)
    half = student.ppf((1 + LEVEL) / 2, degrees) * np.sqrt(variance)
    return Spread(values, values - half, values + half, n)


def _variance(
    deviations: Float64[np.ndarray, "block value"],
    places: Int64[np.ndarray, "block axis"] | None,
    least_share: float,
) -> tuple[Values, float]:
    """Return the variance of what the blocks make together, and how many degrees of freedom it has."""
    n = len(deviations)
    alone: Values = (n - 1) / n * (deviations**2).sum(axis=0)
    if places is None:
        return alone, n - 1.0
    for scale in (_FLAT_TOP, _TRIANGLE):
        products = (deviations * _with_neighbours(deviations, places, scale)).sum(axis=0)
        trace, degrees = _freedom(places, scale)
        if degrees >= _FEWEST_DEGREES:
            # as large as that of independent blocks where blocks are independent
            return np.maximum((n - 1) ** 2 / n * products / trace, least_share * alone), degrees
    return alone, n - 1.0


def _with_neighbours(
    values: Float64[np.ndarray, "block value"], places: Int64[np.ndarray, "block axis"], scale: float, *, power: int = 1
) -> Float64[np.ndarray, "block value"]:
    """Return the sum over each block, with weight 1, and its neighbours, with `scale` times a triangle's weights.

    The weights are taken to a `power`.
    """
    low = places.min(axis=0)
    at = tuple((places - low).T)
    field = np.zeros((*(places.max(axis=0) - low + 1), values.shape[1]))
    field[at] = values
    for axis in range(places.shape[1]):
        field = correlate1d(field, [0.5**power, 1.0, 0.5**power], axis=axis, mode="constant")
    found: Float64[np.ndarray, "block value"] = scale**power * field[at] - (scale**power - 1) * values
    return found


def _freedom(places: Int64[np.ndarray, "block axis"], scale: float) -> tuple[float, float]:
    """Return what deviations of variance 1 from their mean give on average, and as how many independent ones they are.

    With the weights W and the projection P to deviations from the mean these are the trace of A = PWP, and its square
    over that of A^2 (F. E. Satterthwaite, Biometrics Bulletin 2 (1946) 110, DOI 10.2307/3002019).
    """
    n, one = len(places), np.ones((len(places), 1))
    rows = _with_neighbours(one, places, scale)
    squares = _with_neighbours(one, places, scale, power=2).sum()
    trace = n - rows.sum() / n
    return float(trace), float(trace**2 / (squares - 2 * (rows**2).sum() / n + (rows.sum() / n) ** 2))


def independent_blocks(
    cells: Int64[np.ndarray, "cell axis"], edges: Sequence[float], *, length: float
) -> Int64[np.ndarray, "cell axis"]:
    """Return the place of the block that each cell of a grid belongs to: so many together as are nearly independent.

    Parameters
    ----------
    cells
        Place of each cell in the grid (z, y, x).
    edges
        Edges of a cell along (z, y, x), in the unit of `length`.
    length
        Correlation length of the structure.

    Examples
    --------
    >>> independent_blocks(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3]]), [50, 50, 50], length=50)[:, 2]
    array([0, 0, 1, 1])
    """
    counts = cells.max(axis=0) + 1
    together = [max(1, math.ceil(EDGE_IN_LENGTHS * length / edge)) for edge in edges]
    blocks = [max(1, int(count) // step) for count, step in zip(counts, together, strict=True)]
    # cut each axis as evenly as can be, so that no block is a mere remainder
    places: Int64[np.ndarray, "cell axis"] = cells * np.array(blocks) // counts
    return places
