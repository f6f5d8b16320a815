"""OME-Zarr images and label images with their pyramids, written shard by shard.

A shard is one file; in version 0.4, which has none, so is a chunk. Whoever writes must own whole shards; all else may
then be done in any order and by any number of processes. The standard is https://ngff.openmicroscopy.org/0.5 (DOI
10.5281/zenodo.14246254), and 0.4 in its place.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import zarr
from jaxtyping import Shaped
from zarr.codecs import Crc32cCodec, ZstdCodec

from tomoseg.volume.base import Region
from tomoseg.volume.pyramid import Shape, half_by_mean, half_by_mode, level_shapes
from tomoseg.volume.sink import Content, OmeZarrVersion
from tomoseg.volume.state import NOTES, STATE
from tomoseg.whole_file import to_disk

CHUNK: Shape = (16, 128, 128)
"""Voxels of a chunk, the least that is read; a shard is whole chunks."""

_SHARD_EDGE = 1024
_ZSTD_LEVEL = 1
_PYRAMID_THREADS = 2
_PART: Shape = (16, 256, 256)  # voxels of a smaller level that are made at a time


@dataclass(frozen=True)
class ImageSpec:
    """An image or label image to be written.

    Attributes
    ----------
    name
        What viewers show.
    shape
        Voxels along (z, y, x).
    dtype
        Type of the values.
    shard
        Voxels of a shard along (z, y, x), whole chunks.
    voxel_size_um
        Edge lengths of a voxel along (z, y, x) in micrometres; None where not known.
    channels
        Names along a leading axis c; without any there is no such axis.
    classes
        For a label image: value -> name.
    chunk
        Voxels of a chunk along (z, y, x).
    pyramid
        Whether there are smaller levels.
    version
        Of the standard.
    """

    name: str
    shape: Shape
    dtype: np.dtype[Any]
    shard: Shape
    voxel_size_um: tuple[float, float, float] | None = None
    channels: tuple[str, ...] = ()
    classes: Mapping[int, str] | None = None
    chunk: Shape = CHUNK
    pyramid: bool = True
    version: OmeZarrVersion = "0.5"

    @property
    def levels(self) -> tuple[Shape, ...]:
        """Shape (z, y, x) of each level of the pyramid."""
        return level_shapes(self.shape) if self.pyramid else (self.shape,)


def whole_chunks(shape: Shape, *, shard: Shape, chunk: Shape = CHUNK) -> Shape:
    """Return the shard edges for a volume of `shape`: as asked, whole chunks, no longer than the volume needs.

    Examples
    --------
    >>> whole_chunks((500, 501, 501), shard=(20, 1024, 1024))
    (32, 512, 512)
    """
    z, y, x = (
        -(-min(size, asked) // edge) * edge
        for size, asked, edge in zip(shape, shard, chunk_of(shape, chunk), strict=True)
    )
    return z, y, x


def chunk_of(shape: Shape, chunk: Shape = CHUNK) -> Shape:
    """Return the chunk's edges for a volume of `shape`, no longer than the volume.

    Examples
    --------
    >>> chunk_of((8, 501, 501))
    (8, 128, 128)
    """
    z, y, x = (min(edge, size) for edge, size in zip(chunk, shape, strict=True))
    return z, y, x


def create_image(folder: Path, spec: ImageSpec, *, state: Mapping[str, Any] | None = None) -> None:
    """Write an image's metadata and its arrays' for all levels; the values come later, shard by shard.

    Parameters
    ----------
    folder
        The group's folder, which may exist; an array that is there is replaced.
    spec
        The image.
    state
        Goes into the group's attributes under `STATE`, and there is a group `NOTES` then.
    """
    attributes = _metadata(spec)
    group = zarr.open_group(str(folder), mode="a", zarr_format=2 if spec.version == "0.4" else 3)
    for level, shape in enumerate(spec.levels):
        lead = _lead(spec)
        group.create_array(
            str(level),
            shape=(*lead, *shape),
            dtype=spec.dtype,
            chunks=(*(1 for _ in lead), *chunk_of(shape, spec.chunk)),
            fill_value=0,
            overwrite=True,
            config={"write_empty_chunks": True},
            **_storage(spec, shape),
        )
    if state is not None:
        group.require_group(NOTES)
        attributes[STATE] = dict(state)
    group.attrs.update(attributes)


def _storage(spec: ImageSpec, shape: Shape) -> dict[str, Any]:
    """Return how a level is stored: the codecs that readers of the version know, and shards where there are any."""
    if spec.version == "0.4":
        return {
            "compressors": [{"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1}],
            "chunk_key_encoding": {"name": "v2", "separator": "/"},
        }
    lead = _lead(spec)
    return {
        "shards": (*(1 for _ in lead), *whole_chunks(shape, shard=spec.shard, chunk=spec.chunk)),
        "compressors": [ZstdCodec(level=_ZSTD_LEVEL), Crc32cCodec()],
        "dimension_names": ("c", "z", "y", "x") if lead else ("z", "y", "x"),
    }


def write_state(folder: Path, state: Mapping[str, Any]) -> None:
    """Replace what tomoseg notes in the attributes of the group `folder`."""
    zarr.open_group(str(folder), mode="r+").attrs.update({STATE: dict(state)})


def write_shards(
    folder: Path, values: Shaped[np.ndarray, "*lead z y x"], region: Region, *, level: int = 0
) -> list[Path]:
    """Write the values (z, y, x) or (c, z, y, x) of whole shards; return their files, which are on the disk then.

    Parameters
    ----------
    folder
        The group's folder.
    values
        Values of `region`.
    region
        Whole shards, but for the ends of the volume.
    level
        Of the pyramid.
    """
    files = list(shard_files(folder, region, level=level))
    for file in files:
        file.unlink(missing_ok=True)  # zarr would read and merge a shard at the volume's end, which may be damaged
    array = zarr.open_array(str(folder), path=str(level), mode="r+")
    # zeros are written, too: a missing file is what a lost one looks like
    array.with_config({"write_empty_chunks": True})[(..., *region.slices)] = values
    for file in files:
        to_disk(file)
    return files


def shard_files(folder: Path, region: Region, *, level: int = 0) -> Iterator[Path]:
    """Yield the files of the shards that hold `region`, in the order of their indices."""
    array = zarr.open_array(str(folder), path=str(level), mode="r")
    edges = (array.shards or array.chunks)[-3:]
    starts = [range(part.start // edge, -(-part.stop // edge)) for part, edge in zip(region.slices, edges, strict=True)]
    lead = [range(n) for n in array.shape[:-3]]
    counts = (*lead, *starts)
    for index in np.ndindex(*(len(count) for count in counts)):
        key = array.metadata.encode_chunk_key(tuple(count[i] for count, i in zip(counts, index, strict=True)))
        yield folder / str(level) / key


def build_pyramid(folder: Path) -> Iterator[float]:
    """Compute the smaller levels of the image in `folder` from its first one; yield the share that is done."""
    group = zarr.open_group(str(folder), mode="r+")
    ome: Any = group.attrs.get("ome", group.attrs)
    reduce = half_by_mode if "image-label" in ome else half_by_mean
    arrays: list[Any] = [group[str(level)] for level in range(len(ome["multiscales"][0]["datasets"]))]
    total = sum(array.size for array in arrays[1:])
    done = 0
    with ThreadPoolExecutor(_PYRAMID_THREADS) as pool:
        for level, (finer, coarser) in enumerate(itertools.pairwise(arrays), start=1):
            halve = partial(_halve, folder=folder, level=level, finer=finer, reduce=reduce)
            for size in pool.map(halve, shard_regions(coarser.shape[-3:], (coarser.shards or coarser.chunks)[-3:])):
                done += size
                yield done / total


def _halve(region: Region, *, folder: Path, level: int, finer: Any, reduce: Callable[[np.ndarray], np.ndarray]) -> int:
    """Make one shard of a level, that of `region`, from the finer one; return its voxels."""
    values = np.empty((*finer.shape[:-3], *region.shape), finer.dtype)
    for part in shard_regions(region.shape, _PART):  # a whole shard, or all channels, may not fit in memory
        double = tuple(
            slice(2 * (start + at.start), min(2 * (start + at.stop), size))
            for start, at, size in zip((region.z0, region.y0, region.x0), part.slices, finer.shape[-3:], strict=True)
        )
        for index in np.ndindex(finer.shape[:-3]):
            values[(*index, *part.slices)] = reduce(np.asarray(finer[(*index, *double)]))
    write_shards(folder, values, region, level=level)
    return values.size


def shard_regions(shape: Shape, edges: Shape) -> Iterator[Region]:
    """Yield the regions of a volume's shards, x fastest.

    Examples
    --------
    >>> [region.shape for region in shard_regions((3, 4, 4), (2, 4, 4))]
    [(2, 4, 4), (1, 4, 4)]
    """
    counts = [-(-size // edge) for size, edge in zip(shape, edges, strict=True)]
    for index in np.ndindex(*counts):
        ends = [(i * edge, min((i + 1) * edge, size)) for i, edge, size in zip(index, edges, shape, strict=True)]
        yield Region(*(end for pair in ends for end in pair))


class OmeZarrSink:
    """An OME-Zarr image written slice by slice; a slab as thick as a shard is held back."""

    def __init__(self, path: Path, content: Content, *, classes: Mapping[int, str] | None = None) -> None:
        self._path = path
        shard = whole_chunks(content.shape, shard=(CHUNK[0], _SHARD_EDGE, _SHARD_EDGE))
        self._spec = ImageSpec(
            path.name.partition(".")[0],
            content.shape,
            content.dtype,
            shard,
            content.voxel_size_um,
            classes=classes,
            version=content.ome_zarr,
        )
        create_image(path, self._spec, state={"verb": "convert", "finished": True})
        self._slab = np.empty((shard[0], *content.shape[1:]), content.dtype)
        self._z = 0

    def write(self, values: Shaped[np.ndarray, "y x"]) -> None:
        """Write the next slice, (y, x)."""
        depth = len(self._slab)
        self._slab[self._z % depth] = values
        self._z += 1
        if self._z % depth == 0 or self._z == self._spec.shape[0]:
            self._flush((self._z - 1) // depth * depth)

    def _flush(self, z0: int) -> None:
        slab = Region(z0, self._z, 0, self._spec.shape[1], 0, self._spec.shape[2])
        for region in shard_regions(self._spec.shape, self._spec.shard):
            if region.z0 == slab.z0:
                _, rows, columns = region.slices
                write_shards(self._path, self._slab[: self._z - z0, rows, columns], region)

    def close(self) -> None:
        """Build the pyramid, if all slices have come."""
        if self._z == self._spec.shape[0]:
            for _ in build_pyramid(self._path):
                pass


def open_sink(path: Path, content: Content) -> OmeZarrSink:
    """Return the sink of an OME-Zarr image."""
    return OmeZarrSink(path, content)


def _lead(spec: ImageSpec) -> tuple[int, ...]:
    return (len(spec.channels),) if spec.channels else ()


def _metadata(spec: ImageSpec) -> dict[str, Any]:
    """Return the standard's attributes: axes, levels, and what the values of a label image mean."""
    unit = {} if spec.voxel_size_um is None else {"unit": "micrometer"}
    axes = [{"name": "c", "type": "channel"}] if spec.channels else []
    axes += [{"name": name, "type": "space", **unit} for name in "zyx"]
    multiscale = {
        "name": spec.name,
        "axes": axes,
        "datasets": [_dataset(spec, level) for level in range(len(spec.levels))],
        "type": "mean" if spec.classes is None else "mode",
    }
    if spec.version == "0.4":
        multiscale["version"] = spec.version
    found: dict[str, Any] = {"multiscales": [multiscale]}
    if spec.channels:
        found["omero"] = {"channels": [_channel(name) for name in spec.channels]}
    if spec.classes is not None:
        found["image-label"] = {"version": spec.version, **_image_label(spec.classes)}
    return found if spec.version == "0.4" else {"ome": {"version": spec.version, **found}}


