"""The one check that all levels need."""

from __future__ import annotations

import math

from tomoseg.errors import SettingError


def check_level(level: float, what: str, *, most: float = math.inf) -> None:
    """Refuse a level that is negative, no number, infinite, or above `most`.

    Parameters
    ----------
    level
        The level, in the unit that `what` names.
    what
        Its words in the message, with braces where the number goes.
    most
        The largest level there is.

    Raises
    ------
    SettingError
        If the level is outside its range.

    Examples
    --------
    >>> check_level(-1, "a blur of {:g} pixels")
    Traceback (most recent call last):
    tomoseg.errors.SettingError: a blur of -1 pixels is not possible; it is 0 or more
    """
    if not 0 <= level <= most or level == math.inf:
        bounds = "0 or more" if most == math.inf else f"from 0 to {most:g}"
        raise SettingError(f"{what.format(level)} is not possible; it is {bounds}")
