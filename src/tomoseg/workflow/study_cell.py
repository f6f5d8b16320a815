"""One cell of the noise study: train it, score it at all noise levels, keep what it gave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Int64

from tomoseg.baselines import Baseline, Sample, fit_forest
from tomoseg.checks import MOST_PIXELS, Check, make_checks
from tomoseg.degrade import GreyScale, Kind, MeasuredNoise, correlated_kind, find_kind, measure_noise, noise_std_grey
from tomoseg.errors import SettingError
from tomoseg.evaluate import TestSlice, block_edge, stack_of
from tomoseg.intervals import group_by_z, tile_confusions
from tomoseg.labels import parse_classes, parse_value
from tomoseg.metrics import accuracy, mean_iou
from tomoseg.patches import PatchSource, SomeNoisy
from tomoseg.recipe import FAST, POSTER, Recipe
from tomoseg.report import write_json
from tomoseg.slices import Scan, choose_context
from tomoseg.splits import Block, Split
from tomoseg.study import Cell, fraction_errors, noisy_places
from tomoseg.window import Window
from tomoseg.workflow import prepare as work
from tomoseg.workflow.common import limit_threads
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import open_scans
from tomoseg.workflow.study import NOISES, StudySettings
from tomoseg.workflow.train import parse_test

if TYPE_CHECKING:
    from tomoseg.train import Budget, Training

Reader = Callable[[int], np.ndarray]
Segment = Callable[[Scan, TestSlice, Reader], np.ndarray]

_SLICES = 7  # the stream of random numbers that degrades whole slices

_WHITE = 0.05
"""Correlation of neighbouring pixels' noise below which it counts as white."""

_MOST_FOREST_CROPS = 64
_MEASURED_SLICES = 8
_TEST_SHARE = 0.15
_MOST_PASSES = 1000  # of a cell that is trained until validation stops improving


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
    gap = work.choose_gap([scan], context=context) if settings.gap is None else settings.gap
    labelled = sorted(work.labelled_numbers(scan))
    if settings.test is None:
        test = labelled[-max(1, round(_TEST_SHARE * len(labelled))) :]
    else:
        wanted = parse_test(settings.test, depth=scan.volume.shape[0])
        test = [number for number in labelled if work.labelled_numbers(scan)[number] in wanted]
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
        [layout.scan],
        kind=cell.split,
        gap=layout.gap,
        test=[frozenset(layout.tested(cell.split))],
        rng=rng,
        n_classes=len(layout.scan.classes),
        halo=work.network_for(POSTER, [layout.scan], context=0).reach,  # the largest, so that all cells validate alike
    )
    return split


def recipe_of(cell: Cell, settings: StudySettings) -> Recipe:
    """Return the recipe of a cell: the poster's at the study's width, or `fast`; both draw the poster's crops."""
    recipe = POSTER if cell.method == "poster" else FAST
    patches = recipe.patches.model_copy(update={"size": settings.patch, "draw": cell.size})
    if cell.method != "poster":
        return recipe.model_copy(update={"patches": patches})
    w = settings.width
    patches = patches.model_copy(update={"batch": settings.batch})
    return recipe.model_copy(update={"widths": (w, 2 * w, 4 * w, 8 * w), "bottleneck": 16 * w, "patches": patches})


def run_cell(cell: Cell, settings: StudySettings, threads: int | None) -> None:
    """Train and score a cell; its result is on disk, whole, when this returns.

    Parameters
    ----------
    cell, settings
        Which, of which study.
    threads
        Processor threads that it may use.
    """
    limit_threads(threads)
    layout = open_study(settings, Console(quiet=True))
    began = time.monotonic()
    prepared = prepare_cell(cell, layout, settings)
    made = _forest(cell, prepared, settings, threads) if cell.method == "forest" else _network(cell, prepared, settings)
    segment, facts = made
    trained = time.monotonic() - began
    levels = settings.all_levels if cell.noise_std is None or cell.method != "forest" else [cell.noise_std]
    result = {
        "key": cell.key,
        "cell": {name: getattr(cell, name) for name in Cell.__dataclass_fields__},
        **facts,
        "seconds": round(trained, 1),
        "curve": _score(segment, prepared, find_kind(settings.kind), levels, settings),
    }
    like_scan = scan_noise(layout.scan) if settings.plans_like_scan else None
    if like_scan is not None:
        result["curve_like_scan"] = _score(segment, prepared, like_scan, levels, settings)
    write_json(settings.out / "cells" / f"{cell.key}.json", result)


