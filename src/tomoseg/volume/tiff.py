"""TIFF files as pages: plain, BigTIFF, ImageJ (with its layout above 4 GB) and OME-TIFF."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from tifffile import COMPRESSION, PHOTOMETRIC, TiffFile, TiffPage

from tomoseg.errors import VolumeError
from tomoseg.volume import voxel_size
from tomoseg.volume.page import Page, is_grey_ramp, reading, without_alpha

# tifffile logs what it makes do with; what matters of it is checked here and raised.
logging.getLogger("tifffile").addHandler(logging.NullHandler())

_BYTES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
"""Bytes that a value takes, by the TIFF's number of its type."""
_MOST_CHANNELS = 7
_KINDS = (
    PHOTOMETRIC.MINISWHITE,
    PHOTOMETRIC.MINISBLACK,
    PHOTOMETRIC.RGB,
    PHOTOMETRIC.PALETTE,
    PHOTOMETRIC.YCBCR,
)


def tiff_pages(path: Path) -> tuple[Page, ...]:
    """Return the pages of a TIFF file in the order of the slices; no grey value is read.

    Bilevel pages hold 0 and 255, white being 255. Other values are as stored, also where the file asks for an
    inverted display (`MinIsWhite`, which ImageJ sets with an inverting look-up table). A palette gives RGB,
    unless it shows each index as the grey of that value. Thumbnails (reduced pages) are passed over.

    Raises
    ------
    VolumeError
        If the file cannot be read, is cut short, has more than one channel or both slices and times, or its
        pixels are no grey values, palette or RGB.
    """
    with reading(path), TiffFile(path) as tif:
        _check_chain(tif, path)
        found = [page for page in tif.pages if isinstance(page, TiffPage) and not page.is_reduced]
        if not found:
            raise VolumeError(f"{path}: holds no picture")
        size = _voxel_size(tif, found[0])
        described = _described(tif, found, path)
    stack = len(described) > 1
    names = (f"{path.name}[{i}]" if stack else path.name for i in range(len(described)))
    return tuple(replace(page, name=name, voxel_size_um=size) for page, name in zip(described, names, strict=True))


def _described(tif: TiffFile, found: Sequence[TiffPage], path: Path) -> list[Page]:
    """Return the pages, still without their slice's name."""
    axes = _axes(tif, found[0])
    promised = _slices(axes, path)
    if len(found) == 1 and promised > 1:
        return _contiguous(tif, found[0], promised, path)
    if len(found) < promised:
        raise VolumeError(f"{path}: is cut short: {promised} pages are announced, {len(found)} are there")
    ordered = _ome_order(tif, found, path) if tif.is_ome and promised > 1 else found
    return [_page(page, tif, path) for page in ordered]


