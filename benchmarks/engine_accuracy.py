"""What the engine that `--engine auto` takes loses against torch in float32, on slices that the model has not seen.

`python benchmarks/engine_accuracy.py MODEL IMAGES LABELS --out results [--slices 12]`: accuracy, mean IoU and phase
fractions of both, clean and at a noise std of 5000, and the share of pixels on which they agree.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

import numpy as np

from common import record
from tomoseg.degrade import noise_std_grey
from tomoseg.engine.choose import choose_engine, make_engine
from tomoseg.evaluate import Noise, stack_of
from tomoseg.labels import UNLABELLED
from tomoseg.metrics import accuracy, confusion, mean_iou
from tomoseg.model_file import load_model
from tomoseg.predict import Runner, choose_tile
from tomoseg.slices import labelled_numbers
from tomoseg.workflow.common import Reading
from tomoseg.workflow.console import Console
from tomoseg.workflow.evaluate import held_out_of
from tomoseg.workflow.predict import make_runner
from tomoseg.workflow.reading import open_scans

NOISE = (0.0, 5000.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("images", type=Path)
    parser.add_argument("labels", type=Path)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--slices", type=int, default=12)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    model, console, threads = load_model(given.model), Console(), os.cpu_count() or 1
    pairs, known = [(given.images, given.labels)], model.record.classes
    (scan,) = open_scans(
        pairs, how=Reading(), stated=None, unlabelled=model.record.unlabelled, known=known, console=console
    )
    kept = held_out_of(scan, model, console).kept
    chosen = sorted({kept[int(i)] for i in np.linspace(0, len(kept) - 1, min(given.slices, len(kept)))})
    config, at, n = model.record.network, labelled_numbers(scan), len(known)
    choice = choose_engine(model, asked="auto", threads=threads, say=console.say)
    fast = Runner(make_engine(model, choice, threads=threads), config, model.record.window, choose_tile(config))
    runners = {"exact": make_runner(model), "fast": fast}
    for std in NOISE:
        noise = Noise(noise_std_grey(std, dtype=scan.volume.dtype, window=model.record.window), 0, clip=False)
        counts = {name: np.zeros((n, n), np.int64) for name in runners}
        same = seen = 0
        for number in chosen:
            stack = stack_of(scan, at[number], context=config.context, read=noise.on(scan, 0))
            label, found = scan.read_label(at[number]), {name: one.segment(stack) for name, one in runners.items()}
            known_pixels = label != UNLABELLED
            same += int((found["exact"] == found["fast"])[known_pixels].sum())
            seen += int(known_pixels.sum())
            for name, labels in found.items():
                counts[name] += confusion(label, labels, n)
        scores = {name: (accuracy(table), mean_iou(table)) for name, table in counts.items()}
        shares = {name: table.sum(axis=0) / table.sum() for name, table in counts.items()}
        record(
            given.out,
            "engine_accuracy",
            model=given.model.name,
            engine=str(choice),
            slices=len(chosen),
            noise_std=std,
            **{f"{name}: accuracy, mean IoU": score for name, score in scores.items()},
            accuracy_lost=scores["exact"][0] - scores["fast"][0],
            agree=same / seen,
            fraction_points=float(100 * np.abs(shares["exact"] - shares["fast"]).max()),
        )


if __name__ == "__main__":
    main()
