"""Intervals of sizes: of the number of particles, and of diameters that a share of them, or of a phase, stays below.

A quantile jumps from one particle to the next: leaving out blocks does not tell how much it varies. The share of the
weights up to it is a ratio of sums, of which that does tell; its interval, looked up in the distribution at both ends,
is that of the quantile (R. S. Woodruff, Confidence intervals for medians and other position measures, J. Am. Stat.
Assoc. 47 (1952) 635, DOI 10.1080/01621459.1952.10483443). It is one of log odds, so that no end leaves 0 to 1.

A particle belongs to the block that holds the middle of the box around it. Those near the border of the scan are seldom
seen whole, large ones least: blocks there hold fewer, and that is no scatter of the material. So their number is set
against what a block would hold if particles of the same extents lay everywhere where they are seen whole, evenly.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import reduce
from operator import add

import numpy as np
from jaxtyping import Float64, Int64
from scipy.special import expit, logit

from tomoseg.quantify.grid import Grid
from tomoseg.quantify.particles import Particles, Weights, weighted_quantile
from tomoseg.quantify.quantities import Counted
from tomoseg.quantify.sampling import Spread, Sums, Values
from tomoseg.quantify.sizes import Sizes, exceeded_diameter

WOODRUFF = "Woodruff 1952, DOI 10.1080/01621459.1952.10483443"

_AT_A_TIME = 4096
_FEWEST_BEYOND = 5.0
"""Particles to expect on either side of a quantile, of as many as would be alike in weight. With fewer it is luck
whether any of them lies in the volume, and the largest or smallest one seen is no end of an interval."""

Amounts = Float64[np.ndarray, "particle amount"]


def number_spread(its: Particles, *, counted: Counted, grid: Grid) -> Spread:
    """Return how many particles the volume holds, by their weights, with its interval; no end is below 0."""
    held = _held(its, its.weights[:, None], grid)
    expected = _expected(its, inside=counted.voxels.sum(axis=1), grid=grid)
    found = counted.spread(np.column_stack([held, expected]), lambda sums: sums[:1] / sums[1])
    number = its.weights.sum()
    return replace(found, values=np.array([number]), low=np.maximum(number * found.low, 0), high=number * found.high)


def quantile_spreads(
    its: Particles, asked: Sequence[tuple[Weights, float]], *, counted: Counted, grid: Grid
) -> list[Spread]:
    """Return the diameters up to which shares of some weights lie, each with its interval.

    Parameters
    ----------
    its
        The particles, one at least.
    asked
        Weights of the particles, float64 (particle,), and the share of their sum, above 0 and below 1.
    counted
        The blocks' voxels, and how far apart blocks are independent.
    grid
        The blocks.
    """
    values = [weighted_quantile(its.diameters_um, weights, share) for weights, share in asked]
    up_to = its.diameters_um[:, None] <= np.array(values)
    weights = np.stack([weights for weights, _ in asked], axis=1)
    found = counted.spread(_held(its, np.hstack([weights * up_to, weights * ~up_to]), grid), _log_odds)
    return [_quantile(its, one, found, order) for order, one in enumerate(asked)]


def _quantile(its: Particles, asked: tuple[Weights, float], found: Spread, order: int) -> Spread:
    """Return a quantile with its interval; there is none where too few particles lie on one side of it.

    Of particles that differ in weight, as many alike would tell as much as the square of the sum of their weights over
    the sum of the squares says (L. Kish, Survey sampling, 1965).
    """
    weights, share = asked
    value = weighted_quantile(its.diameters_um, weights, share)
    alike = float(weights.sum() ** 2 / (weights**2).sum())
    if min(share, 1 - share) * alike < _FEWEST_BEYOND:
        needed = _FEWEST_BEYOND / min(share, 1 - share)
        few = f"no interval: by their weights the particles count as {alike:.0f}, it takes {needed:.0f}"
        return _without(value, found, few)
    ends = _ends(found, order, share)
    if not ends:
        return _without(value, found, "no interval: without one of the blocks none is larger, or all are")
    low, high = (np.array([weighted_quantile(its.diameters_um, weights, end)]) for end in ends)
    return Spread(np.array([value]), low, high, found.n_blocks)


def median_spread(balls: Sequence[Sizes], *, index: int, counted: Counted) -> Spread:
    """Return the diameter that half of a class exceeds in local thickness, with its interval.

    Parameters
    ----------
    balls
        What balls cover in each block; all of them together have such a diameter.
    index
        The class.
    counted
        How far apart blocks are independent.
    """
    whole = reduce(add, balls)
    value = exceeded_diameter(whole, index=index, share=0.5)
    if value is None:
        raise ValueError(f"class {index} has no median diameter")
    voxels = np.array([one.voxels[index] for one in balls], np.float64)
    above = np.array([np.interp(value / 2, one.radii_um, one.covered[index]) for one in balls])
    found = counted.spread(np.stack([above, voxels - above], axis=1), _log_odds)
    # The larger the share that exceeds a diameter, the smaller it is.
    ends = [exceeded_diameter(whole, index=index, share=end) for end in reversed(_ends(found, 0, 0.5))]
    if not ends:
        return _without(value, found)
    if ends[0] is None or ends[1] is None:
        return _without(value, found, "no interval: it would reach beyond the balls tried")
    return Spread(np.array([value]), np.array([ends[0]]), np.array([ends[1]]), found.n_blocks)


def _without(value: float, found: Spread, why: str | None = None) -> Spread:
    nothing = np.full(1, np.nan)
    return Spread(np.array([value]), nothing, nothing, found.n_blocks, found.why_not or why)


def _log_odds(sums: Sums) -> Values:
    """Return the logarithms of what lies up to each quantile, the first half, over what lies above."""
    up_to, above = np.split(np.maximum(sums, 0), 2)  # rounding may leave less than nothing
    with np.errstate(divide="ignore", invalid="ignore"):
        odds = np.log(up_to / above)
    return np.asarray(np.where(np.isfinite(odds), odds, np.nan))


def _ends(found: Spread, order: int, share: float) -> list[float]:
    """Return the ends of a share's interval from those of its log odds; none where there are none."""
    shifts = np.array([found.low[order], found.high[order]]) - found.values[order]
    return expit(logit(share) + shifts).tolist() if np.isfinite(shifts).all() else []


