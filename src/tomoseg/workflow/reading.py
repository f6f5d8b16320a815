"""Open what the user named: a scan, its labels, the part that counts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tomoseg.errors import LabelError, SettingError
from tomoseg.field_of_view import FieldOfView, across, auto_mask, everything, load_mask, same_for_all
from tomoseg.labels import LabelClass, Value, find_classes
from tomoseg.slices import Pair, Scan, SliceCache, check_sizes, numbers_apart, pair_planes, pair_slices, slice_numbers
from tomoseg.volume import AS_IT_IS, Opening, Pictures, Region, Volume, open_pictures, open_volume
from tomoseg.volume.source import split_inner
from tomoseg.volume.turned import Axis, TurnedVolume, turn_region
from tomoseg.workflow.common import Reading
from tomoseg.workflow.console import Console

_CACHE_SHARE = 0.25
_SAME_EDGE = 0.01


@dataclass(frozen=True)
class Source:
    """A volume and the part of it that counts."""

    volume: Volume
    view: FieldOfView
    region: Region
    path: Path


def open_source(path: Path, how: Reading) -> Source:
    """Open a volume, its region of interest and its field of view."""
    volume = open_volume(path, opening=how.opening)
    region = Region.parse(how.roi, shape=volume.shape) if how.roi else Region.whole(volume.shape)
    return Source(volume, open_view(volume, how.mask, opening=_beside(how)), region, path)


def refuse_without_parts(source: Source, *, context: int) -> None:
    """Refuse a volume of which no part can be read, or no neighbours for a network that looks at them.

    Raises
    ------
    SettingError
        If it can't.
    """
    if getattr(source.volume, "in_order_only", False):
        raise SettingError(
            f"{source.path}: is one compressed stream, of which no part can be read; convert it first: tomoseg "
            f"convert {source.path} {source.path.name.partition('.')[0]}.zarr"
        )
    numbers = slice_numbers(source.volume.names)
    there = set(numbers)
    if context and not any(number + 1 in there for number in numbers):
        raise SettingError(
            f"the model looks at {context} neighbouring slices on either side, but {source.path} has no two "
            "slices with consecutive numbers; give the whole scan, or a model trained with --context 0"
        )


def refuse_uneven(volume: Volume, *, place: Path, asking: str) -> None:
    """Refuse a volume that is not the same along all axes: slices missing, or voxels known to be no cubes.

    Raises
    ------
    SettingError
        If it isn't; `asking` is what needs it.
    """
    if numbers_apart(volume.names) is not None:
        raise SettingError(f"{asking} needs all slices of a scan; in {place} some numbers are missing")
    size = volume.voxel_size_um
    if size is not None and max(size) > (1 + _SAME_EDGE) * min(size):
        edges = " x ".join(f"{edge:g}" for edge in size)
        raise SettingError(f"{asking} needs voxels of one size along all axes; here they are {edges} um (z, y, x)")


def refuse_same_place(out: Path, source: Path) -> None:
    """Refuse to write an output over the volume that it is made from.

    Raises
    ------
    SettingError
        If both are the same file or folder, or the output would lie within the source's store.
    """
    root = split_inner(source)[0].resolve()
    if out.resolve() == root:
        raise SettingError(f"{out}: is given as the source and as the output; choose another name")
    if root.suffix.lower() == ".zarr" and root in out.resolve().parents:
        raise SettingError(f"{out}: lies within the source; choose a place beside it")


def _beside(how: Reading) -> Opening:
    """Return how labels and masks are opened: as the volume, but for a raw file's size and type, its own."""
    return replace(how.opening, layout=None)


def open_view(volume: Volume, mask: str | None, *, opening: Opening = AS_IT_IS) -> FieldOfView:
    """Return the field of view that `--mask` asks for: everything, a file's, or found from constant corners."""
    if mask is None:
        return everything(volume.shape)
    if mask == "auto":
        return same_for_all(auto_mask(volume), shape=volume.shape)
    return load_mask(Path(mask), volume.shape, opening=opening)


def cache_for(volume: Volume) -> SliceCache:
    """Return a cache of whole slices that takes at most a quarter of the memory that is free now."""
    return SliceCache(volume, limit_bytes=int(_CACHE_SHARE * psutil.virtual_memory().available))


