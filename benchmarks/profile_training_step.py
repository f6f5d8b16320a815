"""Training step: where its time goes, and its arithmetic beside what this processor multiplies at best.

`python benchmarks/profile_training_step.py [--out results]`: in the precision that training takes, with batch norms by
the batch, and settled (by their running statistics).
"""

from __future__ import annotations

from time import perf_counter

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from common import PHANTOM_CLASSES, fit, make_phantom, parse_out, record
from tomoseg.losses import cross_entropy
from tomoseg.recipe import FAST, POSTER, Recipe
from tomoseg.train import make_fabric, matrix_rate, start

SECONDS = 20.0
CONTEXT = 2


def network_times(recipe: Recipe, *, settled: bool) -> dict[str, float]:
    """Return seconds of the parts of a step, and its arithmetic in GFLOP."""
    context = CONTEXT if recipe.context is None else recipe.context
    config = recipe.network(classes=3, context=context)
    training, fabric = start(config, recipe, seed=0), make_fabric()
    network, optimiser = fabric.setup(training.network, training.optimiser)
    for module in training.network.modules():
        if settled and isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    size, batch = recipe.patches.size, recipe.patches.batch
    rng = np.random.default_rng(0)
    image = torch.from_numpy(rng.standard_normal((batch, config.channels, size, size), dtype=np.float32))
    image = image.contiguous(memory_format=torch.channels_last)
    label = torch.from_numpy(rng.integers(3, size=(batch, size, size), dtype=np.uint8))
    with FlopCounterMode(display=False) as counter:
        fabric.backward(cross_entropy(network(image), label))
    parts = {"forward": 0.0, "backward": 0.0, "optimiser": 0.0}
    steps, began = 0, perf_counter()
    while steps < 3 or perf_counter() - began < SECONDS:
        t0 = perf_counter()
        loss = cross_entropy(network(image), label)
        t1 = perf_counter()
        fabric.backward(loss)
        t2 = perf_counter()
        optimiser.step()
        optimiser.zero_grad(set_to_none=True)
        t3 = perf_counter()
        for name, seconds in zip(parts, (t1 - t0, t2 - t1, t3 - t2), strict=True):
            parts[name] += seconds
        steps += 1
    return {**{name: total / steps for name, total in parts.items()}, "gflop": counter.get_total_flops() / 1e9}


def main() -> None:
    out = parse_out(__doc__ or "")
    for name, recipe, settled in (("fast", FAST, False), ("fast", FAST, True), ("poster", POSTER, False)):
        peak = matrix_rate()
        times = network_times(recipe, settled=settled)
        peak = max(peak, matrix_rate())
        step = times["forward"] + times["backward"] + times["optimiser"]
        record(
            out,
            "training_step",
            recipe=name,
            settled=settled,
            ms={part: round(1e3 * times[part], 1) for part in ("forward", "backward", "optimiser")},
            patches_per_second=recipe.patches.batch / step,
            gflop_per_second=times["gflop"] / step,
            matrix_gflop_per_second=peak,
            share_of_matrix_rate=times["gflop"] / step / peak,
        )
    folder = make_phantom(out, (64, 256, 256))
    how = {"minutes": 0.5, "recipe": "fast", "classes": PHANTOM_CLASSES}
    run = fit(folder / "images", folder / "labels", out / "step.tomoseg", **how)
    record(out, "training_step", recipe="fast, as trained, patches and validation included", minutes=0.5, **run)


if __name__ == "__main__":
    main()
