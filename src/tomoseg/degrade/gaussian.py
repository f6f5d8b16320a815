"""White Gaussian noise, and the unit of its std."""

from __future__ import annotations

from typing import Any

import numpy as np
from jaxtyping import Float32, Shaped

from tomoseg.degrade.level import check_level
from tomoseg.window import Window

FULL_SCALE = 65535.0
"""`noise_std` counts in 1/65535 of the grey type's full range, so that 5000 means the same noise for all types."""


def full_range(dtype: np.dtype[Any], window: Window) -> float:
    """Return the grey values that 65535 units of `noise_std` span: the integer type's range, else the window.

    Examples
    --------
    >>> window = Window(low=-1.0, high=3.0)
    >>> full_range(np.dtype(np.uint8), window), full_range(np.dtype(np.float32), window)
    (255.0, 4.0)
    """
    if np.issubdtype(dtype, np.integer):
        return float(np.iinfo(dtype).max) - float(np.iinfo(dtype).min)
    return window.width


def noise_std_grey(noise_std: float, *, dtype: np.dtype[Any], window: Window) -> float:
    """Return a noise std in the scan's own grey values.

    Examples
    --------
    >>> round(noise_std_grey(5000, dtype=np.dtype(np.uint8), window=Window(low=0, high=255)), 3)
    19.455
    """
    return noise_std / FULL_SCALE * full_range(dtype, window)


def noise_std_units(std_grey: float, *, dtype: np.dtype[Any], window: Window) -> float:
    """Return a std in grey values in the unit of `noise_std`; the inverse of `noise_std_grey`.

    Examples
    --------
    >>> noise_std_units(51.0, dtype=np.dtype(np.uint8), window=Window(low=0, high=100))
    13107.0
    """
    return std_grey * FULL_SCALE / full_range(dtype, window)


def add_gaussian_noise(
    grey: Shaped[np.ndarray, "*shape"],
    std_grey: float,
    *,
    rng: np.random.Generator,
    clip_to: np.dtype[Any] | None = None,
) -> Float32[np.ndarray, "*shape"]:
    """Add Gaussian noise of mean 0 and std `std_grey` (grey values), in float, neither clipped nor rounded.

    Parameters
    ----------
    grey
        Grey values of any shape.
    std_grey
        Standard deviation in grey values; 0 returns the values as they are.
    rng
        Source of the noise; each value gets its own draw.
    clip_to
        An integer type into whose range the result is clipped and to whose steps it is rounded, as a detector
        would. Floats have neither an end nor steps: with a float type nothing is changed.

    Raises
    ------
    SettingError
        If `std_grey` is negative or no number.

    Examples
    --------
    >>> noisy = add_gaussian_noise(np.full((200, 200), 100, np.uint8), 20.0, rng=np.random.default_rng(0))
    >>> round(float(noisy.mean())), round(float(noisy.std()))
    (100, 20)
    """
    check_level(std_grey, "a noise std of {:g} grey values")
    noisy = grey.astype(np.float32)
    if std_grey > 0:
        noisy += rng.standard_normal(grey.shape, dtype=np.float32) * np.float32(std_grey)
    if clip_to is not None and np.issubdtype(clip_to, np.integer):
        limits = np.iinfo(clip_to)
        noisy = np.clip(np.round(noisy), limits.min, limits.max).astype(np.float32)
    return noisy
