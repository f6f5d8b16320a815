r"""Slow changes of brightness and contrast across a scan, as beam hardening and drift leave them: found and taken away.

A network sees some fifty pixels, and knows phases by their grey values. Where these shift by as much as one phase
differs from the next it can't tell, but all of the scan can: its grey values are read through

.. math:: u(x) = c(x) \, g(x) + b(x),

g being grey values in the model's window and c and b sums of products of Legendre polynomials, so that u is
distributed like the labelled tiles of the model, at the scan's noise. That is the likelihood of the whole scan with a
slow bias field, as in W. M. Wells et al., Adaptive segmentation of MRI data, IEEE Trans. Med. Imaging 15 (1996) 429,
DOI 10.1109/42.511747, and J. G. Sled, A. P. Zijdenbos, A. C. Evans, A nonparametric method for automatic correction of
intensity nonuniformity in MRI data, IEEE Trans. Med. Imaging 17 (1998) 87, DOI 10.1109/42.668698. It holds if phases
are mixed alike everywhere, at the scale on which c and b change: a sample of layers is not, and so nothing is corrected
unless that explains the grey values clearly better.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float32, Float64, Shaped
from numpy.polynomial.legendre import legvander
from pydantic import BaseModel, ConfigDict, Field
from scipy.ndimage import gaussian_filter1d

from tomoseg.adapt import lacking, measure_both
from tomoseg.labels import UNLABELLED
from tomoseg.model_file import Samples
from tomoseg.noise_level import type_ends
from tomoseg.volume import Grey, Region, Volume
from tomoseg.window import Window

LEAST_GAIN = 0.04
"""Mean log likelihood a pixel, in nats, that a correction must bring: single clean slices of sandstone bring 0.024."""

MOST_NOISE = 0.5
"""In widths of the window: where there is more, grey values don't tell phases apart."""

_ORDER, _ORDER_Z = 4, 2
_TERMS = tuple((z, y, x) for z in range(_ORDER_Z + 1) for y in range(_ORDER + 1 - z) for x in range(_ORDER + 1 - z - y))
_INDEX = tuple(np.array(_TERMS).T)
_CHANGES = np.tile([float(any(term)) for term in _TERMS], 2)  # 0 for what is the same everywhere
_PRIOR = 2.0
"""What a squared coefficient costs, in nats a pixel: a change of a tenth 0.02."""

_LEAST_CONTRAST = 0.2
_LOW, _HIGH, _BINS = -1.0, 2.0, 600
_BIN = (_HIGH - _LOW) / _BINS
_ELSEWHERE = 0.01  # share of values that may lie anywhere
_MOST_PIXELS, _FEWEST_PIXELS = 150_000, 5_000
_COARSEST, _FINEST = 0.2, 0.0125  # smoothing of the density in widths of the window, by which the fit finds its way
_STEPS = 50
_CONTRASTS, _SHIFTS = np.geomspace(0.5, 2.0, 25), np.linspace(-0.8, 0.8, 33)

_MOSTLY = 0.5
_SHOWN = 9
_BYTES_OF_PIXEL = 32

Tell = Callable[[float], None]
Places = tuple[Shaped[np.ndarray, " z"], Shaped[np.ndarray, " y"], Shaped[np.ndarray, " x"]]
Basis = Float64[np.ndarray, "_ _"]
"""Legendre polynomials by place and order."""

Coefficients = Float64[np.ndarray, " _"]


