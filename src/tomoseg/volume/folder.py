"""A folder of two-dimensional pictures, one slice a file, in the order of the numbers in their names."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path

from tomoseg.errors import VolumeError
from tomoseg.volume.page import ENDINGS, Page, reading

_HINTED = 3


def natural_key(name: str) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key in which numbers count as numbers.

    Examples
    --------
    >>> sorted(["s10.tif", "s9.tif", "S1.tif"], key=natural_key)
    ['S1.tif', 's9.tif', 's10.tif']
    """
    parts = re.split(r"([0-9]+)", name.lower())
    return [(int(p), "") if i % 2 else (-1, p) for i, p in enumerate(parts)], name


def folder_pages(path: Path, *, file_pages: Callable[[Path], Sequence[Page]]) -> tuple[Page, ...]:
    """Return one page for each picture in the folder `path`; hidden files and other endings are passed over.

    Parameters
    ----------
    path
        The folder.
    file_pages
        Reads the pages of one file.

    Raises
    ------
    VolumeError
        If the folder holds no picture, or a file with more than one page.
    """
    files = picture_files(path)
    if not files:
        raise VolumeError(f"{path}: holds no {' '.join(ENDINGS)} files{_hint(path)}")
    pages: list[Page] = []
    for file in files:
        own = file_pages(file)
        if len(own) != 1:
            raise VolumeError(
                f"{file}: is a stack of {len(own)} pages inside a folder of slices; give the stack itself"
            )
        pages += own
    return tuple(pages)


def picture_files(path: Path) -> list[Path]:
    """Return the picture files of the folder `path` in natural order."""
    with reading(path):
        files = [p for p in path.iterdir() if p.suffix.lower() in ENDINGS and p.name[0] != "." and not p.is_dir()]
    return sorted(files, key=lambda file: natural_key(file.name))


def _hint(path: Path) -> str:
    """Name subfolders that do hold pictures, else the endings that are there instead."""
    seen = sorted((p for p in path.iterdir() if p.name[0] != "."), key=lambda p: natural_key(p.name))
    found = [p.name for p in seen if p.is_dir() and picture_files(p)]
    if found:
        return f"; its subfolders do: give one of {_some(found)}"
    others = list(dict.fromkeys(p.suffix for p in seen if p.suffix and not p.is_dir()))
    return f", but {_some(others)}; save the slices as TIFF or PNG" if others else ""


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:_HINTED]) + (" ..." if len(names) > _HINTED else "")
