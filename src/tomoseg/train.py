"""The training loop: one `Step` record at a time, within a budget of time or steps, resumable."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, Literal

import numpy as np
import torch
from lightning_fabric import Fabric
from torch import nn

from tomoseg.checks import Check
from tomoseg.losses import of_patches, over_patches
from tomoseg.metrics import accuracy, confusion, mean_iou
from tomoseg.model_file import weights_of
from tomoseg.muon import Muon
from tomoseg.patches import BatchSource, Images, Labels
from tomoseg.recipe import Recipe
from tomoseg.unet import UNet
from tomoseg.unet_config import UNetConfig

VALIDATIONS = 8
VALIDATION_SHARE = 0.15
CURVE_POINTS = 100
SETTLED_FROM = 30
"""Fewest steps before batch norms settle: by then 4 % of what their running statistics began with is left."""

_AVERAGING_STARTS = 10


@dataclass(frozen=True)
class Budget:
    """When training ends: after `steps`, or after `seconds` by the caller's clock; exactly one is given.

    `validations` are spread evenly over it; of `seconds` they take at most `VALIDATION_SHARE`, the last one aside.
    """

    steps: int | None = None
    seconds: float | None = None
    validations: int = VALIDATIONS

    def share(self, step: int, elapsed: float) -> float:
        """Return how much of the budget is used, 0 to 1.

        Examples
        --------
        >>> Budget(steps=200).share(50, 3.0), Budget(seconds=60).share(50, 3.0)
        (0.25, 0.05)
        """
        if self.steps is not None:
            return min(1.0, step / self.steps)
        return min(1.0, elapsed / (self.seconds or math.inf))

    def affords(self, validating: float, elapsed: float) -> bool:
        """Tell whether validations that will have taken `validating` seconds leave enough of `elapsed` to training.

        Examples
        --------
        >>> Budget(seconds=60).affords(2.0, 20.0), Budget(seconds=60).affords(4.0, 20.0)
        (True, False)
        """
        return self.seconds is None or validating <= VALIDATION_SHARE * elapsed


@dataclass(frozen=True)
class Step:
    """What one training step did.

    Attributes
    ----------
    step
        Steps so far, this one included.
    seconds
        Of the caller's clock.
    loss
        Cross entropy of the batch in nats.
    share
        Part of the budget used.
    patches
        Patches seen so far.
    validation
        Scores of the weights at this step (`mean_iou`, `accuracy`) if they were checked.
    """

    step: int
    seconds: float
    loss: float
    share: float
    patches: int
    validation: Mapping[str, float] | None = None


@dataclass
class Training:
    """The state of a training: all that changes from step to step, and nothing else.

    Attributes
    ----------
    network, averaged, optimiser
        Weights, their running average (the network itself if the recipe has none), the optimiser's moments.
    best, best_scores
        The best validated weights so far, and how they scored; empty before the first validation.
    step
        Steps done.
    curve
        Mean loss (nats) of every hundredth of the budget, with `step` and `seconds`.
    validations
        `mean_iou` and `accuracy` of the averaged weights, and `noisy_mean_iou` where noise is trained, with `step` and
        `seconds`.
    """

    network: UNet
    averaged: UNet
    optimiser: torch.optim.Optimizer
    best: dict[str, np.ndarray] = field(default_factory=dict)
    best_scores: dict[str, float] = field(default_factory=dict)
    step: int = 0
    curve: list[dict[str, float]] = field(default_factory=list)
    validations: list[dict[str, float]] = field(default_factory=list)


def rate_factor(recipe: Recipe, share: float) -> float:
    """Return the learning rate as a share of its largest after `share` of the budget: warm-up, then constant or cosine.

    I. Loshchilov, F. Hutter, SGDR, ICLR 2017, DOI 10.48550/arXiv.1608.03983.

    Examples
    --------
    >>> recipe = Recipe(warm_up=0.5)
    >>> [round(rate_factor(recipe, share), 2) for share in (0.0, 0.25, 0.5, 0.75, 1.0)]
    [0.02, 0.5, 1.0, 0.5, 0.0]
    """
    if share < recipe.warm_up:
        return max(share / recipe.warm_up, 0.02)
    if recipe.schedule == "constant":
        return 1.0
    done = (share - recipe.warm_up) / (1 - recipe.warm_up)
    return 0.5 * (1 + math.cos(math.pi * done))


Precision = Literal["bf16-mixed", "16-mixed", "32-true"]


def choose_precision() -> Precision:
    """Return bf16 mixed precision where the hardware multiplies bf16 faster, else float32, in Fabric's words.

    On processors without such instructions bf16 is emulated and a hundred times slower.
    """
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    fast = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
    return "bf16-mixed" if fast else "32-true"


def matrix_rate(*, edge: int = 1024, repeats: int = 4) -> float:
    """Return how fast this machine multiplies matrices now, in GFLOP/s of float32: the best of a few products."""
    matrix = torch.ones(edge, edge)
    torch.mm(matrix, matrix)
    best = math.inf
    for _ in range(repeats):
        began = perf_counter()
        torch.mm(matrix, matrix)
        best = min(best, perf_counter() - began)
    return 2 * edge**3 / best / 1e9


def make_fabric() -> Fabric:
    """Return what places network and data on the device that there is, in the precision that suits it."""
    return Fabric(accelerator="auto", devices=1, precision=choose_precision())


def start(config: UNetConfig, recipe: Recipe, *, seed: int) -> Training:
    """Return a training before its first step, its weights drawn from `seed`."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = UNet(config).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    averaged = deepcopy(network).eval() if recipe.average else network
    return Training(network, averaged, _optimiser(network, recipe))


