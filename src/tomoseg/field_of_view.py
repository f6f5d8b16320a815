"""Where a slice shows the sample: a mask from a file, or the field of view found from constant corners."""

from __future__ import annotations

import zlib
from collections import OrderedDict
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Int, Shaped
from scipy.ndimage import label

from tomoseg.errors import VolumeError
from tomoseg.volume import AS_IT_IS, Opening, Pictures, Volume, open_pictures, read_slice
from tomoseg.volume.turned import Axis, turn_shape

Mask = Bool[np.ndarray, "y x"]

_KEPT_BYTES = 32_000_000
_SAMPLED = 16
_LEAST_SHARE = 1e-3
_FEWEST_CORNERS = 2


@dataclass(frozen=True)
class FieldOfView:
    """The pixels of each slice that count; outside counts nowhere.

    Attributes
    ----------
    shape
        Voxels of the volume along (z, y, x).
    source
        Slice number -> mask (y, x), true inside.
    all_inside
        Whether it is known that all pixels count, so that nobody needs to look.

    Examples
    --------
    >>> view = everything((4, 2, 3))
    >>> bool(view.inside(3).all()), view.inside(3).shape
    (True, (2, 3))
    """

    shape: tuple[int, int, int]
    source: Callable[[int], Mask]
    all_inside: bool = False

    def inside(self, z: int) -> Mask:
        """Return which pixels (y, x) of the slice `z` count."""
        return self.source(z)


def everything(shape: tuple[int, int, int]) -> FieldOfView:
    """Return the field of view in which all voxels of a volume of `shape` (z, y, x) count.

    Examples
    --------
    >>> int(everything((4, 2, 3)).inside(0).sum())
    6
    """
    return replace(same_for_all(np.ones(shape[1:], np.bool_), shape=shape), all_inside=True)


def same_for_all(mask: Mask, *, shape: tuple[int, int, int]) -> FieldOfView:
    """Return the field of view of a volume of `shape` (z, y, x) whose slices share one `mask` (y, x).

    Raises
    ------
    VolumeError
        If the mask has another size than the slices.

    Examples
    --------
    >>> same_for_all(np.eye(2, dtype=bool), shape=(7, 2, 2)).inside(6)
    array([[ True, False],
           [False,  True]])
    """
    _check_size("the mask", mask.shape, shape)
    return FieldOfView(shape, partial(_copy, mask.copy()))


def across(view: FieldOfView, axis: Axis, planes: Collection[int]) -> FieldOfView:
    """Return the field of view of some planes across y or x, found in one pass over the slices.

    Examples
    --------
    >>> view = same_for_all(np.array([[False, True, True]]), shape=(2, 1, 3))
    >>> across(view, "x", [0]).inside(0).tolist(), across(view, "y", [0]).inside(0).tolist()
    ([[False], [False]], [[False, True, True], [False, True, True]])
    """
    shape = turn_shape(view.shape, axis)
    found = {plane: np.empty(shape[1:], np.bool_) for plane in planes}
    for z in range(shape[1]):
        inside = view.inside(z)
        for plane, mask in found.items():
            mask[z] = inside[plane] if axis == "y" else inside[:, plane]
    return FieldOfView(shape, found.__getitem__)


def load_mask(path: Path, shape: tuple[int, int, int], *, opening: Opening = AS_IT_IS) -> FieldOfView:
    """Open a mask for a volume of `shape` (z, y, x); values other than 0 are inside.

    Parameters
    ----------
    path
        One picture, used for all slices, or as many pictures or pages as the volume has slices; read when
        asked for.
    shape
        Voxels of the volume along (z, y, x).
    opening
        What the file does not say.

    Raises
    ------
    VolumeError
        If the mask cannot be read or has another size or number of slices than the volume.

    Examples
    --------
    >>> import tempfile, tifffile
    >>> folder = tempfile.TemporaryDirectory()
    >>> tifffile.imwrite(Path(folder.name) / "mask.tif", np.array([[0, 255, 1]], np.uint8))
    >>> load_mask(Path(folder.name) / "mask.tif", (9, 1, 3)).inside(8)
    array([[False,  True,  True]])
    >>> folder.cleanup()
    """
    pictures = open_pictures(path, opening=opening)
    _check_size(str(path), pictures.shape[1:], shape)
    if len(pictures) not in (1, shape[0]):
        raise VolumeError(f"{path}: has {len(pictures)} masks for {shape[0]} slices; give one for all, or one for each")
    if len(pictures) == 1:
        return same_for_all(_nonzero(pictures, 0), shape=shape)
    return FieldOfView(shape, partial(_nonzero, pictures))


