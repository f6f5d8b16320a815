"""Values that lie in a file one after the other, x fastest: plain, or as one compressed stream."""

from __future__ import annotations

import threading
import zlib
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Shaped

from tomoseg.errors import VolumeError
from tomoseg.volume.base import Region
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import check_type

MOST_DECODED = 500_000_000
"""Bytes of a compressed volume up to which it is decoded once and kept."""


@dataclass(frozen=True)
class Layout:
    """Where and how the values of a volume lie.

    Attributes
    ----------
    shape
        Voxels along (z, y, x).
    dtype
        Type of the values with its byte order.
    offset
        Bytes before the first value.
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres; None where not known.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    offset: int = 0
    voxel_size_um: tuple[float, float, float] | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the values."""
        z, y, x = self.shape
        return z * y * x * self.dtype.itemsize


def at_the_end(layout: Layout, data: Path) -> Layout:
    """Return the layout of values that are the last of the file `data`, whatever is before them."""
    return replace(layout, offset=max(0, data.stat().st_size - layout.nbytes))


def flat_volume(path: Path, data: Path, layout: Layout, *, others: tuple[Path, ...] = ()) -> LazyVolume:
    """Return the volume whose values lie plainly in the file `data`; `path` is what the user named.

    `others` describe it.

    Raises
    ------
    VolumeError
        If the file has fewer bytes than it should, or the type holds no grey values.
    """
    _check_layout(layout, path)
    found = data.stat().st_size
    if found < layout.offset + layout.nbytes:
        z, y, x = layout.shape
        header = f" after a header of {layout.offset}" if layout.offset else ""
        raise VolumeError(
            f"{data}: is too short: {found:,} bytes, but {z} x {y} x {x} values of {layout.dtype.name} take "
            f"{layout.nbytes:,}{header}; copy it again, or correct its size and type"
        )

    def load(region: Region) -> Shaped[np.ndarray, "z y x"]:
        values = np.memmap(data, layout.dtype, "r", layout.offset, layout.shape)
        return np.array(values[region.slices])

    native = layout.dtype.newbyteorder("=")
    return LazyVolume(path, layout.shape, native, load, layout.voxel_size_um, others=_besides(path, (data, *others)))


def _besides(path: Path, files: tuple[Path, ...]) -> tuple[Path, ...]:
    return tuple(file for file in files if file != path)


def _check_layout(layout: Layout, path: Path) -> None:
    check_type(layout.dtype, str(path))
    if min(layout.shape) < 1 or layout.offset < 0:
        z, y, x = layout.shape
        raise VolumeError(f"{path}: says that {z} x {y} x {x} values begin at byte {layout.offset}; correct that")


@runtime_checkable
class Readable(Protocol):
    """What a decompressor gives."""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` decoded bytes, none at the end."""
        ...


def stream_volume(path: Path, data: Path, layout: Layout, open_stream: Callable[[], Readable]) -> LazyVolume:
    """Return a volume whose values are one compressed stream: a small one is decoded once, a large one read in order.

    Parameters
    ----------
    path
        What the user named.
    data
        The file that holds the stream.
    layout
        Shape, type and the decoded bytes before the first value.
    open_stream
        Opens the decompressor at the start of the stream.

    Raises
    ------
    VolumeError
        If the type holds no grey values; when read: if the stream is cut short, or a large one is asked for slices
        that have gone by.
    """
    _check_layout(layout, path)
    reader = _InOrder(path, layout, open_stream)
    large = layout.nbytes > MOST_DECODED
    load = reader.load if large else _Decoded(reader).load
    return LazyVolume(
        path,
        layout.shape,
        layout.dtype.newbyteorder("="),
        load,
        layout.voxel_size_um,
        in_order_only=large,
        kept_bytes=0 if large else layout.nbytes,
        others=_besides(path, (data,)),
    )


class _InOrder:
    """Decodes slice after slice; what has gone by is gone."""

    def __init__(self, path: Path, layout: Layout, open_stream: Callable[[], Readable]) -> None:
        self._path, self._layout, self._open = path, layout, open_stream
        self._stream: Readable | None = None
        self._z = 0
        self._lock = threading.Lock()

    def load(self, region: Region) -> Shaped[np.ndarray, "z y x"]:
        with self._lock:
            if self._stream is None:
                self._stream = self._open()
                self._take(self._layout.offset)
            if region.z0 < self._z:
                raise VolumeError(
                    f"{self._path}: is one compressed stream, so that its slices can be read in their order only; "
                    f"convert it first: tomoseg convert {self._path} {self._path.name.partition('.')[0]}.zarr"
                )
            _, height, width = self._layout.shape
            size = height * width * self._layout.dtype.itemsize
            while self._z < region.z0:
                self._take(size)
                self._z += 1
            values = np.empty(region.shape, self._layout.dtype)
            for page in values:
                whole = np.frombuffer(self._take(size), self._layout.dtype).reshape(height, width)
                page[...] = whole[region.slices[1:]]
                self._z += 1
            return values

    def _take(self, size: int) -> bytes:
        """Return the next decoded bytes."""
        assert self._stream is not None
        parts: list[bytes] = []
        while size > 0:
            part = self._stream.read(size)
            if not part:
                raise VolumeError(f"{self._path}: its compressed values end in slice {self._z}; copy it again")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


class _Decoded:
    """Decodes all when first asked, and keeps it."""

    def __init__(self, reader: _InOrder) -> None:
        self._reader = reader
        self._lock = threading.Lock()
        self._values: Shaped[np.ndarray, "z y x"] | None = None

    def load(self, region: Region) -> Shaped[np.ndarray, "z y x"]:
        with self._lock:
            if self._values is None:
                self._values = self._reader.load(Region.whole(self._reader._layout.shape))
        return self._values[region.slices].copy()


class Inflate:
    """A zlib stream in a file, decoded as it is read."""

    def __init__(self, path: Path, offset: int) -> None:
        self._file: BinaryIO = path.open("rb")
        self._file.seek(offset)
        self._decoder = zlib.decompressobj()
        self._ready = b""

    def read(self, size: int, /) -> bytes:
        """Return at most `size` decoded bytes, none at the end."""
        while not self._ready:
            given = self._decoder.unconsumed_tail or self._file.read(1 << 20)
            if not given:
                return b""
            self._ready = self._decoder.decompress(given, max(size, 1 << 20))
        part, self._ready = self._ready[:size], self._ready[size:]
        return part
