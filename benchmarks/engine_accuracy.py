"""What the engine that `--engine auto` takes loses against torch in float32, on slices that the model has not seen.

`python benchmarks/engine_accuracy.py MODEL IMAGES LABELS --out results [--slices 12]`: accuracy, mean IoU and phase
fractions of both, clean and at a noise std of 5000, and the share of pixels on which they agree.
"""

from __future__ import annotations

import os

import numpy as np

from common import labelled_scan_parser, open_labelled, record
from tomoseg.degrade import noise_std_grey
from tomoseg.engine.choose import choose_engine, make_engine
from tomoseg.evaluate import Noise, stack_of
from tomoseg.labels import UNLABELLED
from tomoseg.metrics import accuracy, confusion, mean_iou
from tomoseg.model_file import load_model
from tomoseg.predict import Runner, choose_tile
from tomoseg.slices import labelled_numbers
from tomoseg.workflow.console import Console
from tomoseg.workflow.evaluate import held_out_of
from tomoseg.workflow.predict import make_runner

NOISE = (0.0, 5000.0)


def main() -> None:
    parser = labelled_scan_parser(__doc__)
    parser.add_argument("--slices", type=int, default=12)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    model, console, threads = load_model(given.model), Console(), os.cpu_count() or 1
    scan, known = open_labelled(model, given.images, given.labels), model.record.classes
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
