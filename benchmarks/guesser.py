"""Train the network that guesses what few labels leave open, on made-up structures without end.

`python benchmarks/guesser.py --context 2 --minutes 25 [--out results]` writes OUT/context_2.safetensors, the same with
`--context 0`; copied to src/tomoseg/guesser they are what ships. One thread trains, another process makes structures.

Each step shows patches of one sample. The mean of each phase, in the space of the last layer's input, is taken from
half of them, and the pixels of the other half are to lie nearest to their own phase's (J. Snell et al., Prototypical
networks for few-shot learning, NeurIPS 2017, DOI 10.48550/arXiv.1703.05175).
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import time
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Float, UInt8
from scipy import ndimage
from torch import Tensor, nn
from torch.nn import functional

from structures import DEPTH, EDGE, MOST, Sample, make_samples
from tomoseg.augment import turn
from tomoseg.labels import UNLABELLED
from tomoseg.losses import cross_entropy
from tomoseg.model_file import save_tensors, weights_of
from tomoseg.muon import Muon
from tomoseg.patches import DEFAULT_NOISE
from tomoseg.recipe import FAST
from tomoseg.train import choose_precision, rate_factor
from tomoseg.unet import UNet

RECIPE = FAST.model_copy(update={"widths": (12, 24), "bottleneck": 48, "dropout": 0.0})  # as the shipped ones
SIZE, BATCH, SHOWN = 128, 4, 2
FEWEST = 20  # pixels of a phase, for a mean
KEPT, HELD = 96, 24  # samples to draw from, and samples that test
NOISE_POWER, CORRELATED = 3.0, 0.15
CHECK_EVERY = 1000


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--context", type=int, choices=(0, 2), default=2)
    parser.add_argument("--minutes", type=float, default=25)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=Path("results"))
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    torch.set_num_threads(1)
    network = trained(given.context, given.minutes, given.seed)
    weights = {
        name: value.astype(np.float16) if value.ndim else value
        for name, value in weights_of(network.state_dict()).items()
    }
    record = {"kind": "tomoseg guesser", "network": network.config.model_dump(mode="json")}
    save_tensors(given.out / f"context_{given.context}.safetensors", weights, record)


def trained(context: int, minutes: float, seed: int) -> UNet:
    """Return a network after so many minutes; what it makes of other samples is printed on the way."""
    torch.manual_seed(seed)
    network = UNet(RECIPE.network(classes=2, context=context))
    sharpness = nn.Parameter(torch.zeros(()))
    optimiser = Muon(network, lr=RECIPE.learning_rate, kernel_lr=RECIPE.kernel_rate, weight_decay=RECIPE.weight_decay)
    also = torch.optim.Adam([sharpness], lr=RECIPE.learning_rate)
    samples = Samples(seed)
    held = [make_samples(np.random.default_rng([seed + 1, i]), scans=1)[0] for i in range(HELD)]
    rng, began, step, losses = np.random.default_rng(seed), time.monotonic(), 0, []
    while (share := (time.monotonic() - began) / (60 * minutes)) < 1:
        for group in optimiser.param_groups:
            group["lr"] = rate_factor(RECIPE, share) * group["peak_lr"]
        logits, label = told_apart(network, sharpness, samples.draw(rng), rng)
        optimiser.zero_grad()
        also.zero_grad()
        cross_entropy(logits, label, power=RECIPE.loss_power).backward()  # type: ignore[no-untyped-call]
        optimiser.step()
        also.step()
        step += 1
        losses.append(float(cross_entropy(logits.detach(), label)))
        if step % CHECK_EVERY == 0:
            print(
                step, f"loss {np.mean(losses):.4f}, right on others {right(network, sharpness, held):.4f}", flush=True
            )
            losses.clear()
    return network


class Samples:
    """The newest samples that another process makes, each drawn from several times."""

    def __init__(self, seed: int) -> None:
        self._made: multiprocessing.Queue[Sample] = multiprocessing.Queue(4)
        multiprocessing.Process(target=_make, args=(self._made, seed), daemon=True).start()
        self._kept = [self._made.get() for _ in range(KEPT // 8)]

    def draw(self, rng: np.random.Generator) -> Sample:
        """Return one of them."""
        while not self._made.empty():
            self._kept.append(self._made.get())
        del self._kept[:-KEPT]
        return self._kept[rng.integers(len(self._kept))]


def _make(made: multiprocessing.Queue[Sample], seed: int) -> None:
    os.nice(3)
    i = 0
    while True:
        for sample in make_samples(np.random.default_rng([seed, 0, i])):
            made.put(sample)
        i += 1


def told_apart(
    network: UNet, sharpness: Tensor, sample: Sample, rng: np.random.Generator
) -> tuple[Float[Tensor, "batch phase y x"], UInt8[Tensor, "batch y x"]]:
    """Return logits by the distance to each phase's mean, and the phases, unlabelled where the means lack one."""
    images, phases = zip(*(patch(sample, network.config.context, rng) for _ in range(BATCH)), strict=True)
    image = torch.from_numpy(np.stack(images)).contiguous(memory_format=torch.channels_last)
    phase = torch.from_numpy(np.stack(phases))
    with torch.autocast("cpu", torch.bfloat16, enabled=choose_precision() == "bf16-mixed"):
        features = network.features(image)
    at = features.float().permute(0, 2, 3, 1)
    belongs = functional.one_hot(phase[:SHOWN].long(), MOST).float()
    counts = belongs.sum(dim=(0, 1, 2))
    means = torch.einsum("byxp,byxf->pf", belongs, at[:SHOWN]) / counts.clamp(min=1)[:, None]
    logits = sharpness.exp() * (2 * at[SHOWN:] @ means.T - means.square().sum(dim=1))
    label = phase[SHOWN:].clone()
    label[(counts < FEWEST)[label.long()]] = UNLABELLED
    return logits.masked_fill(counts < FEWEST, -1e4).permute(0, 3, 1, 2), label


def patch(sample: Sample, context: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Return a patch of a sample with its context and noise, float32 (channel, y, x), and its phases."""
    z, (y, x) = int(rng.integers(context, DEPTH - context)), rng.integers(EDGE - SIZE + 1, size=2)
    box = (slice(y, y + SIZE), slice(x, x + SIZE))
    image = sample.grey[(slice(z - context, z + context + 1), *box)].astype(np.float32)
    noise = rng.standard_normal(image.shape, dtype=np.float32)
    if rng.random() < CORRELATED:
        width = rng.uniform(0.4, 1.0)
        noise = ndimage.gaussian_filter(noise, (0, width, width))
        noise /= noise.std()
    image += np.float32(DEFAULT_NOISE * rng.random() ** NOISE_POWER) * noise
    return tuple(map(np.ascontiguousarray, turn(image, sample.phase[(z, *box)], rng=rng)))  # type: ignore[return-value]


@torch.no_grad()
def right(network: UNet, sharpness: Tensor, held: list[Sample]) -> float:
    """Return the share of pixels of other samples that lie nearest to their own phase's mean."""
    found = [told_apart(network, sharpness, one, np.random.default_rng(i)) for i, one in enumerate(held)]
    hits = sum(int((logits.argmax(1) == label)[label != UNLABELLED].sum()) for logits, label in found)
    return hits / sum(int((label != UNLABELLED).sum()) for _, label in found)


if __name__ == "__main__":
    main()
