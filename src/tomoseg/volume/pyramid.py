"""Smaller versions of a volume, each half as large along every axis: means of grey values, modes of labels."""

from __future__ import annotations

import itertools

import numpy as np
from jaxtyping import Shaped

SMALLEST_EDGE = 128
"""A level with no edge above this has no smaller one below it."""

Shape = tuple[int, int, int]


def level_shapes(shape: Shape) -> tuple[Shape, ...]:
    """Return the shape (z, y, x) of each level, the volume's own first.

    Examples
    --------
    >>> level_shapes((500, 501, 4))
    ((500, 501, 4), (250, 251, 2), (125, 126, 1))
    """
    levels = [shape]
    while max(levels[-1]) > SMALLEST_EDGE:
        z, y, x = levels[-1]
        levels.append((-(-z // 2), -(-y // 2), -(-x // 2)))
    return tuple(levels)


def half_by_mean(values: Shaped[np.ndarray, "*lead z y x"]) -> Shaped[np.ndarray, "*lead half_z half_y half_x"]:
    """Return the mean of each 2 x 2 x 2 voxels, rounded for integers; at an odd end the last voxel counts twice.

    Examples
    --------
    >>> half_by_mean(np.array([[[1, 3, 9]]], np.uint8))
    array([[[2, 9]]], dtype=uint8)
    """
    wide = np.result_type(values.dtype, np.float32)  # exact for integers of up to 16 bits; float64 for 32
    # eighths are added up, as the sum of large floats might be infinite
    mean = sum(np.multiply(corner, 0.125, dtype=wide) for corner in _corners(values))
    return np.asarray(np.rint(mean) if values.dtype.kind in "iu" else mean).astype(values.dtype)


def half_by_mode(values: Shaped[np.ndarray, "*lead z y x"]) -> Shaped[np.ndarray, "*lead half_z half_y half_x"]:
    """Return the most frequent of each 2 x 2 x 2 voxels, the smallest of several; no value appears that was not there.

    Examples
    --------
    >>> half_by_mode(np.array([[[1, 3, 9]], [[3, 1, 9]], [[3, 3, 9]]], np.uint8))[:, 0]
    array([[1, 9],
           [3, 9]], dtype=uint8)
    """
    found = np.empty((*values.shape[:-3], *(-(-size // 2) for size in values.shape[-3:])), values.dtype)
    for *lead, z in np.ndindex(found.shape[:-2]):  # by planes, which stay in the processor's cache
        found[(*lead, z)] = _mode_of_pair(_even(values[(*lead, slice(2 * z, 2 * z + 2))]))
    return found


def _mode_of_pair(pair: Shaped[np.ndarray, "2 y x"]) -> Shaped[np.ndarray, "half_y half_x"]:
    least = most = pair
    for axis in range(3):
        evens, odds = ((*(slice(None),) * axis, slice(start, None, 2)) for start in (0, 1))
        least, most = np.minimum(least[evens], least[odds]), np.maximum(most[evens], most[odds])
    found: Shaped[np.ndarray, "half_y half_x"] = least[0]
    y, x = np.nonzero(found != most[0])  # few cells, but all the work
    planes, width = pair.reshape(2, -1), pair.shape[2]
    first = 2 * y * width + 2 * x
    found[y, x] = _mode(np.concatenate([planes.take(first + step, axis=1) for step in (0, 1, width, width + 1)]))
    return found


def _mode(values: Shaped[np.ndarray, "corner cell"]) -> Shaped[np.ndarray, " cell"]:
    """Return the most frequent value along the first axis, the smallest of several."""
    ranked = np.sort(values, axis=0)
    best: Shaped[np.ndarray, " cell"] = ranked[0].copy()
    best_count = run = np.ones(len(best), np.uint8)
    for before, here in itertools.pairwise(ranked):
        run = np.where(here == before, run + np.uint8(1), np.uint8(1))
        longer = run > best_count
        best[longer] = here[longer]
        best_count = np.maximum(best_count, run)
    return best


def _corners(values: Shaped[np.ndarray, "*lead z y x"]) -> list[np.ndarray]:
    """Return the eight voxels of each cell as eight arrays, the volume continued by its last voxels to even size."""
    even = _even(values)
    return [even[..., z::2, y::2, x::2] for z in (0, 1) for y in (0, 1) for x in (0, 1)]


def _even(values: Shaped[np.ndarray, "*lead z y x"]) -> Shaped[np.ndarray, "*lead even_z even_y even_x"]:
    odd = [(0, size % 2) for size in values.shape[-3:]]
    return np.pad(values, [(0, 0)] * (values.ndim - 3) + odd, mode="edge") if any(n for _, n in odd) else values