def _held(its: Particles, amounts: Amounts, grid: Grid) -> Float64[np.ndarray, "block amount"]:
    """Return the sums of amounts over the particles of each block."""
    held = np.zeros((len(grid), amounts.shape[1]))
    np.add.at(held, grid.numbers((its.low + its.high - 1) // 2), amounts)
    return held


def _expected(its: Particles, *, inside: Int64[np.ndarray, " block"], grid: Grid) -> Float64[np.ndarray, " block"]:
    """Return how many particles each block would hold if they lay evenly wherever they are seen whole.

    Parameters
    ----------
    its
        The particles, which count by their weights.
    inside
        Voxels of each block inside the mask: a block counts by their share in all of its voxels.
    grid
        The blocks.
    """
    seen = inside.reshape(grid.counts) / np.array([np.prod(block.shape) for block in grid]).reshape(grid.counts)
    found = np.zeros(grid.counts)
    for first in range(0, len(its.weights), _AT_A_TIME):
        some = slice(first, first + _AT_A_TIME)
        z, y, x = (_reaches(n, ends) for n, ends in zip((its.high - its.low)[some].T, grid.ends, strict=True))
        # One voxel at least, for it was seen.
        places = np.maximum(np.einsum("pz,py,px,zyx->p", z, y, x, seen, optimize=True), 1.0)
        found += np.einsum("pz,py,px,p->zyx", z, y, x, its.weights[some] / places, optimize=True)
    return np.asarray((found * seen).ravel())


def _reaches(extents: Int64[np.ndarray, " particle"], ends: Sequence[int]) -> Float64[np.ndarray, "particle part"]:
    """Return in how much of each part of an axis the middles of particles may lie that are seen whole, in voxels.

    Examples
    --------
    >>> _reaches(np.array([1, 5]), (0, 5, 10))
    array([[4., 4.],
           [2., 2.]])
    """
    first = ((extents + 1) / 2)[:, None]
    low, high = np.maximum(ends[:-1], first), np.minimum(ends[1:], ends[-1] - first)
    return np.asarray(np.maximum(high - low, 0.0))
