"""Open what the user named: a scan, its labels, the part that counts."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from tomoseg.errors import LabelError, SettingError
from tomoseg.field_of_view import FieldOfView, auto_mask, everything, load_mask, same_for_all
from tomoseg.labels import LabelClass, Value, find_classes
from tomoseg.slices import Pair, Scan, SliceCache, check_sizes, pair_slices, slice_numbers
from tomoseg.volume import AS_IT_IS, Opening, Pictures, Region, Volume, open_pictures, open_volume
from tomoseg.volume.source import split_inner
from tomoseg.workflow.common import Reading
from tomoseg.workflow.console import Console

_CACHE_SHARE = 0.25


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
    console
        Shows progress.

    Raises
    ------
    InputError
        If anything cannot be read or does not fit together.
    """
    sources = [open_source(images, how) for images, _ in places]
    pictures = [open_pictures(labels, opening=_beside(how)) for _, labels in places]
    for (images, labels), source, found in zip(places, sources, pictures, strict=True):
        if images.resolve() == labels.resolve():
            raise SettingError(f"{images}: is given as the images and as the labels")
        check_sizes(source.volume, found)
    pairs = [_in_region(s, pair_slices(s.volume.names, p.names)) for s, p in zip(sources, pictures, strict=True)]
    classes = known or _find_classes(pictures, stated, unlabelled, console)
    return tuple(
        Scan(
            source.volume,
            found,
            paired,
            classes,
            unlabelled,
            source.view,
            source.region,
            source_hash(source.path),
            cache_for(source.volume),
        )
        for source, found, paired in zip(sources, pictures, pairs, strict=True)
    )


def _in_region(source: Source, pairs: tuple[Pair, ...]) -> tuple[Pair, ...]:
    """Return the labelled slices that lie in the region of interest."""
    kept = tuple(pair for pair in pairs if source.region.z0 <= pair.z < source.region.z1)
    if not kept:
        region = source.region
        raise SettingError(f"--roi: none of the {len(pairs)} labelled slices lies in z {region.z0} to {region.z1 - 1}")
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
