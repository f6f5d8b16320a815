"""Slices written one by one into a file or folder, which appears only when complete."""

from __future__ import annotations

import json
import os
import re
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from types import TracebackType
from typing import Any, cast

import numpy as np
from jaxtyping import Shaped

from tomoseg.errors import OutputError
from tomoseg.volume import tiff_sink
from tomoseg.volume.page import READABLE
from tomoseg.volume.sink import Content, OmeZarrVersion, Sink
from tomoseg.volume.source import FORMATS, format_ending
from tomoseg.volume.state import NOTES, RECORD, file_record, read_state
from tomoseg.whole_file import PARTIAL, whole_file

TARGETS = {
    ".tif": "tiff_sink", ".tiff": "tiff_sink",
    ".zarr": "ome_zarr_writer",
    ".h5": "hdf5", ".hdf5": "hdf5", ".nxs": "hdf5",
    ".raw": "raw", ".vol": "raw",
    ".nrrd": "nrrd",
    ".nii": "nifti", ".nii.gz": "nifti",
    ".mha": "meta_image",
}  # fmt: skip
"""Ending of a file that is written slice by slice -> the module of this package whose `open_sink` does it.

Where a format can't hold everything, its module's `check` says so of a path and a content.
"""

STORE_PARTS = (
    *("zarr.json", ".zgroup", ".zattrs", ".zmetadata"),
    *("probabilities", "uncertainty", "axis_z", "axis_y", "axis_x", NOTES),
)
"""What tomoseg writes into the root of a Zarr store, beside the levels 0, 1, ...; the dots are of OME-Zarr 0.4."""


def is_folder(path: Path) -> bool:
    """Return whether the target `path` is a folder of TIFFs, as all are that end in no format's name.

    Examples
    --------
    >>> is_folder(Path("labels.tif")), is_folder(Path("labels"))
    (False, True)
    """
    return format_ending(path) not in TARGETS


