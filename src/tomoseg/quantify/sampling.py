"""How much a number would vary from one piece of the material to the next: intervals over blocks of the volume.

A scan is one piece of a material. Sums that are taken block by block (voxels, areas, lengths) tell how much the next
piece would differ: each block is left out once, and the spread of what is left is the number's own (the jackknife:
J. W. Tukey 1958; B. Efron, C. Stein, The jackknife estimate of variance, Ann. Stat. 9 (1981) 586, DOI
10.1214/aos/1176345462). Neighbouring blocks must be nearly independent: their edges are at least `EDGE_IN_LENGTHS`
correlation lengths.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Int64
from scipy.stats import t as student

FEWEST_BLOCKS = 8
"""With fewer, the spread over blocks says too little about itself."""

EDGE_IN_LENGTHS = 2.0
LEVEL = 0.95

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


def jackknife(
    blocks: Float64[np.ndarray, "block sum"],
    statistic: Callable[[Sums], Values],
    *,
    fewest: int = FEWEST_BLOCKS,
) -> Spread:
    """Return what `statistic` makes of the sums over all blocks, with intervals from leaving out each block once.

    Parameters
    ----------
    blocks
        Additive sums of each block.
    statistic
        Numbers of any sums; it must be smooth, as fractions and densities are.
    fewest
        Blocks that it takes.

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
        return Spread(values, nothing, nothing, n, f"the volume holds {blocks_there}; it takes {fewest}")
    without = np.stack([statistic(total - block) for block in blocks])
    variance = (n - 1) / n * ((without - without.mean(axis=0)) ** 2).sum(axis=0)
    half = student.ppf((1 + LEVEL) / 2, n - 1) * np.sqrt(variance)
    return Spread(values, values - half, values + half, n)


def independent_blocks(
    cells: Int64[np.ndarray, "cell axis"], edges: Sequence[float], *, length: float
) -> Int64[np.ndarray, " cell"]:
    """Return for each cell of a grid the block that it belongs to: as many cells together as make independent blocks.

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
    >>> independent_blocks(np.array([[0, 0, 0], [0, 0, 1], [0, 0, 2], [0, 0, 3]]), [50, 50, 50], length=50)
    array([0, 0, 1, 1])
    """
    counts = cells.max(axis=0) + 1
    together = [max(1, math.ceil(EDGE_IN_LENGTHS * length / edge)) for edge in edges]
    blocks = [max(1, int(count) // step) for count, step in zip(counts, together, strict=True)]
    # cut each axis as evenly as can be, so that no block is a mere remainder
    places = cells * np.array(blocks) // counts
    return np.asarray(np.ravel_multi_index(tuple(places.T), tuple(blocks)), np.int64)