def _axes(tif: TiffFile, first: TiffPage) -> dict[str, int]:
    """Return the sizes of the axes beyond y, x and samples that ImageJ, OME or tifffile announce."""
    if tif.is_ome and tif.ome_metadata:
        pixels = voxel_size.ome_pixels(tif.ome_metadata)
        sizes = {axis: int(pixels.get(f"Size{axis}", 1)) for axis in "CZT"}
        return sizes | {"C": max(1, sizes["C"] // first.samplesperpixel)}
    if tif.is_imagej and tif.imagej_metadata:
        return _imagej_axes(tif.imagej_metadata)
    if first.is_shaped:
        return _shaped_axes(first)
    return {}


def _imagej_axes(metadata: Mapping[str, Any]) -> dict[str, int]:
    """Return ImageJ's axes; more channels than it can show are slices that a program labelled wrongly."""
    names = {"C": "channels", "Z": "slices", "T": "frames"}
    sizes = {axis: int(metadata.get(name, 1)) for axis, name in names.items()}
    images = int(metadata.get("images", 1))
    mislabelled = sizes["C"] == images > _MOST_CHANNELS
    return {"Z": images} if mislabelled or math.prod(sizes.values()) != images else sizes


def _shaped_axes(first: TiffPage) -> dict[str, int]:
    """Return the leading axes of the shape that tifffile writes into its description."""
    text = json.loads(first.description) if first.description.startswith("{") else {}
    shape = [int(n) for n in text.get("shape", ())]
    lead = shape[: len(shape) - first.ndim]
    axes = text.get("axes", "")
    names = axes[: len(lead)] if len(axes) == len(shape) else "QPONMLKJ"[: len(lead)]
    return dict(zip(names, lead, strict=True))


def _slices(axes: Mapping[str, int], path: Path) -> int:
    """Return the number of slices; only one axis beyond y and x may be longer than 1, and no channels."""
    if axes.get("C", 1) > 1:
        raise VolumeError(f"{path}: has {axes['C']} channels; give one of them, or name the axis Z if these are slices")
    long = {axis: n for axis, n in axes.items() if n > 1}
    if len(long) > 1:
        listed = ", ".join(f"{axis}={n}" for axis, n in long.items())
        raise VolumeError(f"{path}: has the axes {listed} beyond y and x; a volume has one, its slices")
    return math.prod(long.values())


def _ome_order(tif: TiffFile, found: Sequence[TiffPage], path: Path) -> list[TiffPage]:
    """Return the pages in the order that the OME-XML gives them."""
    planes = tif.series[0].pages
    here = {page.offset: page for page in found}
    own = [here[plane.offset] for plane in planes if plane is not None and plane.parent is tif]
    if len(own) != len(planes):
        missing = len(planes) - len(own)
        raise VolumeError(f"{path}: {missing} of its {len(planes)} OME planes are missing or in other files")
    return own


def _contiguous(tif: TiffFile, first: TiffPage, n: int, path: Path) -> list[Page]:
    """Return pages that follow the first one without headers of their own, as ImageJ writes above 4 GB."""
    template = _page(first, tif, path)
    plain = first.compression == COMPRESSION.NONE and template.channels == 1 and first.bitspersample in (8, 16, 32, 64)
    if not plain:
        raise VolumeError(f"{path}: is cut short: {n} pages are announced, 1 is there")
    start, step = first.dataoffsets[0], math.prod(template.shape) * template.dtype.itemsize
    room = (tif.filehandle.size - start) // step
    if room < n:
        raise VolumeError(f"{path}: is cut short: {n} pages are announced, {room} are there")
    stored = template.dtype.newbyteorder(tif.byteorder)
    return [
        replace(template, load=partial(_load_raw, path, start + i * step, template.shape, stored)) for i in range(n)
    ]


def _load_raw(path: Path, start: int, shape: tuple[int, int], stored: np.dtype[Any]) -> np.ndarray:
    with reading(path):
        values = np.fromfile(path, stored, count=math.prod(shape), offset=start).reshape(shape)
    return values.astype(stored.newbyteorder("="), copy=False)


def _page(page: TiffPage, tif: TiffFile, path: Path) -> Page:
    """Describe one page, having checked that its data lie within the file."""
    _check_kind(page, path)
    _check_extent(page, tif.filehandle.size, path)
    samples = page.samplesperpixel
    expanded = page.photometric == PHOTOMETRIC.PALETTE and not _is_plain(page)
    channels = 3 if expanded else samples - _has_alpha(page)
    dtype = np.dtype(np.uint8) if expanded or _is_bilevel(page) else _native(page.dtype)
    shape = (page.imagelength, page.imagewidth)
    return Page(path.name, shape, dtype, channels, partial(_load, path, page.offset))


def _load(path: Path, offset: int) -> np.ndarray:
    with reading(path), TiffFile(path) as tif:
        tif.filehandle.seek(offset)
        page = TiffPage(tif, index=0)
        _check_extent(page, tif.filehandle.size, path)
        values = page.asarray()
        values = np.moveaxis(values, 0, -1) if page.planarconfig == 2 and page.samplesperpixel > 1 else values
        if _has_alpha(page):
            values = without_alpha(values, place=str(path))
        return _displayed(page, values)


def _displayed(page: TiffPage, values: np.ndarray) -> np.ndarray:
    """Turn bits into 0 and 255, and palette indices into colours, where they mean something by themselves."""
    if _is_bilevel(page):
        white = values == 0 if page.photometric == PHOTOMETRIC.MINISWHITE else values != 0
        return np.where(white, np.uint8(255), np.uint8(0))
    if page.photometric == PHOTOMETRIC.PALETTE and not _is_plain(page):
        colours: np.ndarray = _palette(page)[values]
        return colours
    return np.asarray(values, _native(values.dtype))


def _check_kind(page: TiffPage, path: Path) -> None:
    if page.photometric not in _KINDS or page.imagedepth > 1:
        kind = f"depth {page.imagedepth}" if page.imagedepth > 1 else f"pixels of the kind {page.photometric!s}"
        raise VolumeError(f"{path}: page {page.index} has {kind}; grey values, palettes and RGB are read")
    if page.dtype is None:
        raise VolumeError(f"{path}: page {page.index} has {page.bitspersample}-bit values of an unknown type")


def _check_extent(page: TiffPage, file_size: int, path: Path) -> None:
    """Refuse strips and tiles that are missing (tifffile fills them with zeros) or reach beyond the file."""
    offsets, counts = page.dataoffsets, page.databytecounts
    expected = math.prod(page.chunked)
    if len(offsets) < expected or len(counts) < expected or 0 in counts or 0 in offsets:
        raise VolumeError(f"{path}: page {page.index} lacks some of its {expected} strips or tiles")
    end = max(start + length for start, length in zip(offsets, counts, strict=False))
    if end > file_size:
        raise VolumeError(f"{path}: is cut short: page {page.index} ends at byte {end}, the file at {file_size}")


def _check_chain(tif: TiffFile, path: Path) -> None:
    """Refuse a chain of pages that breaks off, and a description beyond the file's end."""
    count, size = len(tif.pages), tif.filehandle.size
    if not count:
        return
    entries, _ = _directory(tif, tif.pages.first.offset)
    end = max(_value_end(entry, tif) for entry in entries)
    if end > size:
        raise VolumeError(f"{path}: is cut short: its description ends at byte {end}, the file at {size}")
    _, following = _directory(tif, tif.pages[count - 1].offset)
    if following:
        raise VolumeError(f"{path}: is cut short: page {count} should be at byte {following}, the file has {size}")


def _directory(tif: TiffFile, offset: int) -> tuple[list[bytes], int]:
    """Return the undecoded tags of the page at `offset`, and the place of the next page, 0 after the last."""
    file, layout = tif.filehandle, tif.tiff
    file.seek(offset)
    n = int.from_bytes(file.read(layout.tagnosize), _order(tif))
    entries = [file.read(layout.tagsize) for _ in range(n)]
    return entries, int.from_bytes(file.read(layout.offsetsize), _order(tif))


def _value_end(entry: bytes, tif: TiffFile) -> int:
    """Return the byte at which a tag's value ends; 0 where it is stored within the tag."""
    word = tif.tiff.offsetsize
    kind, count, place = (int.from_bytes(part, _order(tif)) for part in (entry[2:4], entry[4:-word], entry[-word:]))
    length = _BYTES.get(kind, 0) * count
    return place + length if length > word else 0


def _order(tif: TiffFile) -> Any:
    return "little" if tif.byteorder == "<" else "big"


def _voxel_size(tif: TiffFile, first: TiffPage) -> voxel_size.VoxelSize | None:
    x, y = (_ratio(first, tag) for tag in ("XResolution", "YResolution"))
    if tif.is_ome and tif.ome_metadata:
        return voxel_size.from_ome(tif.ome_metadata)
    if tif.is_imagej and tif.imagej_metadata:
        return voxel_size.from_imagej(tif.imagej_metadata, x_per_unit=x, y_per_unit=y)
    unit = first.tags.valueof("ResolutionUnit", default=2)
    return voxel_size.from_tiff(x_per_unit=x, y_per_unit=y, unit=int(unit))


def _ratio(page: TiffPage, tag: str) -> float:
    """Return a rational tag as a number; 0 where it is missing or has no denominator."""
    above, below = page.tags.valueof(tag, default=(0, 1))
    return float(above / below) if below else 0.0


def _palette(page: TiffPage) -> np.ndarray:
    """Return the palette as (n, 3) of 8 bits; some writers fill the 16-bit table with 8-bit values."""
    table = page.colormap
    if table is None:
        raise ValueError("a palette page without its palette")
    return (table.T >> 8 if table.max() > 255 else table.T).astype(np.uint8)


def _is_plain(page: TiffPage) -> bool:
    return is_grey_ramp(_palette(page))


def _is_bilevel(page: TiffPage) -> bool:
    return page.bitspersample == 1 and page.samplesperpixel == 1


def _has_alpha(page: TiffPage) -> bool:
    """Return whether the last sample is a transparency: the fourth always, the second where it says so."""
    return len(page.extrasamples) == 1 and (page.samplesperpixel == 4 or page.extrasamples[0] != 0)


def _native(dtype: np.dtype[Any] | None) -> np.dtype[Any]:
    return np.dtype(dtype).newbyteorder("=")