def prepare_cell(cell: Cell, layout: Layout, settings: StudySettings) -> work.Prepared:
    """Return the data of a cell: crops, noise and validation."""
    scan, context = layout.scan, 0 if cell.method in ("poster", "ours 2D", "forest") else layout.context
    top = settings.trained_noise_std if cell.noise_std is None or settings.kind not in NOISES else cell.noise_std
    noise_std = (0.0, 0.0 if cell.method in ("poster", "ours clean", "forest") else top)
    prepared = work.prepare(
        (scan,),
        recipe_of(cell, settings),
        context=context,
        splits=(split_of(layout, cell),),
        gap=layout.gap,
        noise_std=noise_std,
        seed=cell.seed,
        console=Console(quiet=True),
    )
    scale, rng = GreyScale(scan.volume.dtype, prepared.window), np.random.default_rng([cell.seed, 5])
    degraded = Degraded(scan, find_kind(settings.kind), _level(cell, settings), scale, cell.seed)
    share = cell.share or 0.0
    source = _partly_degraded(prepared.source, degraded, share, settings, rng)
    return replace(prepared, source=source, checks=_checks(prepared, degraded, share, rng))


def _partly_degraded(
    source: PatchSource, degraded: Degraded, share: float, settings: StudySettings, rng: np.random.Generator
) -> PatchSource:
    """Degrade a share of the training images, as in the poster."""
    chosen = noisy_places(len(source.slices), share, rng=rng)
    if not chosen:
        return source
    if settings.kind == "gaussian":
        std = noise_std_grey(degraded.level, dtype=degraded.scale.dtype, window=degraded.scale.window)
        return replace(source, noise=SomeNoisy(std, chosen, degraded.seed if settings.noise_once else None))
    # An effect on whole slices, not on crops: each is degraded once.
    scan = _partly(degraded, {source.slices[i].z for i in chosen})
    return replace(source, slices=tuple(replace(item, scan=scan) for item in source.slices))


