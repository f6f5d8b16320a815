"""Training patches: drawn afresh at random, the rare classes often enough, or fixed crops as in the poster."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, Protocol, runtime_checkable

import numpy as np
from jaxtyping import Bool, Float32, Int64, UInt8
from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from tomoseg.augment import edge_before, resize, turn
from tomoseg.degrade import KINDS
from tomoseg.errors import SplitError
from tomoseg.labels import UNLABELLED
from tomoseg.patch_noise import PatchNoise
from tomoseg.slices import Scan, context_slices
from tomoseg.splits import Block, training_part
from tomoseg.tiles import reflected
from tomoseg.window import Window

Images = Float32[np.ndarray, "batch channel y x"]
Labels = UInt8[np.ndarray, "batch y x"]

CROPS_LARGE = 9
_PLACES_KEPT = 1 << 16
_NONE = np.zeros(0, np.int64)
_SMALLEST, _LARGEST = 0.7, 1.6  # magnifications of resized patches


DEFAULT_NOISE = 0.46
"""Largest noise std in training, in widths of the window: a std of 10,000 on the original tomogram."""


SPARSE = 0.05
"""Largest share of labelled pixels, of those that count in the labelled slices, with which labels are called sparse."""


class PatchSettings(BaseModel):
    """How patches are drawn."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    size: int = Field(default=128, ge=16, description="edge of a patch in pixels")
    batch: int = Field(default=2, ge=1, description="patches in a training step")
    draw: Literal["fresh", "small", "large"] = Field(
        default="fresh",
        description="fresh random patches, or one (small) or nine (large) fixed crops an image",
    )
    rare_share: float = Field(
        default=0.6,
        ge=0,
        le=1,
        description="share of the fresh patches drawn around a rare class, if there is one",
    )
    turn: bool = Field(default=True, description="flip and turn patches by right angles")
    noise_std: tuple[float, float] | None = Field(
        default=None,
        description="range of the noise std in 1/65535 of full range; 0 to 0.46 windows without it",
    )
    noise_power: float = Field(
        default=4.0,
        gt=0,
        le=10,
        description="std = range times u^power, u even from 0 to 1: above 1, little noise is more frequent",
    )
    resized_share: float = Field(
        default=0.0, ge=0, le=1, description="share of the fresh patches enlarged or reduced, and turned by any angle"
    )
    artefact_share: float = Field(
        default=0.0, ge=0, le=1, description="share of the patches that get an artefact besides the noise"
    )
    artefacts: tuple[str, ...] = Field(
        default=tuple(KINDS), min_length=1, description="the kinds among which one is drawn, its strength at random"
    )

    @field_validator("artefacts")
    @classmethod
    def _known(cls, names: tuple[str, ...]) -> tuple[str, ...]:
        if unknown := [name for name in names if name not in KINDS]:
            raise ValueError(f"there is no degradation {unknown[0]!r}; there are {', '.join(KINDS)}")
        return names

    @model_validator(mode="after")
    def _resized_are_fresh(self) -> PatchSettings:
        if self.resized_share and self.draw != "fresh":
            raise ValueError('resized_share is for fresh patches; leave it out, or draw = "fresh"')
        return self


@dataclass(frozen=True)
class TrainingSlice:
    """One slice to draw patches from.

    Attributes
    ----------
    scan
        Reads its grey values and those of its context.
    z, channels
        The slice and what the network sees for it.
    label
        Class indices, uint8 (y, x), `UNLABELLED` where nothing is to be learnt.
    labelled, rare
        Flat positions of labelled pixels, and of pixels of each rare class: all, or 65,536 evenly taken.
    open
        Pixels that nobody labelled, though something may be learnt there, bool (y, x).
    """

    scan: Scan
    z: int
    channels: tuple[int, ...]
    label: UInt8[np.ndarray, "y x"]
    labelled: Int64[np.ndarray, " pixel"]
    rare: tuple[Int64[np.ndarray, " _"], ...]
    open: Bool[np.ndarray, "y x"]

    def with_label(self, label: UInt8[np.ndarray, "y x"], *, rare: Sequence[int]) -> TrainingSlice:
        """Return it with other classes, of which `rare` are rare."""
        places = tuple(_places(label == c) for c in rare)
        known = label != UNLABELLED
        return replace(self, label=label, labelled=_places(known), rare=places, open=self.open & ~known)


