"""How grey values stand for the attenuation of the beam."""

from __future__ import annotations

import math

from tomoseg.errors import SettingError

ATTENUATION = 2.0
"""Log attenuation along the diagonal of a slice that is at the window's high end throughout; the low end is air. Scans
are set up so that a beam like this is left of the strongest paths: enough contrast, enough photons."""


def attenuation_per_pixel(shape: tuple[int, ...], attenuation: float) -> float:
    """Return the log attenuation in one pixel of a slice (y, x) at the window's high end.

    Parameters
    ----------
    shape
        Pixels along (y, x).
    attenuation
        Log attenuation along the slice's diagonal, above 0.

    Raises
    ------
    SettingError
        If `attenuation` is not above 0.

    Examples
    --------
    >>> attenuation_per_pixel((30, 40), 2.0)
    0.04
    """
    if not 0 < attenuation < math.inf:
        raise SettingError(f"a log attenuation of {attenuation:g} is not possible; it is above 0")
    return attenuation / math.hypot(*shape)
