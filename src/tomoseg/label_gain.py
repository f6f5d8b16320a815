"""What one more labelled slice would change: phase fractions by forests that have seen one slice less."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from jaxtyping import Bool, Float32, Float64, UInt8

from tomoseg.forest import Forest
from tomoseg.grey_levels import evenly

Image = Float32[np.ndarray, "_ _"]
Label = UInt8[np.ndarray, "_ _"]
Inside = Bool[np.ndarray, "_ _"]

MOST_LEFT_OUT = 6
"""Labelled slices that are left out, one after the other."""

_PIXELS = 20_000
_TREES = 50


def fractions_by_forests(
    tiles: Sequence[tuple[Image, Label]],
    groups: Sequence[int],
    shown: Sequence[tuple[Image, Inside]],
    *,
    classes: int,
    seed: int,
    threads: int = -1,
) -> Iterator[Float64[np.ndarray, " class"]]:
    """Yield the fractions of the classes in `shown` by a forest of all labelled slices, then by others.

    These have learnt from all slices but one, up to `MOST_LEFT_OUT` of them. A forest takes seconds where a network
    takes minutes.

    Parameters
    ----------
    tiles
        Labelled tiles, in window units.
    groups
        The labelled slice that each tile is of.
    shown
        Parts of the scan, in window units, and which of their pixels count, at least one in all.
    classes
        How many.
    seed
        Of the drawn pixels and the trees, the same for all forests.
    threads
        Processor threads; -1 takes all.
    """
    for without in (None, *left_out(groups)):
        chosen = [tile for tile, group in zip(tiles, groups, strict=True) if group != without]
        forest = Forest.fit(
            chosen,
            rng=np.random.default_rng(seed),
            pixels_per_slice=max(1, _PIXELS // len(chosen)),
            trees=_TREES,
            threads=threads,
        )
        counts = sum(
            np.bincount(forest.predict(image, threads=threads)[inside], minlength=classes) for image, inside in shown
        )
        yield np.asarray(counts / np.sum(counts), np.float64)


def left_out(groups: Sequence[int]) -> list[int]:
    """Return the slices that are left out, one after the other: evenly spaced ones, none where there is but one.

    Examples
    --------
    >>> left_out([0, 0, 1, 2]), left_out(range(13)), left_out([3, 3])
    ([0, 1, 2], [1, 3, 5, 7, 9, 11], [])
    """
    slices = sorted(set(groups))
    return [slices[i] for i in evenly(0, len(slices), MOST_LEFT_OUT)] if len(slices) > 1 else []


def change_by_one(fractions: Sequence[Float64[np.ndarray, " class"]]) -> Float64[np.ndarray, " class"] | None:
    """Return by how much leaving out one labelled slice changes each fraction, on average; None for one slice.

    The next slice changes them by about as much or less: the change falls with the number of slices.

    Examples
    --------
    >>> change_by_one([np.array([0.5, 0.5]), np.array([0.4, 0.6]), np.array([0.52, 0.48])]).round(2)
    array([0.06, 0.06])
    """
    whole, *others = fractions
    if not others:
        return None
    return np.asarray(np.mean([np.abs(other - whole) for other in others], axis=0))
