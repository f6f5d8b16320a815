"""NRRD, with its header attached or beside it (NHDR): https://teem.sourceforge.net/nrrd/format.html."""

from __future__ import annotations

import bz2
import gzip
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import numpy as np

from tomoseg.errors import OutputError, VolumeError
from tomoseg.extras import load_extra
from tomoseg.volume.flat import Layout, Readable, at_the_end, flat_volume, stream_volume
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import reading
from tomoseg.volume.sink import Content, StreamSink
from tomoseg.volume.voxel_size import VoxelSize, in_micrometres, millimetres_xyz

_TYPES = {
    "u1": "uint8", "i1": "int8", "u2": "uint16", "i2": "int16", "u4": "uint32", "i4": "int32", "f4": "float",
    "f8": "double",
}  # fmt: skip


def open_file(path: Path, inner: str | None) -> LazyVolume:
    """Open an NRRD volume; raises VolumeError if it is damaged, has colours, or its values lie elsewhere."""
    nrrd = load_extra("nrrd", extra="formats", purpose=f"reading {path.name}")
    with reading(path):
        with path.open("rb") as file:
            header: Mapping[str, Any] = nrrd.read_header(file)
            end = file.tell()
        data, start = _data_file(path, header, end)
        layout = _layout(path, header, nrrd.reader._TYPEMAP_NRRD2NUMPY)
        encoding, skip = str(header["encoding"]), int(header.get("byte skip", header.get("byteskip", 0)))
        if header.get("line skip", header.get("lineskip", 0)):
            raise VolumeError(f"{path}: skips lines of text before its values, which is not read")
        if skip < (-1 if encoding == "raw" else 0):
            raise VolumeError(f"{path}: has 'byte skip: {skip}' with the encoding {encoding}; 0 or more is right")
    if encoding == "raw":
        with reading(data):
            placed = at_the_end(layout, data) if skip == -1 else replace(layout, offset=start + skip)
            return flat_volume(path, data, placed)
    # the bytes to skip are decoded ones, as the format's own library has it; pynrrd skips as many stored ones, too
    return stream_volume(path, data, replace(layout, offset=skip), _decoder(path, encoding, data, start))


def _data_file(path: Path, header: Mapping[str, Any], end: int) -> tuple[Path, int]:
    """Return the file that holds the values, and where they begin in it."""
    name = header.get("data file", header.get("datafile"))
    if name is None:
        return path, end
    text = str(name)
    if text.upper().startswith("LIST") or "%" in text:
        raise VolumeError(f"{path}: its values lie in several files; give their folder, or convert it to one file")
    if Path(text).name != text:
        raise VolumeError(f"{path}: its values lie in {text!r}; they must lie in the same folder")
    return path.with_name(text), 0


def _decoder(path: Path, encoding: str, data: Path, start: int) -> Callable[[], Readable]:
    openers: dict[str, Callable[..., Any]] = {
        "gzip": gzip.GzipFile, "gz": gzip.GzipFile, "bzip2": bz2.BZ2File, "bz2": bz2.BZ2File,
    }  # fmt: skip
    if encoding not in openers:
        raise VolumeError(f"{path}: is encoded as {encoding!r}; raw, gzip and bzip2 are read")

    def opened() -> Readable:
        file = data.open("rb")
        file.seek(start)
        source = {"fileobj": file} if encoding.startswith("gz") else {"filename": file}
        return cast(Readable, openers[encoding](**source))

    return opened


def _layout(path: Path, header: Mapping[str, Any], types: Mapping[str, str]) -> Layout:
    sizes = [int(n) for n in header["sizes"]]
    kinds = [str(kind) for kind in header.get("kinds", ["domain"] * len(sizes))]
    spatial = [i for i, n in enumerate(sizes) if n != 1 or len(sizes) <= 3]
    colours = [kinds[i] for i in spatial if kinds[i].lower() not in ("domain", "space", "???", "none")]
    if len(spatial) not in (2, 3) or colours:
        raise VolumeError(f"{path}: has the axes {' x '.join(map(str, sizes))} {' '.join(colours)}; x y z are read")
    x, y, z = (*(sizes[i] for i in spatial), 1)[:3]
    kind = types.get(str(header["type"]))
    if kind is None:
        raise VolumeError(f"{path}: has values of type {header['type']!r}, which are no grey values")
    order = ">" if str(header.get("endian", "little")) == "big" else "<"
    return Layout((z, y, x), np.dtype(order + np.dtype(kind).str[1:]), 0, _voxel_size(header, spatial))


def _voxel_size(header: Mapping[str, Any], spatial: list[int]) -> VoxelSize | None:
    """Return the voxel size where the header gives lengths and their unit."""
    units = [str(unit).strip('"') for unit in header.get("space units") or header.get("units") or []]
    if "space directions" in header:
        rows = np.asarray(header["space directions"], float)
        lengths = [float(np.linalg.norm(rows[i])) for i in spatial]
    else:
        lengths = [float(header["spacings"][i]) for i in spatial] if "spacings" in header else []
    return in_micrometres(lengths[::-1], units[:3][::-1])


def check(path: Path, content: Content) -> None:
    """Refuse a type that NRRD can't hold; raises OutputError."""
    _header(path, content)


def open_sink(path: Path, content: Content) -> StreamSink:
    """Return the sink of an NRRD file with raw encoding, so that it can be read in parts."""
    return StreamSink(path, _header(path, content))


def _header(path: Path, content: Content) -> bytes:
    name = _TYPES.get(content.dtype.str[1:])
    if name is None:
        raise OutputError(f"{path}: NRRD can't hold {content.dtype}; it holds {', '.join(_TYPES.values())}")
    z, y, x = content.shape
    lines = ["NRRD0004", f"type: {name}", "dimension: 3", f"sizes: {x} {y} {z}", "endian: little", "encoding: raw",
             "kinds: domain domain domain"]  # fmt: skip
    if content.voxel_size_um is not None:
        # in millimetres, which programs that pass over the unit take it for
        lines += [f"spacings: {millimetres_xyz(content.voxel_size_um)}", 'units: "mm" "mm" "mm"']
    return "\n".join([*lines, "", ""]).encode()
