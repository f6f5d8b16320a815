"""The data of the noise study: the scan, which slices test, and what each cell sees of it, degraded or not."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from tomoseg.checks import MOST_PIXELS, Check, make_checks, validated
from tomoseg.degrade import GreyScale, Kind, MeasuredNoise, correlated_kind, find_kind, measure_noise, noise_std_grey
from tomoseg.errors import SettingError
from tomoseg.evaluate import TestSlice
from tomoseg.labels import UNLABELLED, parse_classes, parse_value
from tomoseg.patch_noise import SomeNoisy
from tomoseg.patches import PatchSource
from tomoseg.recipe import FAST, POSTER, Recipe
from tomoseg.slices import Scan, choose_context, labelled_numbers
from tomoseg.splits import Block, Role, Split
from tomoseg.study import Cell, noisy_places
from tomoseg.window import Window
from tomoseg.workflow import prepare as work
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import open_scans
from tomoseg.workflow.study import NOISES, StudySettings
from tomoseg.workflow.train import parse_test

_SLICES = 7  # the stream of random numbers that degrades whole slices

_WHITE = 0.05
"""Correlation of neighbouring pixels' noise below which it counts as white."""

_MEASURED_SLICES = 8
_TEST_SHARE = 0.15


@dataclass(frozen=True)
class Layout:
    """What all cells share: the scan, its context, and which labelled slices test."""

    scan: Scan
    context: int
    gap: int
    test: tuple[int, ...]
    random_test: tuple[int, ...]

    def tested(self, split: str) -> tuple[int, ...]:
        """Return the numbers of the slices that test: a block, or as many drawn at random, the same for all seeds."""
        return self.random_test if split == "random" else self.test


def measured_noise(scan: Scan) -> MeasuredNoise:
    """Return the scan's own noise, measured in the flat regions of at most eight labelled slices.

    Raises
    ------
    SettingError
        If too little of them is flat, or their noise is below a step of the grey values.
    """
    zs = [pair.z for pair in scan.pairs]
    chosen = [zs[i] for i in np.unique(np.linspace(0, len(zs) - 1, _MEASURED_SLICES).astype(int))]
    grey, label = (np.stack([read(z) for z in chosen]) for read in (scan.read_grey, scan.read_label))
    return measure_noise(grey, label=label)


@dataclass(frozen=True)
class Degraded:
    """A scan whose slices are degraded, each with draws of its own, the same whoever asks."""

    scan: Scan
    kind: Kind
    level: float
    scale: GreyScale
    seed: int
    clip: bool = False

    def read(self, z: int) -> np.ndarray:
        """Return slice `z` (y, x): as it is at the kind's identity, else degraded, in float."""
        grey = self.scan.read_grey(z)
        if self.level == self.kind.identity:
            return grey
        rng = np.random.default_rng([self.seed, _SLICES, z + 1])
        found = self.kind.apply(grey.astype(np.float32), self.level, scale=self.scale, rng=rng)
        if not self.clip or self.scale.dtype.kind == "f":
            return found
        ends = np.iinfo(self.scale.dtype)
        return np.clip(np.round(found), ends.min, ends.max).astype(np.float32)


def open_study(settings: StudySettings, console: Console) -> Layout:
    """Open the scan of a study and choose its test slices: as asked, else the last 15 % of the labelled ones."""
    (scan,) = open_scans(
        [(settings.images, settings.labels)],
        how=settings,
        stated=parse_classes(settings.classes) or None,
        unlabelled=parse_value(settings.unlabelled) if settings.unlabelled else None,
        console=console,
    )
    context = choose_context([scan], asked=settings.context)
    gap = work.choose_gap([scan], context=context, reach=0) if settings.gap is None else settings.gap
    labelled = sorted(labelled_numbers(scan))
    if settings.test is None:
        test = labelled[-max(1, round(_TEST_SHARE * len(labelled))) :]
    else:
        wanted = parse_test(settings.test, depth=scan.volume.shape[0])
        test = [number for number in labelled if labelled_numbers(scan)[number] in wanted]
    at = labelled_numbers(scan)
    if test and not any((scan.read_label(at[number]) != UNLABELLED).any() for number in test):
        raise SettingError(f"no test slice has a labelled pixel (slices numbered {test[0]} to {test[-1]}); see --test")
    if not test:
        raise SettingError(
            f"--test {settings.test}: no labelled slice is in it; the {len(labelled)} labelled ones are numbered "
            f"{labelled[0]} to {labelled[-1]}"
        )
    drawn = np.random.default_rng([settings.seed, 8]).choice(labelled, len(test), replace=False)
    return Layout(scan, context, gap, tuple(test), tuple(int(number) for number in drawn))


