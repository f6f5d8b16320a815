"""Zeiss TXM (a reconstruction) and TXRM (its projections): an OLE compound file with one stream a picture."""

from __future__ import annotations

import struct
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Shaped

from tomoseg.errors import VolumeError
from tomoseg.extras import load_extra
from tomoseg.volume.base import Region
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import reading
from tomoseg.volume.voxel_size import VoxelSize, in_micrometres

_TYPES = {3: "u1", 5: "<u2", 10: "<f4"}
_PICTURES_A_FOLDER = 100


def open_file(path: Path, inner: str | None) -> LazyVolume:
    """Open a TXM or TXRM file; raises VolumeError if it is damaged or a picture has an unknown type."""
    olefile = load_extra("olefile", extra="formats", purpose=f"reading {path.name}")
    with reading(path):
        if not olefile.isOleFile(str(path)):
            raise VolumeError(f"{path}: is no TXM or TXRM file, or damaged at its start")
        with olefile.OleFileIO(str(path)) as file:
            width, height = _number(file, path, "ImageWidth"), _number(file, path, "ImageHeight")
            depth, code = _number(file, path, "NoOfImages"), _number(file, path, "DataType")
            voxel_size = _voxel_size(file)
    if code not in _TYPES:
        raise VolumeError(f"{path}: has values of the unknown type {code}; 3 (8 bits), 5 (16) and 10 (float) are read")
    dtype = np.dtype(_TYPES[code])
    load = partial(_load, path, dtype, (height, width))
    shape, page = (depth, height, width), height * width * dtype.itemsize
    return LazyVolume(path, shape, dtype.newbyteorder("="), load, voxel_size, reading_bytes=page)


def _number(file: Any, path: Path, name: str) -> int:
    stream = f"ImageInfo/{name}"
    if not file.exists(stream):
        raise VolumeError(f"{path}: has no {stream}; is it a TXM or TXRM file?")
    found: int = struct.unpack("<i", file.openstream(stream).read(4))[0]
    return found


def _voxel_size(file: Any) -> VoxelSize | None:
    if not file.exists("ImageInfo/PixelSize"):
        return None
    edge = float(struct.unpack("<f", file.openstream("ImageInfo/PixelSize").read(4))[0])
    return in_micrometres([edge] * 3, "um")


def _load(path: Path, dtype: np.dtype[Any], shape: tuple[int, int], region: Region) -> Shaped[np.ndarray, "z y x"]:
    olefile = load_extra("olefile", extra="formats", purpose=f"reading {path.name}")
    values = np.empty(region.shape, dtype)
    with olefile.OleFileIO(str(path)) as file:
        for page, z in zip(values, range(region.z0, region.z1), strict=True):
            stream = f"ImageData{z // _PICTURES_A_FOLDER + 1}/Image{z + 1}"
            if not file.exists(stream):
                raise VolumeError(f"{path}: has no {stream}; it was not written to its end")
            given = file.openstream(stream).read()
            if len(given) < shape[0] * shape[1] * dtype.itemsize:
                raise VolumeError(f"{path}: its picture {z + 1} is cut short; copy the file again")
            whole = np.frombuffer(given, dtype, shape[0] * shape[1]).reshape(shape)
            page[...] = whole[region.slices[1:]]
    return values
