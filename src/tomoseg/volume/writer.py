"""Slices written one by one into a folder of TIFFs or one TIFF stack, which appears only when complete."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
from jaxtyping import Shaped
from tifffile import TiffFile, TiffWriter

from tomoseg.errors import OutputError
from tomoseg.volume.source import PARTIAL

_SOFTWARE = "tomoseg"
_RECORD = "provenance.json"
_STACK_ENDINGS = (".tif", ".tiff")
_BIGTIFF_ABOVE = 3_500_000_000


def is_stack(path: Path) -> bool:
    """Return whether the target `path` is one TIFF file, by its ending, and not a folder of them.

    Examples
    --------
    >>> is_stack(Path("labels.tif")), is_stack(Path("labels"))
    (True, False)
    """
    return path.suffix.lower() in _STACK_ENDINGS


def check_target(path: Path, force: bool = False) -> None:
    """Refuse a target that could not be written later; nothing is created or removed.

    Parameters
    ----------
    path
        The folder or TIFF file to be written.
    force
        Whether a target that tomoseg wrote before may be replaced.

    Raises
    ------
    OutputError
        If the target exists and `force` is off; if it holds files that tomoseg did not write; if its folder
        cannot be written; or if it is no name, like `..`.
    """
    if path.name in ("", ".."):
        raise OutputError(f"{path}: is no name for an output; give that of a new folder or of a .tif file")
    with _writing(path):
        for part in (path, record_path(path)):
            if part.exists() and not force:
                raise OutputError(f"{part}: exists; choose another place, or replace it with --force")
        if path.exists():
            _check_ours(path)
        _check_parent(path)


def record_path(path: Path) -> Path:
    """Return where the provenance of the target `path` goes: into the folder, or beside the stack.

    Examples
    --------
    >>> record_path(Path("out")).as_posix(), record_path(Path("out/labels.tif")).as_posix()
    ('out/provenance.json', 'out/labels.provenance.json')
    """
    return path.with_suffix(f".{_RECORD}") if is_stack(path) else path / _RECORD


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
            raise OutputError(f"slice {name!r} cannot be written as {file!r}: the name is taken or leads elsewhere")
    return files


class SliceWriter:
    """Write a stack slice by slice, in bounded memory; what is not finished is not there.

    Everything goes to `NAME.partial` beside the target, which gets its name on a clean end. After an
    exception or Ctrl-C it is removed; what a killed run left is replaced. Pages are compressed losslessly
    (deflate) and carry the voxel size as ImageJ does.

    Parameters
    ----------
    path
        One TIFF stack if it ends in .tif or .tiff (BigTIFF above 3.5 GB), else a folder of TIFFs. Parents are
        made.
    shape
        Voxels along (z, y, x).
    dtype
        Type of the values.
    names
        One name a slice, from which `file_names` makes the files of a folder; required there.
    voxel_size_um
        Edge lengths along (z, y, x) in micrometres.
    force
        Replace a target that tomoseg wrote, once the new one is complete.
    extra_json
        Record to be written as `provenance.json` into the folder, or as `NAME.provenance.json` beside the
        stack.

    Raises
    ------
    OutputError
        If the target exists or cannot be written, or the disk is full.

    Examples
    --------
    >>> folder = tempfile.TemporaryDirectory()
    >>> target = Path(folder.name) / "labels.tif"
    >>> with SliceWriter(target, shape=(2, 3, 4), dtype=np.uint8, voxel_size_um=(0.02, 0.01, 0.01)) as writer:
    ...     for z in range(2):
    ...         writer.write(np.full((3, 4), z, np.uint8))
    >>> from tomoseg.volume import open_volume
    >>> open_volume(target).shape, open_volume(target).voxel_size_um
    ((2, 3, 4), (0.02, 0.01, 0.01))
    >>> folder.cleanup()
    """

    def __init__(
        self,
        path: Path,
        *,
        shape: tuple[int, int, int],
        dtype: np.dtype[Any] | type[np.generic],
        names: Sequence[str] = (),
        voxel_size_um: tuple[float, float, float] | None = None,
        force: bool = False,
        extra_json: Mapping[str, Any] | None = None,
    ) -> None:
        if not is_stack(path) and len(names) != shape[0]:
            raise ValueError(f"{len(names)} names for {shape[0]} slices")
        self._path, self._shape, self._dtype = path, shape, np.dtype(dtype)
        self._files = () if is_stack(path) else file_names(names)
        self._voxel_size_um, self._force, self._record = voxel_size_um, force, extra_json
        self._partial = path.parent / (path.name + PARTIAL)
        self._written = 0
        self._open = ExitStack()
        self._stack: TiffWriter | None = None

    def __enter__(self) -> SliceWriter:
        check_target(self._path, self._force)
        with _writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            _remove(self._partial)
            if self._files:
                self._partial.mkdir()
            else:
                big = int(np.prod(self._shape, dtype=np.int64)) * self._dtype.itemsize > _BIGTIFF_ABOVE
                self._stack = self._open.enter_context(TiffWriter(self._partial, bigtiff=big))
        return self

    def write(self, values: Shaped[np.ndarray, "y x"]) -> None:
        """Write the next slice, (y, x), in the type that was announced."""
        if values.shape != self._shape[1:] or values.dtype != self._dtype or self._written == self._shape[0]:
            raise ValueError(f"slice {self._written}, {values.shape} {values.dtype}, of {self._shape} {self._dtype}")
        with _writing(self._path):
            if self._stack is not None:
                self._write_page(self._stack, values, n=self._shape[0])
            else:
                with TiffWriter(self._partial / self._files[self._written]) as file:
                    self._write_page(file, values, n=1)
        self._written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with _writing(self._path):
                self._open.close()
                if kind is None:
                    self._finish()
        finally:
            _remove(self._partial)

    def _write_page(self, file: TiffWriter, values: np.ndarray, *, n: int) -> None:
        file.write(
            values,
            photometric="minisblack",
            compression="zlib",
            metadata=None,
            software=_SOFTWARE,
            description=_imagej_description(n, self._voxel_size_um) if self._written == 0 or n == 1 else None,
            resolution=_pixels_per_um(self._voxel_size_um),
            resolutionunit="none",
        )

    def _finish(self) -> None:
        """Give the complete output its name; the record of a stack comes first, so that none is without."""
        if self._written != self._shape[0]:
            raise ValueError(f"{self._path}: {self._written} of {self._shape[0]} slices were written")
        if self._files:
            self._write_record(self._partial / _RECORD)
            _replace_folder(self._partial, self._path)
        else:
            self._write_record(record_path(self._path))
            self._partial.replace(self._path)

    def _write_record(self, path: Path) -> None:
        if self._record is None:
            path.unlink(missing_ok=True)
            return
        draft = path.with_name(path.name + PARTIAL)
        try:
            draft.write_text(json.dumps(self._record, indent=2) + "\n", encoding="utf-8")
            draft.replace(path)
        finally:
            draft.unlink(missing_ok=True)


def _imagej_description(n: int, voxel_size_um: tuple[float, float, float] | None) -> str:
    """Return the text by which ImageJ, and this package, knows the stack and its voxel size."""
    lines = ["ImageJ=1.53t"] + ([f"images={n}", f"slices={n}"] if n > 1 else [])
    if voxel_size_um is not None:
        lines += ["unit=micron", f"spacing={voxel_size_um[0]!r}"]
    return "\n".join([*lines, "loop=false", ""])


def _pixels_per_um(voxel_size_um: tuple[float, float, float] | None) -> tuple[float, float] | None:
    return None if voxel_size_um is None else (1 / voxel_size_um[2], 1 / voxel_size_um[1])


def _file_name(name: str) -> str:
    page = re.fullmatch(r"(.*?)(?:\.[^.\[\]]*)?\[(\d+)\]", name)
    if page:
        return f"{page[1]}_{int(page[2]):04d}.tif"
    return name if is_stack(Path(name)) else f"{Path(name).stem}.tif"


def _check_ours(path: Path) -> None:
    """Refuse to replace what tomoseg did not write, so that `--force` loses nothing that a user made."""
    if is_stack(path) != path.is_file():
        raise OutputError(f"{path}: is a {'file' if path.is_file() else 'folder'} there already; choose another name")
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    for part in parts:
        if part.name != _RECORD and not _is_ours(part):
            raise OutputError(f"{part}: was not written by tomoseg and is not replaced; choose another place")


def _is_ours(file: Path) -> bool:
    if not (file.is_file() and is_stack(file)):
        return False
    try:
        with TiffFile(file) as tif:
            return bool(tif.pages.first.software == _SOFTWARE)
    except (ValueError, IndexError):  # no TIFF: not ours
        return False


def _check_parent(path: Path) -> None:
    """Refuse a target below something that is no folder or cannot be written."""
    near = next(parent for parent in path.absolute().parents if parent.exists())
    if not near.is_dir():
        raise OutputError(f"{path}: {near} is a file, not a folder")
    if not os.access(near, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write in {near}")


def _replace_folder(new: Path, target: Path) -> None:
    """Put the folder `new` in the place of `target`, whose old content goes once the new one is there."""
    if not target.exists():
        new.replace(target)
        return
    aside = Path(tempfile.mkdtemp(prefix=f".{target.name}.", dir=target.parent))
    old = aside / target.name
    target.replace(old)
    try:
        new.replace(target)
    except BaseException:
        old.replace(target)
        raise
    finally:
        if target.exists():
            shutil.rmtree(aside)


def _remove(partial: Path) -> None:
    if partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    """Turn the system's refusals (disk full, no permission, no folder) into an OutputError of one line."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
