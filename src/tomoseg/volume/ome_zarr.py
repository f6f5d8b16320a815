"""OME-Zarr 0.4 and 0.5, and plain Zarr arrays: opened at full resolution, read chunk by chunk.

The standard is https://ngff.openmicroscopy.org (0.5: DOI 10.5281/zenodo.14246254); a missing chunk is legal in it
and stands for the fill value, but it is also what a lost file looks like, so it is refused unless asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
import zarr
from jaxtyping import Shaped

from tomoseg.errors import InputError, VolumeError
from tomoseg.volume.base import Region
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import check_type, reading
from tomoseg.volume.state import read_state
from tomoseg.volume.voxel_size import in_micrometres, micrometres_in

_LISTED = 6
_CODECS = {
    "bytes", "transpose", "sharding_indexed", "blosc", "zlib", "gzip", "bz2", "lzma", "zstd", "lz4", "shuffle", "delta",
    "fixedscaleoffset", "quantize", "bitround", "astype", "packbits", "crc32", "crc32c", "adler32", "fletcher32",
    "jenkins_lookup3", "pcodec", "zfpy",
}  # fmt: skip
"""Codecs that only turn bytes into numbers; others, like `pickle`, may run what the file says."""


@dataclass(frozen=True)
class _Found:
    """An array in a store, its axes' names, and the voxel size along them, 0 where not known."""

    array: zarr.Array[Any]
    axes: tuple[str, ...]
    scale_um: tuple[float, ...]


def open_file(path: Path, inner: str | None, *, empty_chunks: bool = False) -> LazyVolume:
    """Open a Zarr store lazily.

    Parameters
    ----------
    path
        Folder of the store.
    inner
        Path of a group or array inside it; the root where None.
    empty_chunks
        Whether chunks that are missing hold the fill value; else reading them is an error.

    Raises
    ------
    VolumeError
        If there is no Zarr, none or several volumes, an axis beside z, y, x with more than one entry, values
        that are no grey values, or the store is an output that was never finished.
    """
    place = f"{path}:{inner}" if inner else str(path)
    with reading(place):
        found = _full_resolution(_open_node(path, inner, place), place)
        spatial = _spatial_axes(found, place)
        check_type(found.array.dtype, place)
        _check_codecs(found.array, place)
    shape = tuple(found.array.shape[axis] for axis in spatial)
    depth = shape[0] if len(shape) == 3 else 1
    edges = [found.scale_um[axis] for axis in spatial]
    return LazyVolume(
        Path(place),
        (depth, shape[-2], shape[-1]),
        found.array.dtype.newbyteorder("="),
        partial(_load, found.array, spatial=spatial, path=path, empty_chunks=empty_chunks),
        in_micrometres(edges if len(edges) == 3 else [edges[-1], *edges], "um"),
        chunk_depth=found.array.chunks[spatial[0]] if len(spatial) == 3 else 1,
    )


def _open_node(path: Path, inner: str | None, place: str) -> zarr.Array[Any] | zarr.Group:
    parts = _parts((inner or "").strip("/"), place)
    state = read_state(path)
    if state is not None and not state.get("finished", True):
        raise VolumeError(
            f"{path}: is not finished ({state.get('verb', 'its verb')} was interrupted); run the same command again, "
            "and it goes on where it was"
        )
    try:
        return zarr.open(str(path), path="/".join(parts), mode="r")
    except FileNotFoundError as error:
        raise VolumeError(f"{place}: holds no Zarr group or array{_children(path, parts)}") from error


def _parts(inside: Any, place: str) -> tuple[str, ...]:
    """Split a path inside a store."""
    inner = PurePosixPath(str(inside).replace("\\", "/"))
    if inner.is_absolute() or ".." in inner.parts:
        raise VolumeError(f"{place}: the path {inside!s} leads out of the store")
    return inner.parts


def _children(path: Path, parts: Sequence[str]) -> str:
    """Say which groups and arrays there are instead of a missing one."""
    if not parts:
        return ""
    try:
        names = sorted(zarr.open_group(str(path), mode="r").keys())
    except (OSError, ValueError):
        return ""
    return f"; the root holds {', '.join(names[:_LISTED])}" if names else ""


def _full_resolution(node: zarr.Array[Any] | zarr.Group, place: str) -> _Found:
    if isinstance(node, zarr.Array):
        axes = ("t", "c", "z", "y", "x")[-node.ndim :] if node.ndim <= 5 else ()
        return _Found(node, axes, (0.0,) * node.ndim)
    attributes: dict[str, Any] = dict(node.attrs)
    ome = attributes.get("ome", attributes)
    if "plate" in ome:
        raise VolumeError(f"{place}: is a plate of many images; name one of them, like {place}:/A/1/0")
    if "multiscales" in ome:
        return _of_multiscale(node, ome["multiscales"], place)
    if "bioformats2raw.layout" in ome and "0" in node:
        return _full_resolution(node["0"], f"{place}:/0")
    return _only_array(node, place)


def _of_multiscale(node: zarr.Group, multiscales: Any, place: str) -> _Found:
    """Return the first, largest array of a multiscale image."""
    try:
        image = multiscales[0]
        dataset = image["datasets"][0]
        axes = [axis if isinstance(axis, dict) else {"name": axis} for axis in image["axes"]]
        names = tuple(str(axis["name"]) for axis in axes)
        units = [axis.get("unit") for axis in axes]
        array = node["/".join(_parts(dataset["path"], place))]
    except (KeyError, IndexError, TypeError) as error:
        raise VolumeError(f"{place}: its multiscales metadata is damaged: {error} is missing") from error
    if not isinstance(array, zarr.Array) or array.ndim != len(names):
        raise VolumeError(f"{place}: {dataset['path']} is no array of the {len(names)} axes {' '.join(names)}")
    scale = _scale([dataset, image], names, place)
    sizes = (s * (micrometres_in(unit) or 0.0) for s, unit in zip(scale, units, strict=True))
    return _Found(array, names, tuple(sizes))


