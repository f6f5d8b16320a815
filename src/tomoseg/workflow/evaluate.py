"""`tomoseg evaluate`: an honest score of a model on labelled slices that it has not seen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from pydantic import Field

from tomoseg.errors import SettingError, SplitError
from tomoseg.labels import UNLABELLED
from tomoseg.provenance import content_hash, record
from tomoseg.workflow.common import Images, Labels, ModelFile, Reading, Shading, Target, limit_threads
from tomoseg.workflow.console import Console

if TYPE_CHECKING:
    from tomoseg.baselines import Baseline
    from tomoseg.evaluate import Noise, Scores, SliceScores, TestSlice
    from tomoseg.held_out import HeldOut
    from tomoseg.model_file import Model
    from tomoseg.predict import Runner
    from tomoseg.slices import Scan

MOST_BASELINE_PIXELS = 5_000_000
_LISTED = 6


class EvaluateSettings(Reading):
    """Score a model on labelled slices that it has not seen, beside baselines."""

    model: Annotated[ModelFile, Field(description="model file, NAME.tomoseg")]
    images: Annotated[Images, Field(description="folder of slices, or a multi-page TIFF")]
    labels: Annotated[Labels, Field(description="label pictures of some of them")]
    out: Annotated[Target, Field(description="folder for report.html, scores.json, confusion.csv")]
    noise_std: Annotated[
        float, Field(ge=0, description="std of Gaussian noise added to the test, in 1/65535 of full range")
    ] = 0.0
    clip: Annotated[bool, Field(description="clip and round the noisy values as a detector would")] = False
    shading: Shading = "keep"
    include_training: Annotated[
        bool, Field(description="score slices that the model has seen, too; the report says LEAKY")
    ] = False
    force: Annotated[bool, Field(description="replace an existing report")] = False


@dataclass(frozen=True)
class Evaluation:
    """All that a report on a test shows."""

    model: Model
    model_name: str
    scan: Scan
    runner: Runner
    noise: Noise
    results: tuple[SliceScores, ...]
    scores: Scores
    json: dict[str, Any]


def run(settings: EvaluateSettings, console: Console) -> None:
    """Score the model and write the report."""
    limit_threads(settings.threads)
    from tomoseg.report import check_folder
    from tomoseg.workflow.evaluate_report import write_evaluation

    check_folder(settings.out, force=settings.force)
    done = evaluate(settings, console)
    write_evaluation(settings.out, done, force=settings.force, console=console)
    for line in summary(done.json):
        console.result(line)
    console.result(f"report: {settings.out / 'report.html'}")


def evaluate(settings: EvaluateSettings, console: Console) -> Evaluation:
    """Score the model; nothing is written."""
    from tomoseg.model_file import load_model
    from tomoseg.workflow.predict import make_runner, refuse_other_type
    from tomoseg.workflow.reading import open_scans

    model = load_model(settings.model)
    (scan,) = open_scans(
        [(settings.images, settings.labels)],
        how=settings,
        stated=None,
        unlabelled=model.record.unlabelled,
        known=model.record.classes,
        console=console,
    )
    refuse_other_type(model.record, scan.volume)
    held_out = held_out_of(scan, model, console)
    chosen = _choose(scan, held_out, settings, console)
    scan, crossed = _away_from_planes(
        scan, held_out, chosen=chosen, gap=model.record.gap, whole=settings.include_training, console=console
    )
    content = _content_of(scan, chosen)  # as it is stored
    scan = _read_evenly(scan, model, settings, console)
    runner = make_runner(model)
    noise = _noise(settings, model, scan)
    results, scores = _score(scan, chosen, runner, noise=noise, model=model, settings=settings, console=console)
    beside = _baselines(scan, chosen, runner, noise=noise, model=model, settings=settings, console=console)
    copied = _copy_training(scan, held_out, chosen, len(model.record.classes))
    scores = replace(scores, baselines={**beside["baselines"], "copy_training": copied})
    plain = _json(
        scores, scan, held_out, chosen, noise=noise, model=model, settings=settings,
        baseline_pixels=beside["baseline_pixels"], crossed=crossed, content=content,
    )  # fmt: skip
    return Evaluation(model, settings.model.name, scan, runner, noise, results, scores, plain)


def _read_evenly(scan: Scan, model: Model, settings: EvaluateSettings, console: Console) -> Scan:
    """Return the scan as it is read with `--shading`."""
    from tomoseg.workflow.even_reading import read_evenly
    from tomoseg.workflow.reading import Source, cache_for

    whole = Source(scan.volume, scan.view, scan.region, settings.images)
    even = read_evenly(whole, model, settings.shading, console)
    return scan if even is whole else replace(scan, volume=even.volume, cache=cache_for(even.volume))


def held_out_of(scan: Scan, model: Model, console: Console) -> HeldOut:
    """Return which labelled slices of a scan the model has not seen, nor their neighbours."""
    from tomoseg.held_out import hold_out, numbers_to_hash
    from tomoseg.slices import labelled_numbers
    from tomoseg.workflow.prepare import middle_hash

    labelled = sorted(labelled_numbers(scan))
    at = {number: z for z, number in enumerate(scan.numbers)}
    wanted = numbers_to_hash(labelled, scan.numbers, gap=model.record.gap)
    contents = {
        n: content_hash(scan.read_grey(at[n])) for n in console.track(wanted, "recognising slices", len(wanted))
    }
    middle = middle_hash(scan.volume) if any(its.axis != "z" for its in model.record.scans) else None
    return hold_out(labelled, contents, source=scan.source, record=model.record, middle=middle)


def _away_from_planes(
    scan: Scan,
    held_out: HeldOut,
    *,
    chosen: Sequence[TestSlice],
    gap: int,
    whole: bool,
    console: Console,
) -> tuple[Scan, dict[str, Any]]:
    """Leave out, of the test slices, what lies too near to planes across y and x that the model has seen.

    Return the scan without these labels, and what was left out as `scores.json` tells it. Slices that were kept for the
    test while these planes trained are whole: nothing near them was trained on.
    """
    from tomoseg.crossing import away_from

    if whole or not held_out.planes:
        return scan, {}
    reserved = {z for z, number in enumerate(scan.numbers) if number in set(held_out.reserved)}
    away = away_from(scan, held_out.planes, gap=gap, excepted=reserved)
    before, after = (sum(int((one.read_label(of.z) != UNLABELLED).sum()) for of in chosen) for one in (scan, away))
    share = 1 - after / max(1, before)
    planes = " and ".join(f"{len(numbers)} across {axis}" for axis, numbers in held_out.planes.items())
    told = (
        f"{100 * share:.1f} % of the labelled pixels of {len(chosen)} test slices, nearer than the gap of "
        f"{gap} to planes that the model has seen ({planes})"
    )
    if before and not after:
        raise SplitError(f"nothing is left to test: {told}. Train with --test z0:z1, or label slices of another scan")
    console.say(f"left out: {told}")
    return away, {
        "planes": {axis: list(numbers) for axis, numbers in held_out.planes.items()},
        "pixels": before - after,
        "share": share,
        "whole_slices": [scan.volume.names[of.z] for of in chosen if of.z in reserved],
    }


def _choose(scan: Scan, held_out: HeldOut, settings: EvaluateSettings, console: Console) -> list[TestSlice]:
    from tomoseg.evaluate import TestSlice
    from tomoseg.slices import labelled_numbers

    at = labelled_numbers(scan)
    if settings.include_training:
        return [TestSlice(0, z) for z in sorted(at.values())]
    if held_out.left_out:
        console.say(f"left out: {_reasons(scan, held_out)}")
    if not held_out.kept:
        raise SplitError(
            f"nothing is left to test: of {len(at)} labelled slices, {_reasons(scan, held_out)}. Label slices further "
            "away, train with --test z0:z1, or score seen slices with --include-training (the report then says LEAKY)"
        )
    return [TestSlice(0, at[number]) for number in held_out.kept]


def _reasons(scan: Scan, held_out: HeldOut) -> str:
    at = {number: z for z, number in enumerate(scan.numbers)}
    kinds = {"trained on": [], "validated on": [], "nearer than the gap": []}  # type: dict[str, list[str]]
    for number, why in sorted(held_out.left_out.items()):
        kinds[why if why in kinds else "nearer than the gap"].append(scan.volume.names[at[number]])
    return "; ".join(f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds.items() if names)


def _listed(names: Sequence[str]) -> str:
    more = f" and {len(names) - _LISTED} more" if len(names) > _LISTED else ""
    return ", ".join(names[:_LISTED]) + more


def _noise(settings: EvaluateSettings, model: Model, scan: Scan) -> Noise:
    from tomoseg.degrade import noise_std_grey
    from tomoseg.evaluate import Noise

    if settings.clip and not settings.noise_std:
        raise SettingError("--clip clips noisy values; give --noise-std with it")
    grey = noise_std_grey(settings.noise_std, dtype=scan.volume.dtype, window=model.record.window)
    return Noise(grey, settings.seed, settings.clip)


def _score(
    scan: Scan,
    chosen: Sequence[TestSlice],
    runner: Runner,
    *,
    noise: Noise,
    model: Model,
    settings: EvaluateSettings,
    console: Console,
) -> tuple[tuple[SliceScores, ...], Scores]:
    from tomoseg import evaluate as score

    edge = score.block_edge([scan], chosen)
    scored = score.score_slices(runner, scan, chosen, noise=noise, edge=edge)
    results = tuple(console.track(scored, "scoring", len(chosen)))
    if not sum(result.calibration.pixels for result in results):
        raise SplitError("no test slice has a labelled pixel; look at --unlabelled, --roi and --mask")
    size = scan.volume.voxel_size_um
    along_z = {0: size[1] / size[0] if size else 1.0}
    blocks = score.independent_blocks(results, edge=edge, along_z=along_z)
    names = [item.name for item in model.record.classes]
    numbers = score.number_effects(results, names, edge=edge, along_z=along_z, length="um" if size else "voxel")
    rng = np.random.default_rng([settings.seed, 3])
    return results, score.summarise(results, blocks, names=names, numbers=numbers, rng=rng)


def _baselines(
    scan: Scan,
    chosen: Sequence[TestSlice],
    runner: Runner,
    *,
    noise: Noise,
    model: Model,
    settings: EvaluateSettings,
    console: Console,
) -> dict[str, Any]:
    """Fit the baselines on the model's tiles at the test's noise; score them, and the model, on the same pixels."""
    from tomoseg.baselines import Sample, fit_forest, fit_majority, fit_otsu
    from tomoseg.degrade import add_gaussian_noise
    from tomoseg.evaluate import stack_of
    from tomoseg.metrics import confusion

    n = len(model.record.classes)
    if model.samples is None:
        console.warn("the model was trained with --no-samples: no baselines stand beside its score")
        return {"baselines": {"majority": None, "otsu": None, "forest": None}, "baseline_pixels": None}
    window, rng = model.record.window, np.random.default_rng([settings.seed, 4])
    clip_to = scan.volume.dtype if noise.clip else None
    samples = [
        Sample(window.apply(add_gaussian_noise(image, noise.std_grey, rng=rng, clip_to=clip_to)), label)
        for image, label in zip(model.samples.images, model.samples.labels, strict=True)
    ]
    with console.progress("training the forest", 1.0):
        forest = fit_forest(samples, rng=rng, threads=settings.threads or -1)
    rivals: dict[str, Baseline] = {"majority": fit_majority(samples), "otsu": fit_otsu(samples, n), "forest": forest}
    counts = {name: np.zeros((n, n), np.int64) for name in (*rivals, "model")}
    some, box = _some(scan, chosen)
    for one in console.track(some, "scoring the baselines", len(some)):
        label = scan.read_label(one.z)[box]
        read = noise.on(scan, one.scan)
        image = window.apply(read(one.z))
        for name, rival in rivals.items():
            counts[name] += confusion(label, rival.predict(image[_grown(box, image.shape)])[_inner(box)], n)
        stack = stack_of(scan, one.z, context=runner.network.context, read=read)
        counts["model"] += confusion(label, runner.segment(stack)[box], n)
    return {
        "baselines": {name: _two(counts[name]) for name in rivals},
        "baseline_pixels": {"pixels": int(counts["model"].sum()), "model": _two(counts["model"])},
    }


_FILTER_REACH = 64


def _grown(box: tuple[slice, slice], shape: tuple[int, ...]) -> tuple[slice, slice]:
    y, x = (
        slice(max(0, part.start - _FILTER_REACH), min(size, part.stop + _FILTER_REACH))
        for part, size in zip(box, shape, strict=True)
    )
    return y, x


def _inner(box: tuple[slice, slice]) -> tuple[slice, slice]:
    y, x = (
        slice(part.start - max(0, part.start - _FILTER_REACH), part.stop - max(0, part.start - _FILTER_REACH))
        for part in box
    )
    return y, x


def _some(scan: Scan, chosen: Sequence[TestSlice]) -> tuple[list[TestSlice], tuple[slice, slice]]:
    """Return evenly spaced test slices of at most 5 megapixels, and the part of them: its middle if one has more."""
    _, height, width = scan.volume.shape
    y, x = (
        min(size, max(int(MOST_BASELINE_PIXELS**0.5), MOST_BASELINE_PIXELS // other))
        for size, other in ((height, width), (width, height))
    )
    box = (slice((height - y) // 2, (height - y) // 2 + y), slice((width - x) // 2, (width - x) // 2 + x))
    most = max(1, MOST_BASELINE_PIXELS // (y * x))
    places = np.unique(np.linspace(0, len(chosen) - 1, min(most, len(chosen))).round().astype(int))
    return [chosen[i] for i in places], box


def _two(counts: np.ndarray) -> dict[str, float]:
    from tomoseg.metrics import accuracy, mean_iou

    return {"accuracy": accuracy(counts), "mean_iou": mean_iou(counts)}


def _copy_training(
    scan: Scan, held_out: HeldOut, chosen: Sequence[TestSlice], n_classes: int
) -> dict[str, float] | None:
    """Score the nearest training slice's label, where training slices and their labels are here; else None."""
    from tomoseg.baselines import nearest
    from tomoseg.metrics import confusion
    from tomoseg.slices import labelled_numbers

    at = labelled_numbers(scan)
    training = [number for number in held_out.training if number in at]
    if not training:
        return None
    total = np.zeros((n_classes, n_classes), np.int64)
    for one in chosen:
        label, copied = scan.read_label(one.z), scan.read_label(at[nearest(scan.numbers[one.z], training)])
        both = copied != 255
        total += confusion(label[both], copied[both], n_classes)
    return _two(total)


