"""TIFF written slice by slice: one stack, or a folder with a file a slice."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from jaxtyping import Shaped
from tifffile import TiffFile, TiffWriter

from tomoseg.errors import OutputError
from tomoseg.volume.sink import Content

TIFF_ENDINGS = (".tif", ".tiff")
_SOFTWARE = "tomoseg"
_BIGTIFF_ABOVE = 3_500_000_000


class TiffStackSink:
    """One TIFF of all slices, BigTIFF above 3.5 GB, losslessly compressed, with the voxel size as ImageJ writes it."""

    def __init__(self, path: Path, content: Content) -> None:
        self._content = content
        self._first = True
        self._file = TiffWriter(path, bigtiff=content.nbytes > _BIGTIFF_ABOVE)

    def write(self, values: Shaped[np.ndarray, "y x"]) -> None:
        """Write the next slice, (y, x)."""
        _write_page(self._file, values, self._content, describe=self._content.shape[0] if self._first else None)
        self._first = False

    def close(self) -> None:
        """End the file."""
        self._file.close()


class TiffFolderSink:
    """A folder with one TIFF a slice, named by `file_names`."""

    def __init__(self, path: Path, content: Content) -> None:
        self._path, self._content = path, content
        self._files = iter(file_names(content.names))
        path.mkdir()

    def write(self, values: Shaped[np.ndarray, "y x"]) -> None:
        """Write the next slice, (y, x)."""
        with TiffWriter(self._path / next(self._files)) as file:
            _write_page(file, values, self._content, describe=1)

    def close(self) -> None:
        """Do nothing: each file ends with its slice."""


def open_sink(path: Path, content: Content) -> TiffStackSink:
    """Return the sink of one TIFF stack."""
    return TiffStackSink(path, content)


def is_ours(file: Path) -> bool:
    """Return whether a file is a TIFF that tomoseg wrote, by its software tag."""
    if not (file.is_file() and file.suffix.lower() in TIFF_ENDINGS):
        return False
    try:
        with TiffFile(file) as tif:
            return bool(tif.pages.first.software == _SOFTWARE)
    except (ValueError, IndexError):  # no TIFF: not ours
        return False


def file_names(names: Sequence[str]) -> tuple[str, ...]:
    """Return file names for slices: `.tif` for what has another ending, `stack_0017.tif` for `stack.tif[17]`.

    Raises
    ------
    OutputError
        If two slices would get the same file name, or a name leads into another folder.

    Examples
    --------
    >>> file_names(["a1.tiff", "a2.png", "scan.tif[17]"])
    ('a1.tiff', 'a2.tif', 'scan_0017.tif')
    """
    files = tuple(_file_name(name) for name in names)
    count = Counter(files)
    for name, file in zip(names, files, strict=True):
        if count[file] > 1 or Path(file).name != file:
            raise OutputError(
                f"slice {name!r} cannot be written as {file!r}: the name is taken or leads elsewhere; "
                "rename it, or write all slices into one file, like NAME.tif"
            )
    return files


def _file_name(name: str) -> str:
    page = re.fullmatch(r"(.*?)(?:\.[^.\[\]]*)?\[(\d+)\]", name)
    if page:
        return f"{page[1]}_{int(page[2]):04d}.tif"
    return name if Path(name).suffix.lower() in TIFF_ENDINGS else f"{Path(name).stem}.tif"


def _write_page(file: TiffWriter, values: Shaped[np.ndarray, "y x"], content: Content, *, describe: int | None) -> None:
    """Write one page; `describe` is the number of slices that its description announces."""
    size = content.voxel_size_um
    file.write(
        values,
        photometric="minisblack",
        compression="zlib",
        metadata=None,
        software=_SOFTWARE,
        description=None if describe is None else _imagej_description(describe, size),
        resolution=None if size is None else (1 / size[2], 1 / size[1]),
        resolutionunit="none",
    )


def _imagej_description(n: int, voxel_size_um: tuple[float, float, float] | None) -> str:
    """Return the text by which ImageJ, and this package, knows the stack and its voxel size."""
    lines = ["ImageJ=1.53t"] + ([f"images={n}", f"slices={n}"] if n > 1 else [])
    if voxel_size_um is not None:
        lines += ["unit=micron", f"spacing={voxel_size_um[0]!r}"]
    return "\n".join([*lines, "loop=false", ""])
