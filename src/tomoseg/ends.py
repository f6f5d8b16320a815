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
Pictures = Sequence[Float64[np.ndarray, "y x"]]

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
_SPOT, _SPOTS = 96, 3  # edge of a spot in pixels, and how many lie along y and x
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


def fit_end(spots: Sequence[Sequence[Slice]]) -> End:
    """Return an end of a scan by its `FITTED` nearest slices: the weights of least squares over all spots.

    Each spot is the same part of all these slices, the end's own first; see `spots_of`.
    """
    pictures = [[list(_pictures([one])) for one in spot] for spot in spots]
    fits = [_least_squares(pictures, steps) for steps in range(1, MOST_BEYOND + 1)]
    return End(np.stack([weights for weights, _ in fits]), np.array([offset for _, offset in fits]))


def _least_squares(spots: Sequence[Sequence[Pictures]], steps: int) -> tuple[Float64[np.ndarray, " picture"], float]:
    """Return weights and offset that foretell slices from those `steps` and more further inward."""
    size = TAKEN * len(spots[0][0])
    products, sums, pixels = np.zeros((size + 1, size + 1)), np.zeros(size + 1), 0
    for spot in spots:
        for i in range(FITTED - steps - TAKEN + 1):
            given = [one for near in spot[i + steps : i + steps + TAKEN] for one in near]
            values = np.stack([one.ravel() for one in (spot[i][0], *given)])
            values = values[:, np.isfinite(values).all(axis=0)]
            products += values @ values.T
            sums += values.sum(axis=1)
            pixels += values.shape[1]
    if pixels == 0:
        return np.eye(1, size)[0], 0.0  # the end's own slice again
    means = sums / pixels
    covariance = products / pixels - np.outer(means, means)
    weights = np.linalg.lstsq(covariance[1:, 1:], covariance[1:, 0], rcond=_SMALLEST)[0]
    return weights, float(means[0] - weights @ means[1:])


def spots_of(shape: tuple[int, int]) -> list[tuple[slice, slice]]:
    """Return the parts of a slice of `shape` (y, x) that tell the weights: spread over it, for its middle may be empty.

    Examples
    --------
    >>> [columns for _, columns in spots_of((100, 500))]
    [slice(35, 131, None), slice(202, 298, None), slice(368, 464, None)]
    """
    rows, columns = (_spans(size) for size in shape)
    return [(along_y, along_x) for along_y in rows for along_x in columns]


def _spans(size: int) -> list[slice]:
    if size <= _SPOT * _SPOTS:
        return [slice(0, size)]
    starts = [int(size * (i + 0.5) / _SPOTS - _SPOT / 2) for i in range(_SPOTS)]
    return [slice(start, start + _SPOT) for start in starts]


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
        slices = [read(near) for near in inward(z, count, slices=FITTED)]
        spots = spots_of((slices[0].shape[0], slices[0].shape[1]))
        return fit_end([[one[spot] for one in slices] for spot in spots])

    @cache
    def foretold(z: int) -> Slice:
        nearest = [read(near) for near in inward(z, count, slices=TAKEN)]
        return end(-1 if z < 0 else count).foretell(beyond(z, count), nearest)

    return lambda z: foretold(z) if beyond(z, count) else read(z)
