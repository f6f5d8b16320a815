"""Fitting a model to a scan without labels: its labelled tiles are made to look like that scan's slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped
from scipy.ndimage import gaussian_filter1d

from tomoseg.augment import turn
from tomoseg.degrade import (
    Autocorrelation,
    MeasuredNoise,
    add_correlated_noise,
    add_gaussian_noise,
    gaussian_autocorrelation,
    measure_noise,
)
from tomoseg.errors import SettingError
from tomoseg.labels import UNLABELLED
from tomoseg.model_file import Samples
from tomoseg.noise_level import estimate_noise_std, lacking_std, type_ends
from tomoseg.patches import Images, Labels, PatchSettings
from tomoseg.window import Window, fit_window

NOISE_SPREAD = (0.7, 1.3)
"""Noise that is added in re-training, over what brings the tiles to the scan's noise: even within these ends."""

GAIN_THAT_COUNTS = 0.1
"""Share of the grey values, twice, that must be better explained before a window is changed."""

_RANGE = (-1.0, 2.0)  # of the histograms, in widths of the window
_BINS = 192
_SCAN_BINS = 4096
_GRID = 25
_STRETCH, _SHIFT = (0.4, 1.6), 0.4  # of the scan's own 0.5th to 99.5th percentile
_FRACTIONS_COUNT = 0.05
_OUTLIERS = 0.1  # per cent at either end
_CORRELATED = 0.1

Slice = Shaped[np.ndarray, "_ _"]
Inside = Bool[np.ndarray, "_ _"]


@dataclass(frozen=True)
class Noise:
    """Noise of slices: its std, and its autocorrelation (lag_y, lag_x), of which (1, 1) is white noise."""

    std: float
    autocorrelation: Autocorrelation = field(default_factory=lambda: gaussian_autocorrelation(0))

    @property
    def white(self) -> bool:
        """Whether it is independent from pixel to pixel."""
        return self.autocorrelation.size == 1

    def times(self, factor: float) -> Noise:
        """Return it in another unit."""
        return Noise(factor * self.std, self.autocorrelation)


def measure_both(
    slices: Sequence[tuple[Slice, Inside]], tiles: Shaped[np.ndarray, "tile y x"]
) -> tuple[Noise, Noise, bool]:
    """Return the noise of a scan's slices and of labelled tiles, each in its grey values, by the same estimator.

    An estimate from neighbouring pixels misses most of the noise that is correlated; one from flat regions does not,
    but needs some. Where either has too few, both are taken as white, so that what one misses the other misses, too.

    Parameters
    ----------
    slices
        Grey values and which pixels count, of some slices of the scan, at least one of which has any.
    tiles
        The labelled tiles.

    Returns
    -------
    Noise, Noise, bool
        The scan's, the tiles', and whether there was enough to tell if they are correlated.
    """
    counting = [(page, inside) for page, inside in slices if inside.any()]
    try:
        found = [_noise_of([measure_noise(page, inside=inside) for page, inside in counting]),
                 _noise_of([measure_noise(tiles)])]  # fmt: skip
    except SettingError:
        stds = [estimate_noise_std(page, inside=inside) for page, inside in counting]
        return Noise(float(np.median(stds))), Noise(estimate_noise_std(tiles)), False
    if all(noise.white for noise in found):
        stds = [estimate_noise_std(page, inside=inside) for page, inside in counting]
        return Noise(float(np.median(stds))), Noise(estimate_noise_std(tiles)), True
    return found[0], found[1], True


def _noise_of(measured: Sequence[MeasuredNoise]) -> Noise:
    std = float(np.median([one.std_grey for one in measured]))
    autocorrelation = np.mean([one.autocorrelation for one in measured], axis=0)
    middle = len(autocorrelation) // 2
    beside = max(autocorrelation[middle, middle + 1], autocorrelation[middle + 1, middle])
    return Noise(std, autocorrelation) if beside >= _CORRELATED else Noise(std)


def lacking(wanted: Noise, there: Noise) -> Noise:
    """Return the noise that brings slices with one noise to another, in the same unit: the difference of covariances.

    Examples
    --------
    >>> lacking(Noise(5.0), Noise(4.0)).std, lacking(Noise(5.0), Noise(6.0)).std
    (3.0, 0.0)
    """
    std = lacking_std(wanted.std, there.std)
    if not std or (wanted.white and there.white):
        return Noise(std)
    edge = max(len(wanted.autocorrelation), len(there.autocorrelation))
    more, less = (noise.std**2 * _padded(noise.autocorrelation, edge) for noise in (wanted, there))
    return Noise(std, (more - less) / std**2)


