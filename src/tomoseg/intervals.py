"""Intervals that count independent samples: how far labels are alike, blocks of at least that, and a bootstrap."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
from jaxtyping import Int64, UInt8

from tomoseg.labels import UNLABELLED
from tomoseg.metrics import Confusion, confusion

Index = UInt8[np.ndarray, "y x"]
Blocks = Int64[np.ndarray, "block truth predicted"]
Statistic = Callable[[Confusion], float]

FEWEST_BLOCKS = 5
LEVEL = 0.95
REPEATS = 1000
_UNCORRELATED = 0.1


def mean_chord_length(label: Index) -> float:
    """Return the mean length in pixels of the runs of one class along y and x; infinite without an interface.

    Estimated as pixels per change of class, so that runs cut off by the border count for what they are
    (S. Torquato, Random heterogeneous materials, 2002, DOI 10.1007/978-1-4757-6355-3, sec. 2.6).

    Examples
    --------
    >>> mean_chord_length(np.indices((8, 8)).sum(0).astype(np.uint8) % 2)
    1.0
    """
    places = changes = 0
    for a, b in ((label[1:], label[:-1]), (label[:, 1:], label[:, :-1])):
        both = (a != UNLABELLED) & (b != UNLABELLED)
        places += int(both.sum())
        changes += int((both & (a != b)).sum())
    return places / changes if changes else float("inf")


def correlation_length(label: Index) -> int:
    """Return the distance in pixels at which labels are no longer alike, at most half the shorter edge.

    The first lag, along y and x, at which the covariance of the class indicators (summed over the classes;
    Torquato's two-point probability function, DOI 10.1007/978-1-4757-6355-3) has fallen to a tenth. Blocks of
    a bootstrap are to be at least that long (H. R. Kuensch 1989, DOI 10.1214/aos/1176347265).

    Examples
    --------
    >>> rng = np.random.default_rng(0)
    >>> coarse = rng.integers(2, size=(32, 32), dtype=np.uint8)
    >>> correlation_length(coarse), correlation_length(np.kron(coarse, np.ones((8, 8), np.uint8)))
    (1, 8)
    """
    known = label != UNLABELLED
    shares = np.bincount(label[known], minlength=256)[:UNLABELLED] / max(1, known.sum())
    by_chance = float((shares**2).sum())
    for lag in range(1, min(label.shape) // 2):
        if by_chance < 1 and (_alike(label, lag) - by_chance) / (1 - by_chance) <= _UNCORRELATED:
            return lag
    return int(min(label.shape)) // 2


def _alike(label: Index, lag: int) -> float:
    same = both = 0
    for a, b in ((label[lag:], label[:-lag]), (label[:, lag:], label[:, :-lag])):
        known = (a != UNLABELLED) & (b != UNLABELLED)
        both += int(known.sum())
        same += int((known & (a == b)).sum())
    return same / both if both else 0.0


def tile_confusions(label: Index, prediction: Index, n_classes: int, *, edge: int) -> Blocks:
    """Return the confusion matrix of each block of a slice; blocks are at least `edge` pixels long and wide.

    The slice is divided evenly; one that is smaller than `edge` is a block.

    Examples
    --------
    >>> label = np.zeros((5, 9), np.uint8)
    >>> tile_confusions(label, label, 2, edge=4).sum((1, 2))
    array([20, 25])
    """
    rows, columns = (even_parts(size, edge) for size in label.shape)
    return np.stack([confusion(label[y, x], prediction[y, x], n_classes) for y in rows for x in columns])


def even_parts(size: int, edge: int) -> list[slice]:
    """Cut a length into parts as even as can be, none shorter than `edge`; a length below that is one part."""
    n = max(1, size // max(1, edge))
    ends = [size * i // n for i in range(n + 1)]
    return [slice(a, b) for a, b in pairwise(ends)]


def group_by_z(numbers: Sequence[int], length: float) -> list[int]:
    """Return the group of each slice: slabs at least `length` slices thick share one; slices far apart have their own.

    Examples
    --------
    >>> group_by_z([0, 1, 2, 3, 50], 2.0)
    [0, 0, 1, 1, 2]
    """
    groups: dict[int, int] = {}
    start = None
    for number in sorted(numbers):
        if start is None or number - start >= length:
            start = number
            groups[number] = max(groups.values(), default=-1) + 1
        else:
            groups[number] = max(groups.values())
    return [groups[number] for number in numbers]


@dataclass(frozen=True)
class Intervals:
    """Intervals of several statistics, or why there are none.

    Attributes
    ----------
    level
        Probability that an interval holds the value.
    n_blocks
        Independent blocks.
    intervals
        Statistic -> low and high end.
    why_none
        Why there are no intervals.
    """

    level: float
    n_blocks: int
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    why_none: str | None = None


def bootstrap(
    blocks: Blocks,
    statistics: Mapping[str, Statistic],
    *,
    rng: np.random.Generator,
    level: float = LEVEL,
    repeats: int = REPEATS,
) -> Intervals:
    """Return percentile intervals of statistics of the summed confusion matrix, blocks drawn with replacement.

    B. Efron, 1979, DOI 10.1214/aos/1176344552.

    Parameters
    ----------
    blocks
        Confusion matrix of each independent block; those without a labelled pixel do not count.
    statistics
        Name -> function of a confusion matrix.
    rng
        Draws the blocks.
    level, repeats
        Of the intervals, and how often blocks are drawn.

    Examples
    --------
    >>> from tomoseg.metrics import accuracy
    >>> blocks = np.tile(np.array([[3, 1], [0, 4]]), (6, 1, 1))
    >>> bootstrap(blocks, {"accuracy": accuracy}, rng=np.random.default_rng(0)).intervals
    {'accuracy': (0.875, 0.875)}
    """
    counted = blocks[blocks.sum((1, 2)) > 0]
    if len(counted) < FEWEST_BLOCKS:
        return Intervals(level, len(counted), {}, _too_few(len(counted)))
    draws = _draws(len(counted), repeats, rng)
    summed = np.einsum("rb,btp->rtp", draws, counted)
    return Intervals(level, len(counted), {name: _ends(summed, of, level) for name, of in statistics.items()})


def paired_difference(
    first: Blocks,
    second: Blocks,
    statistic: Statistic,
    *,
    rng: np.random.Generator,
    level: float = LEVEL,
    repeats: int = REPEATS,
) -> tuple[float, float] | None:
    """Return the interval of `statistic` of the first less that of the second, on the same blocks; None below five.

    Examples
    --------
    >>> from tomoseg.metrics import accuracy
    >>> good, bad = (np.tile(np.array([[n, 4 - n], [0, 4]]), (6, 1, 1)) for n in (4, 2))
    >>> paired_difference(good, bad, accuracy, rng=np.random.default_rng(0))
    (0.25, 0.25)
    """
    counted = first.sum((1, 2)) > 0
    if counted.sum() < FEWEST_BLOCKS:
        return None
    draws = _draws(int(counted.sum()), repeats, rng)
    sums = [np.einsum("rb,btp->rtp", draws, blocks[counted]) for blocks in (first, second)]
    differences = [statistic(a) - statistic(b) for a, b in zip(*sums, strict=True)]
    low, high = np.percentile(differences, _percentiles(level))
    return float(low), float(high)


def _draws(n: int, repeats: int, rng: np.random.Generator) -> Int64[np.ndarray, "repeat block"]:
    return rng.multinomial(n, np.full(n, 1 / n), size=repeats)


def _ends(summed: Blocks, statistic: Statistic, level: float) -> tuple[float, float]:
    low, high = np.nanpercentile([statistic(one) for one in summed], _percentiles(level))
    return float(low), float(high)


def _percentiles(level: float) -> tuple[float, float]:
    return 50 * (1 - level), 50 * (1 + level)


def _too_few(n: int) -> str:
    return (
        f"the test holds {n} independent block{'' if n == 1 else 's'}, fewer than {FEWEST_BLOCKS}; "
        "test on more slices, further apart, or larger ones"
    )
