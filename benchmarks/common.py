"""What the studies share: where data and results lie, one training, one score."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from pathlib import Path
from typing import Any

from tomoseg.model_file import Model
from tomoseg.slices import Scan
from tomoseg.workflow import evaluate, phantom, train
from tomoseg.workflow.common import Reading
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import open_scans

DATA = Path(os.environ.get("TOMOSEG_DATA", Path(__file__).parents[2] / "shared" / "data"))
PHANTOM_CLASSES = ("pore=0", "YSZ=128", "Ni=255")


def parse_out(description: str) -> Path:
    """Return the folder for results that the command line names, made if need be."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--out", type=Path, default=Path("results"), help="folder for results (default: results)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    return out


def labelled_scan_parser(description: str) -> argparse.ArgumentParser:
    """Return a parser for a model, a scan with labels, and the folder for results."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results"))
    return parser


def open_labelled(model: Model, images: Path, labels: Path) -> Scan:
    """Return a scan with its labels in the model's classes."""
    (scan,) = open_scans([(images, labels)], how=Reading(), stated=None, unlabelled=model.record.unlabelled,
                         known=model.record.classes, console=Console(quiet=True))  # fmt: skip
    return scan


def record(out: Path, study: str, **row: Any) -> None:
    """Append a result to the study's file, and print it."""
    line = json.dumps({"at": time.strftime("%Y-%m-%d %H:%M"), **row})
    with (out / f"{study}.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    print(line, flush=True)


def copied(source: Path, names: list[str], target: Path) -> Path:
    """Return a new folder with those files of `source`."""
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    for name in names:
        shutil.copy(source / name, target / name)
    return target


def make_phantom(out: Path, shape: tuple[int, int, int]) -> Path:
    """Return a phantom's folder, made if it is not there yet."""
    target = out / f"phantom_{'x'.join(map(str, shape))}"
    if not target.exists():
        phantom.run(phantom.PhantomSettings(out=target, shape=shape), Console())
    return target


def fit(images: Path, labels: Path, model: Path, **settings: Any) -> dict[str, Any]:
    """Train a model; return what its file says of the training."""
    train.run(train.TrainSettings(images=images, labels=labels, out=model, force=True, **settings), Console())
    return facts(model)


def facts(model: Path) -> dict[str, Any]:
    """Return what a model file says of its training."""
    from tomoseg.model_file import load_model

    made = load_model(model).record
    timing = made.provenance.timing
    return {
        "steps": timing["steps"],
        "seconds": timing["seconds"],
        "megapixels_seen": timing["megapixels_seen"],
        "passes": timing["passes"],
        "matrix_gflop_per_second": timing["matrix_product_gflops"],
        "validation_mean_iou": max(check["mean_iou"] for check in made.validations),
    }


def score(model: Path, images: Path, labels: Path, out: Path, *, noise_std: float) -> dict[str, Any]:
    """Evaluate a model; return its scores and the forest's on the same pixels."""
    settings = evaluate.EvaluateSettings(
        model=model, images=images, labels=labels, out=out, noise_std=noise_std, force=True
    )
    evaluate.run(settings, Console())
    scores = json.loads((out / "scores.json").read_text(encoding="utf-8"))
    return {
        "noise_std": noise_std,
        "accuracy": scores["accuracy"],
        "mean_iou": scores["mean_iou"],
        "iou": {name: row["iou"] for name, row in scores["classes"].items()},
        "intervals": scores["intervals"],
        "baselines": scores["baselines"],
        "model_on_baseline_pixels": scores["baseline_pixels"]["model"],
    }
