"""The report of a test: what was done, scores beside baselines, pictures of the best, median and worst slice."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from tomoseg.evaluate import SliceScores, stack_of, total_calibration
from tomoseg.model_file import ModelRecord
from tomoseg.patches import DEFAULT_NOISE
from tomoseg.report import (
    Facts,
    Headline,
    Note,
    Picture,
    Report,
    Section,
    Table,
    figures,
    write_csv,
    write_json,
    write_report,
)
from tomoseg.unet_config import UNetConfig
from tomoseg.workflow.console import Console
from tomoseg.workflow.evaluate import Evaluation, number_error

_BASELINE_WORDS = {
    "majority": "commonest class",
    "otsu": "multi-Otsu, best blur",
    "forest": "random forest",
    "copy_training": "nearest training label",
}


def write_evaluation(folder: Path, done: Evaluation, *, force: bool, console: Console) -> None:
    """Write `report.html`, its figures, `scores.json` and `confusion.csv`."""
    names = done.json["class_names"]
    with console.progress("writing the report", 1.0):
        write_report(folder, evaluation_report(done), force=force)
    rows = [[name, *counts] for name, counts in zip(names, done.json["confusion"], strict=True)]
    write_csv(folder / "confusion.csv", ["labelled \\ predicted", *names], rows)
    write_json(folder / "scores.json", done.json)


def evaluation_report(done: Evaluation) -> Report:
    """Return the report of a test."""
    scores = done.json
    noise = f" at noise std {scores['noise_std']:g}" if scores["noise_std"] else ""
    return Report(
        title=f"{done.model_name} on {done.scan.volume.path.name}{noise}",
        subtitle=f"{scores['n_slices']} test slices of {done.scan.volume.shape[1]} x {done.scan.volume.shape[2]} "
        f"pixels; {len(scores['left_out'])} labelled slices left out. tomoseg {scores['provenance']['tomoseg']}",
        headlines=_headlines(scores),
        notes=_notes(scores),
        sections=[
            _scores_section(scores, done),
            _numbers_section(scores),
            _trust_section(scores, done),
            _pictures_section(done),
            _training_section(done.model.record),
            _what_section(done),
        ],
    )


def _ends(scores: dict[str, Any], name: str) -> str:
    found = scores["intervals"].get(name)
    return f"{100 * scores['interval_level']:.0f} % interval {found[0]:.4f} to {found[1]:.4f}" if found else ""


def _numbers_section(scores: dict[str, Any]) -> Section:
    """Return what the segmentation does to the numbers that people publish."""
    rows = []
    for name, its in scores["numbers"].items():
        fraction = name.startswith("phase fraction")
        error = number_error(its, fraction=fraction)
        words = "-" if error is None else f"{error:+.2f} {'points' if fraction else '%'}"
        unit = its["unit"] if its["unit"] != "1" else ""
        rows.append([name, f"{its['labelled']:.4g}", f"{its['predicted']:.4g}", unit, words])
    notes = dict.fromkeys(its["note"] for its in scores["numbers"].values() if its["note"])
    how = (
        "areas and lengths per volume, of neighbouring slices together"
        if any(its["voxels"] for its in scores["numbers"].values())
        else "interface length per area (proportional to area per volume), triple points per area (proportional to "
        "length per volume), in each slice"
    )
    return Section(
        "What it does to the numbers",
        [Table(["", "labelled", "predicted", "unit", "error"], rows, "; ".join(notes))],
        f"On the labelled pixels: shares; {how}. tomoseg quantify --scores takes these into its intervals.",
    )


def _headlines(scores: dict[str, Any]) -> list[Headline]:
    forest = scores["baselines"].get("forest")
    beside = f"random forest: {forest['mean_iou']:.4f}" if forest else ""
    near = f"{_text(scores['interior_accuracy'])} away from them"
    return [
        Headline("Accuracy", _text(scores["accuracy"]), _ends(scores, "accuracy")),
        Headline("Mean IoU", _text(scores["mean_iou"]), _ends(scores, "mean_iou") or beside),
        Headline("Accuracy at interfaces", _text(scores["boundary_accuracy"]), near),
        Headline("Calibration error", _text(scores["ece"]), f"{_text(scores['ece_boundary'])} at interfaces"),
    ]


def _text(value: float | None) -> str:
    return "-" if value is None or not np.isfinite(value) else f"{value:.4f}"


def _notes(scores: dict[str, Any]) -> list[Note]:
    notes = []
    if scores["leaky"]:
        text = (
            "LEAKY: slices that the model has seen, or their neighbours, are among the test. No measure of its worth."
        )
        notes.append(Note(text, "leaky"))
    if scores["why_no_intervals"]:
        notes.append(Note(f"No intervals: {scores['why_no_intervals']}.", "warning"))
    return notes


def _scores_section(scores: dict[str, Any], done: Evaluation) -> Section:
    same = scores["baseline_pixels"]
    model = same["model"] if same else {"accuracy": scores["accuracy"], "mean_iou": scores["mean_iou"]}
    beside = {"model": model, **{_BASELINE_WORDS[n]: of for n, of in scores["baselines"].items() if of}}
    classes = [
        [name, *(_text(of[key]) for key in ("iou", "dice", "precision", "recall")), f"{of['support']:,}",
         _ends(scores, f"iou {name}").partition(" interval ")[2] or "-"]
        for name, of in scores["classes"].items()
    ]  # fmt: skip
    agreement = scores["adjacent_agreement"]
    intro = (
        f"Neighbouring slices' labels agree to {agreement:.4f}: that much is scored without looking at the image."
        if agreement is not None
        else ""
    )
    counts = np.array(scores["confusion"])
    return Section(
        "Scores",
        [
            Table(
                ["on the same pixels", "accuracy", "mean IoU"],
                [[name, _text(of["accuracy"]), _text(of["mean_iou"])] for name, of in beside.items()],
                caption=f"{same['pixels']:,} pixels; baselines were fitted on the model's labelled tiles, at the "
                "test's noise." if same else "",
                strong=0,
            ),
            figures.score_dots(beside, scores["intervals"] if _same_pixels(scores) else {}),
            Table(
                ["class", "IoU", "Dice", "precision", "recall", "labelled pixels",
                 f"{100 * scores['interval_level']:.0f} % interval of IoU"],
                classes,
                caption="All test slices"
                + (f"; intervals from {scores['n_blocks']} independent blocks." if scores["intervals"] else "."),
            ),
            figures.confusion_picture(counts, scores["class_names"]),
            *([figures.slice_scores([r.number for r in done.results], [r.accuracy for r in done.results])]
              if len(done.results) > 2 else []),
        ],
        intro,
    )  # fmt: skip


def _trust_section(scores: dict[str, Any], done: Evaluation) -> Section:
    everywhere, near = total_calibration(done.results)
    found = done.model.record.calibration
    if found is None:
        temperature = "none: the network's own probabilities"
    else:
        temperature = (
            f"{found.temperature:.2f}, fitted on validation data: the largest calibration error at interfaces over "
            f"{len(found.noise_std)} noise levels was {max(found.ece_before):.4f} and is {max(found.ece_after):.4f}"
        )
    facts = [
        ("calibration error", f"{_text(scores['ece'])} everywhere, {_text(scores['ece_boundary'])} at interfaces"),
        ("negative log likelihood", f"{_text(scores['nll'])} nats"),
        ("Brier score", _text(scores["brier"])),
        ("temperature", temperature),
    ]
    curves = {"everywhere": everywhere.reliability, "at interfaces": near.reliability}
    return Section("How far its probabilities can be trusted", [Facts(facts), figures.reliability_curve(curves)])


def _same_pixels(scores: dict[str, Any]) -> bool:
    same = scores["baseline_pixels"]
    return same is None or same["pixels"] == sum(map(sum, scores["confusion"]))


def _pictures_section(done: Evaluation) -> Section:
    ranked = sorted((r for r in done.results if r.calibration.pixels), key=lambda r: -r.accuracy)
    wanted = {"best": ranked[0], "median": ranked[len(ranked) // 2], "worst": ranked[-1]}
    shown: dict[str, list[str]] = {}
    for word, result in wanted.items():
        shown.setdefault(result.name, []).append(word)
    by_name = {result.name: result for result in ranked}
    pictures = [_picture(done, by_name[name], words) for name, words in shown.items()]
    return Section("Slices", pictures)


def _picture(done: Evaluation, result: SliceScores, words: list[str]) -> Picture:
    scan, z = done.scan, result.of.z
    read = done.noise.on(scan, result.of.scan)
    stack = stack_of(scan, z, context=done.runner.network.context, read=read)
    size = scan.volume.voxel_size_um
    return figures.comparison(
        done.runner.window.apply(stack[len(stack) // 2]),
        scan.read_label(z),
        done.runner.segment(stack),
        colours=[item.colour for item in scan.classes],
        names=[item.name for item in scan.classes],
        name="_".join(["slice", *words]),
        title=f"{' and '.join(words).capitalize()} slice, {result.name}, accuracy {result.accuracy:.4f}",
        pixel_um=size[2] if size else None,
    )


def _training_words(timing: Mapping[str, float]) -> list[str]:
    """Return what was done in which time; a model that was adapted saw tiles, and made no passes over slices."""
    words = [f"{timing['steps']:.0f} steps in {timing['seconds'] / 60:.1f} min"]
    if "megapixels_seen" in timing:
        words.append(f"{timing['megapixels_seen']:.1f} megapixels seen")
    return [*words, f"{timing['passes']:g} passes"] if "passes" in timing else words


def _network_words(network: UNetConfig) -> str:
    channels = "-".join(map(str, (*network.widths, network.bottleneck)))
    views = f", the mean over {network.mirrored} mirrored views" if network.mirrored > 1 else ""
    return f"U-Net, channels {channels}, {network.context} context slices on either side{views}"


def _training_section(record: ModelRecord) -> Section:
    timing = record.provenance.timing
    facts = [
        ("network", _network_words(record.network)),
        ("training", ", ".join(_training_words(timing))),
        ("machine", f"{record.provenance.machine}; matrix products at {timing['matrix_product_gflops']:g} GFLOP/s"),
        ("noise in training", _noise_words(record)),
        ("slices", _role_words(record)),
    ]
    if record.guessed:
        share = f"{100 * record.labelled_share:.2g} % of the pixels of these slices; the others were guessed"
        too_sure = "" if record.calibration else ", so that at interfaces probabilities claim too much"
        facts.append(("labels", share + too_sure))
    curves = [figures.training_curves(record.curve, record.validations)] if record.validations else []
    return Section("Training", [Facts(facts), *curves])


def _noise_words(record: ModelRecord) -> str:
    asked = record.provenance.settings.get("noise_std") or record.recipe["patches"]["noise_std"]
    if asked:
        return f"std {asked[0]:g} to {asked[1]:g} of 65535"
    top = DEFAULT_NOISE * record.window.width
    return f"std 0 to {DEFAULT_NOISE:g} of the window's width ({top:.4g} grey values), drawn for each patch"


def _plane_facts(crossed: dict[str, Any]) -> list[tuple[str, str]]:
    if not crossed:
        return []
    planes = "; ".join(f"across {axis}: {', '.join(map(str, found))}" for axis, found in crossed["planes"].items())
    return [(
        "left out near planes that were trained on",
        f"{crossed['pixels']} pixels, {100 * crossed['share']:.1f} % of the test slices' labelled ones ({planes})",
    )]  # fmt: skip


def _role_words(record: ModelRecord) -> str:
    roles = [item.role for item in record.slices]
    words = {"train": "train", "validation": "validate", "test": "kept for the test", "gap": "in the gap"}
    return ", ".join(f"{roles.count(role)} {word}" for role, word in words.items() if role in roles)


def _what_section(done: Evaluation) -> Section:
    scores, scan, record = done.json, done.scan, done.model.record
    made = scores["provenance"]
    asked = {name: value for name, value in made["settings"].items() if value not in (None, False, 0.0)}
    size = scan.volume.voxel_size_um
    facts = [
        ("images", f"{scan.volume.path.name}, {' x '.join(map(str, scan.volume.shape))} zyx, {scan.volume.dtype}"),
        ("voxel size", " x ".join(f"{edge:g}" for edge in size) + " µm (z, y, x)" if size else "not known"),
        ("classes", ", ".join(f"{item.name} = {item.value}" for item in record.classes)),
        ("window", f"{record.window.low:g} to {record.window.high:g} grey values"),
        ("noise added", f"std {scores['noise_std']:g} of 65535, {scores['noise_std_grey']:.4g} grey values"),
        ("gap", f"{record.gap} slices"),
        *_plane_facts(scores["left_out_near_planes"]),
        ("model hash", made["inputs"]["model"]),
        ("hash of the test's images and labels", made["inputs"]["images"]),
        ("settings", ", ".join(f"{name} {value}" for name, value in asked.items()) or "the defaults"),
        ("versions", f"tomoseg {made['tomoseg']}, Python {made['python']}, "
                     + ", ".join(f"{name} {version}" for name, version in made["libraries"].items())),
    ]  # fmt: skip
    left = [[name, why] for name, why in list(scores["left_out"].items())[:20]]
    table = [Table(["left out", "why"], left, "At most 20 are listed; scores.json has all.")] if left else []
    return Section("What was done", [Facts(facts), *table])
