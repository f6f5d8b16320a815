"""A file that is put in place whole, or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tomoseg.errors import OutputError

PARTIAL = ".partial"
"""Ending of what is not finished."""


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """Give the path of a draft beside `path`, whose place it takes on a clean end, on the disk; else it is removed.

    Raises
    ------
    OutputError
        If the place cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     with whole_file(Path(folder) / "a.txt") as draft:
    ...         _ = draft.write_text("whole")
    ...     [file.name for file in Path(folder).iterdir()]
    ['a.txt']
    """
    draft = path.with_name(path.name + PARTIAL)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield draft
        to_disk(draft)
        draft.replace(path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
    finally:
        if draft.parent.is_dir():
            draft.unlink(missing_ok=True)


def to_disk(path: Path) -> None:
    """Wait until a file, or each file of a folder, is on the disk, so that what is noted of it outlives a power cut."""
    for file in [path] if path.is_file() else [part for part in path.iterdir() if part.is_file()]:
        handle = os.open(file, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