def _dataset(spec: ImageSpec, level: int) -> dict[str, Any]:
    """Return a level's path, voxel size, and shift: a voxel's centre is that of the voxels that it stands for."""
    size = np.asarray(spec.voxel_size_um or (1.0, 1.0, 1.0)) * 2**level
    shift = size / 2 - size / 2 ** (level + 1)
    lead = [1.0] if spec.channels else []
    none = [0.0] if spec.channels else []
    return {
        "path": str(level),
        "coordinateTransformations": [
            {"type": "scale", "scale": [*lead, *map(float, size)]},
            {"type": "translation", "translation": [*none, *map(float, shift)]},
        ],
    }


def _channel(name: str) -> dict[str, Any]:
    return {"label": name, "color": "FFFFFF", "active": True, "window": {"min": 0, "max": 255, "start": 0, "end": 255}}


def _image_label(classes: Mapping[int, str]) -> dict[str, Any]:
    """Return names and colours of a label image's values: greys from dark to light, as its slices are drawn."""
    greys = np.linspace(0, 255, len(classes)).astype(int)
    return {
        "colors": [
            {"label-value": value, "rgba": [int(grey)] * 3 + [255]}
            for (value, _), grey in zip(classes.items(), greys, strict=True)
        ],
        "properties": [{"label-value": value, "name": name} for value, name in classes.items()],
    }