def _padded(autocorrelation: Autocorrelation, edge: int) -> Autocorrelation:
    return np.pad(autocorrelation, (edge - len(autocorrelation)) // 2)


@dataclass(frozen=True)
class _Phases:
    """Histograms of the grey values of each class in the labelled tiles, in widths of the window, each of sum 1."""

    shares: Float64[np.ndarray, "bin class"]
    fractions: Float64[np.ndarray, " class"]
    noise: float

    @classmethod
    def of(cls, samples: Samples, window: Window, noise: float) -> _Phases:
        there = [c for c in range(UNLABELLED) if (samples.labels == c).any()]
        counts = [_Counts.of(samples.images[samples.labels == c]).seen_through(window) for c in there]
        sizes = np.array([np.count_nonzero(samples.labels == c) for c in there], np.float64)
        return cls(np.stack(counts, axis=1), sizes / sizes.sum(), noise)

    def misfit(self, scan: _Counts, new: Window, *, noise_grey: float) -> float:
        """Return how badly a mixture of the classes, in any fractions, explains a scan read through `new`: 0 to 2."""
        from scipy.optimize import nnls  # takes a fifth of a second to load

        seen = scan.seen_through(new)
        added = lacking_std(noise_grey / new.width, self.noise) * _BINS / (_RANGE[1] - _RANGE[0])
        phases = gaussian_filter1d(self.shares, added, axis=0, mode="nearest") if added else self.shares
        fractions, _ = nnls(phases, seen)
        moved = np.abs(fractions / max(fractions.sum(), 1e-9) - self.fractions).sum()
        return float(np.abs(phases @ fractions - seen).sum() + _FRACTIONS_COUNT * moved)


@dataclass(frozen=True)
class _Counts:
    """How many grey values lie below each of many edges, from which their histogram through any window follows.

    A whole number stands for all values that are rounded to it, so that the bins of 8 bits make no comb.
    """

    edges: Float64[np.ndarray, " edge"]
    below: Float64[np.ndarray, " edge"]

    @classmethod
    def of(cls, values: Shaped[np.ndarray, " value"]) -> _Counts:
        low, high = (float(end) for end in np.percentile(values, [_OUTLIERS, 100 - _OUTLIERS]))
        low, high = low - (high - low), high + (high - low)  # outliers lie in the end bins
        if values.dtype.kind in "iu":
            step = max(1, round((high - low) / _SCAN_BINS))
            edges = np.arange(np.floor(low), np.ceil(high) + step + 1, step) - 0.5
        else:
            edges = np.linspace(low, high if high > low else low + 1, _SCAN_BINS + 1)
        counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), edges)
        return cls(edges, np.append(0.0, counts.cumsum()) / max(1, values.size))

    def seen_through(self, window: Window) -> Float64[np.ndarray, " bin"]:
        """Return the histogram in widths of a window, its sum 1."""
        below = np.interp(np.linspace(*_RANGE, _BINS + 1), (self.edges - window.low) / window.width, self.below)
        below[0], below[-1] = 0.0, 1.0
        return np.diff(below)


def match_window(
    samples: Samples,
    window: Window,
    values: Shaped[np.ndarray, " value"],
    *,
    noise_grey: float,
    noise: float,
    least_gain: float = GAIN_THAT_COUNTS,
) -> Window:
    """Return the window through which a scan looks like the labelled tiles, the model's own where that will do.

    The scan's histogram is explained by those of the classes, at the scan's noise, in fractions that are free; the
    window that explains it best is searched over stretch and shift. It holds if the classes are the same ones and their
    grey values keep their ratios, as under another exposure or scaling.

    Parameters
    ----------
    samples, window
        The model's labelled tiles and its window.
    values
        Grey values of some slices of the scan.
    noise_grey
        Std of the scan's noise in grey values.
    noise
        Std of the tiles' own noise, in widths of the window.
    least_gain
        By how much another window must explain the histogram better, as a sum of absolute differences from 0 to 2;
        minus infinity where the model's own can't be meant, as for another type.
    """
    from scipy.optimize import minimize

    phases, counts = _Phases.of(samples, window, noise), _Counts.of(values)

    def misfit(place: Sequence[float] | np.ndarray) -> float:
        return phases.misfit(counts, _moved(around, *place), noise_grey=noise_grey)

    around = fit_window([values])
    grid = [(s, t) for s in np.linspace(*_STRETCH, _GRID) for t in np.linspace(-_SHIFT, _SHIFT, _GRID)]
    best = min(grid, key=misfit)
    refined = minimize(misfit, best, method="Nelder-Mead", options={"maxiter": 200, "xatol": 1e-3, "fatol": 1e-4}).x
    if phases.misfit(counts, window, noise_grey=noise_grey) <= misfit(refined) + least_gain:
        return window
    return _moved(around, *refined)


