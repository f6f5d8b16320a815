"""Raw volumes: values without a header, described by a file beside them or by the user.

`scan.raw` goes with `scan.raw.json` (ours) and `scan.vol` with `scan.vgi` (VGStudio's text format).
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np

from tomoseg.errors import OutputError, VolumeError
from tomoseg.volume.flat import Layout, flat_volume
from tomoseg.volume.lazy import LazyVolume
from tomoseg.volume.page import reading
from tomoseg.volume.sink import Content, StreamSink
from tomoseg.volume.source import RawLayout

_VGI_TYPES = {"unsigned integer": "u", "signed integer": "i", "float": "f"}
_UM_A_MM = 1000.0


def open_file(path: Path, layout: RawLayout | None) -> LazyVolume:
    """Open a raw volume, described by `layout`, else by the file beside it; a `.vgi` leads to its `.vol`.

    Raises
    ------
    VolumeError
        If nothing describes it, the description is damaged, or the file is too short.
    """
    data = path.with_suffix(".vol") if path.suffix.lower() == ".vgi" else path
    if layout is not None:
        return flat_volume(path, data, Layout(layout.shape, layout.dtype))
    sidecar, vgi = data.with_name(data.name + ".json"), data.with_suffix(".vgi")
    for description, read in ((sidecar, _read_sidecar), (vgi, _read_vgi)):
        if description.exists():
            with reading(description):
                found = read(description)
            with reading(data):
                return flat_volume(path, data, found)
    raise VolumeError(
        f"{path}: does not say its size and type, and neither {sidecar.name} nor {vgi.name} lies beside it; state them "
        "with --raw-shape Z Y X --raw-dtype uint16"
    )


def _read_sidecar(path: Path) -> Layout:
    found = json.loads(path.read_text(encoding="utf-8"))
    z, y, x = (int(n) for n in found["shape"])
    size = found.get("voxel_size_um")
    return Layout(
        (z, y, x), np.dtype(str(found["dtype"])), int(found.get("offset", 0)), size and tuple(map(float, size))
    )


def _read_vgi(path: Path) -> Layout:
    """Read what a VGI file says of the first volume in it; lengths are in millimetres unless it says otherwise."""
    text = path.read_text(encoding="latin-1")
    size = _numbers(text, "size")
    if len(size) != 3:
        raise VolumeError(f"{path}: has no line like: size = 500 500 400")
    kind = _value(text, "datatype") or _value(text, "Datatype") or "unsigned integer"
    bits = int((_numbers(text, "bitsperelement") or [16])[0])
    offset = int((_numbers(text, "skipheader") or [0])[0])
    letter = _VGI_TYPES.get(kind.lower(), "u")
    x, y, z = (int(n) for n in size)
    edges = _numbers(text, "resolution")
    factor = {"mm": _UM_A_MM, "um": 1.0, "µm": 1.0, "m": 1e6}.get(_value(text, "unit") or "mm", _UM_A_MM)
    voxel = (edges[2] * factor, edges[1] * factor, edges[0] * factor) if len(edges) == 3 and min(edges) > 0 else None
    return Layout((z, y, x), np.dtype(f"<{letter}{bits // 8}"), offset, voxel)


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
        edges = " ".join(repr(edge / _UM_A_MM) for edge in reversed(content.voxel_size_um))
        lines += ["{volumeprimitive1}", "[geometry]", f"resolution = {edges}", "unit = mm"]
    return "\n".join([*lines, ""])


def open_sink(path: Path, content: Content) -> StreamSink:
    """Return the sink of a raw volume, little-endian.

    Raises
    ------
    OutputError
        If the type holds no numbers that others read.
    """
    if content.dtype.kind not in "uif":
        raise OutputError(f"{path}: values of type {content.dtype} can't be written raw")
    return StreamSink(path)