def rare_classes(shares: Float32[np.ndarray, " class"] | np.ndarray) -> tuple[int, ...]:
    """Return the classes with less than half of an equal share, those that do not occur left out.

    Examples
    --------
    >>> rare_classes(np.array([0.51, 0.43, 0.045, 0.015]))
    (2, 3)
    """
    return tuple(int(c) for c in np.flatnonzero((shares > 0) & (shares < 0.5 / len(shares))))


def training_slices(
    scan: Scan, zs: Sequence[int], *, context: int, block: Block | None, halo: int, rare: Sequence[int]
) -> tuple[TrainingSlice, ...]:
    """Return the slices `zs` of a scan, ready to draw from, their validation block left out by a halo."""
    found = []
    for z in zs:
        label = training_part(scan.read_label(z), block, halo=halo)
        if (label != UNLABELLED).any():
            counting = training_part(np.where(scan.inside(z), np.uint8(0), np.uint8(UNLABELLED)), block, halo=halo)
            channels = context_slices(z, numbers=scan.numbers, context=context)
            item = TrainingSlice(scan, z, channels, label, _NONE, (), (counting == 0) & (label == UNLABELLED))
            found.append(item.with_label(label, rare=rare))
    return tuple(found)


def labelled_share(slices: Sequence[TrainingSlice]) -> float:
    """Return the share of labelled pixels, of those that count."""
    labelled = sum(int((item.label != UNLABELLED).sum()) for item in slices)
    return labelled / max(1, labelled + sum(int(item.open.sum()) for item in slices))