def _moved(window: Window, stretch: float, shift: float) -> Window:
    """Return a window of another width, its middle shifted by a part of the old width."""
    middle = (window.low + window.high) / 2 + shift * window.width
    half = max(1e-3, abs(stretch)) * window.width / 2
    return Window(low=middle - half, high=middle + half)


@dataclass(frozen=True)
class TileSource:
    """Draws batches of patches from labelled tiles that are given the grey values and the noise of another scan.

    Attributes
    ----------
    stacks
        Tiles with their context (tile, channel, y, x), in window units.
    labels
        Class indices (tile, y, x).
    settings
        Size and number of patches.
    added
        The noise that brings the tiles to the scan's, in widths of the window.
    """

    stacks: Shaped[np.ndarray, "tile channel y x"]
    labels: Shaped[np.ndarray, "tile y x"]
    settings: PatchSettings
    added: Noise

    def batch(self, rng: np.random.Generator) -> tuple[Images, Labels]:
        """Return a batch: float32 (batch, channel, y, x), and classes, uint8 (batch, y, x)."""
        drawn = [self._patch(rng) for _ in range(self.settings.batch)]
        return np.stack([image for image, _ in drawn]), np.stack([label for _, label in drawn])

    def _patch(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        which, size = int(rng.integers(len(self.stacks))), self.settings.size
        y, x = (int(rng.integers(edge - size + 1)) for edge in self.labels.shape[1:])
        box = (slice(y, y + size), slice(x, x + size))
        noise = self.added.times(rng.uniform(*NOISE_SPREAD))
        image, label = noisy(self.stacks[(which, slice(None), *box)], noise, rng=rng), self.labels[(which, *box)]
        return turn(image, label, rng=rng) if self.settings.turn else (image, label)


def noisy(
    stack: Shaped[np.ndarray, "*lead y x"], noise: Noise, *, rng: np.random.Generator
) -> Float32[np.ndarray, "*lead y x"]:
    """Return slices with noise added, drawn anew for each."""
    if noise.white or not noise.std:
        return add_gaussian_noise(stack, noise.std, rng=rng)
    return add_correlated_noise(stack, noise.std, autocorrelation=noise.autocorrelation, rng=rng)


def regreyed(
    grey: Shaped[np.ndarray, "*shape"], old: Window, *, new: Window, dtype: np.dtype[np.generic]
) -> Shaped[np.ndarray, "*shape"]:
    """Return grey values of one scan as they would be in another, whose window is `new`, in its type.

    Examples
    --------
    >>> windows = {"old": Window(low=0, high=100), "new": Window(low=10, high=20)}
    >>> regreyed(np.array([0, 50, 100]), dtype=np.dtype(np.uint8), **windows)
    array([10, 15, 20], dtype=uint8)
    """
    values = old.apply(grey).astype(np.float64) * new.width + new.low
    if dtype.kind == "f":
        return values.astype(dtype)
    low, high = type_ends(dtype) or (-math.inf, math.inf)
    return np.asarray(np.clip(np.rint(values), low, high).astype(dtype))


def patch_size(settings: PatchSettings, tile: tuple[int, int], *, grid: int) -> int:
    """Return the edge of patches that fit into tiles of (y, x) pixels, whole pooling cells; 0 where not one fits.

    Examples
    --------
    >>> patch_size(PatchSettings(size=128), (160, 90), grid=4)
    88
    """
    return min(settings.size, *(edge // grid * grid for edge in tile))