class Shading(BaseModel):
    """How a scan's grey values are to be read so that they look like the training scan's.

    Attributes
    ----------
    window
        The model's.
    region
        Part of the scan over which it was fitted, z0, z1, y0, y1, x0, x1; around it the values of its rim hold.
    contrast, brightness
        Coefficients of c and b.
    gain
        How much better the scan's grey values are explained: mean log likelihood a pixel in nats.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    window: Window
    region: tuple[int, int, int, int, int, int]
    contrast: tuple[float, ...] = Field(min_length=len(_TERMS), max_length=len(_TERMS))
    brightness: tuple[float, ...] = Field(min_length=len(_TERMS), max_length=len(_TERMS))
    gain: float

    def fields(self, places: Places) -> tuple[Float32[np.ndarray, "z y x"], Float32[np.ndarray, "z y x"]]:
        """Return c, above 0, and b, in widths of the window, at some places (z, y, x) in voxels of the scan."""
        bases = _bases(places, Region(*self.region))
        contrast, brightness = (
            _field(np.array(one), bases).astype(np.float32) for one in (self.contrast, self.brightness)
        )
        return np.maximum(contrast, np.float32(_LEAST_CONTRAST)), brightness

    def correct(self, grey: Grey, region: Region) -> Grey:
        """Return grey values of a part of the scan as they would be without slow changes, in their own type."""
        found = np.empty_like(grey)
        ends, low, width = type_ends(grey.dtype), np.float32(self.window.low), np.float32(self.window.width)
        rows, columns = (np.arange(span.start, span.stop) for span in region.slices[1:])
        for i, z in enumerate(range(region.z0, region.z1)):  # one slice in memory at a time
            contrast, brightness = self.fields((np.array([z]), rows, columns))
            read = (contrast[0] * self.window.apply(grey[i]) + brightness[0]) * width + low
            found[i] = read if ends is None else np.clip(np.rint(read), *ends)
        return found

    def __str__(self) -> str:
        zs, ys, xs = (np.linspace(span.start, span.stop - 1, _SHOWN) for span in Region(*self.region).slices)
        contrast, brightness = self.fields((zs, ys, xs))
        shift = -100 * brightness / contrast
        return (
            f"contrast {1 / contrast.max():.2f} to {1 / contrast.min():.2f} of the training scan's, grey values "
            f"{shift.min():+.0f} to {shift.max():+.0f} % of the window from where they were"
        )


@dataclass(frozen=True)
class CorrectedVolume:
    """A scan read without its slow changes."""

    volume: Volume
    shading: Shading

    @property
    def path(self) -> Path:
        """Where the scan is."""
        return self.volume.path

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        return self.volume.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the grey values."""
        return self.volume.dtype

    @property
    def voxel_size_um(self) -> tuple[float, float, float] | None:
        """Edge lengths of a voxel in micrometres."""
        return self.volume.voxel_size_um

    @property
    def names(self) -> tuple[str, ...]:
        """One name a slice."""
        return self.volume.names

    @property
    def reading_bytes(self) -> int:
        """Memory that reading takes besides what is read."""
        return getattr(self.volume, "reading_bytes", 0) + _BYTES_OF_PIXEL * self.shape[1] * self.shape[2]

    def read(self, region: Region) -> Grey:
        """Return corrected grey values; raises as the scan's own `read` does."""
        return self.shading.correct(self.volume.read(region), region)

    def __getattr__(self, name: str) -> Any:
        """Return what some volumes say besides: how they lie on the disk, and what they keep in memory."""
        if name.startswith("__"):
            raise AttributeError(name)
        return getattr(self.volume, name)


@dataclass(frozen=True)
class Page:
    """A slice that is looked at: its place along z, its grey values (y, x) in the region, and which of them count."""

    z: int
    grey: Shaped[np.ndarray, "y x"]
    inside: Bool[np.ndarray, "y x"]


