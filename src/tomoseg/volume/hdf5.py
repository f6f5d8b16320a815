"""HDF5 and NeXus volumes: a data set by its path, or the only one that can be meant."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from jaxtyping import Shaped

from tomoseg.errors import VolumeError
from tomoseg.volume.base import Region
from tomoseg.volume.hdf5_stored import check_stored
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import READABLE, check_type, reading
from tomoseg.volume.sink import Content
from tomoseg.volume.voxel_size import VoxelSize, in_micrometres, micrometres_in

DATA_SET = "/entry/data/data"
"""Where the values are written, as NeXus has it."""

_CREATOR = "tomoseg"
_LISTED = 6
_CHUNK = (16, 128, 128)


def open_file(path: Path, inner: str | None, *, empty_chunks: bool = False) -> LazyVolume:
    """Open a data set of an HDF5 file lazily.

    Parameters
    ----------
    path
        The file.
    inner
        Path of a data set, or of a NeXus group whose signal it is. Without it: the file's default signal, else
        the only data set of three axes.
    empty_chunks
        Whether what was never written holds the fill value; else it is an error.

    Raises
    ------
    VolumeError
        If there is no such data set, or several could be meant; if it has other than three axes longer than one
        entry, values that are no grey values, or some that are missing.
    """
    with reading(path), h5py.File(path, "r") as file:
        found = _named(file, inner, path) if inner else _default(file) or _only(file, path)
        check_type(found.dtype, f"{path}:{found.name}")
        files = check_stored(found, f"{path}:{found.name}", empty_chunks=empty_chunks)
        keep = _spatial(found, path)
        shape = tuple(found.shape[axis] for axis in keep)
        depth = shape[0] if len(shape) == 3 else 1
        size = _voxel_size(found, keep)
        chunk_depth = found.chunks[keep[0]] if found.chunks and len(keep) == 3 else 1
        file_name, name, dtype = Path(found.file.filename), found.name, found.dtype  # a link may lead to another file
    return LazyVolume(
        path if inner is None else Path(f"{path}:{name}"),
        (depth, shape[-2], shape[-1]),
        dtype.newbyteorder("="),
        partial(_load, file_name, name, tuple(keep)),
        size,
        chunk_depth=chunk_depth,
        others=tuple(file for file in files if file != path),
    )


def _named(file: h5py.File, inner: str, path: Path) -> h5py.Dataset:
    found = file.get(inner)
    if isinstance(found, h5py.Group):
        found = _signal(found)
    if not isinstance(found, h5py.Dataset):
        raise VolumeError(f"{path}: holds no data set {inner}; {_said(file)}")
    return found


def _default(file: h5py.File) -> h5py.Dataset | None:
    """Follow the attributes `default` and `signal` of NeXus, https://manual.nexusformat.org/datarules.html."""
    node: Any = file
    for _ in range(4):
        if isinstance(node, h5py.Group) and "default" in node.attrs:
            node = node.get(_text(node.attrs["default"]))
    found = _signal(node) if isinstance(node, h5py.Group) else None
    return found if found is not None and found.ndim >= 2 else None


def _signal(group: h5py.Group) -> h5py.Dataset | None:
    name = _text(group.attrs["signal"]) if "signal" in group.attrs else "data"
    found = group.get(name)
    return found if isinstance(found, h5py.Dataset) and found.ndim >= 2 else None


def _only(file: h5py.File, path: Path) -> h5py.Dataset:
    sets = [found for found in _sets(file) if found.ndim >= 3] or [found for found in _sets(file) if found.ndim == 2]
    usual = [found for found in sets if found.name == "/exchange/data"]  # Data Exchange, DOI 10.1107/S160057751401604X
    if len(usual or sets) != 1:
        example = f", like {path}:{sets[0].name}" if sets else ""
        raise VolumeError(f"{path}: {len(sets)} data sets may be the volume; {_said(file)}; name one{example}")
    return (usual or sets)[0]


def _said(file: h5py.File) -> str:
    listed = [f"{found.name} ({' x '.join(map(str, found.shape))} {found.dtype})" for found in _sets(file)]
    more = f" and {len(listed) - _LISTED} more" if len(listed) > _LISTED else ""
    return f"it holds {', '.join(listed[:_LISTED])}{more}" if listed else "it holds no array of numbers"


