"""The autocorrelation of a scan's own noise, measured where nothing but noise changes the grey values."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float64, Int, Real, UInt8
from scipy import fft
from scipy.ndimage import distance_transform_edt, gaussian_filter, maximum_filter, mean, minimum_filter, uniform_filter
from scipy.ndimage import label as connected

from tomoseg.degrade.correlated import Autocorrelation
from tomoseg.errors import SettingError
from tomoseg.labels import UNLABELLED
from tomoseg.noise_level import type_ends

Slice = Real[np.ndarray, "y x"]
Flat = Bool[np.ndarray, "y x"]

_SMOOTH_PX = 3.0
_STEEP = 3.5
_CORE = 1.5
_FROM_INTERFACE_PX = 6.0
_BLOCK_PX = 64
_SMALLEST_REGION = 100
_FEWEST_PAIRS = 3000
"""Pairs of pixels at the rarest distance: they leave an error of about 0.02, more where the noise reaches far."""


@dataclass(frozen=True)
class MeasuredNoise:
    """A scan's own noise: its std in grey values, correlated or not, and its autocorrelation (lag_y, lag_x)."""

    std_grey: float
    autocorrelation: Autocorrelation


def measure_autocorrelation(
    values: Real[np.ndarray, "y x"] | Real[np.ndarray, "z y x"],
    *,
    radius_px: int = 8,
    label: UInt8[np.ndarray, "y x"] | UInt8[np.ndarray, "z y x"] | None = None,
    inside: Flat | None = None,
) -> Autocorrelation:
    r"""Return the autocorrelation of the noise in the flat regions of slices.

    .. math:: c(d) = \frac{\sum_x m(x) \, m(x + d) \, n(x) \, n(x + d)}{\sum_x m(x) \, m(x + d)}, \quad
        a(d) = \frac{c(d) - \bar c}{c(0) - \bar c}

    with :math:`m` 1 in flat regions and :math:`n` the grey values less the mean of their region, or of its part in a
    block of 64 pixels, so that slow changes of the grey level don't count. The means take noise away, and structure
    that is left adds, by much the same at all distances: :math:`\bar c`, the mean over the array's rim, where the noise
    must no longer be correlated. Flat is what `flat_regions` finds, or, with labels, what is labelled and more than 6
    pixels from another class. In one slice of 501 x 501 pixels of three phases whose interfaces are some 40 pixels
    apart, the error was 0.02 to 0.06. Rounding to steps of :math:`h` adds :math:`h^2 / 12` to :math:`c(0)` alone, which
    is subtracted; noise whose std is below :math:`h` is refused, as rounding has changed its correlation.

    Parameters
    ----------
    values
        One slice (y, x), or slices (z, y, x), which are pooled.
    radius_px
        Largest distance along y and x, 1 or more; noise must be uncorrelated there.
    label
        Class indices of the same shape, 255 where nobody labelled.
    inside
        Pixels (y, x) that count; all without it.

    Returns
    -------
    array (lag_y, lag_x)
        2 x `radius_px` + 1 on each side, 1 in the centre, as `add_correlated_noise` takes it.

    Raises
    ------
    SettingError
        If `radius_px` is below 1, too little is flat, or the noise there is none or below the grey values' step.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 500, (201, 200))
    >>> noise = (noise[1:] + noise[:-1]) / 2
    >>> measure_autocorrelation(noise, radius_px=2).round(1)[:, 2] + 0.0  # along y
    array([0. , 0.5, 1. , 0.5, 0. ])
    """
    return measure_noise(values, radius_px=radius_px, label=label, inside=inside).autocorrelation


def measure_noise(
    values: Real[np.ndarray, "y x"] | Real[np.ndarray, "z y x"],
    *,
    radius_px: int = 8,
    label: UInt8[np.ndarray, "y x"] | UInt8[np.ndarray, "z y x"] | None = None,
    inside: Flat | None = None,
) -> MeasuredNoise:
    """Return std and autocorrelation of the noise in the flat regions of slices; all as `measure_autocorrelation`.

    Unlike an estimate from neighbouring pixels' differences, the std is right for correlated noise too.

    Examples
    --------
    >>> noise = np.random.default_rng(0).normal(0, 500, (201, 200))
    >>> round(measure_noise(noise[1:] + noise[:-1], radius_px=2).std_grey, -2)  # 500 times the root of 2
    700.0
    """
    if radius_px < 1:
        raise SettingError(f"a radius of {radius_px} pixels is not possible; it is 1 or more")
    slices = values if values.ndim == 3 else values[None]
    labels = [None] * len(slices) if label is None else label.reshape(slices.shape)
    products, pairs = np.zeros((2, 2 * radius_px + 1, 2 * radius_px + 1))
    for page, classes in zip(slices, labels, strict=True):
        flat = flat_regions(page, inside=inside) if classes is None else _labelled_regions(classes, inside)
        noise, flat = _without_means(page, flat)
        products += _correlate(noise, radius_px)
        pairs += _correlate(flat.astype(np.float64), radius_px)
    if pairs.min() < _FEWEST_PAIRS:
        raise SettingError(_too_little(pairs, radius_px, slices.size))
    covariance = products / pairs
    covariance -= _rim(covariance).mean()
    return MeasuredNoise(*_normalised(covariance, step=_step(slices)))


