"""Open what the user names, whatever its format."""

from __future__ import annotations

from pathlib import Path

from tomoseg.errors import VolumeError
from tomoseg.volume.folder import folder_pages
from tomoseg.volume.page import ENDINGS, Page, PagedVolume, Pictures, as_pictures, as_volume, reading
from tomoseg.volume.png import png_pages
from tomoseg.volume.tiff import tiff_pages

PARTIAL = ".partial"
"""Ending of an output that is not finished."""


def open_volume(path: Path) -> PagedVolume:
    """Open a tomogram: a folder of slices, a TIFF stack, or a single picture.

    Only headers are read; grey values are read page by page when asked for.

    Parameters
    ----------
    path
        A folder of TIFF or PNG files, in the natural order of their names; or one TIFF (multi-page, BigTIFF,
        ImageJ, OME-TIFF) or PNG file.

    Raises
    ------
    VolumeError
        If `path` is missing, damaged, holds no picture, colours or several channels, or pictures of several
        sizes or types.

    Examples
    --------
    >>> import tempfile, numpy as np, tifffile
    >>> folder = tempfile.TemporaryDirectory()
    >>> tifffile.imwrite(Path(folder.name) / "scan1.tif", np.full((2, 3), 7, np.uint16))
    >>> volume = open_volume(Path(folder.name))
    >>> volume.shape, volume.names, int(volume.read_page(0)[1, 2])
    ((1, 2, 3), ('scan1.tif',), 7)
    >>> folder.cleanup()
    """
    return as_volume(path, _pages(path))


def open_pictures(path: Path) -> Pictures:
    """Open label pictures: as `open_volume`, but colours and palettes are allowed.

    Raises
    ------
    VolumeError
        As `open_volume`, and if colours have other than 8 bits a channel.
    """
    return as_pictures(path, _pages(path))


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
            f"{path}: the ending {path.suffix or '(none)'} is not read; {' '.join(ENDINGS)} are, and folders"
        )
    return png_pages(path) if path.suffix.lower() == ".png" else tiff_pages(path)
