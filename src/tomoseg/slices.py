"""Labelled slices of a scan: which label belongs to which image, and which slices are a slice's context."""

from __future__ import annotations

import re
from collections import Counter, OrderedDict
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import PurePath
from typing import Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Shaped, UInt8

from tomoseg.ends import FITTED, MOST_BEYOND, continued
from tomoseg.errors import PairingError, SettingError
from tomoseg.field_of_view import FieldOfView
from tomoseg.labels import UNLABELLED, LabelClass, Value, encode
from tomoseg.volume import Pictures, Region, Volume, read_slice
from tomoseg.volume.turned import Axis, TurnedVolume, read_planes

Slice = Shaped[np.ndarray, "y x"]
Index = UInt8[np.ndarray, "y x"]

_LISTED = 5


@dataclass(frozen=True)
class Pair:
    """A labelled slice: slice `z` of the volume and the label picture that belongs to it, both counted from 0."""

    z: int
    picture: int


def last_number(name: str) -> int | None:
    """Return the last number in the name of a slice, its ending left aside; None where there is none.

    Examples
    --------
    >>> last_number("SOCprist0017.tiff"), last_number("stack.tif[17]"), last_number("plug.mp4.tif")
    (17, 17, 4)
    """
    found: list[str] = re.findall(r"\d+", _stem(name))
    return int(found[-1]) if found else None


def slice_numbers(names: Sequence[str]) -> tuple[int, ...]:
    """Return the position of each slice along z: the last number in its name, else its place in the order.

    The order is taken for all slices if any name lacks a number or two share one.

    Examples
    --------
    >>> slice_numbers(["a_0005.tif", "a_0007.tif"]), slice_numbers(["left.tif", "right.tif"])
    ((5, 7), (0, 1))
    """
    numbers = [number for number in map(last_number, names) if number is not None]
    return tuple(numbers) if len(set(numbers)) == len(names) else tuple(range(len(names)))


def numbers_apart(names: Sequence[str]) -> tuple[int, ...] | None:
    """Return the numbers of slices if they leave some out: stacked, such slices are no volume. Else None.

    Examples
    --------
    >>> numbers_apart(["a_0005.tif", "a_0007.tif"]), numbers_apart(["a_0005.tif", "a_0006.tif"])
    ((5, 7), None)
    """
    numbers = slice_numbers(names)
    return None if set(np.diff(numbers).tolist()) <= {1} else numbers


def pair_slices(image_names: Sequence[str], label_names: Sequence[str]) -> tuple[Pair, ...]:
    """Pair images and labels by equal stem, else by the last number in their names.

    Images left over are unlabelled slices.

    Raises
    ------
    PairingError
        If labels are left over, or a stem or number comes twice; the message lists them.

    Examples
    --------
    >>> pair_slices(["SOCprist0001.tiff", "SOCprist0002.tiff"], ["slice__002.tif"])
    (Pair(z=1, picture=0),)
    """
    if {_stem(name) for name in label_names} <= {_stem(name) for name in image_names}:
        return _pair_by(_stem, image_names, label_names, "stem")
    if len(image_names) == len(label_names) == 1:
        return (Pair(0, 0),)
    return _pair_by(last_number, image_names, label_names, "last number")


def pair_planes(axis: Axis, planes: int, label_names: Sequence[str]) -> tuple[Pair, ...]:
    """Pair the planes across `axis`, of which there are so many, and labels by the last number in the labels' names.

    Raises
    ------
    PairingError
        If a label has no number, one outside the volume, or the same as another.

    Examples
    --------
    >>> pair_planes("y", 96, ["plane_040.tif", "plane_072.tif"])
    (Pair(z=40, picture=0), Pair(z=72, picture=1))
    """
    strange = [name for name in label_names if not 0 <= (-1 if (n := last_number(name)) is None else n) < planes]
    if strange:
        raise PairingError(
            f"{len(strange)} of {len(label_names)} labels across {axis} have no plane: {_listed(strange)}; the last "
            f"number in a name is the plane along {axis}, 0 to {planes - 1}"
        )
    return _pair_by(last_number, [f"{axis}[{plane}]" for plane in range(planes)], label_names, "last number")


def _stem(name: str) -> str:
    page = re.fullmatch(r"(.*)(\[\d+\])", name)
    return PurePath(page[1]).stem + page[2] if page else PurePath(name).stem