def _json(
    scores: Scores,
    scan: Scan,
    held_out: HeldOut,
    chosen: Sequence[TestSlice],
    *,
    noise: Noise,
    model: Model,
    settings: EvaluateSettings,
    baseline_pixels: dict[str, Any] | None,
    crossed: dict[str, Any],
    content: str,
) -> dict[str, Any]:
    from tomoseg.evaluate import adjacent_agreement

    at = {number: z for z, number in enumerate(scan.numbers)}
    return {
        **scores.as_json(),
        "baseline_pixels": baseline_pixels,
        "adjacent_agreement": adjacent_agreement([scan]),
        "class_names": [item.name for item in model.record.classes],
        "confusion": scores.confusion.tolist(),
        "leaky": bool(settings.include_training and (held_out.left_out or held_out.planes)) or model.record.leaky,
        "slices": [scan.volume.names[one.z] for one in chosen],
        "left_out": {}
        if settings.include_training
        else {scan.volume.names[at[number]]: why for number, why in held_out.left_out.items()},
        "left_out_near_planes": crossed,
        "noise_std": settings.noise_std,
        "noise_std_grey": noise.std_grey,
        "provenance": record(
            "evaluate",
            seed=settings.seed,
            inputs={"model": model.content, "images": content},
            settings=settings.model_dump(mode="json", exclude={"model", "images", "labels", "out"}),
        ).model_dump(),
    }