def is_directory(path: Path) -> bool:
    """Return whether the target `path` is a directory on disk: a folder of TIFFs, or a Zarr store.

    Examples
    --------
    >>> is_directory(Path("labels.zarr")), is_directory(Path("labels")), is_directory(Path("labels.h5"))
    (True, True, False)
    """
    return is_folder(path) or format_ending(path) == ".zarr"


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
        If the target exists and `force` is off; if it holds files that tomoseg did not write, or such lie beside it
        under the names of its own; if its folder cannot be written; or if it is no name, like `..`.
    """
    if path.name in ("", ".."):
        raise OutputError(f"{path}: is no name for an output; give that of a new folder or of a .tif file")
    if is_folder(path) and format_ending(path) in (".png", *FORMATS):
        raise OutputError(f"{path}: {format_ending(path)} is not written; {' '.join(TARGETS)} and folders of TIFFs are")
    if is_folder(path) and re.fullmatch(r"\.[a-z]{2,5}", path.suffix.lower()):
        raise OutputError(
            f"{path}: no format is called {path.suffix}; there are {' '.join(TARGETS)}, and for a folder of TIFFs give "
            "a name without an ending"
        )
    with writing(path):
        for part in (path, record_path(path), companion_path(path)):
            if part is not None and part.exists() and not force:
                raise OutputError(f"{part}: exists; choose another place, or replace it with --force")
        if path.exists():
            _check_ours(path)
        else:
            _check_alone(path)
        _check_parent(path)


def check_content(path: Path, content: Content) -> None:
    """Refuse what a target can't hold, so that it is said before any work is done; nothing is created.

    Parameters
    ----------
    path
        The folder or file to be written.
    content
        What will be written into it.

    Raises
    ------
    OutputError
        If the format can't hold the type or the size, or two slices would get the same file.
    SettingError
        If the format needs a package that is not installed.

    Examples
    --------
    >>> check_content(Path("labels"), Content((2, 3, 4), np.dtype(np.uint8), ("a.png", "b.png")))
    >>> check_content(Path("a.nii"), Content((2, 3, 40_000), np.dtype(np.uint8)))
    Traceback (most recent call last):
        ...
    tomoseg.errors.OutputError: a.nii: NIfTI-1 has room for 32767 voxels along an axis, not 40000; choose another format
    """
    if content.dtype.newbyteorder("=") not in READABLE:
        raise OutputError(
            f"{path}: values of type {content.dtype} are not written; integers of 8, 16 or 32 bits and floats are"
        )
    if is_folder(path):
        tiff_sink.file_names(content.names)
    elif hasattr(module := _format_module(path), "check"):
        module.check(path, content)


def record_path(path: Path) -> Path:
    """Return where the provenance of the target `path` goes: into the folder, or beside the file.

    Examples
    --------
    >>> record_path(Path("out")).as_posix(), record_path(Path("labels.tif")).as_posix()
    ('out/provenance.json', 'labels.tif.provenance.json')
    >>> record_path(Path("out.zarr")).as_posix()
    'out.zarr/tomoseg/provenance.json'
    """
    return path / RECORD if is_folder(path) else file_record(path)


def companion_path(path: Path) -> Path | None:
    """Return the file that says what a raw file does not, None for the other formats.

    Examples
    --------
    >>> companion_path(Path("scan.raw")).name, companion_path(Path("scan.vol")).name
    ('scan.raw.json', 'scan.vgi')
    """
    companions = {".raw": path.with_name(path.name + ".json"), ".vol": path.with_suffix(".vgi")}
    return companions.get(format_ending(path))


class SliceWriter:
    """Write a volume slice by slice, in bounded memory; what is not finished is not there.

    Everything goes to `NAME.partial` beside the target, which gets its name on a clean end. After an
    exception or Ctrl-C it is removed; what a killed run left is replaced. The voxel size is carried in each
    format's own way.

    Parameters
    ----------
    path
        A file with one of the endings of `TARGETS`, else a folder of TIFFs. Parents are made.
    shape
        Voxels along (z, y, x).
    dtype
        Type of the values.
    names
        One name a slice, from which the names of the files of a folder are made; required there.
    voxel_size_um
        Edge lengths along (z, y, x) in micrometres.
    force
        Replace a target that tomoseg wrote, once the new one is complete.
    ome_zarr
        Version of an OME-Zarr image.
    extra_json
        Record to be written as `provenance.json` into the folder, or as `NAME.provenance.json` beside the
        file.

    Raises
    ------
    OutputError
        If the target exists or cannot be written, the format can't hold the type, or the disk is full.
    SettingError
        If the format needs a package that is not installed.

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
        ome_zarr: OmeZarrVersion = "0.5",
        extra_json: Mapping[str, Any] | None = None,
    ) -> None:
        if is_folder(path) and len(names) != shape[0]:
            raise ValueError(f"{len(names)} names for {shape[0]} slices")
        self._path, self._force, self._record = path, force, extra_json
        self._content = Content(shape, np.dtype(dtype), tuple(names), voxel_size_um, ome_zarr)
        self._partial = path.parent / (path.name + PARTIAL)
        self._written = 0
        self._sink: Sink | None = None

    def __enter__(self) -> SliceWriter:
        check_target(self._path, self._force)
        check_content(self._path, self._content)
        with writing(self._path):
            self._path.parent.mkdir(parents=True, exist_ok=True)
            remove(self._partial)
            self._sink = _open_sink(self._path, self._partial, self._content)
        return self

    def write(self, values: Shaped[np.ndarray, "y x"]) -> None:
        """Write the next slice, (y, x), in the type that was announced."""
        shape, dtype = self._content.shape, self._content.dtype
        if self._sink is None or values.shape != shape[1:] or values.dtype != dtype or self._written == shape[0]:
            raise ValueError(f"slice {self._written}, {values.shape} {values.dtype}, of {shape} {dtype}")
        with writing(self._path):
            self._sink.write(values)
        self._written += 1

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            with writing(self._path):
                if self._sink is not None:
                    self._sink.close()
                if kind is None:
                    self._finish()
        finally:
            remove(self._partial)

    def _finish(self) -> None:
        """Give the complete output its name; what lies beside a file comes first, so that none is without."""
        if self._written != self._content.shape[0]:
            raise ValueError(f"{self._path}: {self._written} of {self._content.shape[0]} slices were written")
        if is_directory(self._path):
            _write_record(self._partial / record_path(self._path).relative_to(self._path), self._record)
            replace_folder(self._partial, self._path)
            return
        companion = companion_path(self._path)
        if companion is not None:
            write_text(companion, _companion_text(self._path, self._content))
        _write_record(record_path(self._path), self._record)
        self._partial.replace(self._path)