def _pair_by(
    key: Callable[[str], str | int | None],
    image_names: Sequence[str],
    label_names: Sequence[str],
    what: str,
) -> tuple[Pair, ...]:
    _refuse_duplicates(key, label_names, f"labels with the same {what}")
    wanted = {key(name) for name in label_names}
    _refuse_duplicates(
        key, [name for name in image_names if key(name) in wanted], f"images with the same {what} as a label"
    )
    images = {key(name): z for z, name in enumerate(image_names)}
    strange = [name for name in label_names if key(name) is None or key(name) not in images]
    if strange:
        raise PairingError(
            f"{len(strange)} of {len(label_names)} labels have no image: {_listed(strange)}; images and labels pair "
            f"by equal stem, else by the last number in the name (the images: {_listed(image_names)})"
        )
    pairs = (Pair(images[key(name)], picture) for picture, name in enumerate(label_names))
    return tuple(sorted(pairs, key=lambda pair: pair.z))


def _refuse_duplicates(key: Callable[[str], str | int | None], names: Sequence[str], what: str) -> None:
    counts = Counter(map(key, names))
    double = [name for name in names if key(name) is not None and counts[key(name)] > 1]
    if double:
        raise PairingError(f"{what}: {_listed(double)}; keep one of them, or rename them")


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


@runtime_checkable
class SliceReader(Protocol):
    """Gives the slices of a volume; `SliceCache` is the one that reads files."""

    def read(self, z: int) -> Slice:
        """Return the slice `z` (y, x); not to be changed."""
        ...


class SliceCache:
    """Whole slices of a volume, read when first asked for and kept up to a number of bytes, least used out first."""

    def __init__(self, volume: Volume, *, limit_bytes: int) -> None:
        self._volume, self._limit = volume, limit_bytes
        self._kept: OrderedDict[int, Slice] = OrderedDict()

    def read(self, z: int) -> Slice:
        """Return the slice `z`, (y, x), in the type of the file; not to be changed."""
        if z not in self._kept:
            self._kept[z] = read_slice(self._volume, z)
            while len(self._kept) > 1 and sum(kept.nbytes for kept in self._kept.values()) > self._limit:
                self._kept.popitem(last=False)
        self._kept.move_to_end(z)
        return self._kept[z]

    def fetch(self, zs: Collection[int]) -> Iterator[float]:
        """Read planes of a turned volume ahead, in one pass, as many as are kept; yield the share that is done.

        Of any other volume slices are as quick to read when they are asked for, and nothing is done.
        """
        if not isinstance(self._volume, TurnedVolume) or self._volume.axis == "z":
            return
        _, rows, columns = self._volume.shape
        most = self._limit // (rows * columns * self._volume.dtype.itemsize)
        wanted = sorted(set(zs) - self._kept.keys())[:most]
        if not wanted:
            return
        found = {z: np.empty((rows, columns), self._volume.dtype) for z in wanted}
        for part, values in read_planes(self._volume, wanted):
            for z, plane in zip(wanted, values, strict=True):
                found[z][part] = plane
            yield part.stop / rows
        self._kept.update(found)


@dataclass(frozen=True)
class Scan:
    """One tomogram, the slices of it that are labelled, and the part of it that counts.

    Attributes
    ----------
    volume, pictures
        Images, and label pictures for some of them.
    pairs
        Which picture labels which slice, by rising z.
    classes, unlabelled
        What the values of the pictures mean.
    view, region
        Pixels outside either count nowhere.
    source
        What the scan is known by: where its images are.
    cache
        Reads the images.
    axis
        Which of the volume's axes the slices are planes across; shapes, regions and names are along it.
    withheld
        Boxes (slice, y, x) whose labels are not to be seen.
    """

    volume: Volume
    pictures: Pictures
    pairs: tuple[Pair, ...]
    classes: tuple[LabelClass, ...]
    unlabelled: Value | None
    view: FieldOfView
    region: Region
    source: str
    cache: SliceReader
    axis: Axis = "z"
    withheld: tuple[Region, ...] = ()

    @cached_property
    def numbers(self) -> tuple[int, ...]:
        """Position of each slice along the scan's axis, as its name says."""
        return slice_numbers(self.volume.names)

    def read_grey(self, z: int) -> Slice:
        """Return the grey values of slice `z`, (y, x), in the type of the file; not to be changed.

        Those of slices beyond the scan's ends are foretold.
        """
        return self._continued(z)

    @cached_property
    def _continued(self) -> Callable[[int], Slice]:
        return continued(self.cache.read, self.volume.shape[0])

    def read_label(self, z: int) -> Index:
        """Return the class indices of the labelled slice `z`, uint8 (y, x), `UNLABELLED` outside."""
        pair = next(pair for pair in self.pairs if pair.z == z)
        name = self.pictures.names[pair.picture]
        label = encode(self.pictures.read_picture(pair.picture), self.classes, unlabelled=self.unlabelled, where=name)
        return np.where(self.inside(z), label, np.uint8(UNLABELLED))

    def inside(self, z: int) -> Bool[np.ndarray, "y x"]:
        """Return which pixels of slice `z` count."""
        inside = np.zeros(self.volume.shape[1:], np.bool_)
        _, rows, columns = self.region.slices
        inside[rows, columns] = self.view.inside(z)[rows, columns]
        for box in self.withheld:
            if box.z0 <= z < box.z1:
                inside[box.slices[1:]] = False
        return inside


