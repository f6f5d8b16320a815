"""The slices beyond a scan's ends: foretold from the last ones, so that these have a context, too.

A network with context sees slices on both sides; at a scan's first and last slices some are missing. With the last one
in their place a tilted interface stands still there, and its voxels are wrong two to three times as often. So they are
foretold by linear prediction (J. Makhoul, Linear prediction: a tutorial review, Proc. IEEE 63 (1975) 561, DOI
10.1109/PROC.1975.9792): a sum of the `TAKEN` slices nearest to the end, each as it is and smoothed, with the weights
that foretell the end's own slices best. These fit the scan as it is: with little noise they follow the interfaces'
tilt, with more they smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.ndimage import gaussian_filter

from tomoseg.noise_level import type_ends

Slice = Shaped[np.ndarray, "y x"]
Reader = Callable[[int], Slice]

TAKEN = 5
"""Slices nearest to the end of which those beyond are made."""

FITTED = 12
"""Slices nearest to the end to which the weights are fitted; a scan with fewer is not continued."""

MOST_BEYOND = 4
"""Slices that are foretold beyond an end, at most."""

MARGIN = 5
"""Pixels around a foretold one on which it depends, along y and x."""

_WIDTHS = (0.7, 1.5)  # std of the smoothing in pixels; both reach no farther than the margin
_REACH = MARGIN / max(_WIDTHS)
_EDGE = 256
_SMALLEST = 1e-10  # of the largest eigenvalue: below it two pictures tell the same


@dataclass(frozen=True)
class End:
    """One end of a scan: how the slices beyond it are made.

    Attributes
    ----------
    weights, offsets
        For each step beyond the end: the weights of the nearest slices, each as it is and smoothed, and what is added.
    """

    weights: Float64[np.ndarray, "step picture"]
    offsets: Float64[np.ndarray, " step"]

    def foretell(self, steps: int, nearest: Sequence[Slice]) -> Slice:
        """Return the slice so many steps beyond the end, (y, x), in the type of the nearest ones, the end's own first.

        Parameters
        ----------
        steps
            1 to `MOST_BEYOND`.
        nearest
            `TAKEN` slices, or the same part of each. Pixels within `MARGIN` of a part's border are not the whole one's.
        """
        found = np.full(nearest[0].shape, self.offsets[steps - 1])
        for weight, picture in zip(self.weights[steps - 1], _pictures(nearest), strict=True):
            found += weight * picture
        ends = type_ends(nearest[0].dtype)
        return (found if ends is None else np.clip(np.rint(found), *ends)).astype(nearest[0].dtype)


def beyond(z: int, count: int) -> int:
    """Return how many steps slice `z` lies beyond the ends of a scan of `count` slices; 0 inside.

    Examples
    --------
    >>> beyond(-1, 8), beyond(3, 8), beyond(9, 8)
    (1, 0, 2)
    """
    return max(0, -z, z - count + 1)


def inward(z: int, count: int, *, slices: int) -> tuple[int, ...]:
    """Return so many slices from the end beyond which slice `z` lies, the end's own first.

    Examples
    --------
    >>> inward(-1, 8, slices=3), inward(9, 8, slices=3)
    ((0, 1, 2), (7, 6, 5))
    """
    return tuple(range(slices) if z < 0 else range(count - 1, count - 1 - slices, -1))


def fit_end(nearest: Sequence[Slice]) -> End:
    """Return an end of a scan by its `FITTED` nearest slices, or the `middle` of each (y, x), the end's own first.

    The weights are those of the least squares over that middle.
    """
    pictures = [list(_pictures([one[middle((one.shape[0], one.shape[1]))]])) for one in nearest]
    fits = [_least_squares(pictures, steps) for steps in range(1, MOST_BEYOND + 1)]
    return End(np.stack([weights for weights, _ in fits]), np.array([offset for _, offset in fits]))


def _least_squares(
    pictures: Sequence[Sequence[Float64[np.ndarray, "y x"]]], steps: int
) -> tuple[Float64[np.ndarray, " picture"], float]:
    """Return weights and offset that foretell slices from those `steps` and more further inward."""
    size = TAKEN * len(pictures[0])
    products, with_target, sums, total, pixels = np.zeros((size, size)), np.zeros(size), np.zeros(size), 0.0, 0
    for i in range(FITTED - steps - TAKEN + 1):
        given = np.stack([one.ravel() for near in pictures[i + steps : i + steps + TAKEN] for one in near])
        target = pictures[i][0].ravel()
        finite = np.isfinite(given).all(axis=0) & np.isfinite(target)
        given, target = given[:, finite], target[finite]
        products += given @ given.T
        with_target += given @ target
        sums += given.sum(axis=1)
        total, pixels = total + float(target.sum()), pixels + target.size
    if pixels == 0:
        return np.eye(1, size)[0], 0.0  # the end's own slice again
    means, mean = sums / pixels, total / pixels
    covariance = products / pixels - np.outer(means, means)
    weights = np.linalg.lstsq(covariance, with_target / pixels - means * mean, rcond=_SMALLEST)[0]
    return weights, mean - float(weights @ means)


def middle(shape: tuple[int, int]) -> tuple[slice, slice]:
    """Return the part of a slice of `shape` (y, x) that tells the weights.

    Examples
    --------
    >>> middle((100, 500))
    (slice(0, 100, None), slice(122, 378, None))
    """
    starts = [max(0, (size - _EDGE) // 2) for size in shape]
    rows, columns = (slice(start, start + min(_EDGE, size)) for start, size in zip(starts, shape, strict=True))
    return rows, columns


def _pictures(slices: Sequence[Slice]) -> Iterator[Float64[np.ndarray, "y x"]]:
    """Yield each slice as it is and smoothed."""
    for one in slices:
        values = one.astype(np.float64)
        yield values
        for width in _WIDTHS:
            yield gaussian_filter(values, width, mode="mirror", truncate=_REACH)


def continued(read: Reader, count: int) -> Reader:
    """Return a reader of whole slices (y, x) that gives those beyond the ends of a scan of `count` slices, too.

    Those beyond are kept, so that each is made once.
    """

    @cache
    def end(z: int) -> End:
        return fit_end([read(near) for near in inward(z, count, slices=FITTED)])

    @cache
    def foretold(z: int) -> Slice:
        nearest = [read(near) for near in inward(z, count, slices=TAKEN)]
        return end(-1 if z < 0 else count).foretell(beyond(z, count), nearest)

    return lambda z: foretold(z) if beyond(z, count) else read(z)
