"""Ring artefacts: detector pixels whose gain is wrong."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, Float64, Real

from tomoseg.degrade.attenuation import ATTENUATION, attenuation_per_pixel
from tomoseg.degrade.level import check_level
from tomoseg.degrade.projections import half_detector, ramp_filter
from tomoseg.window import Window

_RADII = 8
"""Radii a pixel at which the rings are computed."""


def add_rings(
    grey: Real[np.ndarray, "y x"],
    percent: float,
    *,
    window: Window,
    rng: np.random.Generator,
    attenuation: float = ATTENUATION,
) -> Float32[np.ndarray, "y x"]:
    r"""Add the rings about the slice's centre that errors of the detector pixels' gain make in a full turn.

    A pixel at :math:`t` that counts :math:`e^{g(t)}` times what reaches it, :math:`g` normal with std
    :math:`P / 100`, changes the log attenuation by :math:`-g(t)` at all angles and whatever the sample [1]_. The
    reconstruction of that is known without projecting the slice: with :math:`q` the ramp-filtered :math:`-g`,

    .. math:: \Delta a(r) = \frac{1}{2} \int_0^{2 \pi} q(r \cos \theta) \, \mathrm{d} \theta .

    (In a scan over half a turn each pixel would make half a circle.)

    In a parallel beam a detector pixel sees one slice, so neighbouring slices have independent rings: draw anew for
    each. The window's low end is taken as air, its high end as the attenuation that `attenuation` says.

    Parameters
    ----------
    grey
        Grey values of a slice (y, x), the axis of rotation in its centre.
    percent
        Standard deviation :math:`P` of the gain's error in per cent, 0 or more; 0 returns the values as they are.
    window
        The grey values of air and of the strongest attenuation.
    rng
        Source of the gain errors, one a detector pixel.
    attenuation
        Log attenuation along the diagonal of a slice at the window's high end, above 0.

    Raises
    ------
    SettingError
        If `percent` or `attenuation` is outside its range.

    References
    ----------
    .. [1] B. Münch, P. Trtik, F. Marone, M. Stampanoni, Stripe and ring artifact removal with combined wavelet-Fourier
       filtering, Opt. Express 17 (2009) 8567, DOI 10.1364/OE.17.008567

    Examples
    --------
    >>> window, rng = Window(low=0.0, high=1.0), np.random.default_rng(0)
    >>> rings = add_rings(np.zeros((65, 65)), 2.0, window=window, rng=rng)
    >>> bool(np.allclose(rings, rings[::-1], atol=1e-6)), bool(np.allclose(rings, rings.T, atol=1e-6))
    (True, True)
    """
    check_level(percent, "a gain error of {:g} %")
    per_pixel = attenuation_per_pixel(grey.shape, attenuation)
    clean = grey.astype(np.float32)
    if percent == 0:
        return clean
    gain = rng.standard_normal(2 * half_detector(grey.shape) + 1) * percent / 100
    height, width = grey.shape
    radius = np.hypot.outer(np.arange(height) - (height - 1) / 2, np.arange(width) - (width - 1) / 2)
    profile = _radial_profile(-gain) * (window.width / per_pixel)
    rings = np.interp(radius, np.arange(len(profile)) / _RADII, profile)
    return np.asarray(clean + rings, np.float32)


def _radial_profile(change: Float64[np.ndarray, " detector"]) -> Float64[np.ndarray, " radius"]:
    """Return the reconstruction of a change that is the same at all angles, at every eighth of a pixel of radius."""
    half = len(change) // 2
    filtered = ramp_filter(change[None].astype(np.float32))[0]
    angles = math.ceil(2 * math.pi * half)  # half a pixel apart where the circle is largest
    theta = (np.arange(angles) + 0.5) * (math.pi / angles)
    radii = np.arange(half * _RADII + 1) / _RADII
    seen = np.interp(np.outer(radii, np.cos(theta)), np.arange(-half, half + 1), filtered)
    return np.asarray(seen.mean(axis=1) * math.pi)