def split_of(layout: Layout, cell: Cell) -> Split:
    """Return the roles of the slices; with a random split they leak."""
    rng = np.random.default_rng([cell.seed, 9])
    (split,) = work.split_scans(
        (layout.scan,),
        kind=cell.split,
        gap=layout.gap,
        test=[frozenset(layout.tested(cell.split))],
        rng=rng,
        n_classes=len(layout.scan.classes),
        halo=_largest_reach(layout),
    )
    return _no_more_to_learn(split, layout, rng) if cell.split == "random" else split


def _no_more_to_learn(split: Split, layout: Layout, rng: np.random.Generator) -> Split:
    """Leave out slices of a random split, whose training would be larger than that of blocks for want of a gap."""
    most = len(split_of(layout, Cell("poster", "large")).of("train"))
    train = split.of("train")
    dropped = {train[i] for i in rng.permutation(len(train))[most:]}
    roles: dict[int, Role] = {number: "gap" if number in dropped else role for number, role in split.roles.items()}
    return replace(split, roles=roles)


def _largest_reach(layout: Layout) -> int:
    """Return the reach of the largest network of a study, so that all cells train and validate on the same pixels."""
    return work.network_for(POSTER, [layout.scan], context=0).reach


def recipe_of(cell: Cell, settings: StudySettings) -> Recipe:
    """Return the recipe of a cell: the poster's at the study's width, or `fast`; both draw the poster's crops."""
    recipe = POSTER if cell.method == "poster" else FAST
    patches = recipe.patches.model_copy(update={"size": settings.patch, "draw": cell.size})
    if cell.method != "poster":
        return recipe.model_copy(update={"patches": patches})
    w = settings.width
    patches = patches.model_copy(update={"batch": settings.batch})
    return recipe.model_copy(update={"widths": (w, 2 * w, 4 * w, 8 * w), "bottleneck": 16 * w, "patches": patches})


def prepare_cell(cell: Cell, layout: Layout, settings: StudySettings) -> work.Prepared:
    """Return the data of a cell: crops, noise and validation."""
    scan, context = layout.scan, 0 if cell.method in ("poster", "ours 2D", "forest") else layout.context
    most = settings.trained_noise_std if cell.noise_std is None or settings.kind not in NOISES else cell.noise_std
    noise_std = (0.0, 0.0 if cell.method in ("poster", "ours clean", "forest") else most)
    prepared = work.prepare(
        (scan,),
        recipe_of(cell, settings),
        context=context,
        splits=(split_of(layout, cell),),
        gap=layout.gap,
        noise_std=noise_std,
        seed=cell.seed,
        reach=_largest_reach(layout),
        console=Console(quiet=True),
    )
    scale, rng = GreyScale(scan.volume.dtype, prepared.window), np.random.default_rng([cell.seed, 5])
    degraded = Degraded(scan, find_kind(settings.kind), level_of(cell, settings), scale, cell.seed)
    share = cell.share or 0.0
    if cell.method == "poster":  # the others' noise, if any, is fresh at every draw
        source = _partly_degraded(prepared.source, degraded, cell=cell, settings=settings, rng=rng)
        prepared = replace(prepared, source=source, learnt=source)
    top = settings.trained_noise_std if cell.varied else None
    checks = _checks(prepared, degraded, share, rng, varied_to=top)
    return replace(prepared, checks=checks, noisy_checks=())


def _partly_degraded(
    source: PatchSource, degraded: Degraded, *, cell: Cell, settings: StudySettings, rng: np.random.Generator
) -> PatchSource:
    """Degrade a share of the training images, as in the poster: of the crops by noise, else of whole slices."""
    share = cell.share or 0.0
    if settings.kind == "gaussian" and source.crops is not None:
        stds = (0.0 if cell.varied else degraded.level, settings.trained_noise_std if cell.varied else degraded.level)
        low, high = (noise_std_grey(s, dtype=degraded.scale.dtype, window=degraded.scale.window) for s in stds)
        chosen = noisy_places(len(source.crops), share, rng=rng)
        noisy = frozenset((int(i), int(y), int(x)) for i, y, x in source.crops[sorted(chosen)])
        return replace(source, noise=SomeNoisy(low, high, noisy, degraded.seed if settings.noise_once else None))
    # An effect on whole slices, not on crops: each is degraded once.
    chosen = noisy_places(len(source.slices), share, rng=rng)
    scan = _partly(degraded.scan, {source.slices[i].z: degraded for i in chosen})
    return replace(source, slices=tuple(replace(item, scan=scan) for item in source.slices))


