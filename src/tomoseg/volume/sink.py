"""What a format gives to be written: a sink that takes the slices of a volume in rising z."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Literal, Protocol, cast, runtime_checkable

import numpy as np
from jaxtyping import Shaped

OmeZarrVersion = Literal["0.4", "0.5"]


@dataclass(frozen=True)
class Content:
    """What will be written.

    Attributes
    ----------
    shape
        Voxels along (z, y, x).
    dtype
        Type of the values.
    names
        One name a slice; needed by folders of slices only.
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres; None where not known.
    ome_zarr
        Version of the standard, for that format: 0.5 is sharded, 0.4 has a file a chunk.
    """

    shape: tuple[int, int, int]
    dtype: np.dtype[Any]
    names: tuple[str, ...] = ()
    voxel_size_um: tuple[float, float, float] | None = None
    ome_zarr: OmeZarrVersion = "0.5"

    @property
    def nbytes(self) -> int:
        """Size of the values in bytes."""
        z, y, x = self.shape
        return z * y * x * self.dtype.itemsize


@runtime_checkable
class Sink(Protocol):
    """Takes slices; a format's `open_sink(path, content)` returns one for a path that does not exist yet."""

    def write(self, values: Shaped[np.ndarray, "y x"]) -> None:
        """Write the next slice, (y, x), in the announced type."""
        ...

    def close(self) -> None:
        """End the file; called once, after the last slice or after an error."""
        ...


class StreamSink:
    """A header followed by the values, x fastest, in the machine's little-endian order; gzipped if asked."""

    def __init__(self, path: Path, header: bytes = b"", *, compress: bool = False) -> None:
        opened = gzip.GzipFile(path, "wb", compresslevel=4, mtime=0) if compress else path.open("wb")
        self._file = cast(BinaryIO, opened)
        self._file.write(header)

    def write(self, values: Shaped[np.ndarray, "y x"]) -> None:
        """Write the next slice, (y, x)."""
        self._file.write(np.ascontiguousarray(values, values.dtype.newbyteorder("<")).data)

    def close(self) -> None:
        """End the file."""
        self._file.close()
