"""Fitting a model to a scan without labels: its labelled tiles are made to look like that scan's slices."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float64, Shaped
from scipy.ndimage import gaussian_filter1d
from scipy.optimize import minimize, nnls

from tomoseg.augment import turn
from tomoseg.degrade import Autocorrelation, add_correlated_noise, add_gaussian_noise
from tomoseg.labels import UNLABELLED
from tomoseg.model_file import Samples
from tomoseg.noise_level import type_ends
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


@dataclass(frozen=True)
class NewScan:
    """What is known of a scan without labels.

    Attributes
    ----------
    values
        Grey values of some of its slices.
    noise_grey
        Std of its noise in grey values.
    autocorrelation
        Of that noise, (lag_y, lag_x); None for white noise.
    """

    values: Shaped[np.ndarray, " value"]
    noise_grey: float
    autocorrelation: Autocorrelation | None = None


@dataclass(frozen=True)
class _Phases:
    """Histograms of the grey values of each class in the labelled tiles, in widths of the window, each of sum 1."""

    shares: Float64[np.ndarray, "bin class"]
    fractions: Float64[np.ndarray, " class"]
    noise: float

    @classmethod
    def of(cls, samples: Samples, window: Window, noise: float) -> _Phases:
        values = window.apply(samples.images)
        there = [c for c in range(UNLABELLED) if (samples.labels == c).any()]
        counts = [np.histogram(np.clip(values[samples.labels == c], *_RANGE), _BINS, _RANGE)[0] for c in there]
        sizes = np.array([count.sum() for count in counts], np.float64)
        return cls(np.stack(counts, axis=1) / sizes, sizes / sizes.sum(), noise)

    def misfit(self, edges: Float64[np.ndarray, " edge"], shares: Float64[np.ndarray, " bin"], new: Window,
               noise_grey: float) -> float:  # fmt: skip
        """Return how badly a mixture of the classes, in any fractions, explains a scan read through `new`: 0 to 2."""
        seen = np.interp(np.linspace(*_RANGE, _BINS + 1), (edges - new.low) / new.width, np.append(0, shares.cumsum()))
        seen[0], seen[-1] = 0.0, 1.0
        added = added_noise(noise_grey / new.width, self.noise) * _BINS / (_RANGE[1] - _RANGE[0])
        phases = gaussian_filter1d(self.shares, added, axis=0, mode="nearest") if added else self.shares
        fractions, _ = nnls(phases, np.diff(seen))
        moved = np.abs(fractions / max(fractions.sum(), 1e-9) - self.fractions).sum()
        return float(np.abs(phases @ fractions - np.diff(seen)).sum() + _FRACTIONS_COUNT * moved)


def added_noise(wanted: float, there: float) -> float:
    """Return the std of the noise that brings noise of std `there` to `wanted`; 0 where there is as much.

    Examples
    --------
    >>> added_noise(5.0, 4.0), added_noise(1.0, 4.0)
    (3.0, 0.0)
    """
    return math.sqrt(max(0.0, wanted**2 - there**2))


def match_window(
    samples: Samples, window: Window, scan: NewScan, *, noise: float, least_gain: float = GAIN_THAT_COUNTS
) -> Window:
    """Return the window through which a scan looks like the labelled tiles, the model's own where that will do.

    The scan's histogram is explained by those of the classes, at the scan's noise, in fractions that are free; the
    window that explains it best is searched over stretch and shift. It holds if the classes are the same ones and their
    grey values keep their ratios, as under another exposure or scaling.

    Parameters
    ----------
    samples, window
        The model's labelled tiles and its window.
    scan
        The new scan.
    noise
        Std of the tiles' own noise, in widths of the window.
    least_gain
        By how much another window must explain the histogram better, as a sum of absolute differences from 0 to 2;
        minus infinity where the model's own can't be meant, as for another type.
    """
    phases = _Phases.of(samples, window, noise)
    low, high = float(scan.values.min()), float(scan.values.max())
    counts, edges = np.histogram(scan.values, _SCAN_BINS, (low, high if high > low else low + 1))
    shares = counts / max(1, counts.sum())

    def misfit(place: Sequence[float] | np.ndarray) -> float:
        there = _moved(around, *place)
        return phases.misfit(edges, shares, there, scan.noise_grey)

    around = fit_window([scan.values])
    grid = [(s, t) for s in np.linspace(*_STRETCH, _GRID) for t in np.linspace(-_SHIFT, _SHIFT, _GRID)]
    best = min(grid, key=misfit)
    refined = minimize(misfit, best, method="Nelder-Mead", options={"maxiter": 200, "xatol": 1e-3, "fatol": 1e-4}).x
    if phases.misfit(edges, shares, window, scan.noise_grey) <= misfit(refined) + least_gain:
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
        Std of the noise that brings the tiles to the scan's, in widths of the window.
    autocorrelation
        Of that noise; None for white noise.
    """

    stacks: Shaped[np.ndarray, "tile channel y x"]
    labels: Shaped[np.ndarray, "tile y x"]
    settings: PatchSettings
    added: float
    autocorrelation: Autocorrelation | None = None

    def batch(self, rng: np.random.Generator) -> tuple[Images, Labels]:
        """Return a batch: float32 (batch, channel, y, x), and classes, uint8 (batch, y, x)."""
        drawn = [self._patch(rng) for _ in range(self.settings.batch)]
        return np.stack([image for image, _ in drawn]), np.stack([label for _, label in drawn])

    def _patch(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        which, size = int(rng.integers(len(self.stacks))), self.settings.size
        y, x = (int(rng.integers(edge - size + 1)) for edge in self.labels.shape[1:])
        box = (slice(y, y + size), slice(x, x + size))
        std = self.added * rng.uniform(*NOISE_SPREAD)
        image = with_scan_noise(self.stacks[(which, slice(None), *box)], std, self.autocorrelation, rng)
        return turn(image, self.labels[(which, *box)], rng=rng)


def with_scan_noise(
    stack: Shaped[np.ndarray, "*lead y x"],
    std: float,
    autocorrelation: Autocorrelation | None,
    rng: np.random.Generator,
) -> Shaped[np.ndarray, "*lead y x"]:
    """Return slices with noise of a std, correlated like the scan's; float32."""
    if autocorrelation is None or not std:
        return add_gaussian_noise(stack, std, rng=rng)
    return add_correlated_noise(stack, std, autocorrelation=autocorrelation, rng=rng)


def regreyed(
    grey: Shaped[np.ndarray, "*shape"], old: Window, new: Window, dtype: np.dtype[np.generic]
) -> Shaped[np.ndarray, "*shape"]:
    """Return grey values of one scan as they would be in another, whose window is `new`, in its type.

    Examples
    --------
    >>> regreyed(np.array([0, 50, 100]), Window(low=0, high=100), Window(low=10, high=20), np.dtype(np.uint8))
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