def _scale(levels: Sequence[Mapping[str, Any]], axes: Sequence[str], place: str) -> list[float]:
    """Return the product of what scales the axes; zeros where it lies in an array of its own, which is not read."""
    scale = [1.0] * len(axes)
    for given in (each for level in levels for each in level.get("coordinateTransformations") or ()):
        if given["type"] != "scale":
            continue
        if "scale" not in given:
            return [0.0] * len(axes)
        if len(given["scale"]) != len(axes):
            raise VolumeError(
                f"{place}: its scale {given['scale']} is not one number for each of the axes {' '.join(axes)}; correct "
                "it, or name the array inside the store, which is then read without a voxel size"
            )
        scale = [one * float(other) for one, other in zip(scale, given["scale"], strict=True)]
    return scale


def _check_codecs(array: zarr.Array[Any], place: str) -> None:
    """Refuse an array with a codec that is not known to be harmless; nothing is decoded before."""
    described: dict[str, Any] = array.metadata.to_dict()
    names = (name for key in ("codecs", "filters", "compressor") for name in _codec_names(described.get(key)))
    unknown = sorted({name for name in names if name.removeprefix("numcodecs.") not in _CODECS})
    if unknown:
        raise VolumeError(
            f"{place}: is encoded by {', '.join(unknown)}, which is not read; store it with zstd or blosc"
        )


def _codec_names(described: Any) -> Iterator[str]:
    """Yield the names of codecs as Zarr 2 (`id`) and 3 (`name`) describe them, and of those inside a shard."""
    if isinstance(described, Mapping):
        yield str(described.get("id", described.get("name")))
        inner = described.get("configuration") or {}
        yield from _codec_names([inner.get("codecs"), inner.get("index_codecs")])
    elif isinstance(described, list | tuple):
        for each in described:
            yield from _codec_names(each)


def _only_array(node: zarr.Group, place: str) -> _Found:
    arrays = {f"/{name}": array for name, array in _arrays(node) if array.ndim >= 2}
    if len(arrays) != 1:
        listed = ", ".join(f"{name} {array.shape}" for name, array in list(arrays.items())[:_LISTED])
        raise VolumeError(
            f"{place}: holds {len(arrays)} arrays and no OME-Zarr image"
            + (f"; name one of {listed}, like {place}:{next(iter(arrays))}" if arrays else "")
        )
    return _full_resolution(next(iter(arrays.values())), place)


def _arrays(node: zarr.Group) -> Iterator[tuple[str, zarr.Array[Any]]]:
    for name, member in sorted(node.members(max_depth=4)):
        if isinstance(member, zarr.Array):
            yield name, member


def _spatial_axes(found: _Found, place: str) -> list[int]:
    """Return the axes y, x, and z where there is one; others may have one entry only."""
    if found.axes[-2:] != ("y", "x") or sorted(set(found.axes)) != sorted(found.axes):
        raise VolumeError(f"{place}: has the axes {' '.join(found.axes) or found.array.ndim}; z y x are read")
    others = [name for name, n in zip(found.axes, found.array.shape, strict=True) if name not in "zyx" and n != 1]
    if others:
        sizes = " x ".join(map(str, found.array.shape))
        raise VolumeError(
            f"{place}: has more than one entry along {' and '.join(others)} ({' '.join(found.axes)}: {sizes}); "
            "a tomogram has one grey value a voxel"
        )
    return [found.axes.index(name) for name in "zyx" if name in found.axes]


def _load(
    array: zarr.Array[Any], region: Region, *, spatial: Sequence[int], path: Path, empty_chunks: bool
) -> Shaped[np.ndarray, "z y x"]:
    """Read a region file by file, so that a missing or damaged one can be named."""
    start = [0] * array.ndim
    stop = [1] * array.ndim
    for axis, part in zip(spatial, region.slices[-len(spatial) :], strict=True):
        start[axis], stop[axis] = part.start, part.stop
    out = np.empty([b - a for a, b in zip(start, stop, strict=True)], array.dtype.newbyteorder("="))
    for index, box in _files(array, start, stop):
        key = array.metadata.encode_chunk_key(index)
        file = path / array.path / key
        if not empty_chunks and not file.exists():
            raise VolumeError(
                f"{path}: the chunk {array.path}/{key} is missing, or was left out for being empty; copy the volume "
                "again, or, if it is meant to be empty, say --empty-chunks"
            )
        there = tuple(slice(part.start - a, part.stop - a) for part, a in zip(box, start, strict=True))
        try:
            out[there] = array[box]
        except (InputError, MemoryError):
            raise
        except Exception as error:  # decoders raise every kind
            line = " ".join(str(error).split())
            raise VolumeError(
                f"{path}: the chunk {array.path}/{key} is damaged: {line or type(error).__name__}"
            ) from error
    return out.reshape(region.shape)


def _files(
    array: zarr.Array[Any], start: Sequence[int], stop: Sequence[int]
) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
    """Yield the index of each chunk file (shard, where there are any) of a box, and its part of the box."""
    edges = array.shards or array.chunks
    counts = [range(a // n, -(-b // n)) for a, b, n in zip(start, stop, edges, strict=True)]
    for index in np.ndindex(*(len(count) for count in counts)):
        place = tuple(count[i] for count, i in zip(counts, index, strict=True))
        yield (
            place,
            tuple(
                slice(max(a, i * n), min(b, (i + 1) * n)) for i, n, a, b in zip(place, edges, start, stop, strict=True)
            ),
        )