def check_sizes(volume: Volume, pictures: Pictures, axis: Axis = "z") -> None:
    """Refuse labels whose pixels are not those of the images.

    Raises
    ------
    PairingError
        If the sizes differ.
    """
    (rows, columns), found = volume.shape[1:], f"{pictures.shape[1]} x {pictures.shape[2]}"
    if volume.shape[1:] == pictures.shape[1:]:
        return
    if axis != "z":
        raise PairingError(
            f"{pictures.path}: planes across {axis} have {rows} x {columns} pixels (rows z, columns "
            f"{'x' if axis == 'y' else 'y'}), the labels {found}; labels must be drawn on such planes at the same size"
        )
    raise PairingError(
        f"the images have {rows} x {columns} pixels (y, x), the labels {found}; labels must be drawn on the images at "
        "the same size"
    )


def context_slices(z: int, *, numbers: Sequence[int], context: int) -> tuple[int, ...]:
    """Return the 2 x `context` + 1 slices that the network sees for slice `z`: those 1 to `context` numbers away.

    Beyond an end with enough neighbouring slices they are foretold: such slices count on, below 0 or from the number of
    slices. Where a number is missing otherwise the nearest slice on the way back to `z` is repeated.

    Parameters
    ----------
    z
        Slice, counted from 0.
    numbers
        Position of each slice along z.
    context
        Slices on either side.

    Examples
    --------
    >>> context_slices(1, numbers=[5, 6, 7, 9], context=2), context_slices(12, numbers=range(13), context=2)
    ((0, 0, 1, 2, 2), (10, 11, 12, 13, 14))
    """
    at = _foretold(numbers) | {number: index for index, number in enumerate(numbers)}
    below = [_nearest(at, numbers[z], -step) for step in range(context, 0, -1)]
    above = [_nearest(at, numbers[z], step) for step in range(1, context + 1)]
    return (*below, z, *above)


def _foretold(numbers: Sequence[int]) -> dict[int, int]:
    """Return the slices beyond the ends by their numbers; none at an end with too few neighbouring slices."""
    found: dict[int, int] = {}
    count = len(numbers)
    if _neighbours(numbers[:FITTED]):
        found |= {numbers[0] - step: -step for step in range(1, MOST_BEYOND + 1)}
    if _neighbours(numbers[-FITTED:]):
        found |= {numbers[-1] + step: count - 1 + step for step in range(1, MOST_BEYOND + 1)}
    return found


def _neighbours(numbers: Sequence[int]) -> bool:
    return len(numbers) == FITTED and all(number == numbers[0] + i for i, number in enumerate(numbers))


def _nearest(at: dict[int, int], number: int, offset: int) -> int:
    toward = 1 if offset < 0 else -1
    return next(at[number + step] for step in range(offset, toward, toward) if number + step in at)


def choose_context(scans: Sequence[Scan], *, asked: int | None) -> int:
    """Return the number of context slices on either side: as asked, else 2 where slices are neighbours, else 0.

    Raises
    ------
    SettingError
        If context is asked for and no labelled slice has a neighbour.
    """
    with_neighbour = [found for scan in scans for found in _with_neighbour(scan)]
    if asked and not any(with_neighbour):
        raise SettingError(
            f"--context {asked} asks for neighbouring slices, but none of the {len(with_neighbour)} labelled slices "
            "has an image numbered one higher or lower; use --context 0, or add the neighbours to the images"
        )
    if asked is not None:
        return asked
    return 2 if 2 * sum(with_neighbour) > len(with_neighbour) else 0


def labelled_numbers(scan: Scan) -> dict[int, int]:
    """Return the labelled slices of a scan: number along its axis -> slice, counted from 0."""
    return {scan.numbers[pair.z]: pair.z for pair in scan.pairs}


def _with_neighbour(scan: Scan) -> list[bool]:
    there = set(scan.numbers)
    return [bool({scan.numbers[pair.z] - 1, scan.numbers[pair.z] + 1} & there) for pair in scan.pairs]