def flat_regions(values: Slice, *, inside: Flat | None = None) -> Flat:
    """Return where the grey values of a slice change by no more than noise does, away from interfaces.

    The slice is smoothed by 3 pixels. In flat regions the steepness of what is left has a Rayleigh distribution, whose
    scale is found from the least steep pixels; an interface is where it is above 3.5 times that (noise alone: one
    pixel in 450), and flat what is more than 6 pixels from all these. Clipped values, constant rims and what is
    outside count as interfaces.

    Parameters
    ----------
    values
        One slice (y, x).
    inside
        Pixels (y, x) that count; all without it.

    Examples
    --------
    >>> step = np.random.default_rng(0).normal(0, 1, (60, 60)); step[:, 30:] += 50
    >>> flat = flat_regions(step)
    >>> bool(flat[:, 22:38].any()), float(flat[:, :16].mean()) > 0.8
    (False, True)
    """
    usable = _usable(values)
    if inside is not None:
        usable &= inside
    if not usable.any():
        return usable
    smooth = gaussian_filter(values.astype(np.float64), _SMOOTH_PX)
    steepness = np.hypot(*np.gradient(smooth))
    return _far_from(~usable | (steepness > _STEEP * _rayleigh_scale(steepness[usable])))


def _normalised(covariance: Float64[np.ndarray, "lag_y lag_x"], *, step: float) -> tuple[float, Autocorrelation]:
    """Return std and autocorrelation from covariances of values rounded to steps, without what rounding adds."""
    centre = covariance.shape[0] // 2, covariance.shape[1] // 2
    variance = float(covariance[centre])
    if variance <= 0:
        raise SettingError("the flat regions hold no noise: all their grey values are equal")
    std = math.sqrt(max(0.0, variance - step**2 / 12))
    if std < step:
        raise SettingError(
            f"the noise's std of {std:.2g} is below the grey values' step of {step:g}, so that its autocorrelation "
            "cannot be measured; give the scan with finer grey values"
        )
    autocorrelation = covariance / std**2
    autocorrelation[centre] = 1
    return std, autocorrelation


def _step(values: Real[np.ndarray, "*shape"]) -> float:
    """Return the smallest difference between grey values, 0 where all are equal."""
    levels = np.unique(values).astype(np.float64)
    return float(np.diff(levels).min()) if len(levels) > 1 else 0.0


def _labelled_regions(classes: UInt8[np.ndarray, "y x"], inside: Flat | None) -> Flat:
    interface = (maximum_filter(classes, 3) != minimum_filter(classes, 3)) | (classes == UNLABELLED)
    return _far_from(interface if inside is None else interface | ~inside)


def _far_from(interface: Flat) -> Flat:
    if not interface.any():
        return ~interface
    return np.asarray(distance_transform_edt(~interface) > _FROM_INTERFACE_PX)


def _usable(values: Slice) -> Flat:
    """Return the pixels that are neither clipped, in their neighbourhood, nor in a constant rim."""
    usable = np.asarray(maximum_filter(values, 5) > minimum_filter(values, 5))
    if ends := type_ends(values.dtype):
        clipped = ((values == ends[0]) | (values == ends[1])).astype(np.float32)
        usable &= uniform_filter(clipped, 7) < 0.1
    return usable


def _rayleigh_scale(steepness: Float64[np.ndarray, " n"]) -> float:
    """Return the scale of the Rayleigh distribution that the small values follow, the large ones being others."""
    scale = float(np.quantile(steepness, 0.1)) / math.sqrt(-2 * math.log(0.9))
    for _ in range(20):
        core = steepness[steepness <= _CORE * scale]
        scale = math.sqrt(float(np.mean(core**2)) / 0.91838) if core.size else 0.0  # mean square of the core
    return scale


def _without_means(values: Slice, flat: Flat) -> tuple[Float64[np.ndarray, "y x"], Flat]:
    """Return the values less the mean of their connected region, 0 elsewhere, and where regions are large enough."""
    regions = connected(flat)[0]
    block_y, block_x = (np.arange(size) // _BLOCK_PX for size in values.shape)
    blocks = np.add.outer(block_y * (block_x[-1] + 1), block_x)
    _, part = np.unique(np.where(flat, regions * (blocks.max() + 1) + blocks, -1), return_inverse=True)
    part = part.reshape(values.shape)
    large = flat & (np.bincount(part.ravel())[part] >= _SMALLEST_REGION)
    grey = values.astype(np.float64)
    level: Float64[np.ndarray, " part"] = np.asarray(mean(grey, part, np.arange(part.max() + 1)))
    return np.where(large, grey - level[part], 0.0), large


def _correlate(values: Float64[np.ndarray, "y x"], radius: int) -> Float64[np.ndarray, "lag_y lag_x"]:
    """Return the sums of products of values a distance apart, for distances up to `radius` along y and x."""
    grid = tuple(fft.next_fast_len(size + radius, real=True) for size in values.shape)
    sums = fft.irfft2(np.abs(fft.rfft2(values, s=grid)) ** 2, s=grid)
    lags: Int[np.ndarray, " lag"] = np.arange(-radius, radius + 1)
    return np.asarray(sums[np.ix_(lags, lags)])


def _rim(values: Float64[np.ndarray, "lag_y lag_x"]) -> Float64[np.ndarray, " n"]:
    return np.concatenate([values[[0, -1]].ravel(), values[1:-1, [0, -1]].ravel()])


def _too_little(pairs: Float64[np.ndarray, "lag_y lag_x"], radius: int, pixels: int) -> str:
    share = 100 * pairs[radius, radius] / pixels
    return (
        f"{share:.1f} % of {pixels} pixels are flat, with {max(0.0, pairs.min()):.0f} pairs {radius} pixels apart; "
        f"measuring the noise takes {_FEWEST_PAIRS}: give more slices or a smaller radius"
    )
