"""Raw volumes: values without a header, described by a file beside them or by the user.

`scan.raw` goes with `scan.raw.json` (ours) and `scan.vol` with `scan.vgi` (VGStudio's text format).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tomoseg.errors import VolumeError
from tomoseg.volume.flat import Layout, flat_volume
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import reading
from tomoseg.volume.sink import Content, StreamSink
from tomoseg.volume.source import RawLayout
from tomoseg.volume.voxel_size import VoxelSize, in_micrometres, millimetres_xyz

_VGI_TYPES = {"unsigned integer": "u", "signed integer": "i", "float": "f"}
_VGI_BITS = (8, 16, 32, 64)


def open_file(path: Path, layout: RawLayout | None) -> LazyVolume:
    """Open a raw volume, described by `layout`, else by the file beside it; a `.vgi` leads to its `.vol`.

    Raises
    ------
    VolumeError
        If nothing describes it, the description is damaged, or the file has another size than it says: a wrong
        size or type would show as a sheared or noisy picture, or not at all.
    """
    data = path.with_suffix(".vol") if path.suffix.lower() == ".vgi" else path
    if layout is not None:
        return _open(path, data, Layout(layout.shape, layout.dtype))
    sidecar, vgi = data.with_name(data.name + ".json"), data.with_suffix(".vgi")
    for description, read in ((sidecar, _read_sidecar), (vgi, _read_vgi)):
        if description.exists():
            with reading(description):
                found = read(description)
            return _open(path, data, found, description)
    raise VolumeError(
        f"{path}: does not say its size and type, and neither {sidecar.name} nor {vgi.name} lies beside it; state them "
        "with --raw-shape Z Y X --raw-dtype uint16"
    )


def _open(path: Path, data: Path, layout: Layout, *descriptions: Path) -> LazyVolume:
    with reading(data):
        found = data.stat().st_size
        if found != layout.offset + layout.nbytes:
            z, y, x = layout.shape
            header = f" after a header of {layout.offset:,}" if layout.offset else ""
            raise VolumeError(
                f"{data}: is too {'short' if found < layout.offset + layout.nbytes else 'long'}: {found:,} bytes, but "
                f"{z} x {y} x {x} values of {layout.dtype.name} take {layout.nbytes:,}{header}; "
                f"{_fitting(found, layout, data)}correct its size and type, or copy it again"
            )
        return flat_volume(path, data, layout, others=descriptions)


def _fitting(found: int, layout: Layout, data: Path) -> str:
    """Say what would fit a file of `found` bytes: other slices, another type, or a header."""
    z, y, x = layout.shape
    room = found - layout.offset
    slices, rest = divmod(room, max(1, y * x * layout.dtype.itemsize))
    fits = [f"{slices} x {y} x {x}"] if slices > 0 and rest == 0 else []
    fits += [f"values of {bits} bits" for bits in _VGI_BITS if z * y * x * bits // 8 == room]
    if room > layout.nbytes:
        fits.append(f'"offset": {found - layout.nbytes} in {data.name}.json')
    return f"{' or '.join(fits)} would fit; " if fits else ""


def _read_sidecar(path: Path) -> Layout:
    found = json.loads(path.read_text(encoding="utf-8"))
    z, y, x = (int(n) for n in found["shape"])
    size = _stated_size(found.get("voxel_size_um"), path)
    return Layout((z, y, x), np.dtype(str(found["dtype"])), int(found.get("offset", 0)), size)


def _stated_size(stated: Any, path: Path) -> VoxelSize | None:
    if stated is None:
        return None
    numbers = isinstance(stated, list) and all(isinstance(edge, int | float) for edge in stated)
    size = in_micrometres(stated, "um") if numbers else None
    if size is None:
        raise VolumeError(
            f"{path}: voxel_size_um is {json.dumps(stated)}; it is three lengths above 0 in micrometres, along z, y "
            "and x, or null"
        )
    return size


def _read_vgi(path: Path) -> Layout:
    """Read what a VGI file says of the first volume in it; lengths are in millimetres unless it says otherwise."""
    text = _decode(path.read_bytes())
    size = _numbers(text, "size")
    if len(size) != 3:
        raise VolumeError(f"{path}: has no line like: size = 500 500 400")
    kind, bits = _value(text, "datatype") or "", int((_numbers(text, "bitsperelement") or [0])[0])
    if kind.lower() not in _VGI_TYPES or bits not in _VGI_BITS:
        raise VolumeError(
            f"{path}: has values of the type {kind or 'none'} with {bits} bits; {', '.join(_VGI_TYPES)} with 8, 16, 32 "
            "or 64 are read, as the lines datatype and bitsperelement state them"
        )
    offset = int((_numbers(text, "skipheader") or [0])[0])
    x, y, z = (int(n) for n in size)
    voxel = in_micrometres(_numbers(text, "resolution")[::-1], _value(text, "unit") or "mm")
    return Layout((z, y, x), np.dtype(f"<{_VGI_TYPES[kind.lower()]}{bits // 8}"), offset, voxel)


def _decode(content: bytes) -> str:
    """Return a text in UTF-8, or else in Latin-1 as older programs write it."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")


def _value(text: str, key: str) -> str | None:
    found = re.search(rf"^\s*{key}\s*=\s*(.+?)\s*$", text, re.MULTILINE | re.IGNORECASE)
    return found[1] if found else None


def _numbers(text: str, key: str) -> list[float]:
    return [float(number) for number in (_value(text, key) or "").split()]


def describe(path: Path, content: Content) -> str:
    """Return the text of the file beside a raw volume: JSON for `.raw`, VGI for `.vol`."""
    if path.suffix.lower() == ".vol":
        return _vgi(path, content)
    found: dict[str, Any] = {
        "shape": list(content.shape),
        "dtype": content.dtype.newbyteorder("<").str,
        "voxel_size_um": None if content.voxel_size_um is None else list(content.voxel_size_um),
    }
    return json.dumps(found, indent=2) + "\n"


def _vgi(path: Path, content: Content) -> str:
    z, y, x = content.shape
    kind = {"u": "unsigned integer", "i": "signed integer", "f": "float"}[content.dtype.kind]
    lines = ["{volume1}", "[representation]", f"size = {x} {y} {z}", f"datatype = {kind}",
             f"bitsperelement = {8 * content.dtype.itemsize}", "[file1]", "SkipHeader = 0", "FileFormat = raw",
             f"Size = {x} {y} {z}", f"Name = {path.name}", f"Datatype = {kind}",
             f"BitsPerElement = {8 * content.dtype.itemsize}"]  # fmt: skip
    if content.voxel_size_um is not None:
        resolution = f"resolution = {millimetres_xyz(content.voxel_size_um)}"
        lines += ["{volumeprimitive1}", "[geometry]", resolution, "unit = mm"]
    return "\n".join([*lines, ""])


def open_sink(path: Path, content: Content) -> StreamSink:
    """Return the sink of a raw volume, little-endian."""
    return StreamSink(path)
