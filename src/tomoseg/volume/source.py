"""Open what the user names, whatever its format."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from tomoseg.errors import VolumeError
from tomoseg.volume.base import Volume, read_slice
from tomoseg.volume.folder import folder_pages
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import ENDINGS, Page, PagedVolume, Pictures, as_pictures, as_volume, reading
from tomoseg.volume.png import png_pages
from tomoseg.volume.state import noted_numbers
from tomoseg.volume.tiff import tiff_pages
from tomoseg.whole_file import PARTIAL

FORMATS = {
    ".zarr": "ome_zarr",
    ".h5": "hdf5", ".hdf5": "hdf5", ".hdf": "hdf5", ".nxs": "hdf5", ".nx": "hdf5",
    ".raw": "raw", ".vol": "raw", ".vgi": "raw",
    ".txm": "zeiss", ".txrm": "zeiss",
    ".nrrd": "nrrd", ".nhdr": "nrrd",
    ".nii": "nifti", ".nii.gz": "nifti",
    ".mha": "meta_image", ".mhd": "meta_image",
}  # fmt: skip
"""Ending of a volume that is no picture -> the module of this package that reads it, by `open_file`."""


@dataclass(frozen=True)
class RawLayout:
    """What a raw file does not say of itself.

    Attributes
    ----------
    shape
        Voxels along (z, y, x).
    dtype
        Type of the grey values with its byte order.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class Opening:
    """What opening a volume must be told.

    Attributes
    ----------
    layout
        Size and type of a raw file that has no description beside it.
    empty_chunks
        Whether what is missing from a Zarr store or an HDF5 file holds its fill value.
    """

    layout: RawLayout | None = None
    empty_chunks: bool = False


AS_IT_IS = Opening()
"""For what says everything of itself."""


def open_volume(path: Path, *, opening: Opening = AS_IT_IS) -> Volume:
    """Open a tomogram in any format that is read.

    Only headers are read; grey values are read when and where they are asked for.

    Parameters
    ----------
    path
        A folder of TIFF or PNG files, in the natural order of their names; one TIFF (multi-page, BigTIFF,
        ImageJ, OME-TIFF) or PNG file; a volume with one of the endings of `FORMATS`; or `FILE:/INNER` for a
        data set inside an HDF5 file or a Zarr store.
    opening
        What the file does not say.

    Raises
    ------
    VolumeError
        If `path` is missing, damaged, holds no picture, colours or several channels, or pictures of several
        sizes or types.
    SettingError
        If the format needs a package that is not installed.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> folder = tempfile.TemporaryDirectory()
    >>> tifffile.imwrite(Path(folder.name) / "scan1.tif", np.full((2, 3), 7, np.uint16))
    >>> volume = open_volume(Path(folder.name))
    >>> volume.shape, volume.names, int(read_slice(volume, 0)[1, 2])
    ((1, 2, 3), ('scan1.tif',), 7)
    >>> folder.cleanup()
    """
    file, inner = split_inner(path)
    ending = format_ending(file)
    name = FORMATS.get(ending)
    if opening.layout is not None and name != "raw":
        raise VolumeError(f"{path}: says its own size and type; --raw-shape and --raw-dtype are for raw files")
    if name is None:
        paged = as_volume(path, _pages(path))
        return paged if path.is_dir() else _numbered(paged, path)
    _check_there(file)
    module = import_module(f"tomoseg.volume.{name}")
    volume: Volume
    if name == "raw":
        volume = module.open_file(file, opening.layout)
    elif name in ("ome_zarr", "hdf5"):
        volume = module.open_file(file, inner, empty_chunks=opening.empty_chunks)
    else:
        volume = module.open_file(file, inner)
    return _numbered(volume, file)


def _numbered(volume: Volume, file: Path) -> Volume:
    """Return a volume whose slices are named by the numbers that were noted when it was written, if there are any."""
    numbers = noted_numbers(file)
    if numbers is None or len(numbers) != volume.shape[0]:
        return volume  # of another part of the store, or of a file that has taken this one's place
    if isinstance(volume, PagedVolume):
        pages = zip(numbers, volume.pages, strict=True)
        return replace(volume, pages=tuple(replace(page, name=f"{file.name}[{z}]") for z, page in pages))
    return replace(volume, numbers=numbers) if isinstance(volume, LazyVolume) else volume


def open_pictures(path: Path, *, opening: Opening = AS_IT_IS) -> Pictures:
    """Open label pictures: as `open_volume`, but colours and palettes are allowed.

    Parameters
    ----------
    path
        As of `open_volume`.
    opening
        What the file does not say.

    Raises
    ------
    VolumeError
        As `open_volume`, and if colours have other than 8 bits a channel.
    """
    if format_ending(split_inner(path)[0]) not in FORMATS:
        return as_pictures(path, _pages(path))
    volume = open_volume(path, opening=opening)
    pages = (
        Page(name, volume.shape[1:], volume.dtype, 1, partial(read_slice, volume, z), volume.voxel_size_um)
        for z, name in enumerate(volume.names)
    )
    return as_pictures(path, tuple(pages))


def split_inner(path: Path) -> tuple[Path, str | None]:
    """Split `scan.h5:/entry/data` into the file and what lies inside it, None where nothing is named.

    A Zarr store is a folder on disk, and so what lies in it may be named as a file browser does.

    Examples
    --------
    >>> split_inner(Path("scan.h5:/entry/data"))[1], split_inner(Path("a:b.tif"))[1]
    ('/entry/data', None)
    >>> split_inner(Path("out.zarr/uncertainty"))[1], split_inner(Path("a.zarr/b.zarr"))[1]
    ('uncertainty', None)
    """
    found = re.fullmatch(r"(.+?\.(?:h5|hdf5|hdf|nxs|nx|zarr)):(/?.+)", str(path), re.IGNORECASE)
    found = found or re.fullmatch(r"(.+\.zarr)[/\\](?!\.\.)(.+(?<!\.zarr))", str(path), re.IGNORECASE)
    return (Path(found[1]), found[2]) if found else (path, None)


def format_ending(path: Path) -> str:
    """Return the ending by which a format is known, in lower case; `.nii.gz` is one.

    Examples
    --------
    >>> format_ending(Path("brain.NII.gz")), format_ending(Path("a.b.tif"))
    ('.nii.gz', '.tif')
    """
    return ".nii.gz" if path.name.lower().endswith(".nii.gz") else path.suffix.lower()


def _check_there(path: Path) -> None:
    with reading(path):
        path.stat()


def _pages(path: Path) -> tuple[Page, ...]:
    if path.suffix == PARTIAL:
        raise VolumeError(f"{path}: is an output that was never finished; run what wrote it again")
    with reading(path):
        is_folder = path.is_dir()
        path.stat()
    return folder_pages(path, file_pages=_file_pages) if is_folder else _file_pages(path)


def _file_pages(path: Path) -> tuple[Page, ...]:
    if path.suffix.lower() not in ENDINGS:
        raise VolumeError(
            f"{path}: the ending {path.suffix or '(none)'} is not read; {' '.join((*ENDINGS, *FORMATS))} are, "
            "and folders of slices"
        )
    return png_pages(path) if path.suffix.lower() == ".png" else tiff_pages(path)
