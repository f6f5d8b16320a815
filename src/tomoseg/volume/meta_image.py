"""MetaImage (MHA, MHD), the format of ITK: a header of lines `Key = value`, then the values, x fastest.

Lengths are in millimetres, as ITK writes them: https://itk.org/Wiki/ITK/MetaIO/Documentation.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np

from tomoseg.errors import OutputError, VolumeError
from tomoseg.volume.flat import Inflate, Layout, flat_volume, stream_volume
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import reading
from tomoseg.volume.sink import Content, StreamSink

_TYPES = {
    "MET_UCHAR": "u1", "MET_CHAR": "i1", "MET_USHORT": "u2", "MET_SHORT": "i2", "MET_UINT": "u4", "MET_INT": "i4",
    "MET_FLOAT": "f4", "MET_DOUBLE": "f8",
}  # fmt: skip
_LONGEST_HEADER = 65_536
_UM_A_MM = 1000.0


def open_file(path: Path, inner: str | None) -> LazyVolume:
    """Open an MHA or MHD volume; raises VolumeError if it is damaged, has colours, or its values lie elsewhere."""
    with reading(path):
        header, end = _read_header(path)
        data = _data_file(path, header)
        start = end if data == path else int(header.get("HEADERSIZE", "0"))
        layout = _layout(path, header, start)
    with reading(data):
        if header.get("COMPRESSEDDATA", "False").lower() == "true":
            plain = Layout(layout.shape, layout.dtype, 0, layout.voxel_size_um)
            return stream_volume(path, plain, lambda: Inflate(data, start))
        return flat_volume(path, data, layout)


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


def _layout(path: Path, header: dict[str, str], offset: int) -> Layout:
    shape = [int(n) for n in header["DIMSIZE"].split()]
    while len(shape) > 3 and shape[-1] == 1:
        shape.pop()
    if len(shape) not in (2, 3) or header.get("ELEMENTNUMBEROFCHANNELS", "1") != "1":
        channels = header.get("ELEMENTNUMBEROFCHANNELS", "1")
        raise VolumeError(f"{path}: has {len(shape)} axes and {channels} channels; a tomogram has three axes and one")
    x, y, z = (*shape, 1)[:3]
    if header["ELEMENTTYPE"] not in _TYPES:
        raise VolumeError(f"{path}: has values of type {header['ELEMENTTYPE']}; {' '.join(_TYPES)} are read")
    big = header.get("ELEMENTBYTEORDERMSB", header.get("BINARYDATABYTEORDERMSB", "False")).lower() == "true"
    dtype = np.dtype((">" if big else "<") + _TYPES[header["ELEMENTTYPE"]])
    spacing = [abs(float(edge)) for edge in header.get("ELEMENTSPACING", header.get("ELEMENTSIZE", "")).split()[:3]]
    size = tuple(edge * _UM_A_MM for edge in reversed(spacing))
    return Layout((z, y, x), dtype, offset, size if len(size) == 3 and min(size) > 0 else None)


def open_sink(path: Path, content: Content) -> StreamSink:
    """Return the sink of an MHA file; without a voxel size none is written, which others take for 1 mm.

    Raises
    ------
    OutputError
        If the format can't hold the type.
    """
    types = {np.dtype(kind): name for name, kind in _TYPES.items()}
    if content.dtype not in types:
        raise OutputError(f"{path}: MHA can't hold {content.dtype}; it holds {', '.join(map(str, types))}")
    z, y, x = content.shape
    lines = ["ObjectType = Image", "NDims = 3", "BinaryData = True", "BinaryDataByteOrderMSB = False",
             "CompressedData = False", f"DimSize = {x} {y} {z}"]  # fmt: skip
    if content.voxel_size_um is not None:
        lines.append("ElementSpacing = " + " ".join(repr(e / _UM_A_MM) for e in reversed(content.voxel_size_um)))
    lines += [f"ElementType = {types[content.dtype]}", "ElementDataFile = LOCAL", ""]
    return StreamSink(path, "\n".join(lines).encode())
