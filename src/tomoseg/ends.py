"""The slices beyond a scan's ends: foretold from the last ones, so that these have a context, too.

A network with context sees slices on both sides; at a scan's first and last slices some are missing. With the last one
in their place a tilted interface stands still there, and its voxels are wrong two to three times as often. So they are
foretold by linear prediction (J. Makhoul, Linear prediction: a tutorial review, Proc. IEEE 63 (1975) 561, DOI
10.1109/PROC.1975.9792): a sum of the `TAKEN` slices nearest to the end, each as it is and smoothed, with the weights
that foretell the end's own slices best; they sum to 1. These fit the scan as it is: with little noise they follow the
interfaces' tilt, with more they smooth.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
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

MARGIN = 10
"""Pixels around a foretold one on which it depends, along y and x."""

_WIDTHS = (0.0, 0.7, 1.5, 3.0)  # std of the smoothing in pixels; none reaches farther than the margin
_REACH = MARGIN / max(_WIDTHS)
_SPOT, _SPOTS = 96, 3  # edge of a spot in pixels, and how many lie along y and x
_SMALLEST = 1e-10  # of the largest eigenvalue: below it two pictures tell the same


@dataclass(frozen=True)
class End:
    """One end of a scan: how the slices beyond it are made.

    Attributes
    ----------
    weights
        For each step beyond the end: the weights of the nearest slices by smoothing. They sum to 1.
    """

    weights: Float64[np.ndarray, "step width slice"]

    def foretell(self, steps: int, nearest: Sequence[Slice]) -> Slice:
        """Return the slice so many steps beyond the end, (y, x), in the type of the nearest ones, the end's own first.

        Parameters
        ----------
        steps
            1 to `MOST_BEYOND`.
        nearest
            `TAKEN` slices, or the same part of each. Pixels within `MARGIN` of a part's border are not the whole one's.
        """
        found = np.zeros(nearest[0].shape)
        for width, weights in zip(_WIDTHS, self.weights[steps - 1], strict=True):
            found += _smooth(sum(w * one for w, one in zip(weights, nearest, strict=True)), width)
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
    pictures = [[[_smooth(one.astype(np.float64), width) for one in spot] for width in _WIDTHS] for spot in spots]
    return End(np.stack([_least_squares(pictures, steps) for steps in range(1, MOST_BEYOND + 1)]))


def _least_squares(spots: Sequence[Sequence[Pictures]], steps: int) -> Float64[np.ndarray, "width slice"]:
    """Return the weights that foretell slices best from those `steps` and more further inward.

    What changes from the nearest of these is foretold by how the others differ from it, so that all weights sum to 1,
    and where nothing changes the nearest one is repeated.
    """
    size = len(_WIDTHS) * TAKEN
    products = np.zeros((size, size))
    for spot in spots:
        for i in range(FITTED - steps - TAKEN + 1):
            near = [one for of_width in spot for one in of_width[i + steps : i + steps + TAKEN]]
            changes = np.stack([(one - near[0]).ravel() for one in (spot[0][i], *near[1:])])
            products += changes @ changes.T
    others = np.linalg.lstsq(products[1:, 1:], products[1:, 0], rcond=_SMALLEST)[0]
    return np.array([1 - others.sum(), *others]).reshape(len(_WIDTHS), TAKEN)


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


def _smooth(values: Float64[np.ndarray, "y x"], width: float) -> Float64[np.ndarray, "y x"]:
    return gaussian_filter(values, width, mode="mirror", truncate=_REACH) if width else values


def continued(read: Reader, count: int) -> Reader:
    """Return a reader of whole slices (y, x) that gives those beyond the ends of a scan of `count` slices, too.

    Those beyond are kept, so that each is made once.
    """

    @cache
    def end(z: int) -> End:
        slices = (read(near) for near in inward(z, count, slices=FITTED))
        of_slices = [[one[spot].copy() for spot in spots_of((one.shape[0], one.shape[1]))] for one in slices]
        return fit_end(list(zip(*of_slices, strict=True)))

    @cache
    def foretold(z: int) -> Slice:
        nearest = [read(near) for near in inward(z, count, slices=TAKEN)]
        return end(-1 if z < 0 else count).foretell(beyond(z, count), nearest)

    return lambda z: foretold(z) if beyond(z, count) else read(z)
