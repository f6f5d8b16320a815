"""Blur: a point that spreads."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Shaped
from scipy.ndimage import gaussian_filter

from tomoseg.degrade.level import check_level


def add_blur(grey: Shaped[np.ndarray, "*stack y x"], sigma_px: float) -> Float32[np.ndarray, "*stack y x"]:
    r"""Blur each slice with the Gaussian :math:`\exp(-r^2 / 2 \sigma^2) / 2 \pi \sigma^2`, along y and x.

    A picture that is blurred already, with :math:`s`, ends up with :math:`\sqrt{s^2 + \sigma^2}`. Noise that the
    picture holds is smoothed too. Beyond its edges the slice goes on as its mirror image.

    Parameters
    ----------
    grey
        Grey values, slices (..., y, x).
    sigma_px
        Standard deviation of the Gaussian in pixels, 0 or more; 0 returns the values as they are.

    Raises
    ------
    SettingError
        If `sigma_px` is negative or no number.

    Examples
    --------
    >>> point = np.zeros((41, 41)); point[20, 20] = 1
    >>> y = np.arange(41) - 20
    >>> round(float((add_blur(point, 2.0).sum(axis=1) * y**2).sum()), 2)
    4.0
    """
    check_level(sigma_px, "a blur of {:g} pixels")
    sharp = grey.astype(np.float32)
    return np.asarray(gaussian_filter(sharp, sigma_px, axes=(-2, -1))) if sigma_px > 0 else sharp
