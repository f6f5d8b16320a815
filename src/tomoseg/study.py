"""The noise study: which trainings it consists of, what the poster found, and what a tolerance allows.

The poster trained a U-Net on slices of which a share had noise, and tested it on noisy slices. A cell is one such
training. `Cell` says which; all else about the study is arithmetic on what the cells gave.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Float64, Int64

from tomoseg.intervals import FEWEST_BLOCKS, REPEATS
from tomoseg.quantify.sections import number_names
from tomoseg.quantify.slab_transport import Factors

Method = Literal["poster", "ours", "ours 2D", "ours clean", "forest"]
Size = Literal["small", "large"]
Curve = Float[np.ndarray, " level"]
Blocks = Int64[np.ndarray, "seed level block truth predicted"]

PUBLISHED: dict[tuple[Size, str], dict[float | None, float]] = {
    ("small", "test"): {None: 0.968, 0.0: 0.844, 0.25: 0.863, 0.5: 0.841, 0.75: 0.866, 1.0: 0.869},
    ("small", "validation"): {None: 0.990, 0.0: 0.987, 0.25: 0.977, 0.5: 0.972, 0.75: 0.970, 1.0: 0.967},
    ("large", "test"): {None: 0.990, 0.0: 0.545, 0.25: 0.936, 0.5: 0.954, 0.75: 0.957, 1.0: 0.960},
    ("large", "validation"): {None: 0.991, 0.0: 0.990, 0.25: 0.982, 0.5: 0.981, 0.75: 0.977, 1.0: 0.977},
}
"""The poster's pixel accuracies: size and what was scored -> share of noisy training slices (None: no noise) -> value.

