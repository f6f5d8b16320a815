"""A picture in a file, described but not yet read, and the volumes and label pictures made of such pages."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped, UInt8

from tomoseg.errors import InputError, VolumeError
from tomoseg.volume.base import Grey, Region

ENDINGS = (".tif", ".tiff", ".png")
"""Endings of the files that are read, in lower case."""

READABLE = {np.dtype(t) for t in ("u1", "i1", "u2", "i2", "u4", "i4", "f2", "f4", "f8")}
"""Types of grey values that are read, in the machine's byte order."""

_LISTED = 3


@dataclass(frozen=True)
class Page:
    """One two-dimensional picture of a file.

    Attributes
    ----------
    name
        File name, or `stack.tif[17]` for the page 17, counted from 0.
    shape
        Pixels along (y, x).
    dtype
        Type of what `load` returns, in the machine's byte order.
    channels
        1 for grey values, 3 for RGB; other numbers are described but not read.
    load
        Reads the pixels, (y, x) or (y, x, 3).
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres; None where the file does not say.
    """

    name: str
    shape: tuple[int, int]
    dtype: np.dtype[Any]
    channels: int
    load: Callable[[], np.ndarray]
    voxel_size_um: tuple[float, float, float] | None = None


@dataclass(frozen=True)
class PagedVolume:
    """A volume whose slices are pages of files; `read` opens the pages that it needs and no other."""

    path: Path
    pages: tuple[Page, ...]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels along (z, y, x)."""
        return len(self.pages), *self.pages[0].shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of the grey values."""
        return self.pages[0].dtype

    @property
    def voxel_size_um(self) -> tuple[float, float, float] | None:
        """Edge lengths of a voxel along (z, y, x) in micrometres, as the first page states them."""
        return self.pages[0].voxel_size_um

    @property
    def names(self) -> tuple[str, ...]:
        """One name a slice."""
        return tuple(page.name for page in self.pages)

    @property
    def reading_bytes(self) -> int:
        """Memory that a read takes beside its result: a page in whole, and once more while it is decoded."""
        _, height, width = self.shape
        return 2 * height * width * self.dtype.itemsize

    def read(self, region: Region) -> Grey:
        """Return the grey values of `region`, (z, y, x).

        Raises
        ------
        VolumeError
            If a page is damaged, holds NaN or infinite values in the region, or the region is not in the
            volume.
        """
        check_inside(region, self.shape, self.path)
        z, y, x = region.slices
        values = np.empty(region.shape, self.dtype)
        for target, page in zip(values, self.pages[z], strict=True):
            target[...] = page.load()[y, x]
            check_finite(target, f"{self.path}: slice {page.name}")
        return values


@dataclass(frozen=True)
class Pictures:
    """Label pictures: grey values, class indices or colours, read one at a time."""

    path: Path
    pages: tuple[Page, ...]

    def __len__(self) -> int:
        return len(self.pages)

    @property
    def shape(self) -> tuple[int, int, int]:
        """Number of pictures, and pixels along (y, x)."""
        return len(self.pages), *self.pages[0].shape

    @property
    def names(self) -> tuple[str, ...]:
        """One name a picture."""
        return tuple(page.name for page in self.pages)

    def read_picture(self, i: int) -> Shaped[np.ndarray, "y x"] | UInt8[np.ndarray, "y x 3"]:
        """Return the picture `i`: (y, x) grey values or indices, or (y, x, 3) colours of 8 bits.

        Raises
        ------
        VolumeError
            If the page is damaged, has a transparency that varies, or holds NaN or infinite values.
        """
        page = self.pages[i]
        values = page.load()
        check_finite(values, f"{self.path}: picture {page.name}")
        return values


def as_volume(path: Path, pages: Sequence[Page]) -> PagedVolume:
    """Return the `pages` of `path` as a volume.

    Raises
    ------
    VolumeError
        If a page has colours, a type that is no grey value, or a size or type unlike the others.
    """
    for page in pages:
        if page.channels != 1:
            raise VolumeError(
                f"{path}: {page.name} has {page.channels} channels; a tomogram has one grey value a pixel. "
                "Save it as grey; if these are the labels, the images come first"
            )
        check_type(page.dtype, f"{path}: {page.name}")
    _check_alike(path, pages)
    return PagedVolume(path, tuple(pages))


