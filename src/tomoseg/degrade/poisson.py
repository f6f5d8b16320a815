"""Photon noise: counts on the detector, reconstructed."""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, Real

from tomoseg.degrade.attenuation import ATTENUATION, attenuation_per_pixel
from tomoseg.degrade.projections import check_projections, project, reconstruct
from tomoseg.errors import SettingError
from tomoseg.window import Window

_FEWEST, _MOST = 1.0, 1e15
_NO_COUNT = 0.5


def add_photon_noise(
    grey: Real[np.ndarray, "y x"],
    photons: float,
    *,
    window: Window,
    rng: np.random.Generator,
    attenuation: float = ATTENUATION,
    projections: int | None = None,
) -> Float32[np.ndarray, "y x"]:
    r"""Add the noise of counting photons in each detector pixel of each projection.

    The window's low end is taken as air and its high end as the attenuation :math:`A / d` per pixel, :math:`d` being
    the slice's diagonal. With the log attenuation :math:`p` of a ray, :math:`N_0` photons become

    .. math:: N \sim \mathrm{Poisson}(N_0 e^{-p}), \quad \Delta p = -\ln(N / N_0) - p,

    and the reconstruction of :math:`\Delta p` is added to the slice [1]_. No photon counts as half a one. For
    :math:`M` projections the std of the noise is about :math:`0.62 \, (d / A) \sqrt{e^{p} / (M N_0)}` of the window's
    width, the ramp filter and linear interpolation between detector pixels together making the 0.62. It grows towards
    the middle of a body and is correlated from pixel to pixel.

    Parameters
    ----------
    grey
        Grey values of a slice (y, x).
    photons
        Photons in a detector pixel of a projection in the unattenuated beam, 1 to 1e15; infinity returns the values as
        they are.
    window
        The grey values of air and of the strongest attenuation.
    rng
        Source of the noise; slices have counts of their own.
    attenuation
        Log attenuation :math:`A`, above 0.
    projections
        Number of projections over half a turn; without it pi/2 a pixel of the longest edge, a complete scan.

    Raises
    ------
    SettingError
        If `photons`, `attenuation` or `projections` is outside its range.

    References
    ----------
    .. [1] A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging, section 5.2, DOI
       10.1137/1.9780898719277

    Examples
    --------
    >>> window, air = Window(low=0.0, high=1.0), np.zeros((64, 64))
    >>> noisy = add_photon_noise(air, 1e4, window=window, rng=np.random.default_rng(0))
    >>> expected = 0.62 * (64 * 2**0.5 / 2) / (101 * 1e4) ** 0.5
    >>> round(float(noisy.std()) / expected, 1)
    1.0
    """
    if not (_FEWEST <= photons <= _MOST or photons == math.inf):
        raise SettingError(f"{photons:g} photons are not possible; they are from {_FEWEST:g} to {_MOST:g}, or inf")
    per_pixel = attenuation_per_pixel(grey.shape, attenuation)
    count = check_projections(projections, grey.shape)
    if photons == math.inf:
        return grey.astype(np.float32)
    clean = project(window.apply(grey), count).astype(np.float64) * per_pixel
    counted = rng.poisson(photons * np.exp(-clean))
    noise = -np.log(np.maximum(counted, _NO_COUNT) / photons) - clean
    scale = np.float32(window.width / per_pixel)
    return grey.astype(np.float32) + scale * reconstruct(noise.astype(np.float32), grey.shape)
