"""Beam hardening: thick paths attenuate less than in proportion, and bodies look hollow."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Real

from tomoseg.degrade.level import check_level
from tomoseg.degrade.projections import check_projections, project, reconstruct
from tomoseg.window import Window

_MOST = 50.0
"""Beyond, a longer path would attenuate less than a shorter one."""


def add_beam_hardening(
    grey: Real[np.ndarray, "y x"], percent: float, *, window: Window, projections: int | None = None
) -> Float32[np.ndarray, "y x"]:
    r"""Add the cupping, and the shade between dense parts, of a beam of many energies.

    Soft rays are lost first, so that the log attenuation grows less than the path's length. To second order [1]_,

    .. math:: p' = p - \frac{P}{100} \, \frac{p^2}{p_\mathrm{max}},

    :math:`p_\mathrm{max}` being the largest of the slice: there the log attenuation is :math:`P` per cent too small.
    The reconstruction of :math:`p' - p` is added to the slice. A uniform disc of radius :math:`R` and contrast
    :math:`c` to air changes by :math:`-c \, (P / 100) (4 / \pi) \sqrt{1 - r^2 / R^2}`: most in its centre, not at all
    at its rim. The window's low end is taken as air; how strongly its high end attenuates does not matter.

    Parameters
    ----------
    grey
        Grey values of a slice (y, x).
    percent
        Strength :math:`P` of the quadratic term in per cent, 0 to 50; 0 returns the values as they are.
    window
        Its low end is the grey value of air.
    projections
        Number of projections over half a turn; without it pi/2 a pixel of the longest edge, a complete scan.

    Raises
    ------
    SettingError
        If `percent` or `projections` is outside its range.

    References
    ----------
    .. [1] R. A. Brooks, G. Di Chiro, Beam hardening in X-ray reconstructive tomography, Phys. Med. Biol. 21 (1976) 390,
       DOI 10.1088/0031-9155/21/3/004

    Examples
    --------
    >>> disc = (np.hypot(*np.mgrid[-32:33, -32:33]) <= 24).astype(np.float32)
    >>> hollow = add_beam_hardening(disc, 10.0, window=Window(low=0.0, high=1.0))
    >>> round(float(hollow[32, 32]), 2)  # 1 - 0.1 * 4 / pi
    0.87
    """
    check_level(percent, "beam hardening of {:g} %", most=_MOST)
    count = check_projections(projections, grey.shape)
    clean = grey.astype(np.float32)
    if percent == 0:
        return clean
    paths = project(clean - np.float32(window.low), count)
    longest = paths.max()
    if longest <= 0:  # air only
        return clean
    return np.asarray(clean + reconstruct(paths**2 * np.float32(-percent / 100 / longest), grey.shape))
