"""Streaks: fewer projections than the slice needs."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float32, Int, Real

from tomoseg.degrade.level import check_level
from tomoseg.degrade.projections import check_projections, project, reconstruct
from tomoseg.errors import SettingError

_FEWEST = 4


def add_streaks(
    grey: Real[np.ndarray, "y x"], percent: float, *, projections: int | None = None
) -> Float32[np.ndarray, "y x"]:
    r"""Add the streaks that appear when projections are left out.

    Of :math:`M` projections the :math:`K = M (1 - P / 100)`, rounded, that are spread most evenly are kept, and each
    counts for itself and for those left out that are nearer to it than to others: with its share :math:`w_i`
    (0 for those left out), what is added is the reconstruction of :math:`(w_i - 1) \, p_i` [1]_. Streaks are strong
    once :math:`K` is far below pi/2 for each pixel of an edge.

    Around the slice its mean is taken to go on, as where it is cut from inside a sample, so that the cut itself makes
    no streaks. The effect is linear in the grey values; no attenuation needs to be known.

    Parameters
    ----------
    grey
        Grey values of a slice (y, x).
    percent
        Projections left out in per cent :math:`P`, 0 up to where four are left; 0 returns the values as they are.
    projections
        Number :math:`M` over half a turn before some are left out; without it pi/2 a pixel of the longest edge, a
        complete scan.

    Raises
    ------
    SettingError
        If `percent` or `projections` is outside its range.

    References
    ----------
    .. [1] A. C. Kak, M. Slaney, Principles of Computerized Tomographic Imaging, section 5.1, DOI
       10.1137/1.9780898719277

    Examples
    --------
    >>> dot = np.zeros((65, 65)); dot[32, 32] = 1
    >>> streaks = add_streaks(dot, 90.0) - dot  # 10 of 103 projections are left, one of them along the columns
    >>> float(streaks[8, 32]) > 10 * float(abs(streaks[8, 28:31]).max())
    True
    """
    check_level(percent, "leaving out {:g} % of the projections", most=100)
    count = check_projections(projections, grey.shape)
    kept = round(count * (1 - percent / 100))
    if kept < _FEWEST:
        raise SettingError(f"leaving out {percent:g} % of {count} projections leaves {kept}; {_FEWEST} are the fewest")
    full = grey.astype(np.float32)
    if kept == count:
        return full
    sinogram = project(full - full.mean(), count)
    weights = _shares(count, kept) - np.float32(1)
    return np.asarray(full + reconstruct(weights[:, None] * sinogram, grey.shape))


def _shares(count: int, kept: int) -> Float32[np.ndarray, " angle"]:
    """Return for how many projections each one counts: half the gaps to its neighbours that are kept, else 0."""
    numbers: Int[np.ndarray, " kept"] = np.arange(kept) * count // kept
    # The first is also the one after the last, seen from behind.
    ahead = np.diff(numbers, append=count)
    shares = np.zeros(count, np.float32)
    shares[numbers] = (ahead + np.roll(ahead, 1)) / 2
    return shares