def _content_of(scan: Scan, chosen: Sequence[TestSlice]) -> str:
    hashes = "".join(content_hash(scan.read_grey(one.z), scan.read_label(one.z)) for one in chosen)
    return content_hash(np.frombuffer(hashes.encode(), np.uint8))


def summary(scores: dict[str, Any]) -> list[str]:
    """Return the scores as a few lines for a terminal, baselines beside them."""

    def ends(name: str) -> str:
        found = scores["intervals"].get(name)
        return f" [{found[0]:.4f}, {found[1]:.4f}]" if found else ""

    noise = f", noise std {scores['noise_std']:g} ({scores['noise_std_grey']:.4g} grey values)"
    lines = [
        f"{'LEAKY: ' if scores['leaky'] else ''}{scores['n_slices']} test slices"
        + (noise if scores["noise_std"] else ""),
        f"accuracy {scores['accuracy']:.4f}{ends('accuracy')}, mean IoU {scores['mean_iou']:.4f}{ends('mean_iou')}",
        "IoU: " + ", ".join(f"{name} {of['iou']:.3f}" for name, of in scores["classes"].items()),
    ]
    lines += _numbers(scores["numbers"])
    for name, of in scores["baselines"].items():
        if of:
            lines.append(f"  beside it, {name}: accuracy {of['accuracy']:.4f}, mean IoU {of['mean_iou']:.4f}")
    if scores["baseline_pixels"] and scores["baseline_pixels"]["pixels"] < sum(map(sum, scores["confusion"])):
        of = scores["baseline_pixels"]["model"]
        lines.append(
            f"  baselines ran on {scores['baseline_pixels']['pixels'] / 1e6:.1f} megapixels; on these the model has "
            f"accuracy {of['accuracy']:.4f}, mean IoU {of['mean_iou']:.4f}"
        )
    if scores["adjacent_agreement"] is not None:
        lines.append(f"neighbouring slices' labels agree to {scores['adjacent_agreement']:.4f}")
    if scores["why_no_intervals"]:
        lines.append(f"no intervals: {scores['why_no_intervals']}")
    return lines


def _numbers(numbers: dict[str, Any]) -> list[str]:
    """Return the number of each kind that is most wrong."""
    worst: dict[str, tuple[float, str]] = {}
    for name, its in numbers.items():
        fraction = name.startswith("phase fraction")
        error, kind = number_error(its, fraction=fraction), name.split()[0]
        if error is not None and abs(error) >= abs(worst.get(kind, (0.0, ""))[0]):
            worst[kind] = error, f"{name} {error:+.2f} {'points' if fraction else '%'}"
    return [f"most wrong: {', '.join(words for _, words in worst.values())}"] if worst else []


def number_error(its: Mapping[str, Any], *, fraction: bool) -> float | None:
    """Return how far a number is predicted from what is labelled: points of a fraction, per cent of others."""
    if fraction:
        return float(100 * (its["predicted"] - its["labelled"]))
    return float(100 * (its["predicted"] / its["labelled"] - 1)) if its["labelled"] else None
