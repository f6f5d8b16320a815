"""Two-point correlation of every phase along the axes, and the length over which it decays.

S2(r) is the probability that two points a distance r apart are both in a phase (S. Torquato, Random heterogeneous
materials, 2002, sec. 2.2, DOI 10.1007/978-1-4757-6355-3)::

    S2(r) = pairs of voxels in the phase / pairs of voxels that count

It falls from the phase's fraction f to f^2. The normalised covariance (S2(r) - f^2) / (f - f^2) falls from 1 to 0, and
the lag at which it has fallen to 1/e is the correlation length.

Pairs are counted, not transformed: eight voxels a byte, they are exact whole numbers, and do not depend on how a volume
is cut. A pair belongs to the block that holds its first voxel; what blocks give is added up.
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Float64, Int64, UInt64

from tomoseg.labels import UNLABELLED
from tomoseg.quantify.grid import Read, Shape
from tomoseg.volume.base import Region

MOST_LAG = 128
"""In voxels: a block is read with as much behind it."""

DECAYED = float(np.exp(-1))

Pairs = Int64[np.ndarray, "counted axis lag"]
"""Pairs of voxels that count, then those of each class."""


def longest_lags(shape: Shape) -> Shape:
    """Return the longest lag along (z, y, x) in voxels: half the volume, for pairs that tell something.

    Examples
    --------
    >>> longest_lags((1, 50, 900))
    (0, 25, 128)
    """
    z, y, x = (min(size // 2, MOST_LAG) for size in shape)
    return z, y, x


def count_pairs(read: Read, region: Region, *, shape: Shape, n_classes: int) -> Pairs:
    """Count pairs of voxels whose first is in a block and whose second lies up to `longest_lags` further on an axis.

    Parameters
    ----------
    read
        Gives class indices, uint8 (z, y, x), `UNLABELLED` outside the mask.
    region
        The block.
    shape
        Voxels of the volume along (z, y, x).
    n_classes
        Classes of the volume.

    Returns
    -------
        int64 (counted, axis, lag): pairs inside the mask, then those of each class; 0 beyond an axis's longest lag.

    Examples
    --------
    >>> labels = np.array([[[0, 1, 1, 255]]], np.uint8)
    >>> pairs = count_pairs(lambda region: labels[region.slices], Region.whole((1, 1, 4)), shape=(1, 1, 4), n_classes=2)
    >>> pairs[:, 2].tolist()
    [[3, 2, 1], [1, 0, 0], [2, 1, 0]]
    """
    lags = longest_lags(shape)
    pairs = np.zeros((1 + n_classes, 3, max(lags) + 1), np.int64)
    for axis, (longest, size) in enumerate(zip(lags, region.shape, strict=True)):
        labels = read(_further(region, axis, longest, shape))
        masks = [labels != UNLABELLED, *(labels == index for index in range(n_classes))]
        for order, mask in enumerate(masks):
            if mask.any():
                pairs[order, axis, : longest + 1] = _of_mask(_packed(mask, axis), size, longest)
    return pairs


def _further(region: Region, axis: int, by: int, shape: Shape) -> Region:
    """Return a region that reaches `by` voxels further up an axis, as far as the volume does."""
    ends = [region.z1, region.y1, region.x1]
    ends[axis] = min(ends[axis] + by, shape[axis])
    return Region(region.z0, ends[0], region.y0, ends[1], region.x0, ends[2])


def _packed(mask: Bool[np.ndarray, "z y x"], axis: int) -> UInt64[np.ndarray, "place word"]:
    """Return the planes across an axis, a bit a voxel."""
    planes = np.moveaxis(mask, axis, 0)
    packed = np.packbits(planes.reshape(len(planes), -1), axis=1)
    return np.ascontiguousarray(np.pad(packed, ((0, 0), (0, -packed.shape[1] % 8)))).view(np.uint64)


def _of_mask(bits: UInt64[np.ndarray, "place word"], size: int, longest: int) -> Int64[np.ndarray, " lag"]:
    """Return the pairs of set bits by lag whose first is in the first `size` planes."""
    found = np.zeros(longest + 1, np.int64)
    for lag in range(min(longest + 1, len(bits))):
        second = bits[lag : lag + size]
        found[lag] = np.bitwise_count(bits[: len(second)] & second).sum()
    return found


def two_point(pairs: Pairs | Float64[np.ndarray, "counted axis lag"]) -> Float64[np.ndarray, "class axis lag"]:
    """Return S2 of each class, 0 to 1; NaN where no pair counts.

    Examples
    --------
    >>> two_point(np.array([[[4, 3]], [[2, 1]]]))[0, 0].round(2)
    array([0.5 , 0.33])
    """
    counted, both = pairs[:1], pairs[1:]
    return np.asarray(np.divide(both, counted, out=np.full(both.shape, np.nan), where=counted > 0))


def covariance(correlation: Float64[np.ndarray, "*many lag"]) -> Float64[np.ndarray, "*many lag"]:
    """Return the normalised covariance from S2 by lag, the first of which is 0: 1 there, 0 where nothing is left.

    Returns
    -------
        NaN for a class that is absent or alone.

    Examples
    --------
    >>> covariance(np.array([0.5, 0.25, 0.3])).round(2)
    array([1. , 0. , 0.2])
    """
    share = correlation[..., :1]
    scale = share * (1 - share)
    falling = correlation - share**2
    return np.asarray(np.divide(falling, scale, out=np.full(falling.shape, np.nan), where=scale > 0))


def decay_lags(covariances: Float64[np.ndarray, "class axis lag"]) -> Float64[np.ndarray, "class axis"]:
    """Return the lag in voxels at which each covariance has first fallen to 1/e, interpolated between lags.

    Returns
    -------
        NaN where it does not within its lags.

    Examples
    --------
    >>> decay_lags(np.array([[[1.0, 0.8, 0.0, 0.5], [1.0, 0.9, 0.8, 0.7]]])).round(2)
    array([[1.54,  nan]])
    """
    low = covariances <= DECAYED
    after = np.where(low.any(axis=-1), low.argmax(axis=-1), 1)[..., None]
    after = np.minimum(after, covariances.shape[-1] - 1)
    above, below = (np.take_along_axis(covariances, at, -1)[..., 0] for at in (np.maximum(after - 1, 0), after))
    lags = after[..., 0] - 1 + np.divide(above - DECAYED, above - below, out=np.zeros_like(above), where=above > below)
    return np.where(low.any(axis=-1), lags, np.nan)
