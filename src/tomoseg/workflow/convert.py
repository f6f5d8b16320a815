"""`tomoseg convert`: a volume in one format in, the same voxels in another out."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import tyro
from jaxtyping import Shaped
from pydantic import Field

from tomoseg.errors import SettingError
from tomoseg.provenance import record
from tomoseg.slices import numbers_apart
from tomoseg.volume import Region, SliceWriter, Volume, check_target
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.sink import OmeZarrVersion
from tomoseg.workflow.common import Reading, SourcePath, StatedSize, stated_size
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import open_source, refuse_same_place

_SLAB_BYTES = 64_000_000
_MOST_SLAB_BYTES = 1_000_000_000


class ConvertSettings(Reading):
    """Write a volume in another format, slab by slab; the target's ending says which."""

    source: Annotated[SourcePath, Field(description="a volume in any format that is read")]
    target: Annotated[
        Path,
        tyro.conf.Positional,
        tyro.conf.arg(metavar="TARGET"),
        Field(description="NAME.zarr, .tif, .h5, .nrrd, .nii, .nii.gz, .mha, .raw, .vol, or a folder of TIFFs"),
    ]
    voxel_size: Annotated[
        StatedSize,
        Field(
            description="edge of a voxel in micrometres, or with its unit, one or z y x, in place of what the source "
            "says"
        ),
    ] = None
    ome_zarr: Annotated[
        OmeZarrVersion, Field(description="version of a .zarr: 0.5 is sharded, 0.4 is for programs that know no other")
    ] = "0.5"
    force: Annotated[bool, Field(description="replace a target that tomoseg wrote")] = False


def run(settings: ConvertSettings, console: Console) -> None:
    """Read and write."""
    if settings.mask is not None:
        raise SettingError("--mask: convert keeps all voxels; use --roi to keep a part")
    refuse_same_place(settings.target, settings.source)
    check_target(settings.target, settings.force)
    source = open_source(settings.source, settings)
    volume, region = source.volume, source.region
    apart = numbers_apart(volume.names[region.z0 : region.z1])
    if apart is not None and settings.target.suffix:  # a folder keeps the names
        console.warn("some numbers are missing in the slices' names; stacked, such slices are no volume")
    with SliceWriter(
        settings.target,
        shape=region.shape,
        dtype=volume.dtype,
        names=volume.names[region.z0 : region.z1],
        voxel_size_um=stated_size(settings.voxel_size) or volume.voxel_size_um,
        force=settings.force,
        ome_zarr=settings.ome_zarr,
        extra_json=_record(settings) | {"slice_numbers": apart},
    ) as writer:
        pages = console.track(slices(volume, region), f"writing {settings.target.name}", region.shape[0])
        for page in pages:
            writer.write(page)
    console.result(f"written: {settings.target}")


def slices(volume: Volume, region: Region) -> Iterator[Shaped[np.ndarray, "y x"]]:
    """Yield the slices of a region in rising z, read some at a time, so that chunks are decoded once.

    Where slices as thick as a chunk take more than 1 GB, a chunk is decoded once for each GB.
    """
    _, height, width = region.shape
    depth = slab_depth(volume, height * width * volume.dtype.itemsize)
    starts = [region.z0, *range((region.z0 // depth + 1) * depth, region.z1, depth), region.z1]
    for z0, z1 in itertools.pairwise(starts):
        yield from volume.read(Region(z0, z1, region.y0, region.y1, region.x0, region.x1))


def slab_depth(volume: Volume, slice_bytes: int) -> int:
    """Return how many slices are read at a time: whole chunks of about 64 MB, else one chunk of at most 1 GB.

    Examples
    --------
    >>> from tomoseg.volume import ArrayVolume
    >>> slab_depth(ArrayVolume(np.zeros((1, 2, 2))), 8_000_000)
    8
    """
    chunk = volume.chunk_depth if isinstance(volume, LazyVolume) else 1
    chunks = max(1, _SLAB_BYTES // (slice_bytes * chunk))
    return min(chunks * chunk, max(1, _MOST_SLAB_BYTES // slice_bytes))


def _record(settings: ConvertSettings) -> dict[str, object]:
    made = record("convert", settings=settings.model_dump(mode="json", exclude={"source", "target", "force", "quiet"}))
    return {"provenance": {**made.model_dump(), "source": settings.source.name}}