def fit_shading(
    samples: Samples, window: Window, pages: Sequence[Page], *, region: Region, tell: Tell = lambda _: None
) -> Shading | None:
    """Return how a scan is to be read, or None where nothing slow stands out, there is too much noise, or too little.

    The density of the tiles' grey values is smoothed, widely at first and in the end by the noise that the scan has and
    they have not; at each smoothing the coefficients are those of the largest likelihood near where they were. Two
    starts are tried: no change, and the best contrast and brightness that are the same everywhere.

    Parameters
    ----------
    samples, window
        The model's labelled tiles and its window.
    pages
        Slices of the scan, evenly spaced, of the same size.
    region
        The part of the scan that they are cut from.
    tell
        Is told the share that is done.
    """
    scan, tiles, _ = measure_both([(page.grey, page.inside) for page in pages if page.inside.any()], samples.images)
    noise = lacking(scan, tiles).std / window.width
    seen = _Seen.of(pages, window, region)
    if noise > MOST_NOISE or seen.pixels < _FEWEST_PIXELS:
        return None
    known = samples.labels != UNLABELLED
    values = window.apply(samples.images[known] if known.mean() >= _MOSTLY else samples.images.ravel())
    counts, _ = np.histogram(np.clip(values, _LOW, _HIGH), _BINS, (_LOW, _HIGH))
    finest = max(noise, _FINEST)
    steps = math.ceil(math.log2(max(_COARSEST, 2 * finest) / finest) * 2) + 1
    densities = [_Density.of(counts, std) for std in np.geomspace(max(_COARSEST, 2 * finest), finest, steps)]
    unchanged = max(seen.likelihood(_same(1.0, 0.0), density)[0] for density in densities)
    starts = [_same(1.0, 0.0), _same(*seen.best_same(counts))]
    best, done = (-math.inf, starts[0]), 0
    for start in starts:
        coefficients = start
        for density in densities:
            coefficients, reached = seen.climb(coefficients, density)
            best = max(best, (reached, coefficients), key=lambda one: one[0])
            done += 1
            tell(done / (len(starts) * steps))
    gain = best[0] - unchanged
    if gain < LEAST_GAIN:
        return None
    contrast, brightness = (tuple(map(float, part)) for part in np.split(best[1], 2))
    box = (region.z0, region.z1, region.y0, region.y1, region.x0, region.x1)
    return Shading(window=window, region=box, contrast=contrast, brightness=brightness, gain=gain)


@dataclass(frozen=True)
class _Density:
    """Logarithm of the density of grey values in the window, and its slope, in bins."""

    log: Float64[np.ndarray, " bin"]
    slope: Float64[np.ndarray, " bin"]

    @classmethod
    def of(cls, counts: Shaped[np.ndarray, " bin"], std: float) -> _Density:
        """Smooth a histogram by `std` widths of the window."""
        smooth = gaussian_filter1d(counts.astype(np.float64), std / _BIN, mode="constant")
        log = np.log(((1 - _ELSEWHERE) * smooth / smooth.sum() + _ELSEWHERE / _BINS) / _BIN)
        return cls(log, np.gradient(log) / _BIN)

    def at(
        self, values: Float64[np.ndarray, "*shape"]
    ) -> tuple[Float64[np.ndarray, "*shape"], Float64[np.ndarray, "*shape"]]:
        """Return log density and slope, linear between the bins' middles."""
        place = np.clip((values - _LOW) / _BIN - 0.5, 0, _BINS - 1.001)
        low = place.astype(np.int64)
        part = place - low
        log, slope = (one[low] * (1 - part) + one[low + 1] * part for one in (self.log, self.slope))
        return log, slope


