"""Packages that come with an extra, loaded when they are used."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from tomoseg.errors import SettingError


def load_extra(module: str, *, extra: str, purpose: str) -> Any:
    """Return the module, or say which extra brings it.

    Parameters
    ----------
    module
        Name of the module, like `h5py`.
    extra
        The extra of this package that installs it, like `formats`.
    purpose
        What it is needed for, as the subject of a sentence.

    Raises
    ------
    SettingError
        If it is not installed.

    Examples
    --------
    >>> load_extra("json", extra="formats", purpose="reading it").loads("[1]")
    [1]
    >>> load_extra("no_such_module", extra="formats", purpose="reading scan.nrrd")
    Traceback (most recent call last):
        ...
    tomoseg.errors.SettingError: reading scan.nrrd needs no_such_module: pip install "tomoseg[formats]"
    """
    try:
        return import_module(module)
    except ImportError as error:
        raise SettingError(f'{purpose} needs {module.partition(".")[0]}: pip install "tomoseg[{extra}]"') from error
