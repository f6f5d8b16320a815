"""NIfTI-1 and -2, plain and gzipped: https://nifti.nimh.nih.gov/nifti-1 (orientation is left alone)."""

from __future__ import annotations

import gzip
from pathlib import Path
from typing import Any, cast

import numpy as np

from tomoseg.errors import OutputError, VolumeError
from tomoseg.extras import load_extra
from tomoseg.volume.flat import Layout, Readable, flat_volume, stream_volume
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import reading
from tomoseg.volume.sink import Content, StreamSink
from tomoseg.volume.source import format_ending
from tomoseg.volume.voxel_size import in_micrometres
from tomoseg.whole_file import PARTIAL

_LONGEST_EDGE = 32_767


def open_file(path: Path, inner: str | None) -> LazyVolume:
    """Open a NIfTI volume; raises VolumeError if it is damaged, has several volumes, or scales its values."""
    nibabel = load_extra("nibabel", extra="formats", purpose=f"reading {path.name}")
    with reading(path), nibabel.imageglobals.LoggingOutputSuppressor():
        image: Any = nibabel.load(path)
        with image.file_map["image"].get_prepare_fileobj("rb") as file:
            stated = image.header.from_fileobj(file, check=False)  # nibabel turns an edge of 0 into 1
        layout = _layout(path, image, stated)
    if path.suffix.lower() == ".gz":
        return stream_volume(path, path, layout, lambda: cast(Readable, gzip.open(path, "rb")))
    with reading(path):
        return flat_volume(path, path, layout)


def _layout(path: Path, image: Any, stated: Any) -> Layout:
    header = image.header
    sizes = [int(n) for n in header.get_data_shape()]
    while len(sizes) > 3 and sizes[-1] == 1:
        sizes.pop()
    if len(sizes) not in (2, 3):
        raise VolumeError(f"{path}: has the axes {' x '.join(map(str, sizes))}; a tomogram has three")
    slope, intercept = image.dataobj.slope, image.dataobj.inter
    if (slope, intercept) != (1.0, 0.0):
        raise VolumeError(
            f"{path}: its values are to be scaled by {slope:g} and shifted by {intercept:g}, which would make floats "
            "of its grey values; save it without scaling"
        )
    x, y, z = (*sizes, 1)[:3]
    edges = [float(edge) for edge in stated.get_zooms()[:3]]
    size = in_micrometres(edges[::-1], header.get_xyzt_units()[0])
    return Layout((z, y, x), np.dtype(header.get_data_dtype()), int(image.dataobj.offset), size)


def check(path: Path, content: Content) -> None:
    """Refuse what NIfTI-1 can't hold: raises OutputError for the type or the size, SettingError without nibabel."""
    _header(path, content)


def open_sink(path: Path, content: Content) -> StreamSink:
    """Return the sink of a NIfTI-1 file, gzipped if its name ends in .nii.gz."""
    compress = format_ending(path.with_name(path.name.removesuffix(PARTIAL))) == ".nii.gz"
    return StreamSink(path, _header(path, content), compress=compress)


def _header(path: Path, content: Content) -> bytes:
    nibabel = load_extra("nibabel", extra="formats", purpose="writing NIfTI")
    if max(content.shape) > _LONGEST_EDGE:
        raise OutputError(
            f"{path}: NIfTI-1 has room for {_LONGEST_EDGE} voxels along an axis, not {max(content.shape)}; choose "
            "another format"
        )
    header = nibabel.Nifti1Header(endianness="<")
    try:
        header.set_data_dtype(content.dtype)
    except nibabel.spatialimages.HeaderDataError as error:
        raise OutputError(f"{path}: NIfTI can't hold {content.dtype}; choose another format") from error
    header.set_data_shape(content.shape[::-1])
    if content.voxel_size_um is not None:
        header.set_zooms(content.voxel_size_um[::-1])
        header.set_xyzt_units("micron")
    header["magic"], header["vox_offset"] = b"n+1", 352
    header["scl_slope"], header["scl_inter"] = 1.0, 0.0
    return bytes(header.binaryblock + bytes(4))