def _open_sink(path: Path, partial: Path, content: Content) -> Sink:
    if is_folder(path):
        return tiff_sink.TiffFolderSink(partial, content)
    return cast(Sink, _format_module(path).open_sink(partial, content))


def _format_module(path: Path) -> Any:
    return import_module(f"tomoseg.volume.{TARGETS[format_ending(path)]}")


def _companion_text(path: Path, content: Content) -> str:
    """Return what the file beside a raw file says."""
    from tomoseg.volume.raw import describe

    return describe(path, content)


def _write_record(path: Path, record: Mapping[str, Any] | None) -> None:
    """Write a record; without one, remove an old one."""
    if record is None:
        path.unlink(missing_ok=True)
    else:
        write_text(path, json.dumps(record, indent=2) + "\n")


def write_text(path: Path, text: str) -> None:
    """Put a text file in place at once: after a crash there is the old one or the new one."""
    with whole_file(path) as draft:
        draft.write_text(text, encoding="utf-8")


def _check_ours(path: Path) -> None:
    """Refuse to replace what tomoseg did not write, so that `--force` loses nothing that a user made."""
    if is_directory(path) != path.is_dir():
        raise OutputError(f"{path}: is a {'file' if path.is_file() else 'folder'} there already; choose another name")
    if format_ending(path) == ".zarr":
        others = [part.name for part in path.iterdir() if part.name not in STORE_PARTS and not part.name.isdigit()]
        if others or (read_state(path) is None and any(path.iterdir())):
            raise OutputError(f"{path}: was not written by tomoseg and is not replaced; choose another place")
        return
    parts = sorted(path.iterdir()) if path.is_dir() else [path]
    for part in parts:
        if part.name != RECORD and not (tiff_sink.is_ours(part) or _is_recorded(part)):
            raise OutputError(f"{part}: was not written by tomoseg and is not replaced; choose another place")


def _check_alone(path: Path) -> None:
    """Refuse to replace what lies beside a new file under the names of what is written beside it."""
    companion = companion_path(path)
    if companion is not None and companion.exists():
        raise OutputError(f"{companion}: lies there without {path.name}, and is not replaced; choose another name")
    if not is_directory(path) and record_path(path).exists() and not _is_recorded(path):
        raise OutputError(f"{record_path(path)}: was not written by tomoseg and is not replaced; choose another name")


def _is_recorded(file: Path) -> bool:
    """Return whether the record beside a file is tomoseg's: formats other than TIFF have no room for a mark."""
    try:
        found = json.loads(record_path(file).read_text(encoding="utf-8"))
        return not is_folder(file) and "tomoseg" in found["provenance"]
    except (OSError, ValueError, KeyError, TypeError):
        return False


def _check_parent(path: Path) -> None:
    """Refuse a target below something that is no folder or cannot be written."""
    near = next(parent for parent in path.absolute().parents if parent.exists())
    if not near.is_dir():
        raise OutputError(f"{path}: {near} is a file, not a folder")
    if not os.access(near, os.W_OK | os.X_OK):
        raise OutputError(f"{path}: no permission to write in {near}")


def replace_folder(new: Path, target: Path) -> None:
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


def remove(partial: Path) -> None:
    """Remove an unfinished output, file or folder, if there is one."""
    if partial.is_dir() and not partial.is_symlink():
        shutil.rmtree(partial)
    else:
        partial.unlink(missing_ok=True)


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusals (disk full, no permission, no folder) into an OutputError of one line."""
    try:
        yield
    except OSError as error:
        raise OutputError(f"{path}: cannot be written: {error.strerror or error}") from error
