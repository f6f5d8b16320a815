"""Training from a few slices, beside the forest and Otsu on the same slices.

`python benchmarks/train.py [--out results] [--only minute sandstone phantom ...] [--seeds 0 1]` makes the named rows of
the table; each score is a line of JSON in OUT/train.jsonl as soon as it is there. On a machine that others use as well,
`--steps-a-minute N` trains for as many steps as a quiet one makes in the time. `--recipe` is for recipes other than
the one that tomoseg takes by itself (null in the results); take an OUT of its own.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage
from sklearn.isotonic import IsotonicRegression

from common import DATA, PHANTOM_CLASSES, copied, facts, make_phantom, open_labelled, record, score
from tomoseg.evaluate import Noise, stack_of
from tomoseg.labels import UNLABELLED
from tomoseg.metrics import CalibrationSums
from tomoseg.model_file import load_model
from tomoseg.workflow.predict import make_runner

SANDSTONE_CLASSES = ("background=#0000ff", "quartz=#ff0000", "clay=#00ff00", "pyrite=#ffff00")
SHAPE, TEST, GAP = (160, 501, 501), range(136, 160), 24
NOISE = (0.0, 5000.0)
LEVELS = (0.0, 2500.0, 5000.0, 10_000.0)
NOT_LABELLED = 7
LEAST_CERTAIN = 0.05
NEAR_PX = 2
_MOST_TRIES = 10_000


@dataclass(frozen=True)
class Row:
    """One training on the phantom: which slices are labelled, for how long, with what options."""

    slices: tuple[int, ...] = ()
    minutes: float = 5.0
    strokes: bool = False
    trust: bool = False
    words: tuple[str, ...] = field(default=("--context", "2"))


PHANTOM = {
    "phantom": Row(trust=True),
    "clean": Row(words=("--context", "2", "--noise-std", "0", "0")),
    "flat": Row(words=("--context", "0")),
    "one": Row(slices=(56,)),
    "one-minute": Row(slices=(56,), minutes=1.0),
    "strokes": Row(slices=(24, 56, 88), strokes=True),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--only", nargs="*", default=["minute", "sandstone", *PHANTOM, "adapt"])
    parser.add_argument("--seeds", nargs="*", type=int, default=[0])
    parser.add_argument("--steps-a-minute", type=int)
    parser.add_argument("--recipe")
    parser.add_argument("--tested", nargs="*", default=[], help="sandstone slices to hold out, like 0150; all without")
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    for seed in given.seeds:
        for name in given.only:
            if name in PHANTOM:
                phantom(given, name, PHANTOM[name], seed)
            elif name == "adapt":
                adapt(given, seed)
            else:
                sandstone(given, name, 1.0 if name == "minute" else 5.0, seed)


def budget(given: argparse.Namespace, minutes: float) -> tuple[str, float]:
    """Return the option that says how long to train."""
    per_minute = given.steps_a_minute
    return ("--minutes", minutes) if per_minute is None else ("--steps", round(minutes * per_minute))


def how(given: argparse.Namespace, minutes: float, seed: int) -> tuple[object, ...]:
    """Return the options of a training: recipe, length, seed."""
    named = () if given.recipe is None else ("--recipe", given.recipe)
    return (*named, *budget(given, minutes), "--seed", seed, "--force")


def run(*words: object) -> dict[str, float]:
    """Run a verb of tomoseg; return its seconds and the peak of its memory in MB."""
    began = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-m", "tomoseg", *map(str, words), "--quiet"])
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"tomoseg {words[0]} failed")
    return {"wall_s": time.perf_counter() - began, "peak_MB": used.ru_maxrss / 1e3}


def sandstone(given: argparse.Namespace, name: str, minutes: float, seed: int) -> None:
    """Hold each slice out in turn."""
    images, labels, out = DATA / "sandstone/images", DATA / "sandstone/labels", given.out
    names = sorted(path.name for path in labels.iterdir())
    for tested in (one for one in names if not given.tested or one[-8:-4] in given.tested):
        kept = copied(labels, [one for one in names if one != tested], out / "sandstone_labels")
        model = out / f"{name}_{tested[-8:-4]}_{seed}.tomoseg"
        used = run("train", images, kept, "-o", model, *how(given, minutes, seed), "--classes", *SANDSTONE_CLASSES)
        for noise_std in NOISE:
            scores = score(model, images, labels, out / f"{model.stem}_{noise_std:.0f}", noise_std=noise_std)
            named = {"row": name, "recipe": given.recipe, "tested": tested, "seed": seed}
            record(out, "train", **named, **used, **facts(model), **scores)


def phantom(given: argparse.Namespace, name: str, row: Row, seed: int) -> None:
    """Train on the phantom, test on its last 24 slices."""
    out = given.out
    images, labels, test = phantom_parts(out)
    words = ["--test", f"{TEST.start}:{TEST.stop}", "--gap", GAP]
    drawn = labels
    if row.slices:
        words = ["--unlabelled", NOT_LABELLED] if row.strokes else []
        drawn = copied(labels, [f"slice_{z:04d}.tif" for z in row.slices], out / f"{name}_labels")
    if row.strokes:
        for i, path in enumerate(sorted(drawn.iterdir())):
            Image.fromarray(strokes(np.asarray(Image.open(path)), np.random.default_rng([seed, i]))).save(path)
    model = out / f"{name}_{seed}.tomoseg"
    used = run("train", images, drawn, "-o", model, *how(given, row.minutes, seed), "--classes", *PHANTOM_CLASSES,
               *row.words, *words)  # fmt: skip
    for noise_std in LEVELS if row.trust else LEVELS[::2] + LEVELS[3:]:
        scores = score(model, images, test, out / f"{model.stem}_{noise_std:.0f}", noise_std=noise_std)
        trust = trusted(model, images, test, noise_std=noise_std) if row.trust else {}
        record(out, "train", row=name, recipe=given.recipe, seed=seed, **used, **facts(model), **scores, **trust)


def phantom_parts(out: Path) -> tuple[Path, Path, Path]:
    """Return the phantom's images, its labels, and a folder with the test's alone."""
    folder = make_phantom(out, SHAPE)
    test = copied(folder / "labels", [f"slice_{z:04d}.tif" for z in TEST], out / "test_labels")
    return folder / "images", folder / "labels", test


def adapt(given: argparse.Namespace, seed: int) -> None:
    """Train clean on five slices; adapt without labels to the phantom with noise; score both on it."""
    out = given.out
    images, labels, test = phantom_parts(out)
    five = copied(labels, [f"slice_{z:04d}.tif" for z in (8, 32, 56, 80, 99)], out / "five_labels")
    clean, adapted = out / f"clean_{seed}.tomoseg", out / f"adapted_{seed}.tomoseg"
    run("train", images, five, "-o", clean, *how(given, 5, seed), "--noise-std", 0, 0, "--classes", *PHANTOM_CLASSES)
    noisy = with_noise(images, out / "noisy_images", 5000.0, seed)
    used = run("adapt", clean, noisy, "-o", adapted, *budget(given, 1), "--seed", seed, "--force")
    for name, model in (("adapted", adapted), ("unadapted", clean)):
        scores = score(model, noisy, test, out / f"{model.stem}_on_noisy", noise_std=0.0)
        record(out, "train", row="adapt", recipe=given.recipe, model=name, seed=seed, **used, **scores)


def with_noise(images: Path, target: Path, noise_std: float, seed: int) -> Path:
    """Write 16-bit images with noise, clipped and rounded as a detector does, to a folder of another name."""
    target.mkdir(exist_ok=True)
    for i, path in enumerate(sorted(images.iterdir())):
        grey = np.asarray(Image.open(path)).astype(np.float64)
        noisy = grey + noise_std * np.random.default_rng([seed, i]).standard_normal(grey.shape)
        Image.fromarray(np.clip(np.rint(noisy), 0, 65535).astype(np.uint16)).save(target / path.name)
    return target


def strokes(label: np.ndarray, rng: np.random.Generator, *, pixels: int = 100) -> np.ndarray:
    """Return a label picture of which only strokes of 20 to 60 connected pixels are left, `pixels` a class in all."""
    kept = np.full_like(label, NOT_LABELLED)
    for value in np.unique(label):
        places, left = np.argwhere(label == value), pixels
        for _ in range(_MOST_TRIES):  # a class may be too thin for strokes
            stroke = _walk(label == value, places[rng.integers(len(places))], rng, min(left, int(rng.integers(20, 61))))
            if len(stroke) >= min(left, 20):
                new = [place for place in stroke if kept[place] == NOT_LABELLED][:left]
                kept[tuple(np.transpose(new))] = value
                left -= len(new)
            if not left:
                break
    return kept


def _walk(inside: np.ndarray, start: np.ndarray, rng: np.random.Generator, length: int) -> list[tuple[int, int]]:
    """Return a stroke as a hand draws it, nearly straight, as long as it stays in its class."""
    place, angle = start.astype(float), rng.uniform(0, 2 * np.pi)
    found = [(int(start[0]), int(start[1]))]
    while len(found) < length:
        place += np.array([np.sin(angle), np.cos(angle)])
        angle += rng.normal(0, 0.15)
        y, x = (int(i) for i in np.rint(place))
        if not (0 <= y < inside.shape[0] and 0 <= x < inside.shape[1] and inside[y, x]):
            break
        if (y, x) not in found:
            found.append((y, x))
    return found


def trusted(model_path: Path, images: Path, labels: Path, *, noise_std: float) -> dict[str, float]:
    """Return what probabilities are worth: calibration near interfaces, share of errors that look uncertain."""
    model = load_model(model_path)
    scan = open_labelled(model, images, labels)
    runner, read = make_runner(model), Noise(noise_std, 0, False).on(scan, 0)
    near, labels_near, confidences, wrongs = [], [], [], []
    for pair in scan.pairs:
        label = scan.read_label(pair.z)
        found = np.zeros((runner.network.classes, *label.shape), np.float32)
        for core, probabilities in runner.parts(stack_of(scan, pair.z, context=runner.network.context, read=read)):
            found[(slice(None), *core)] = probabilities
        edge = ndimage.maximum_filter(label, 2 * NEAR_PX + 1) != ndimage.minimum_filter(label, 2 * NEAR_PX + 1)
        known = label != UNLABELLED
        near.append(found[:, edge & known])
        labels_near.append(label[edge & known])
        confidences.append(found.max(axis=0)[known])
        wrongs.append((found.argmax(axis=0) != label)[known])
    confidence, wrong = np.concatenate(confidences), np.concatenate(wrongs)
    least = np.argpartition(confidence, int(LEAST_CERTAIN * len(confidence)))[: int(LEAST_CERTAIN * len(confidence))]
    given, truth = np.concatenate(near, axis=1), np.concatenate(labels_near)
    one_hot = (given.argmax(axis=0) == np.arange(len(given))[:, None]).astype(np.float32)
    ways = {"near": given, "isotonic": isotonic(given, truth), "one_hot": one_hot}
    sums = {name: CalibrationSums.of(its[:, None], truth[None]) for name, its in ways.items()}
    return {
        "ece_near": sums["near"].ece,
        **{f"nll_{name}": its.nll for name, its in sums.items()},
        **{f"brier_{name}": its.brier for name, its in sums.items()},
        "errors_in_least_certain": float(wrong[least].sum() / max(1, wrong.sum())),
    }


def isotonic(given: np.ndarray, truth: np.ndarray) -> np.ndarray:
    """Return probabilities (class, pixel) calibrated on these very pixels: the best of a monotonic map of each."""
    fitted = [  # in float64: in float32 it makes nan of probabilities that nearly agree
        IsotonicRegression(y_min=0, y_max=1).fit_transform(its.astype(np.float64), (truth == order).astype(np.float64))
        for order, its in enumerate(given)
    ]
    return np.asarray(fitted / np.maximum(np.sum(fitted, axis=0), 1e-12))


if __name__ == "__main__":
    main()