def source_hash(path: Path) -> str:
    """Return what a scan is known by: a hash of its whole path, which says nothing about the user's folders."""
    return hashlib.sha256(str(path.resolve()).encode()).hexdigest()[:16]


def open_scans(
    places: Sequence[tuple[Path, Path]],
    *,
    how: Reading,
    stated: Mapping[str, Value] | None,
    unlabelled: Value | None,
    known: tuple[LabelClass, ...] | None = None,
    axes: Sequence[Axis] | None = None,
    console: Console,
) -> tuple[Scan, ...]:
    """Open scans with their labels; all share their classes, found in the labels unless they are `known`.

    Parameters
    ----------
    places
        Images and labels of each scan.
    how
        How each scan is read, as the user said.
    stated, unlabelled
        Classes and "not labelled" as the user gave them.
    known
        Classes of a model.
    axes
        What the labels of each scan are planes across; z without it.
    console
        Shows progress.

    Raises
    ------
    InputError
        If anything cannot be read or does not fit together.
    """
    axes = axes or ["z"] * len(places)
    sources = [_turned(open_source(images, how), axis) for (images, _), axis in zip(places, axes, strict=True)]
    if unknown := {str(s.path) for s, axis in zip(sources, axes, strict=True) if axis != "z" and not _edges_known(s)}:
        console.say(f"voxel size of {', '.join(sorted(unknown))} not known; taken as the same along all axes")
    pictures = [open_pictures(labels, opening=_beside(how)) for _, labels in places]
    for (images, labels), source, found, axis in zip(places, sources, pictures, axes, strict=True):
        if images.resolve() == labels.resolve():
            raise SettingError(f"{images}: is given as the images and as the labels")
        check_sizes(source.volume, found, axis)
    pairs = [_in_region(*given, _paired(*given)) for given in zip(sources, pictures, axes, strict=True)]
    classes = known or _find_classes(pictures, stated, unlabelled, console)
    return tuple(
        Scan(
            source.volume,
            found,
            paired,
            classes,
            unlabelled,
            _view(source, axis, paired),
            source.region,
            source_hash(source.path),
            cache_for(source.volume),
            axis,
        )
        for source, found, paired, axis in zip(sources, pictures, pairs, axes, strict=True)
    )


def _turned(source: Source, axis: Axis) -> Source:
    """Return a source whose volume and region are seen along `axis`; its field of view is as it was."""
    if axis == "z":
        return source
    refuse_uneven(source.volume, place=source.path, asking=f'axis = "{axis}"')
    return replace(source, volume=TurnedVolume(source.volume, axis), region=turn_region(source.region, axis))


def _edges_known(source: Source) -> bool:
    return source.volume.voxel_size_um is not None


def _view(source: Source, axis: Axis, pairs: Sequence[Pair]) -> FieldOfView:
    return source.view if axis == "z" else across(source.view, axis, [pair.z for pair in pairs])


def _paired(source: Source, pictures: Pictures, axis: Axis) -> tuple[Pair, ...]:
    if axis == "z":
        return pair_slices(source.volume.names, pictures.names)
    return pair_planes(axis, source.volume.shape[0], pictures.names)


def _in_region(source: Source, pictures: Pictures, axis: Axis, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """Return the labelled slices that lie in the region of interest."""
    kept = tuple(pair for pair in pairs if source.region.z0 <= pair.z < source.region.z1)
    if not kept:
        region = source.region
        raise SettingError(
            f"--roi: none of the {len(pairs)} labelled slices of {pictures.path} lies in {axis} {region.z0} to "
            f"{region.z1 - 1}"
        )
    return kept


def _find_classes(
    pictures: Sequence[Pictures],
    stated: Mapping[str, Value] | None,
    unlabelled: Value | None,
    console: Console,
) -> tuple[LabelClass, ...]:
    several = len(pictures) > 1
    named = (
        (f"{found.path.name}/{name}" if several else name, found.read_picture(i))
        for found in pictures
        for i, name in enumerate(found.names)
    )
    total = sum(len(found) for found in pictures)
    classes = find_classes(console.track(named, "reading labels", total), stated=stated, unlabelled=unlabelled)
    if len(classes) > 32:
        raise LabelError(f"{len(classes)} classes were stated; at most 32 are possible")
    return classes