@dataclass(frozen=True)
class _Seen:
    """Some pixels of a scan: values in the window (z, y, x), 1 where they count and 0 elsewhere, the polynomials."""

    values: Float64[np.ndarray, "z y x"]
    counts: Float64[np.ndarray, "z y x"]
    bases: tuple[Basis, Basis, Basis]

    @classmethod
    def of(cls, pages: Sequence[Page], window: Window, region: Region) -> _Seen:
        height, width = pages[0].grey.shape
        step = max(1, math.ceil(math.sqrt(len(pages) * height * width / _MOST_PIXELS)))
        thin = (slice(None, None, step), slice(None, None, step))
        places = (
            np.array([page.z for page in pages]),
            region.y0 + np.arange(0, height, step),
            region.x0 + np.arange(0, width, step),
        )
        return cls(
            np.stack([window.apply(page.grey[thin]) for page in pages]).astype(np.float64),
            np.stack([page.inside[thin] for page in pages]).astype(np.float64),
            _bases(places, region),
        )

    @property
    def pixels(self) -> int:
        """How many count."""
        return int(self.counts.sum())

    def likelihood(self, coefficients: Coefficients, density: _Density) -> tuple[float, Coefficients]:
        """Return the mean log likelihood a pixel, less what the prior takes, and its gradient."""
        first, second = np.split(coefficients, 2)
        contrast = np.maximum(_field(first, self.bases), _LEAST_CONTRAST)
        log, slope = density.at(contrast * self.values + _field(second, self.bases))
        weights = self.counts / self.counts.sum()
        total = ((log + np.log(contrast)) * weights).sum() - _PRIOR * ((coefficients * _CHANGES) ** 2).sum()
        slope *= weights
        gradient = [_products(one, self.bases) for one in (slope * self.values + weights / contrast, slope)]
        return float(total), np.concatenate(gradient) - 2 * _PRIOR * coefficients * _CHANGES

    def climb(self, coefficients: Coefficients, density: _Density) -> tuple[Coefficients, float]:
        """Return coefficients of a larger likelihood, and that likelihood."""
        from scipy.optimize import minimize  # takes a fifth of a second to load

        def downwards(place: Coefficients) -> tuple[float, Coefficients]:
            value, gradient = self.likelihood(place, density)
            return -value, -gradient

        found = minimize(downwards, coefficients, jac=True, method="L-BFGS-B", options={"maxiter": _STEPS})
        return found.x, -float(found.fun)

    def best_same(self, counts: Shaped[np.ndarray, " bin"]) -> tuple[float, float]:
        """Return the contrast and brightness, the same everywhere, that explain the values best."""
        density = _Density.of(counts, _COARSEST / 2)
        values = self.values[self.counts > 0][:: max(1, self.pixels // _FEWEST_PIXELS)]
        pairs = [(float(c), float(b)) for c in _CONTRASTS for b in _SHIFTS]
        return max(pairs, key=lambda pair: float(density.at(pair[0] * values + pair[1])[0].mean()) + math.log(pair[0]))


def _same(contrast: float, brightness: float) -> Coefficients:
    """Return the coefficients of what is the same everywhere."""
    found = np.zeros(2 * len(_TERMS))
    found[0], found[len(_TERMS)] = contrast, brightness
    return found


def _bases(places: Places, region: Region) -> tuple[Basis, Basis, Basis]:
    """Return the polynomials along (z, y, x) at some places; from -1 to 1 over the region, and constant around it."""
    z, y, x = (
        legvander(np.clip(_relative(along, span), -1, 1), order)
        for along, span, order in zip(places, region.slices, (_ORDER_Z, _ORDER, _ORDER), strict=True)
    )
    return z, y, x


def _relative(places: Shaped[np.ndarray, " place"], span: slice) -> Float64[np.ndarray, " place"]:
    middle, half = (span.start + span.stop - 1) / 2, max(1, span.stop - 1 - span.start) / 2
    return np.asarray((places - middle) / half, np.float64)


def _field(
    coefficients: Shaped[np.ndarray, " term"], bases: tuple[Basis, Basis, Basis]
) -> Float64[np.ndarray, "z y x"]:
    cube = np.zeros((_ORDER_Z + 1, _ORDER + 1, _ORDER + 1))
    cube[_INDEX] = coefficients
    z, y, x = bases
    found: Float64[np.ndarray, "z y x"] = np.einsum("zk,kij,yi,xj->zyx", z, cube, y, x, optimize=True)
    return found


def _products(field: Float64[np.ndarray, "z y x"], bases: tuple[Basis, Basis, Basis]) -> Float64[np.ndarray, " term"]:
    """Return the sum of a field times each term."""
    z, y, x = bases
    found: Float64[np.ndarray, " term"] = np.einsum("zyx,zk,yi,xj->kij", field, z, y, x, optimize=True)[_INDEX]
    return found