def _checks(
    prepared: work.Prepared, degraded: Degraded, share: float, rng: np.random.Generator, *, varied_to: float | None
) -> tuple[Check, ...]:
    """Return a part of every validation image, a share of the images degraded; the same parts for all cells."""
    scan, split = prepared.scans[0], prepared.splits[0]
    at = labelled_numbers(scan)
    zs = [at[number] for number in split.of("train" if split.block else "validation")]
    _, height, width = scan.volume.shape
    edge = math.isqrt(MOST_PIXELS // max(1, len(zs)))
    block = split.block or _middle(height, width, edge)
    zs = validated(zs, block)
    other = replace(degraded, seed=degraded.seed + 1)
    chosen = {zs[i]: other for i in noisy_places(len(zs), share, rng=rng)}
    if varied_to is not None:
        chosen = {z: replace(other, level=float(rng.uniform(0, varied_to))) for z in sorted(chosen)}
    return make_checks(
        _partly(scan, chosen),
        zs,
        block=block,
        context=prepared.network.context,
        window=prepared.window,
        noise_grey=0.0,
        halo=prepared.network.halo,
        grid=prepared.network.grid,
        seed=degraded.seed,
    )


def _middle(height: int, width: int, edge: int) -> Block:
    y, x = max(0, (height - edge) // 2), max(0, (width - edge) // 2)
    return Block(y, min(height, y + edge), x, min(width, x + edge))


def _partly(scan: Scan, degraded: Mapping[int, Degraded]) -> Scan:
    """Return the scan with some of its slices degraded."""
    return replace(scan, cache=DegradedSlices(scan, degraded))


class DegradedSlices:
    """Reads a scan's slices, some of them degraded, once each: they are kept."""

    def __init__(self, scan: Scan, degraded: Mapping[int, Degraded]) -> None:
        self._scan, self._degraded, self._kept = scan, degraded, dict[int, np.ndarray]()

    def read(self, z: int) -> np.ndarray:
        """Return slice `z` (y, x); not to be changed."""
        if z not in self._degraded:
            return self._scan.read_grey(z)
        if z not in self._kept:
            self._kept[z] = self._degraded[z].read(z)
        return self._kept[z]


def try_levels(settings: StudySettings, layout: Layout) -> None:
    """Refuse levels that the kind of degradation cannot have, before anything is trained.

    Raises
    ------
    SettingError
        With the level and its range.
    """
    scan, kind = layout.scan, find_kind(settings.kind)
    grey = scan.read_grey(scan.pairs[0].z).astype(np.float32)
    scale = GreyScale(scan.volume.dtype, Window(low=float(grey.min()), high=float(grey.max()) + 1))
    for level in settings.all_levels:
        kind.apply(grey, level, scale=scale, rng=np.random.default_rng(0))


def scan_noise(scan: Scan) -> Kind | None:
    """Return noise that is correlated as the scan's own is in flat regions; None if that is white.

    Raises
    ------
    SettingError
        If too little of the labelled slices is flat, or their noise is below a step of the grey values.
    """
    found = measured_noise(scan)
    return correlated_kind(found.autocorrelation) if beside_correlation(found) > _WHITE else None


def beside_correlation(noise: MeasuredNoise) -> float:
    """Return the correlation of the noise of neighbouring pixels, without its sign, the larger along y and x."""
    found = noise.autocorrelation
    middle = found.shape[0] // 2
    return float(max(abs(found[middle + 1, middle]), abs(found[middle, middle + 1])))


def level_of(cell: Cell, settings: StudySettings) -> float:
    """Return the level at which a cell is degraded in training."""
    return settings.table_level if cell.noise_std is None else cell.noise_std


def tested_slices(prepared: work.Prepared, settings: StudySettings) -> list[TestSlice]:
    """Return the slices that are scored: at most as many as set, evenly spaced in the test."""
    at = labelled_numbers(prepared.scans[0])
    numbers = prepared.splits[0].of("test")
    n = min(settings.test_slices, len(numbers))
    return [TestSlice(0, at[numbers[int((i + 0.5) * len(numbers) / n)]]) for i in range(n)]