def _optimiser(network: UNet, recipe: Recipe) -> torch.optim.Optimizer:
    rate, decay = recipe.learning_rate, recipe.weight_decay
    if recipe.optimiser == "muon":
        return Muon(network, lr=rate, kernel_lr=recipe.kernel_rate, weight_decay=decay)
    kind = torch.optim.AdamW if recipe.optimiser == "adamw" else torch.optim.Adam
    return kind([{"params": list(network.parameters()), "lr": rate, "peak_lr": rate}], weight_decay=decay)


def train(
    training: Training,
    recipe: Recipe,
    source: BatchSource,
    checks: Sequence[Check],
    *,
    noisy_checks: Sequence[Check] = (),
    fabric: Fabric,
    budget: Budget,
    clock: Callable[[], float],
    seed: int,
) -> Iterator[Step]:
    """Train until the budget is used, yielding a record of each step; `training` changes as it goes.

    The randomness of a step depends on `seed` and the step's number only, so that a training that was stopped
    goes on as if it had not been.

    Parameters
    ----------
    training
        From `start`, or loaded.
    recipe
        How.
    source
        Draws the patches.
    checks, noisy_checks
        Validation data, run as often as the budget says; the weights that are best on the mean of both are kept in
        `training`. Of two that are as good on clean slices one may be much better on noisy ones.
    fabric
        Device and precision.
    budget
        When to end; the last validation is part of it.
    clock
        Seconds since the user's start, a stopped part's included.
    seed
        Of the patch draws.
    """
    training.network.to(fabric.device)
    training.optimiser.load_state_dict(training.optimiser.state_dict())  # a checkpoint's moments follow the weights
    network, optimiser = fabric.setup(training.network, training.optimiser)
    training.averaged.to(fabric.device)
    reserve = 0.0  # seconds that one more step and the last validation will take
    validating = 0.0
    while (share := budget.share(training.step, clock() + reserve)) < 1.0:
        began = clock()
        _set_rate(optimiser, rate_factor(recipe, share))
        _set_mode(training.network, settled=share >= recipe.settle and training.step >= SETTLED_FROM)
        with _torch_randomness([seed, training.step], fabric.device):
            rng = np.random.default_rng([seed, training.step])
            loss = _step(network, optimiser, recipe, source.batch(rng), fabric=fabric)
        training.step += 1
        _average(training, recipe.average)
        _note_loss(training, loss, share, clock())
        step_seconds, began = clock() - began, clock()
        scores = None
        if _due(budget, training, clock() + reserve, validating=validating + reserve):
            scores = _validate(training, checks, noisy_checks, fabric, seconds=clock())
            reserve = clock() - began
            validating += reserve
        reserve = max(reserve, step_seconds)
        patches, now = training.step * source.settings.batch, clock()
        yield Step(training.step, now, loss, budget.share(training.step, now), patches, scores)


def _due(budget: Budget, training: Training, now: float, *, validating: float) -> bool:
    share = budget.share(training.step, now)
    if share >= 1.0:
        return True
    return share * budget.validations >= len(training.validations) + 1 and budget.affords(validating, now)


