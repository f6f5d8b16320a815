"""Reports, JSON and CSV on disk: whole or not at all, and nothing replaced without being asked."""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from tomoseg.errors import OutputError
from tomoseg.report.page import Report, render
from tomoseg.whole_file import whole_file

PAGE = "report.html"

_FIGURE = re.compile(r'<meta name="tomoseg-figure" content="([\w-]+) ([0-9a-f]{64})">')


def check_folder(folder: Path, *, force: bool) -> None:
    """Refuse a folder where no report can be written; nothing is created.

    Raises
    ------
    OutputError
        If a report is there and `force` is off, or the folder cannot be written.
    """
    if folder.exists() and not folder.is_dir():
        raise OutputError(f"{folder}: is a file; a report needs a folder")
    if (folder / PAGE).exists() and not force:
        raise OutputError(f"{folder / PAGE}: exists; choose another folder, or replace it with --force")
    near = next(place for place in (folder.absolute(), *folder.absolute().parents) if place.exists())
    if not near.is_dir() or not os.access(near, os.W_OK | os.X_OK):
        raise OutputError(f"{folder}: no permission to write in {near}")


def free_name(name: str, *, taken: Sequence[str]) -> str:
    """Return a name with the first number behind it, if needed, that makes it a new one on any file system.

    Examples
    --------
    >>> free_name("a", taken=["b"]), free_name("a", taken=["A", "a-2"])
    ('a', 'a-3')
    """
    others, numbered, number = {one.lower() for one in taken}, name, 1
    while numbered.lower() in others:
        number += 1
        numbered = f"{name}-{number}"
    return numbered


def write_report(folder: Path, report: Report, *, force: bool = False) -> None:
    """Write `report.html` into `folder`, and its figures as `figures/NAME.png`.

    Figures of the report that is replaced, which this one does not have, go. The page says the name and the content of
    each of its figures: any other file stays, and so does a figure that was changed since.

    Raises
    ------
    OutputError
        If a report is there and `force` is off, or the folder cannot be written.
    """
    check_folder(folder, force=force)
    before = _figures_of(folder / PAGE)
    for picture in report.pictures:
        _write(folder / "figures" / f"{picture.name}.png", picture.png)
    _write(folder / PAGE, render(report).encode())
    for name in before.keys() - {picture.name for picture in report.pictures}:
        _remove(folder / "figures" / f"{name}.png", digest=before[name])


def _figures_of(page: Path) -> dict[str, str]:
    """Return the names of a page's figures with what their files are known by; none of a page that is not ours."""
    text = page.read_text(encoding="utf-8", errors="replace") if page.is_file() else ""
    return dict(_FIGURE.findall(text))


def _remove(path: Path, *, digest: str) -> None:
    """Remove a file if it is what it is known by."""
    if path.is_file() and sha256(path.read_bytes()).hexdigest() == digest:
        path.unlink()


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON; numbers that are not finite become null.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    _write(path, (json.dumps(plain(value), indent=2, allow_nan=False, ensure_ascii=False) + "\n").encode())


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Write a table as CSV.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    text = io.StringIO()
    csv.writer(text).writerows([columns, *rows])
    _write(path, text.getvalue().encode())


def write_text(path: Path, text: str) -> None:
    """Write text, in UTF-8.

    Raises
    ------
    OutputError
        If the place cannot be written.
    """
    _write(path, text.encode())


def plain(value: Any) -> Any:
    """Return `value` as JSON knows it: numpy's numbers and arrays as Python's, NaN and infinity as None.

    Examples
    --------
    >>> plain({"a": np.float32(0.5), "b": (np.nan, 1)})
    {'a': 0.5, 'b': [None, 1]}
    """
    if isinstance(value, Mapping):
        return {str(name): plain(item) for name, item in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.generic):
        return plain(value.item())
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _write(path: Path, content: bytes) -> None:
    with whole_file(path) as draft:
        draft.write_bytes(content)
