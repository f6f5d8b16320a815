"""MetaImage (MHA, MHD), the format of ITK: a header of lines `Key = value`, then the values, x fastest.

Lengths are in millimetres unless `DistanceUnits` says otherwise: https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from tomoseg.errors import OutputError, VolumeError
from tomoseg.volume.flat import Inflate, Layout, at_the_end, flat_volume, stream_volume
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import reading
from tomoseg.volume.sink import Content, StreamSink
from tomoseg.volume.voxel_size import in_micrometres, millimetres_xyz

_TYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4", "MET_INT": "i4",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_LONGEST_HEADER = 65_536


def open_file(path: Path, inner: str | None) -> LazyVolume:
    """Open an MHA or MHD volume; raises VolumeError if it is damaged, has colours, or its values lie elsewhere."""
    with reading(path):
        header, end = _read_header(path)
        data = _data_file(path, header)
        skipped = int(header.get("HEADERSIZE", "0"))
        start = end if data == path else skipped
        layout = _layout(path, header)
        compressed = _is_true(header, "COMPRESSEDDATA")
        if not _is_true(header, "BINARYDATA", default="True"):
            raise VolumeError(f"{path}: holds its values as text; save it with BinaryData = True")
        if compressed and skipped == -1:
            raise VolumeError(f"{path}: has HeaderSize = -1, which says nothing where the values are compressed")
    with reading(data):
        if compressed:
            return stream_volume(path, data, layout, lambda: Inflate(data, start))
        return flat_volume(path, data, at_the_end(layout, data) if skipped == -1 else replace(layout, offset=start))


def _read_header(path: Path) -> tuple[dict[str, str], int]:
    """Return the header's values by their keys in capitals, and where it ends."""
    found: dict[str, str] = {}
    with path.open("rb") as file:
        while file.tell() < _LONGEST_HEADER:
            line = file.readline(_LONGEST_HEADER)
            key, sign, value = line.decode("latin-1").partition("=")
            if not sign:
                break
            found[key.strip().upper()] = value.strip()
            if key.strip().upper() == "ELEMENTDATAFILE":
                return found, file.tell()
    raise VolumeError(f"{path}: is no MetaImage: its header has no line ElementDataFile = ...")


def _data_file(path: Path, header: dict[str, str]) -> Path:
    name = header["ELEMENTDATAFILE"]
    if name.upper() == "LOCAL":
        return path
    if name.upper().startswith("LIST") or "%" in name:
        raise VolumeError(f"{path}: its values lie in several files; give their folder, or convert it to one file")
    if Path(name).name != name:
        raise VolumeError(f"{path}: its values lie in {name!r}; they must lie in the same folder")
    return path.with_name(name)


def _is_true(header: dict[str, str], key: str, *, default: str = "False") -> bool:
    return header.get(key, default).lower().startswith(("t", "1"))


def _layout(path: Path, header: dict[str, str]) -> Layout:
    shape = [int(n) for n in header["DIMSIZE"].split()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (2, 3) or header.get("ELEMENTNUMBEROFCHANNELS", "1") != "1":
        channels = header.get("ELEMENTNUMBEROFCHANNELS", "1")
        raise VolumeError(f"{path}: has {len(shape)} axes and {channels} channels; a tomogram has three axes and one")
    x, y, z = (*shape, 1)[:3]
    if header["ELEMENTTYPE"] not in _TYPES:
        raise VolumeError(f"{path}: has values of type {header['ELEMENTTYPE']}; {' '.join(_TYPES)} are read")
    big = _is_true(header, "ELEMENTBYTEORDERMSB" if "ELEMENTBYTEORDERMSB" in header else "BINARYDATABYTEORDERMSB")
    dtype = np.dtype((">" if big else "<") + _TYPES[header["ELEMENTTYPE"]])
    spacing = [abs(float(edge)) for edge in header.get("ELEMENTSPACING", header.get("ELEMENTSIZE", "")).split()[:3]]
    return Layout((z, y, x), dtype, 0, in_micrometres(spacing[::-1], header.get("DISTANCEUNITS", "mm")))


def check(path: Path, content: Content) -> None:
    """Refuse a type that MHA can't hold; raises OutputError."""
    _header(path, content)


def open_sink(path: Path, content: Content) -> StreamSink:
    """Return the sink of an MHA file; without a voxel size none is written, which others take for 1 mm."""
    return StreamSink(path, _header(path, content))


def _header(path: Path, content: Content) -> bytes:
    types = {np.dtype(kind): name for name, kind in _TYPES.items()}
    if content.dtype not in types:
        raise OutputError(f"{path}: MHA can't hold {content.dtype}; it holds {', '.join(map(str, types))}")
    z, y, x = content.shape
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False",
             "CompressedData = False", f"DimSize = {x} {y} {z}"]  # fmt: skip
    if content.voxel_size_um is not None:
        lines.append(f"ElementSpacing = {millimetres_xyz(content.voxel_size_um)}")
    lines += [f"ElementType = {types[content.dtype]}", "ElementDataFile = LOCAL", ""]
    return "\n".join(lines).encode()
