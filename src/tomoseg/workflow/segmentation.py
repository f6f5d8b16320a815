"""A segmented volume: its classes by name, and its class indices, read part by part."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from tomoseg.errors import LabelError, SettingError, VolumeError
from tomoseg.field_of_view import kept
from tomoseg.labels import MOST_CLASSES, UNLABELLED, LabelClass, class_colour, parse_classes
from tomoseg.volume import Region
from tomoseg.volume.voxel_size import VoxelSize
from tomoseg.volume.writer import record_path
from tomoseg.workflow.common import Reading
from tomoseg.workflow.reading import Source, open_source, refuse_without_parts

Index = UInt8[np.ndarray, "z y x"]

_SHOWN = 8


@dataclass(frozen=True)
class Segmentation:
    """A volume of class values and what they mean; regions are those of the part that counts (`--roi`).

    Attributes
    ----------
    source
        The volume, its region of interest and its mask.
    classes
        The classes that count, in order.
    nowhere
        Values that count nowhere: outside a field of view, or of a class that is left out.
    voxel_size_um
        Edges of a voxel along (z, y, x) in micrometres; None where nobody said.
    record
        What `predict` noted of it; empty for a segmentation of others.
    """

    source: Source
    classes: tuple[LabelClass, ...]
    nowhere: tuple[int, ...]
    voxel_size_um: VoxelSize | None
    record: Mapping[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """Voxels of the part that counts along (z, y, x)."""
        return self.source.region.shape

    def read(self, region: Region) -> Index:
        """Return class indices of a region (z, y, x); `UNLABELLED` for what counts nowhere.

        Raises
        ------
        LabelError
            If it holds a value that is no class.
        """
        return self._encoded(_read(self.source, region), region)

    @cached_property
    def _table(self) -> tuple[Int64[np.ndarray, " value"], UInt8[np.ndarray, " value"]]:
        pairs = [(int(item.value), order) for order, item in enumerate(self.classes)]
        pairs += [(value, UNLABELLED) for value in self.nowhere]
        values, orders = zip(*sorted(pairs), strict=True)
        return np.array(values, np.int64), np.array(orders, np.uint8)

    def _encoded(self, found: Shaped[np.ndarray, "z y x"], region: Region) -> Index:
        values, orders = self._table
        if found.dtype == np.uint8:  # a table of all values is the quickest
            at = np.searchsorted(values, np.arange(256)).clip(max=len(values) - 1)
            known = values[at] == np.arange(256)
            index, strange = orders[at][found], np.logical_not(known)[found]
        else:
            at = np.searchsorted(values, found).clip(max=len(values) - 1)
            index, strange = orders[at], values[at] != found
        inside = _inside(self.source, region)
        if inside is not None:
            index, strange = np.where(inside, index, np.uint8(UNLABELLED)), strange & inside
        if strange.any():
            self._refuse(found[strange], region)
        return np.asarray(index)

    def _refuse(self, values: Shaped[np.ndarray, " voxel"], region: Region) -> None:
        known = ", ".join(f"{item.value} {item.name}" for item in self.classes)
        several, counts = np.unique(values, return_counts=True)
        told = ", ".join(f"{v} ({n} voxels)" for v, n in [*zip(several, counts, strict=True)][:_SHOWN])
        raise LabelError(
            f"{self.source.path}, slices {region.z0} to {region.z1 - 1}: holds values that are no class: {told}; the "
            f"classes are {known}. State all of them with --classes, and what shall not count with --exclude"
        )


BLOCK = 128
"""Longest edge of a block in voxels: some 150 MB of memory a process, its guard included."""

_LEAST_BLOCK, _BLOCKS = 32, 64
"""Blocks that a small volume is cut into, as long as they are worth their guards: intervals hang on them."""


def default_block(shape: tuple[int, int, int]) -> int:
    """Return the longest edge of a block in voxels.

    Examples
    --------
    >>> default_block((500, 501, 501)), default_block((160, 160, 160)), default_block((40, 40, 40))
    (125, 40, 32)
    """
    edge = round(float(np.cbrt(np.prod(shape, dtype=np.float64) / _BLOCKS)))
    return min(BLOCK, max(_LEAST_BLOCK, edge))


@dataclass(frozen=True)
class Work:
    """What a process must know to open the segmentation again, and how it is measured.

    Attributes
    ----------
    how, path
        Where the segmentation is and how it is read.
    classes, nowhere
        Its classes, and the values that count nowhere.
    voxel_size
        Edges of a voxel along (z, y, x), in micrometres or, where unknown, 1.
    block
        Longest edge of a block in voxels.
    sizes
        Whether sizes and correlation are measured, which takes longer than all else.
    transport
        Whether it is measured how phases conduct.
    """

    how: Reading
    path: Path
    classes: tuple[LabelClass, ...]
    nowhere: tuple[int, ...]
    voxel_size: VoxelSize
    block: int
    sizes: bool = False
    transport: bool = False


def _open(path: Path, how: Reading) -> Source:
    """Open the volume; its mask is looked at for every block, and kept."""
    source = open_source(path, how)
    return replace(source, view=kept(source.view))


@lru_cache(maxsize=1)
def open_again(work: Work) -> Segmentation:
    """Open a segmentation whose classes are known, once a process."""
    source = _open(work.path, work.how)
    return Segmentation(source, work.classes, work.nowhere, work.voxel_size, {})


def open_segmentation(
    how: Reading,
    path: Path,
    *,
    stated: Sequence[str],
    exclude: Sequence[str],
    voxel_size: VoxelSize | None,
    prediction: Path | None = None,
) -> Segmentation:
    """Open a segmented volume; its classes are those stated, else those that `predict` noted, else its values.

    What `predict` noted is taken from `prediction`, an output of it that these labels come from, if one is given.

    Raises
    ------
    InputError
        If it is no segmentation, a class that is left out is none of its classes, or `prediction` is of another one.
    """
    source = _open(path, how)
    refuse_without_parts(source, context=0)
    if source.volume.dtype.kind not in "iub":
        raise VolumeError(
            f"{path}: holds {source.volume.dtype} values; a segmentation holds whole numbers, one a class"
        )
    record = _record(path) if prediction is None else _record_of(prediction, source.volume.shape)
    named = parse_classes(stated) if stated else record.get("classes") or _found(source)
    outside = record.get("outside_value") if not stated else None
    classes = tuple(
        LabelClass(name=name, value=_whole(value), colour=class_colour(order))
        for order, (name, value) in enumerate(named.items())
    )
    if prediction is not None and set(named) != set(record.get("classes", named)):
        told = " ".join(f"{name}={value}" for name, value in record["classes"].items())
        raise SettingError(
            f"--probabilities {prediction}: its classes are {', '.join(record['classes'])}, here they are "
            f"{', '.join(named)}; name them alike, --classes {told} with the values that these labels have"
        )
    unknown = [name for name in exclude if name not in named]
    if unknown:
        raise SettingError(f"--exclude {unknown[0]}: there is no such class; the classes are {', '.join(named)}")
    left = tuple(item for item in classes if item.name not in exclude)
    if not left:
        raise SettingError("--exclude leaves no class that counts")
    nowhere = [int(item.value) for item in classes if item.name in exclude] + ([] if outside is None else [outside])
    return Segmentation(source, left, tuple(nowhere), voxel_size or source.volume.voxel_size_um, record)


def _whole(value: object) -> int:
    if not isinstance(value, int):
        raise SettingError(f"--classes: {value} is a colour; the classes of a segmented volume are whole numbers")
    return value


def _record_of(prediction: Path, shape: tuple[int, int, int]) -> Mapping[str, Any]:
    """Return what `predict` noted of an output from which labels of this shape come."""
    record = _record(prediction)
    if not record:
        raise SettingError(f"--probabilities {prediction}: is nothing that tomoseg predict wrote; give its NAME.zarr")
    z0, z1, y0, y1, x0, x1 = record["plan"]["region"]
    its = (z1 - z0, y1 - y0, x1 - x0)
    if its != shape:
        raise SettingError(
            f"--probabilities {prediction}: has {' x '.join(map(str, its))} voxels (z, y, x), the segmentation "
            f"{' x '.join(map(str, shape))}; these labels do not come from it"
        )
    return record


def _record(path: Path) -> Mapping[str, Any]:
    """Return what `predict` noted of a segmentation that it wrote."""
    try:
        found: Any = json.loads(record_path(path).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) and "classes" in found and "summary" in found else {}


def _found(source: Source) -> dict[str, int]:
    """Return a class for each value that occurs, named after it."""
    values: set[int] = set()
    for region in _slabs(source.region.shape):
        found = _read(source, region)
        inside = _inside(source, region)
        values |= {int(value) for value in np.unique(found if inside is None else found[inside])}
        if len(values) > MOST_CLASSES:
            raise LabelError(
                f"{source.path}: holds {len(values)} or more different values; a segmentation has at most "
                f"{MOST_CLASSES}. If it is the scan, segment it first: tomoseg predict"
            )
    if len(values) < 2:
        raise LabelError(f"{source.path}: holds the value {min(values, default=0)} only; there is nothing to measure")
    return {f"class_{value}": value for value in sorted(values)}


def _slabs(shape: tuple[int, int, int], *, voxels: int = 16_000_000) -> Iterator[Region]:
    depth, height, width = shape
    step = max(1, voxels // (height * width))
    for z in range(0, depth, step):
        yield Region(z, min(depth, z + step), 0, height, 0, width)


def _read(source: Source, region: Region) -> Shaped[np.ndarray, "z y x"]:
    z, y, x = (source.region.z0, source.region.y0, source.region.x0)
    moved = Region(region.z0 + z, region.z1 + z, region.y0 + y, region.y1 + y, region.x0 + x, region.x1 + x)
    return source.volume.read(moved)


def _inside(source: Source, region: Region) -> np.ndarray | None:
    """Return which voxels of a region count by the mask; None where all do."""
    if source.view.all_inside:
        return None
    box = source.region
    rows, columns = slice(box.y0 + region.y0, box.y0 + region.y1), slice(box.x0 + region.x0, box.x0 + region.x1)
    masks = [source.view.inside(box.z0 + z)[rows, columns] for z in range(region.z0, region.z1)]
    return None if all(mask.all() for mask in masks) else np.stack(masks)