def _places(mask: np.ndarray) -> Int64[np.ndarray, " pixel"]:
    found = np.flatnonzero(mask)
    return found[:: -(-len(found) // _PLACES_KEPT)] if len(found) else found


@runtime_checkable
class BatchSource(Protocol):
    """Where training gets its batches from; `PatchSource` is the one that reads scans."""

    @property
    def settings(self) -> PatchSettings:
        """How patches are drawn."""
        ...

    def batch(self, rng: np.random.Generator) -> tuple[Images, Labels]:
        """Return a batch drawn with `rng`: images (batch, channel, y, x) and classes (batch, y, x)."""
        ...


@dataclass(frozen=True)
class PatchSource:
    """Draws batches of patches from training slices.

    Attributes
    ----------
    slices
        Where from.
    settings
        How.
    window
        What turns grey values into network input.
    noise
        What a patch gets.
    crops
        Fixed crops as (slice, y, x) of their first pixels; None for fresh patches.
    """

    slices: tuple[TrainingSlice, ...]
    settings: PatchSettings
    window: Window
    noise: PatchNoise
    crops: Int64[np.ndarray, "crop 3"] | None = None

    def batch(self, rng: np.random.Generator) -> tuple[Images, Labels]:
        """Return a batch: input in window units, float32 (batch, channel, y, x), and classes, uint8 (batch, y, x)."""
        drawn = [self._patch(place, rng) for place in self._places(rng)]
        images = np.stack([self.window.apply(image) for image, _ in drawn])
        return images, np.stack([label for _, label in drawn])

    def _places(self, rng: np.random.Generator) -> list[tuple[int, int, int]]:
        if self.crops is not None:
            chosen = rng.choice(len(self.crops), self.settings.batch, replace=len(self.crops) < self.settings.batch)
            return [(int(i), int(y), int(x)) for i, y, x in self.crops[chosen]]
        return [self._fresh(rng) for _ in range(self.settings.batch)]

    def _fresh(self, rng: np.random.Generator) -> tuple[int, int, int]:
        rare = [(i, places) for i, item in enumerate(self.slices) for places in item.rare if len(places)]
        if rare and rng.random() < self.settings.rare_share:
            which, places = rare[int(rng.integers(len(rare)))]
        else:
            which = int(rng.integers(len(self.slices)))
            places = self.slices[which].labelled
        y, x = divmod(int(places[rng.integers(len(places))]), self.slices[which].label.shape[1])
        # The pixel lies anywhere in the patch, so that no class is always seen in the middle.
        dy, dx = rng.integers(self.settings.size, size=2)
        return which, y - int(dy), x - int(dx)

    def _patch(self, place: tuple[int, int, int], rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        item, corner, settings = self.slices[place[0]], place[1:], self.settings
        if settings.resized_share and rng.random() < settings.resized_share:
            image, label = self._resized(item, corner, rng)
        else:
            image, label = _crop(item, corner, settings.size)
        noisy = self.noise.on(image, place, rng)
        return turn(noisy, label, rng=rng) if settings.turn else (noisy, label)

    def _resized(
        self, item: TrainingSlice, corner: tuple[int, int], rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        magnification = math.exp(rng.uniform(math.log(_SMALLEST), math.log(_LARGEST)))
        size, angle = self.settings.size, rng.uniform(0, math.pi / 2)
        edge = edge_before(size, magnification=magnification, angle=angle)
        around = (edge - size) // 2
        image, label = _crop(item, (corner[0] - around, corner[1] - around), edge)
        found = resize(image, label, size=size, magnification=magnification, angle=angle)
        # enlarged, it may have lost the labelled pixel that it was drawn for
        return found if (found[1] != UNLABELLED).any() else _crop(item, corner, size)


def _crop(item: TrainingSlice, corner: tuple[int, int], edge: int) -> tuple[np.ndarray, np.ndarray]:
    """Return grey values (channel, y, x) and classes (y, x) from a first pixel on; reflected ones are unlabelled."""
    y, x = corner
    rows, columns = reflected(y, edge, item.label.shape[0]), reflected(x, edge, item.label.shape[1])
    grid = np.ix_(rows, columns)
    image = np.stack([item.scan.read_grey(z)[grid] for z in item.channels])
    label = item.label[grid].copy()
    label[~(_inside(y, edge, item.label.shape[0])[:, None] & _inside(x, edge, item.label.shape[1]))] = UNLABELLED
    return image, label


def _inside(start: int, length: int, size: int) -> np.ndarray:
    place = np.arange(start, start + length)
    return (place >= 0) & (place < size)


def fixed_crops(
    slices: Sequence[TrainingSlice], *, size: int, crops: int, rng: np.random.Generator
) -> Int64[np.ndarray, "crop 3"]:
    """Choose `crops` fixed crops of each slice, once: random first pixels, as in the poster.

    Crops without a labelled pixel are drawn again, up to a hundred times.

    Raises
    ------
    SplitError
        If a slice is smaller than a crop.
    """
    found = []
    for which, item in enumerate(slices):
        height, width = item.label.shape
        if height < size or width < size:
            raise SplitError(
                f"slices of {height} x {width} pixels hold no crop of {size} x {size}; choose a smaller one"
            )
        found += [(which, *_labelled_corner(item, size, rng)) for _ in range(crops)]
    return np.array(found, np.int64)


def _labelled_corner(item: TrainingSlice, size: int, rng: np.random.Generator) -> tuple[int, int]:
    height, width = item.label.shape
    y = x = 0
    for _ in range(100):
        y, x = int(rng.integers(height - size + 1)), int(rng.integers(width - size + 1))
        if (item.label[y : y + size, x : x + size] != UNLABELLED).any():
            break
    return y, x


def patch_source(
    slices: tuple[TrainingSlice, ...],
    settings: PatchSettings,
    *,
    window: Window,
    noise: PatchNoise,
    rng: np.random.Generator,
) -> PatchSource:
    """Return the source of patches that `settings` ask for.

    Raises
    ------
    SplitError
        If no training slice has a labelled pixel left, or slices are smaller than fixed crops.
    """
    if not slices:
        raise SplitError("no labelled pixel is left for training; label more, or look at --roi and --mask")
    crops = {"fresh": 0, "small": 1, "large": CROPS_LARGE}[settings.draw]
    fixed = fixed_crops(slices, size=settings.size, crops=crops, rng=rng) if crops else None
    return PatchSource(slices, settings, window, noise, fixed)