def as_pictures(path: Path, pages: Sequence[Page]) -> Pictures:
    """Return the `pages` of `path` as label pictures.

    Raises
    ------
    VolumeError
        If a page is neither grey nor RGB of 8 bits, or has a size or type unlike the others.
    """
    for page in pages:
        if page.channels not in (1, 3) or (page.channels == 3 and page.dtype != np.uint8):
            raise VolumeError(
                f"{path}: {page.name} has {page.channels} channels of {page.dtype}; label pictures are grey, "
                "palette, or RGB of 8 bits"
            )
        check_type(page.dtype, f"{path}: {page.name}")
    _check_alike(path, pages)
    return Pictures(path, tuple(pages))


@contextmanager
def reading(place: Path | str) -> Iterator[None]:
    """Turn whatever a decoder raises on a damaged file at `place` into a VolumeError of one line."""
    try:
        yield
    except (InputError, MemoryError):
        raise
    except FileNotFoundError as error:
        raise VolumeError(f"{place}: no such file or folder") from error
    except OSError as error:
        raise VolumeError(f"{place}: cannot be read: {error.strerror or error}") from error
    except Exception as error:  # decoders raise every kind: struct.error, KeyError, DeflateError, ...
        line = " ".join(str(error).split())
        raise VolumeError(f"{place}: damaged or truncated: {line or type(error).__name__}") from error


def without_alpha(
    values: Shaped[np.ndarray, "y x c"], *, place: str
) -> Shaped[np.ndarray, "y x"] | Shaped[np.ndarray, "y x 3"]:
    """Drop the last channel, a transparency that must be the same everywhere.

    Raises
    ------
    VolumeError
        If the transparency varies: what is under it is then not what the user sees.

    Examples
    --------
    >>> without_alpha(np.array([[[7, 255], [9, 255]]]), place="a.png")
    array([[7, 9]])
    """
    alpha = values[..., -1]
    if alpha.min() != alpha.max():
        raise VolumeError(f"{place}: its transparency varies from {alpha.min()} to {alpha.max()}; save it without")
    kept = values[..., :-1]
    return kept[..., 0] if kept.shape[-1] == 1 else np.ascontiguousarray(kept)


def is_grey_ramp(palette: Shaped[np.ndarray, "n 3"]) -> bool:
    """Return whether a palette of 8 bits shows each index as the grey of that value.

    Examples
    --------
    >>> ramp = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)
    >>> is_grey_ramp(ramp), is_grey_ramp(ramp[::-1])
    (True, False)
    """
    return bool((palette == np.arange(len(palette))[:, None]).all())


def _check_alike(path: Path, pages: Sequence[Page]) -> None:
    """Refuse pages that differ from most of the others, naming them."""
    kinds = [(page.shape, page.dtype, page.channels) for page in pages]
    usual = max(dict.fromkeys(kinds), key=kinds.count)
    odd = [page for page, kind in zip(pages, kinds, strict=True) if kind != usual]
    if not odd:
        return
    listed = ", ".join(f"{page.name} ({_kind(page)})" for page in odd[:_LISTED])
    more = f" and {len(odd) - _LISTED} more" if len(odd) > _LISTED else ""
    like = pages[kinds.index(usual)]
    raise VolumeError(f"{path}: {len(odd)} of {len(pages)} differ from the others' {_kind(like)}: {listed}{more}")


def _kind(page: Page) -> str:
    y, x = page.shape
    return f"{y} x {x} {'RGB ' if page.channels == 3 else ''}{page.dtype}"


def check_type(dtype: np.dtype[Any], place: str) -> None:
    """Refuse a type that holds no grey values.

    Raises
    ------
    VolumeError
        If `dtype` is not in `READABLE`; byte order does not count.
    """
    if dtype.newbyteorder("=") not in READABLE:
        raise VolumeError(f"{place} has values of type {dtype}; integers of 8, 16 or 32 bits and floats are read")


def check_inside(region: Region, shape: tuple[int, int, int], path: Path) -> None:
    """Refuse a region that reaches outside a volume of `shape`.

    Raises
    ------
    VolumeError
        If it does.
    """
    if region.z1 > shape[0] or region.y1 > shape[1] or region.x1 > shape[2]:
        raise VolumeError(f"{path}: {region} reaches outside the volume of shape {shape}")


def check_finite(values: np.ndarray, place: str) -> None:
    """Refuse NaN and infinite values.

    Raises
    ------
    VolumeError
        If `values` hold any; the message counts them and names the place.
    """
    if values.dtype.kind != "f":
        return
    bad = values.size - int(np.count_nonzero(np.isfinite(values)))
    if bad:
        raise VolumeError(f"{place} holds {bad} NaN or infinite values; replace them by grey values first")