C. Desvig-Forss, L. Petersen, U. Woulhøj Jakobsen, Automating the segmentation of X-ray images with deep neural
networks, poster, Technical University of Denmark.
"""


POSTER_STD = 5000.0
"""Std of its noise, in 1/65535 of full range."""


@dataclass(frozen=True)
class Cell:
    """One training of the study.

    Attributes
    ----------
    method
        "poster": its recipe; "ours": the recipe `fast`, in 2.5D where there are neighbours, in 2D, or trained without
        noise; "forest": the random forest, trained at the noise it is tested at.
    size
        "small": one fixed crop of each image; "large": nine.
    share
        Share of the training and validation images with noise; None: no noise in the test either, the baseline.
        Only the poster's recipe has one.
    seed
        Of weights, crops and noise.
    split
        "blocks" of z with a gap, or "random" by slice, which leaks.
    to_the_end
        Trained until validation stops improving, whatever the budget.
    noise_std
        Of the training's noise (ours: the top of its range), or the level at which a forest is trained and tested;
        None: the study's.
    varied
        Noise of a std drawn evenly from 0 to the top of the curve, not of one: the training of the poster's curve.
    """

    method: Method
    size: Size
    share: float | None = None
    seed: int = 0
    split: Literal["blocks", "random"] = "blocks"
    to_the_end: bool = False
    noise_std: float | None = None
    varied: bool = False

    @property
    def key(self) -> str:
        """A name for files, the same for the same cell.

        Examples
        --------
        >>> Cell("poster", "large", 0.5).key, Cell("ours 2D", "small", seed=3, split="random").key
        ('poster-large-050-s0', 'ours_2D-small-s3-random')
        """
        parts = [self.method.replace(" ", "_"), self.size]
        if self.method == "poster":
            parts.append("baseline" if self.share is None else _per_cent(self.share))
        parts.append(f"s{self.seed}")
        if self.noise_std is not None:
            parts.append(f"at{self.noise_std:g}")
        parts += ["random"] * (self.split == "random") + ["end"] * self.to_the_end + ["varied"] * self.varied
        return "-".join(parts)

    @property
    def title(self) -> str:
        """What it is, in words, without its seed."""
        of = ", no noise" if self.share is None else f", {100 * self.share:g} % noisy"
        words = f"{self.method}, {self.size}{of if self.method == 'poster' else ''}"
        words += f", std {self.noise_std:g}" if self.noise_std is not None else ""
        words += ", of any std" if self.varied else ""
        return (
            words + (", random split" if self.split == "random" else "") + (", to the end" if self.to_the_end else "")
        )


def _per_cent(share: float) -> str:
    found = f"{100 * share:g}"
    return found.zfill(3) if found.isdigit() else found


def study_cells(
    *,
    sizes: Sequence[Size],
    shares: Sequence[float],
    seeds: Sequence[int],
    methods: Sequence[Method],
    levels: Sequence[float],
    neighbours: bool,
    per_level: bool,
    varied: bool,
    to_the_end: Sequence[float | None],
) -> list[Cell]:
    """Return the cells of a study, the poster's baseline first.

    Parameters
    ----------
    sizes, shares, seeds
        Of the poster's table; the baseline is always there.
    methods
        Ours, and the forest, beside the poster's.
    levels
        Noise levels of the curve: a forest for each, and with `per_level` every network too.
    neighbours
        Whether slices are neighbours: then 2.5D stands beside 2D, and a random split beside blocks.
    per_level
        Train the 50 % cell and ours at each level.
    varied
        Train the 50 % cell with noise of any std, too: the poster's curve.
    to_the_end
        Shares (None: the baseline) of the large poster cells that are also trained to the end, with the first seed.
    """
    cells = []
    for seed in seeds:
        for size in sizes:
            cells += [Cell("poster", size, share, seed) for share in (None, *shares)]
            for method in methods:
                if method == "forest":
                    cells += [Cell(method, size, seed=seed, noise_std=level) for level in levels]
                elif method != "ours 2D" or neighbours:
                    cells.append(Cell(method, size, seed=seed))
        if neighbours:
            cells.append(Cell("poster", sizes[-1], None, seed, split="random"))
        if varied:
            cells.append(Cell("poster", sizes[-1], 0.5, seed, varied=True))
        if per_level:
            cells += [Cell("poster", sizes[-1], 0.5, seed, noise_std=level) for level in levels]
            cells += [Cell("ours", sizes[-1], seed=seed, noise_std=level) for level in levels]
    cells += [Cell("poster", sizes[-1], share, seeds[0], to_the_end=True) for share in to_the_end]
    return list(dict.fromkeys(cells))


def noisy_places(n: int, share: float, *, rng: np.random.Generator) -> frozenset[int]:
    """Draw which of `n` images have noise: the share, rounded.

    Examples
    --------
    >>> len(noisy_places(10, 0.25, rng=np.random.default_rng(0))), noisy_places(3, 1.0, rng=np.random.default_rng(0))
    (2, frozenset({0, 1, 2}))
    """
    return frozenset(int(i) for i in rng.permutation(n)[: round(share * n)])


def tolerated(levels: Sequence[float], values: Sequence[float], tolerance: float, *, at_least: bool) -> float | None:
    """Return the largest level up to which a curve is within a tolerance, by linear interpolation.

    Parameters
    ----------
    levels
        Rising.
    values
        Of the curve at these levels.
    tolerance
        Bound.
    at_least
        Whether values are to be at least the tolerance (an accuracy), else at most (an error).

    Returns
    -------
    level
        Of the first crossing; None if the curve is outside at its first level, infinite if it never leaves.

    Examples
    --------
    >>> tolerated([0, 100, 200], [0.99, 0.97, 0.95], 0.96, at_least=True)
    150.0
    >>> tolerated([0, 100], [0.001, 0.002], 0.005, at_least=False)
    inf
    """
    margins = [value - tolerance if at_least else tolerance - value for value in values]
    if not margins[0] >= 0:
        return None
    for i, margin in enumerate(margins[1:], start=1):
        if not margin >= 0:
            share = margins[i - 1] / (margins[i - 1] - margin)
            return float(levels[i - 1] + share * (levels[i] - levels[i - 1]))
    return float("inf")


def tolerated_interval(
    levels: Sequence[float],
    blocks: Blocks,
    tolerance: float,
    *,
    statistic: Callable[[Int64[np.ndarray, "truth predicted"]], float],
    at_least: bool,
    rng: np.random.Generator,
) -> tuple[float, float] | None:
    """Return the 95 % interval of `tolerated` over seeds and independent blocks of the test; None below five blocks.

    Seeds and blocks are drawn with replacement, the same blocks at all levels (B. Efron, 1979, DOI
    10.1214/aos/1176344552). A curve outside at its first level counts as 0, one that never leaves as infinite.

    Parameters
    ----------
    levels
        Rising.
    blocks
        Confusion matrices (seed, level, block, truth, predicted), int64.
    tolerance, at_least
        As for `tolerated`.
    statistic
        Of a confusion matrix.
    rng
        Draws the blocks.
    """
    counted = blocks[:, :, blocks.sum(axis=(0, 1, 3, 4)) > 0]
    seeds, _, n = counted.shape[:3]
    if n < FEWEST_BLOCKS:
        return None
    found = []
    for weights in rng.multinomial(n, np.full(n, 1 / n), size=REPEATS):
        drawn = np.tensordot(weights, counted[rng.integers(seeds, size=seeds)], axes=(0, 2))
        level = tolerated(levels, seed_means(drawn, statistic), tolerance, at_least=at_least)
        found.append(0.0 if level is None else level)
    low, high = np.quantile(found, (0.025, 0.975), method="inverted_cdf")
    return float(low), float(high)


def seed_means(
    counts: Int64[np.ndarray, "seed level truth predicted"],
    statistic: Callable[[Int64[np.ndarray, "truth predicted"]], float],
) -> list[float]:
    """Return a curve: at each level the mean over the seeds of a statistic of their confusion matrices.

    Of a sum of matrices, errors of opposite sign would cancel.
    """
    return [float(np.mean([statistic(table) for table in at_level])) for at_level in counts.swapaxes(0, 1)]


def bracket(levels: Sequence[float], level: float) -> tuple[float, float] | None:
    """Return the neighbouring levels between which one was interpolated; None at the first, or beyond the last.

    Examples
    --------
    >>> bracket([0, 100, 200], 130), bracket([0, 100], float("inf"))
    ((100, 200), None)
    """
    return next(((low, high) for low, high in itertools.pairwise(levels) if low < level <= high), None)


def exposure_fraction(scan_std: float, added_std: float) -> float:
    """Return the share of the scan's exposure at which its noise would have grown by `added_std`.

    Variances add, and the variance of counted photons falls as one over their number:
    s0^2 / (s0^2 + s_added^2), with s0 the scan's own noise.

    Parameters
    ----------
    scan_std, added_std
        In the same unit, 0 or more.

    Examples
    --------
    >>> round(1 / exposure_fraction(740, 5000))
    47
    """
    return float(scan_std**2 / (scan_std**2 + added_std**2))


def fraction_errors(counts: Int64[np.ndarray, "truth predicted"]) -> Float[np.ndarray, " class"]:
    """Return the error of each phase fraction in points: 100 x (share predicted - share labelled).

    Examples
    --------
    >>> fraction_errors(np.array([[8, 2], [0, 10]])).tolist()
    [-10.0, 10.0]
    """
    total = max(1, int(counts.sum()))
    return np.asarray(100.0 * (counts.sum(axis=0) - counts.sum(axis=1)) / total)


def number_errors(sums: Float64[np.ndarray, "2 number"], classes: Sequence[str]) -> dict[str, float | None]:
    """Return the error of each number that sections tell: fractions in points, lengths and points per area in per cent.

    Parameters
    ----------
    sums
        Over all tiles of `quantify.sections.section_tiles`, labelled and predicted.
    classes
        Names of the classes.

    Returns
    -------
        None for what the labels do not have.

    Examples
    --------
    >>> number_errors(np.array([[40.0, 60.0, 10.0], [42.0, 58.0, 9.0]]), ["a", "b"])
    {'phase fraction a': 2.0, 'phase fraction b': -2.0, 'interface area a-b per volume': -10.0}
    """
    n = len(classes)
    of = [*[sums[0, :n].sum()] * n, *sums[0, n:]]
    return {
        name: round(float(100 * (predicted - labelled) / whole), 4) if whole else None
        for name, labelled, predicted, whole in zip(number_names(classes), *sums, of, strict=True)
    }


def tortuosity_names(classes: Sequence[str]) -> list[str]:
    """Return what the tortuosity factors of the classes are called, as means over the axes.

    Examples
    --------
    >>> tortuosity_names(["a", "b"])
    ['tortuosity factor a', 'tortuosity factor b']
    """
    return [f"tortuosity factor {name}" for name in classes]


def tortuosity_errors(
    labelled: Factors, predicted: Factors, classes: Sequence[str]
) -> tuple[dict[str, float | None], dict[str, str]]:
    """Return the error of each class's tortuosity factor in per cent, the mean over y and x; and why there is none.

    Parameters
    ----------
    labelled, predicted
        Of the same parts of a slab.
    classes
        Names of the classes.

    Returns
    -------
    errors, reasons
        An error is None, with a reason, where the class does not percolate along both axes in both.

    Examples
    --------
    >>> from tomoseg.quantify.slab_transport import Factor
    >>> labelled = (Factor(2.0), Factor(4.0)), (Factor(1.5), Factor(1.5))
    >>> predicted = (Factor(2.2), Factor(4.0)), (Factor(1.5), Factor(None, "does not percolate along x"))
    >>> tortuosity_errors(labelled, predicted, ["a", "b"])[0]
    {'tortuosity factor a': 5.0, 'tortuosity factor b': None}
    >>> tortuosity_errors(labelled, predicted, ["a", "b"])[1]
    {'tortuosity factor b': 'b does not percolate along x, as predicted'}
    """
    errors: dict[str, float | None] = {}
    reasons: dict[str, str] = {}
    for name, title, *ways in zip(classes, tortuosity_names(classes), labelled, predicted, strict=True):
        taus = np.array([[np.nan if one.tau is None else one.tau for one in way] for way in ways])
        known = bool(np.isfinite(taus).all())
        errors[title] = round(float(100 * (taus[1] / taus[0] - 1).mean()), 4) if known else None
        if not known:
            which, lacking = next((w, one) for w, way in enumerate(ways) for one in way if one.tau is None)
            reasons[title] = f"{name} {lacking.why_not}, as {('labelled', 'predicted')[which]}"
    return errors, reasons


def mean_and_spread(values: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean over seeds and their standard deviation; None for a single one.

    Examples
    --------
    >>> mean_and_spread([1.0, 3.0]), mean_and_spread([2.0])
    ((2.0, 1.4142135623730951), (2.0, None))
    """
    return float(np.mean(values)), float(np.std(values, ddof=1)) if len(values) > 1 else None


def published(size: Size, what: str, share: float | None) -> float | None:
    """Return the poster's accuracy, if it has that column.

    Examples
    --------
    >>> published("large", "test", 0.0), published("large", "test", 0.1)
    (0.545, None)
    """
    column: Mapping[float | None, float] = PUBLISHED.get((size, what), {})
    return column.get(share)
