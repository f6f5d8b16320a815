"""PNG files as pages: grey of 1 to 16 bits, palettes and RGB."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
from PIL.PngImagePlugin import PngImageFile

from tomoseg.errors import VolumeError
from tomoseg.volume.page import Page, is_grey_ramp, reading, without_alpha

_CHANNELS = {0: 1, 2: 3, 3: 1, 4: 1, 6: 3}
_ALPHA = (4, 6)
_PALETTE = 3


def png_pages(path: Path) -> tuple[Page]:
    """Return the one page of a PNG file; only its header and palette are read.

    Grey values of 1, 2 and 4 bits are scaled to the full 8 bits, so that bilevel pictures hold 0 and 255. A
    palette gives RGB, unless it shows each index as the grey of that value. A physical size in a PNG is a
    printing default and no voxel size.

    Raises
    ------
    VolumeError
        If the file cannot be read, is no PNG, or has colours of 16 bits.
    """
    with reading(path), PngImageFile(path) as image:  # Image.open refuses slices above 179 megapixels
        width, height = image.size
        depth, kind = _depth_and_kind(path)
        coloured = kind == _PALETTE and not _is_plain(image)
    if depth == 16 and kind != 0:
        raise VolumeError(f"{path}: has colours or transparency of 16 bits; save it with 8 bits a channel, or as grey")
    dtype = np.dtype(np.uint16 if depth == 16 else np.uint8)
    channels = 3 if coloured else _CHANNELS[kind]
    return (Page(path.name, (height, width), dtype, channels, partial(_load, path)),)


def _load(path: Path) -> np.ndarray:
    with reading(path), PngImageFile(path) as image:
        _, kind = _depth_and_kind(path)
        image.load()
        if kind == _PALETTE:
            return _expanded(image, path)
        if kind in _ALPHA:
            return without_alpha(np.asarray(image), place=str(path))
        values = np.asarray(image)
        return values.astype(np.uint8) * np.uint8(255) if values.dtype == np.bool_ else values.copy()


def _expanded(image: PngImageFile, path: Path) -> np.ndarray:
    """Return palette indices as they are where the palette is a grey ramp, else their colours."""
    if _is_plain(image):
        return np.asarray(image).copy()
    return without_alpha(np.asarray(image.convert("RGBA")), place=str(path))


def _is_plain(image: PngImageFile) -> bool:
    palette = np.array(image.getpalette() or [], np.uint8).reshape(-1, 3)
    return is_grey_ramp(palette) and "transparency" not in image.info


def _depth_and_kind(path: Path) -> tuple[int, int]:
    """Return bit depth and colour type, bytes 24 and 25 of a PNG; Pillow hides 16-bit colours."""
    with path.open("rb") as file:
        header = file.read(26)
    return header[24], header[25]
