"""Gaussian noise that is correlated from pixel to pixel, as a reconstruction leaves it."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float, Float32, Shaped
from scipy import fft

from tomoseg.degrade.level import check_level
from tomoseg.errors import SettingError

Autocorrelation = Float[np.ndarray, "lag_y lag_x"]
"""Correlation of the noise of two pixels by the distance between them; its centre is distance 0 and holds 1."""

_REACH = 6
"""Correlation lengths at which a Gaussian's autocorrelation is below 2e-4 and is cut."""


def gaussian_autocorrelation(length_px: float) -> Autocorrelation:
    r"""Return the autocorrelation of white noise smoothed by a Gaussian: :math:`\exp(-r^2 / 4 L^2)`.

    Parameters
    ----------
    length_px
        Correlation length :math:`L`, the standard deviation of the Gaussian in pixels, 0 or more; 0 is white noise.

    Returns
    -------
    array (lag_y, lag_x)
        Odd sides, 1 in the centre.

    Raises
    ------
    SettingError
        If `length_px` is negative or no number.

    Examples
    --------
    >>> gaussian_autocorrelation(0.5)[3, 3:].round(3)
    array([1.   , 0.368, 0.018, 0.   ])
    """
    check_level(length_px, "a correlation length of {:g} pixels")
    reach = math.ceil(_REACH * length_px)
    if reach == 0:
        return np.ones((1, 1))
    lag = np.exp(-((np.arange(-reach, reach + 1) / (2 * length_px)) ** 2))
    return np.outer(lag, lag)


def add_correlated_noise(
    grey: Shaped[np.ndarray, "*stack y x"],
    std_grey: float,
    *,
    autocorrelation: Autocorrelation,
    rng: np.random.Generator,
) -> Float32[np.ndarray, "*stack y x"]:
    r"""Add Gaussian noise of mean 0, std `std_grey` and a given autocorrelation, drawn anew for each slice.

    White noise :math:`n` is filtered to

    .. math:: \sigma \, \mathcal{F}^{-1} \left[ \sqrt{S / \bar S} \; \mathcal{F} n \right], \quad
        S = \max(0, \mathrm{Re} \, \mathcal{F} a),

    by the Wiener-Khinchin theorem [1]_: :math:`a` is the autocorrelation and :math:`S` its power spectrum. A measured
    :math:`a` can have a spectrum that is negative in places, which no noise has; there it is set to 0, and the division
    by the mean :math:`\bar S` gives back the std. The grid is larger than the slice by the autocorrelation, so that
    opposite edges are independent.

    Parameters
    ----------
    grey
        Grey values, slices (..., y, x).
    std_grey
        Standard deviation in grey values, 0 or more; 0 returns the values as they are.
    autocorrelation
        Array (lag_y, lag_x) with odd sides, 1 in the centre: `gaussian_autocorrelation`, or `measure_autocorrelation`
        of a scan.
    rng
        Source of the noise.

    Raises
    ------
    SettingError
        If `std_grey` is negative or no number, or `autocorrelation` is none.

    References
    ----------
    .. [1] N. Wiener, Generalized harmonic analysis, Acta Math. 55 (1930) 117, DOI 10.1007/BF02546511

    Examples
    --------
    >>> smooth = gaussian_autocorrelation(1.0)
    >>> rng = np.random.default_rng(0)
    >>> noisy = add_correlated_noise(np.zeros((500, 500)), 20.0, autocorrelation=smooth, rng=rng)
    >>> round(float(noisy.std())), round(float((noisy[1:] * noisy[:-1]).mean()) / 400, 2)  # exp(-1/4) is 0.78
    (20, 0.78)
    """
    check_level(std_grey, "a noise std of {:g} grey values")
    _check(autocorrelation)
    clean = grey.astype(np.float32)
    if std_grey == 0:
        return clean
    *stack, y, x = grey.shape
    grid = tuple(
        fft.next_fast_len(size + lags, real=True) for size, lags in zip((y, x), autocorrelation.shape, strict=True)
    )
    white = rng.standard_normal((*stack, *grid), dtype=np.float32)
    noise = fft.irfft2(fft.rfft2(white) * _amplitude(autocorrelation, grid), s=grid)[..., :y, :x]
    return np.asarray(clean + np.float32(std_grey) * noise, np.float32)


def _amplitude(autocorrelation: Autocorrelation, grid: tuple[int, ...]) -> Float32[np.ndarray, "y half_x"]:
    """Return the square root of the power spectrum on the half plane of a real transform, for a variance of 1."""
    centred = np.zeros(grid)
    lags_y, lags_x = autocorrelation.shape
    centred[:lags_y, :lags_x] = autocorrelation
    power = fft.fft2(np.roll(centred, (-(lags_y // 2), -(lags_x // 2)), axis=(0, 1))).real.clip(min=0)
    return np.asarray(np.sqrt(power / power.mean())[:, : grid[1] // 2 + 1], np.float32)


def _check(autocorrelation: Autocorrelation) -> None:
    shape = autocorrelation.shape
    if not all(size % 2 for size in shape):
        raise SettingError(f"an autocorrelation of shape {shape} has no centre; its sides are odd numbers")
    if not np.isfinite(autocorrelation).all():
        raise SettingError("the autocorrelation holds values that are no numbers")
    centre = float(autocorrelation[shape[0] // 2, shape[1] // 2])
    if not math.isclose(centre, 1, abs_tol=1e-6):
        raise SettingError(f"the autocorrelation's centre is {centre:g}; it is 1")