def _sets(file: h5py.File) -> list[h5py.Dataset]:
    found: list[h5py.Dataset] = []

    def visit(name: str, node: Any) -> None:
        if isinstance(node, h5py.Dataset) and node.ndim >= 2 and node.dtype.newbyteorder("=") in READABLE:
            found.append(node)

    file.visititems(visit)
    return found


def _spatial(found: h5py.Dataset, path: Path) -> list[int]:
    """Return the axes z, y, x: what is left without a channel at the end and axes of one entry before them.

    An axis of one entry at the end is a channel, as ilastik writes it; tomoseg writes none.
    """
    axes = list(range(found.ndim))
    while len(axes) > 2 and found.shape[axes[-1]] == 1 and not _is_ours(found):
        axes.pop()
    while len(axes) > 3 and found.shape[axes[0]] == 1:
        axes.pop(0)
    if len(axes) not in (2, 3):
        sizes = " x ".join(map(str, found.shape))
        raise VolumeError(f"{path}:{found.name}: has the axes {sizes}; a tomogram has three, z y x")
    return axes


def _is_ours(found: h5py.Dataset) -> bool:
    return bool(found.file.attrs.get("creator") == _CREATOR)


def _voxel_size(found: h5py.Dataset, keep: list[int]) -> VoxelSize | None:
    """Return the voxel size that Fiji and ilastik note (`element_size_um`), or NeXus axes with units."""
    if "element_size_um" in found.attrs:
        edges = [float(edge) for edge in np.atleast_1d(found.attrs["element_size_um"])]
        return in_micrometres(edges, "um")
    steps = list(_axis_steps(found))
    return in_micrometres([steps[axis] for axis in keep], "um") if len(steps) == found.ndim else None


def _axis_steps(found: h5py.Dataset) -> Iterator[float]:
    """Yield the step along each axis of a NeXus signal in micrometres, 0 where it is not known."""
    names = found.parent.attrs.get("axes", [])
    for name in map(_text, np.atleast_1d(names)):
        axis = found.parent.get(name) if name != "." else None
        yield _step(axis) if isinstance(axis, h5py.Dataset) and axis.ndim == 1 and axis.size > 1 else 0.0


def _step(axis: h5py.Dataset) -> float:
    factor = micrometres_in(_text(axis.attrs.get("units", "")))
    return 0.0 if factor is None else abs(float(axis[1] - axis[0])) * factor


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)


def _load(path: Path, name: str, keep: tuple[int, ...], region: Region) -> Shaped[np.ndarray, "z y x"]:
    with h5py.File(path, "r") as file:
        found = file[name]
        index: list[Any] = [0] * found.ndim
        for axis, part in zip(keep, region.slices[-len(keep) :], strict=True):
            index[axis] = part
        return np.asarray(found[tuple(index)]).reshape(region.shape)


class Hdf5Sink:
    """A NeXus file with one data set, in chunks, each written once; losslessly compressed."""

    def __init__(self, path: Path, content: Content) -> None:
        chunks = tuple(min(edge, size) for edge, size in zip(_CHUNK, content.shape, strict=True))
        self._file = h5py.File(path, "w")
        self._set = self._file.create_dataset(
            DATA_SET, content.shape, content.dtype, chunks=chunks, compression="gzip", compression_opts=1, shuffle=True
        )
        self._file.attrs["default"], self._file["entry"].attrs["default"] = "entry", "data"
        self._file["entry"].attrs["NX_class"], self._file["entry/data"].attrs["NX_class"] = "NXentry", "NXdata"
        self._file["entry/data"].attrs["signal"] = "data"
        self._file.attrs["creator"] = _CREATOR
        if content.voxel_size_um is not None:
            self._set.attrs["element_size_um"] = content.voxel_size_um
        self._slab = np.empty((chunks[0], *content.shape[1:]), content.dtype)
        self._depth, self._z = content.shape[0], 0

    def write(self, values: Shaped[np.ndarray, "y x"]) -> None:
        """Write the next slice, (y, x)."""
        thickness = len(self._slab)
        self._slab[self._z % thickness] = values
        self._z += 1
        if self._z % thickness == 0 or self._z == self._depth:
            start = (self._z - 1) // thickness * thickness
            self._set[start : self._z] = self._slab[: self._z - start]

    def close(self) -> None:
        """End the file."""
        self._file.close()


def open_sink(path: Path, content: Content) -> Hdf5Sink:
    """Return the sink of an HDF5 file."""
    return Hdf5Sink(path, content)