def _note_loss(training: Training, loss: float, share: float, now: float) -> None:
    """Add a loss to the curve: to its last point, until that stands for a hundredth of the budget."""
    if not training.curve or share >= training.curve[-1]["share"] + 1 / CURVE_POINTS:
        training.curve.append({"step": 0.0, "seconds": now, "loss": 0.0, "share": share, "steps": 0.0})
    point = training.curve[-1]
    point["steps"] += 1
    point["loss"] += (loss - point["loss"]) / point["steps"]
    point["step"] = training.step


def _set_mode(network: UNet, *, settled: bool) -> None:
    """Put the network in training mode; once `settled`, its batch norms use and keep their running statistics.

    Patches around rare classes differ so much that a small batch's own statistics tell the network what it looks
    at. It would learn to rely on them, and miss them in prediction.
    """
    network.train()
    for module in network.modules():
        if settled and isinstance(module, nn.BatchNorm2d):
            module.eval()


def _set_rate(optimiser: Any, factor: float) -> None:
    for group in optimiser.param_groups:
        group["lr"] = factor * group["peak_lr"]


@contextmanager
def _torch_randomness(seed: Sequence[int], device: torch.device) -> Iterator[None]:
    """Let torch draw from `seed`, for dropout; what others draw from torch is not changed."""
    with torch.random.fork_rng(devices=[device] if device.type == "cuda" else []):
        torch.manual_seed(int(np.random.SeedSequence(seed).generate_state(1)[0]))
        yield


def _step(network: Any, optimiser: Any, recipe: Recipe, batch: tuple[Images, Labels], *, fabric: Fabric) -> float:
    images, labels = batch
    image = torch.from_numpy(images).contiguous(memory_format=torch.channels_last)
    image, label = fabric.to_device(image), fabric.to_device(torch.from_numpy(labels))
    optimiser.zero_grad(set_to_none=True)
    logits = network(image)
    losses, pixels = of_patches(logits, label)
    fabric.backward(over_patches(losses, pixels, power=recipe.loss_power))
    optimiser.step()
    return float(over_patches(losses.detach(), pixels))


@torch.no_grad()
def _average(training: Training, decay: float) -> None:
    """Move the averaged weights towards the network's; faster at first, when there is nothing worth keeping."""
    if not decay:
        return
    weight = 1 - min(decay, training.step / (training.step + _AVERAGING_STARTS))
    torch._foreach_lerp_(_floats(training.averaged), _floats(training.network), weight)


def _floats(network: UNet) -> list[torch.Tensor]:
    """Return all that is averaged: weights and batch norms' statistics, not their counts of batches."""
    return [value for value in (*network.parameters(), *network.buffers()) if value.is_floating_point()]


def _validate(
    training: Training, checks: Sequence[Check], noisy: Sequence[Check], fabric: Fabric, *, seconds: float
) -> Mapping[str, float]:
    """Score the averaged weights, note it, and keep them if they are the best so far."""
    scores = validate(training.averaged, checks, fabric)
    if noisy:
        scores["noisy_mean_iou"] = validate(training.averaged, noisy, fabric)["mean_iou"]
    training.validations.append({"step": float(training.step), "seconds": seconds, **scores})
    if not training.best or _merit(scores) >= _merit(training.best_scores):
        training.best, training.best_scores = weights_of(training.averaged.state_dict()), scores
    return scores


def _merit(scores: Mapping[str, float]) -> float:
    return (scores["mean_iou"] + scores.get("noisy_mean_iou", scores["mean_iou"])) / 2


def validate(network: UNet, checks: Sequence[Check], fabric: Fabric) -> dict[str, float]:
    """Return `mean_iou` and `accuracy` of a network over all checks; the network is left in evaluation mode."""
    network.eval()
    n = network.config.classes
    total = np.zeros((n, n), np.int64)
    with torch.inference_mode(), fabric.autocast():
        for part in checks:
            image = fabric.to_device(torch.from_numpy(part.image[None]))
            logits = network(image.contiguous(memory_format=torch.channels_last))[0]
            found = logits.argmax(0).to(torch.uint8).cpu().numpy()[part.inner]
            total += confusion(part.label, found, n)
    return {"mean_iou": mean_iou(total), "accuracy": accuracy(total)} if total.any() else _nothing_labelled()


def _nothing_labelled() -> dict[str, float]:
    # Without validation pixels the last weights are the best that are known.
    return {"mean_iou": 0.0, "accuracy": 0.0}