def _checks(prepared: work.Prepared, degraded: Degraded, share: float, rng: np.random.Generator) -> tuple[Check, ...]:
    """Return a part of every validation image, a share of the images degraded; the same parts for all cells."""
    scan, split = prepared.scans[0], prepared.splits[0]
    at = work.labelled_numbers(scan)
    zs = [at[number] for number in split.of("train" if split.block else "validation")]
    chosen = noisy_places(len(zs), share, rng=rng)
    _, height, width = scan.volume.shape
    edge = math.isqrt(MOST_PIXELS // max(1, len(zs)))
    return make_checks(
        _partly(replace(degraded, seed=degraded.seed + 1), {zs[i] for i in chosen}),
        zs,
        block=split.block or _middle(height, width, edge),
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


def _partly(degraded: Degraded, zs: set[int]) -> Scan:
    """Return the scan with the slices `zs` degraded."""
    return replace(degraded.scan, cache=_DegradedSlices(degraded, zs))


class _DegradedSlices:
    """Reads a scan's slices, those in `chosen` degraded, once each: they are kept."""

    def __init__(self, degraded: Degraded, chosen: set[int]) -> None:
        self._degraded, self._chosen, self._kept = degraded, chosen, dict[int, np.ndarray]()

    def read(self, z: int) -> np.ndarray:
        """Return slice `z` (y, x); not to be changed."""
        if z not in self._chosen:
            return self._degraded.scan.read_grey(z)
        if z not in self._kept:
            self._kept[z] = self._degraded.read(z)
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
    found = measured_noise(scan).autocorrelation
    middle = found.shape[0] // 2
    beside = max(abs(found[middle + 1, middle]), abs(found[middle, middle + 1]))
    return correlated_kind(found) if beside > _WHITE else None


def _level(cell: Cell, settings: StudySettings) -> float:
    return settings.table_level if cell.noise_std is None else cell.noise_std


def _network(cell: Cell, prepared: work.Prepared, settings: StudySettings) -> tuple[Segment, dict[str, Any]]:
    from tomoseg import train
    from tomoseg.model_file import save_model
    from tomoseg.workflow.predict import make_runner
    from tomoseg.workflow.trained import as_model

    recipe, rate = recipe_of(cell, settings), train.matrix_rate()
    training = train.start(prepared.network, recipe, seed=cell.seed)
    began = time.monotonic()
    steps = train.train(
        training,
        recipe,
        prepared.source,
        prepared.checks,
        fabric=train.make_fabric(),
        budget=budget_of(cell, prepared, recipe, settings),
        clock=lambda: time.monotonic() - began,
        seed=cell.seed,
    )
    for step in steps:
        ended = step.validation and stopped_improving(training, settings.patience)
        if cell.to_the_end and (ended or step.seconds >= 60 * settings.most_minutes):
            break
    timing = {"seconds": round(time.monotonic() - began, 2), "matrix_product_gflops": round(rate, 1)}
    words = {"cell": cell.key, "noise_std": settings.noise_std, "width": settings.width}
    model = as_model(
        prepared,
        recipe,
        training,
        verb="study noise",
        seed=cell.seed,
        settings=words,
        timing=timing,
        leaky=cell.split == "random",
        samples=False,
    )
    save_model(settings.out / "cells" / f"{cell.key}.tomoseg", model)
    runner = make_runner(model)

    def segment(scan: Scan, one: TestSlice, read: Reader) -> np.ndarray:
        return runner.segment(stack_of(scan, one.z, context=prepared.network.context, read=read))

    return segment, {
        "recipe": recipe.model_dump(mode="json"),
        "model": model.content,
        "timing": model.record.provenance.timing,
        "validation": {**training.best_scores} if prepared.checks else {},
        "n_validations": len(training.validations),
    }


def budget_of(cell: Cell, prepared: work.Prepared, recipe: Recipe, settings: StudySettings) -> Budget:
    """Return when a cell's training ends; with steps or epochs all methods see the same number of patches.

    A cell that is trained until validation stops improving is validated after each pass over its crops.
    """
    from tomoseg.train import Budget

    crops = prepared.source.crops
    if cell.to_the_end and crops is not None:
        return Budget(steps=_MOST_PASSES * math.ceil(len(crops) / recipe.patches.batch), validations=_MOST_PASSES)
    if settings.epochs is not None and crops is not None:
        return Budget(steps=math.ceil(settings.epochs * len(crops) / recipe.patches.batch))
    if settings.steps is not None:
        return Budget(steps=math.ceil(settings.steps * settings.batch / recipe.patches.batch))
    return Budget(seconds=60 * settings.minutes_per_cell)


def stopped_improving(training: Training, patience: int) -> bool:
    """Tell whether the last `patience` validations brought no better mean IoU."""
    scores = [check["mean_iou"] for check in training.validations]
    return bool(scores) and len(scores) - int(np.argmax(scores)) > patience


def _forest(
    cell: Cell, prepared: work.Prepared, settings: StudySettings, threads: int | None
) -> tuple[Segment, dict[str, Any]]:
    """Fit the forest on the cell's crops, at most 64 of them, at the noise that it is tested at."""
    scan, window = prepared.scans[0], prepared.window
    scale, rng, size = GreyScale(scan.volume.dtype, window), np.random.default_rng([cell.seed, 4]), settings.patch
    every = {item.z for item in prepared.source.slices}
    degraded = Degraded(scan, find_kind(settings.kind), _level(cell, settings), scale, cell.seed + 2)
    noisy = _DegradedSlices(degraded, every)
    crops = prepared.source.crops
    assert crops is not None  # all of the study's recipes have fixed crops
    chosen = crops[np.unique(np.linspace(0, len(crops) - 1, _MOST_FOREST_CROPS).astype(int))]
    samples = []
    for which, y, x in chosen:
        item, box = prepared.source.slices[which], np.s_[y : y + size, x : x + size]
        samples.append(Sample(window.apply(noisy.read(item.z)[box]), item.label[box]))
    forest: Baseline = fit_forest(samples, rng=rng, threads=threads or -1)

    def segment(scan: Scan, one: TestSlice, read: Reader) -> np.ndarray:
        return forest.predict(window.apply(read(one.z)))

    return segment, {"crops": len(samples)}


def tested_slices(prepared: work.Prepared, settings: StudySettings) -> list[TestSlice]:
    """Return the slices that are scored: at most as many as set, evenly spaced in the test."""
    at = work.labelled_numbers(prepared.scans[0])
    numbers = prepared.splits[0].of("test")
    n = min(settings.test_slices, len(numbers))
    return [TestSlice(0, at[numbers[int((i + 0.5) * len(numbers) / n)]]) for i in range(n)]


def _score(
    segment: Segment, prepared: work.Prepared, kind: Kind, levels: Sequence[float], settings: StudySettings
) -> list[dict[str, Any]]:
    scan, chosen = prepared.scans[0], tested_slices(prepared, settings)
    edge, scale = block_edge([scan], chosen), GreyScale(scan.volume.dtype, prepared.window)
    size = scan.volume.voxel_size_um
    groups = group_by_z([scan.numbers[one.z] for one in chosen], edge * (size[1] / size[0] if size else 1.0))
    curve = []
    for level in levels:
        read = Degraded(scan, kind, level, scale, settings.seed, settings.clip).read
        blocks = _confusions(segment, scan, chosen, read, groups, edge=edge)
        counts = blocks.sum(axis=0)
        curve.append(
            {
                "level": level,
                "accuracy": accuracy(counts),
                "mean_iou": mean_iou(counts),
                "fraction_errors": fraction_errors(counts).tolist(),
                "blocks": blocks.tolist(),
            }
        )
    return curve


def _confusions(
    segment: Segment, scan: Scan, chosen: Sequence[TestSlice], read: Reader, groups: Sequence[int], *, edge: int
) -> Int64[np.ndarray, "block truth predicted"]:
    """Return the confusion matrices of independent blocks of the test slices."""
    n = len(scan.classes)
    found: dict[int, np.ndarray] = {}
    for one, group in zip(chosen, groups, strict=True):
        blocks = tile_confusions(scan.read_label(one.z), segment(scan, one, read), n, edge=edge)
        found[group] = found.get(group, 0) + blocks
    return np.concatenate([found[group] for group in sorted(found)])