class _Kept:
    """Masks by slice, found once and kept as compressed bits up to a number of bytes, least used out first."""

    def __init__(self, source: Callable[[int], Mask], *, width: int, limit_bytes: int) -> None:
        self._source, self._width, self._limit = source, width, limit_bytes
        self._masks: OrderedDict[int, bytes] = OrderedDict()
        self._bytes = 0

    def __call__(self, z: int) -> Mask:
        packed = self._masks.pop(z, None)
        if packed is None:
            mask = self._source(z)
            packed = zlib.compress(np.packbits(mask, axis=1).tobytes(), 1)
            self._bytes += len(packed)
        else:
            bits = np.frombuffer(zlib.decompress(packed), np.uint8).reshape(-1, -(-self._width // 8))
            mask = np.unpackbits(bits, axis=1, count=self._width).astype(np.bool_)
        self._masks[z] = packed
        while self._bytes > self._limit:
            self._bytes -= len(self._masks.popitem(last=False)[1])
        return mask


def kept(view: FieldOfView, *, limit_bytes: int = _KEPT_BYTES) -> FieldOfView:
    """Return a field of view whose masks are found once, for who asks again and again: block by block.

    They are kept as compressed bits: a mask of 2000 x 2000 pixels with a smooth outline takes some 10 kB.

    Parameters
    ----------
    view
        Where the masks come from.
    limit_bytes
        What they may take; beyond it the least used are found again.
    """
    return replace(view, source=_Kept(view.source, width=view.shape[2], limit_bytes=limit_bytes))


def auto_mask(volume: Volume) -> Mask:
    """Return the field of view (y, x) of a volume whose corners are constant.

    Outside are the pixels that hold one and the same value, the smallest or the largest there is, in all of
    at most 16 evenly spaced slices, and are connected to a corner. At least two corners must be so, with a
    thousandth of the picture each; else everything is inside. The inside is made convex, as a reconstructed
    field of view is: pores of the outside's value stay inside, also where they are open towards it (but for
    the sliver beyond their chord).

    Raises
    ------
    VolumeError
        If a slice cannot be read, or all slices are constant.

    Examples
    --------
    >>> from tomoseg.volume import ArrayVolume
    >>> y, x = np.indices((41, 41)) - 20
    >>> plug = np.where(y**2 + x**2 <= 400, 100, 0).astype(np.uint8)
    >>> mask = auto_mask(ArrayVolume(plug[None]))
    >>> bool((mask == (plug > 0)).all())
    True
    """
    low, high = _range_over_slices(volume)
    if low.min() == high.max():
        raise VolumeError(f"all sampled slices hold nothing but the value {low.min()}; there is no field of view")
    for extreme in (low.min(), high.max()):
        outside = _cornered((low == extreme) & (high == extreme))
        if outside.any():
            return _convex(~outside)
    return np.ones(low.shape, np.bool_)


def _range_over_slices(volume: Volume) -> tuple[Shaped[np.ndarray, "y x"], Shaped[np.ndarray, "y x"]]:
    """Return the smallest and the largest value of each pixel over the sampled slices."""
    depth = volume.shape[0]
    numbers = np.unique(np.linspace(0, depth - 1, min(_SAMPLED, depth)).astype(int))
    low = high = read_slice(volume, int(numbers[0]))
    for z in numbers[1:]:
        page = read_slice(volume, int(z))
        low, high = np.minimum(low, page), np.maximum(high, page)
    return low, high


def _cornered(constant: Mask) -> Mask:
    """Return the parts of `constant` that hold a corner, if at least two corners are held by large parts."""
    parts, n = _label(constant)
    corners = parts[[0, 0, -1, -1], [0, -1, 0, -1]]
    sizes = np.bincount(parts.ravel(), minlength=n + 1)
    large = [part for part in corners if part and sizes[part] >= _LEAST_SHARE * constant.size]
    return np.isin(parts, large) if len(large) >= _FEWEST_CORNERS else np.zeros_like(constant)


def _convex(inside: Mask) -> Mask:
    """Return the convex hull of the largest part of `inside`; specks beside it (hot pixels) do not count."""
    from skimage.morphology import convex_hull_image  # takes half a second to load, and few ask for it

    parts, n = _label(inside)
    largest = 1 + int(np.argmax(np.bincount(parts.ravel(), minlength=n + 1)[1:]))
    hull = convex_hull_image(parts == largest, offset_coordinates=False)  # type: ignore[no-untyped-call]
    return np.asarray(hull, np.bool_)


def _label(mask: Mask) -> tuple[Int[np.ndarray, "y x"], int]:
    """Return `mask` with its parts, connected by pixel edges, numbered from 1."""
    parts, n = label(mask)
    return np.asarray(parts), int(n)


def _nonzero(pictures: Pictures, i: int) -> Mask:
    labelled = np.not_equal(pictures.read_picture(i), 0)
    return np.asarray(labelled.any(axis=2) if labelled.ndim == 3 else labelled)


def _copy(mask: Mask, z: int) -> Mask:
    return mask.copy()


def _check_size(what: str, size: tuple[int, ...], shape: tuple[int, int, int]) -> None:
    if tuple(size) != shape[1:]:
        raise VolumeError(f"{what}: has {size[0]} x {size[1]} pixels, the volume's slices have {shape[1]} x {shape[2]}")
