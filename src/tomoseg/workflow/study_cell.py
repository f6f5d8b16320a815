"""One cell of the noise study: train it, score it at all noise levels, keep what it gave."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float64, Int64

from tomoseg.baselines import Baseline, Sample, fit_forest
from tomoseg.degrade import GreyScale, Kind, find_kind
from tomoseg.evaluate import TestSlice, block_edge, stack_of
from tomoseg.intervals import group_by_z, tile_confusions
from tomoseg.metrics import accuracy, mean_iou
from tomoseg.patch_noise import SomeNoisy
from tomoseg.quantify.sections import number_names, section_tiles
from tomoseg.recipe import Recipe
from tomoseg.report import write_json
from tomoseg.slices import Scan
from tomoseg.study import Cell, fraction_errors, number_errors
from tomoseg.workflow import prepare as work
from tomoseg.workflow.cluster import keep_freed_memory
from tomoseg.workflow.common import limit_threads
from tomoseg.workflow.console import Console
from tomoseg.workflow.study import StudySettings
from tomoseg.workflow.study_data import (
    Degraded,
    DegradedSlices,
    level_of,
    open_study,
    prepare_cell,
    recipe_of,
    scan_noise,
    tested_slices,
)
from tomoseg.workflow.study_slab import Find, Index, Slab, open_slab

if TYPE_CHECKING:
    from tomoseg.train import Budget, Training

Reader = Callable[[int], np.ndarray]
Segment = Callable[[Scan, TestSlice, Reader], Index]

_MOST_FOREST_CROPS = 64
_MOST_PASSES = 1000  # of a cell that is trained until validation stops improving


def run_cell(cell: Cell, settings: StudySettings, threads: int | None) -> None:
    """Train and score a cell; its result is on disk, whole, when this returns.

    Parameters
    ----------
    cell, settings
        Which, of which study.
    threads
        Processor threads that it may use.
    """
    keep_freed_memory()
    limit_threads(threads)
    layout = open_study(settings, Console(quiet=True))
    began = time.monotonic()
    prepared = prepare_cell(cell, layout, settings)
    made = _forest(cell, prepared, settings, threads) if cell.method == "forest" else _network(cell, prepared, settings)
    segment, facts = made
    trained = time.monotonic() - began
    slab = open_slab(layout.scan, prepared.splits[0].of("test"), context=layout.context)
    levels = settings.all_levels if cell.noise_std is None or cell.method != "forest" else [cell.noise_std]
    result = {
        "key": cell.key,
        "cell": {name: getattr(cell, name) for name in Cell.__dataclass_fields__},
        **facts,
        **_seen(prepared),
        "seconds": round(trained, 1),
        "curve": _score(segment, prepared, kind=find_kind(settings.kind), levels=levels, settings=settings, slab=slab),
    }
    like_scan = scan_noise(layout.scan) if settings.plans_like_scan else None
    if like_scan is not None:
        result["curve_like_scan"] = _score(segment, prepared, kind=like_scan, levels=levels, settings=settings)
    write_json(settings.out / "cells" / f"{cell.key}.json", result)


def _seen(prepared: work.Prepared) -> dict[str, Any]:
    """Return what a cell trained on: slices, fixed crops, and how many of these had noise."""
    crops, noise = prepared.source.crops, prepared.source.noise
    noisy = len(noise.noisy) if isinstance(noise, SomeNoisy) else None
    return {
        "training_slices": len(prepared.source.slices),
        "crops": 0 if crops is None else len(crops),
        "noisy_crops": noisy,
    }


def _network(cell: Cell, prepared: work.Prepared, settings: StudySettings) -> tuple[Segment, dict[str, Any]]:
    from tomoseg import train
    from tomoseg.model_file import save_model
    from tomoseg.workflow.predict import make_runner
    from tomoseg.workflow.trained import as_model

    recipe, rate, fabric = recipe_of(cell, settings), train.matrix_rate(), train.make_fabric()
    training = train.start(prepared.network, recipe, seed=cell.seed)
    began = time.monotonic()
    steps = train.train(
        training,
        recipe,
        prepared.learnt,
        prepared.checks,
        fabric=fabric,
        budget=budget_of(cell, prepared, recipe, settings),
        clock=lambda: time.monotonic() - began,
        seed=cell.seed,
    )
    ended = "ended by its budget"
    for step in steps:
        if cell.to_the_end and step.validation and stopped_improving(training, settings.patience):
            ended = f"ended after {settings.patience} passes without a better validation"
            break
        if cell.to_the_end and step.seconds >= 60 * settings.most_minutes:
            ended = f"ended after {settings.most_minutes:g} min, the longest time"
            break
    timing = {"seconds": round(time.monotonic() - began, 2), "matrix_product_gflops": round(rate, 1)}
    words = {"cell": cell.key, "noise_std": settings.noise_std, "width": settings.width}
    model = as_model(
        prepared,
        recipe,
        training,
        fabric=fabric,
        verb="study noise",
        seed=cell.seed,
        settings=words,
        timing=timing,
        leaky=cell.split == "random",
        samples=False,
    )
    save_model(settings.out / "cells" / f"{cell.key}.tomoseg", model)
    runner = make_runner(model)

    def segment(scan: Scan, one: TestSlice, read: Reader) -> Index:
        return runner.segment(stack_of(scan, one.z, context=prepared.network.context, read=read))

    return segment, {
        "recipe": recipe.model_dump(mode="json"),
        "model": model.content,
        "timing": model.record.provenance.timing,
        "validation": {**training.best_scores} if prepared.checks else {},
        "validations": [{name: round(value, 6) for name, value in one.items()} for one in training.validations],
        "ended": ended,
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
    degraded = Degraded(scan, find_kind(settings.kind), level_of(cell, settings), scale, cell.seed + 2)
    noisy = DegradedSlices(scan, dict.fromkeys(every, degraded))
    crops = prepared.source.crops
    assert crops is not None  # all of the study's recipes have fixed crops
    chosen = crops[np.unique(np.linspace(0, len(crops) - 1, _MOST_FOREST_CROPS).astype(int))]
    samples = []
    for which, y, x in chosen:
        item, box = prepared.source.slices[which], np.s_[y : y + size, x : x + size]
        samples.append(Sample(window.apply(noisy.read(item.z)[box]), item.label[box]))
    forest: Baseline = fit_forest(samples, rng=rng, threads=threads or -1)

    def segment(scan: Scan, one: TestSlice, read: Reader) -> Index:
        return forest.predict(window.apply(read(one.z)))

    return segment, {"crops": len(samples)}


def _score(
    segment: Segment,
    prepared: work.Prepared,
    *,
    kind: Kind,
    levels: Sequence[float],
    settings: StudySettings,
    slab: Slab | None = None,
) -> list[dict[str, Any]]:
    scan, chosen = prepared.scans[0], tested_slices(prepared, settings)
    edge, scale = block_edge([scan], chosen), GreyScale(scan.volume.dtype, prepared.window)
    size = scan.volume.voxel_size_um
    groups = group_by_z([scan.numbers[one.z] for one in chosen], edge * (size[1] / size[0] if size else 1.0))
    names, curve = [item.name for item in scan.classes], []
    for level in levels:
        read = Degraded(scan, kind, level, scale, settings.seed, settings.clip).read
        solved = slab if level in settings.number_levels else None
        find = _find(segment, scan, read, kept=solved.slices if solved else ())
        blocks, sums = _compare(find, scan, chosen, groups=groups, edge=edge)
        counts = blocks.sum(axis=0)
        errors, reasons = solved.errors(find) if solved else ({}, {})
        curve.append(
            {
                "level": level,
                "accuracy": accuracy(counts),
                "mean_iou": mean_iou(counts),
                "fraction_errors": fraction_errors(counts).tolist(),
                "number_errors": {**number_errors(sums, names), **errors},
                "why_no_number": reasons,
                "blocks": blocks.tolist(),
            }
        )
    return curve


def _find(segment: Segment, scan: Scan, read: Reader, *, kept: Sequence[TestSlice]) -> Find:
    """Return what segments a test slice, read so; the slices to be kept are segmented once."""
    held: dict[TestSlice, Index] = {}

    def find(one: TestSlice) -> Index:
        found = held[one] if one in held else segment(scan, one, read)
        if one in kept:
            held[one] = found
        return found

    return find


def _compare(
    find: Find, scan: Scan, chosen: Sequence[TestSlice], *, groups: Sequence[int], edge: int
) -> tuple[Int64[np.ndarray, "block truth predicted"], Float64[np.ndarray, "2 number"]]:
    """Return the confusion matrices of independent blocks of the test slices, and the sums that numbers are of."""
    n = len(scan.classes)
    found: dict[int, np.ndarray] = {}
    sums = np.zeros((2, len(number_names([item.name for item in scan.classes]))))
    for one, group in zip(chosen, groups, strict=True):
        label, segmented = scan.read_label(one.z), find(one)
        found[group] = found.get(group, 0) + tile_confusions(label, segmented, n, edge=edge)
        sums += section_tiles(label, segmented, n_classes=n, edge=max(label.shape)).sum(axis=0)
    return np.concatenate([found[group] for group in sorted(found)]), sums
