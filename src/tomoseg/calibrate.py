"""The temperature that makes a network's probabilities mean what they say, fitted on validation data.

C. Guo et al., On calibration of modern neural networks, ICML 2017, DOI 10.48550/arXiv.1706.04599.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, UInt8
from lightning_fabric import Fabric

from tomoseg.checks import Check
from tomoseg.labels import UNLABELLED
from tomoseg.metrics import CalibrationSums, interior
from tomoseg.model_file import Calibration
from tomoseg.unet import UNet

TEMPERATURES = np.exp(np.linspace(-0.7, 0.7, 57))
"""Tried temperatures, 2.5 % apart."""

FEWEST_PIXELS = 1000
"""With fewer validation pixels at an interface the probabilities stay as they are."""

_EVERY = 8  # of all validation pixels, for the scores everywhere


@dataclass(frozen=True)
class Found:
    """Logits and labels of some validation pixels at one noise level."""

    logits: Float[np.ndarray, "class pixel"]
    label: UInt8[np.ndarray, " pixel"]

    def sums(self, temperature: float) -> CalibrationSums:
        """Return what calibration is scored from, at a temperature."""
        powers = np.exp((self.logits - self.logits.max(axis=0)) / temperature)
        probabilities = powers / powers.sum(axis=0)
        return CalibrationSums.of(probabilities[:, None], self.label[None])


def calibrate(
    network: UNet, checks: Sequence[Check], *, noise_std: tuple[float, float], fabric: Fabric, seed: int
) -> Calibration | None:
    """Return the temperature whose worst calibration error at interfaces, over four levels of noise, is smallest.

    Pixels with a neighbour of another class count, where nearly all errors are. A mean over the levels would be that of
    the noisiest, where most errors are.

    Parameters
    ----------
    network
        Gives the logits; left in evaluation mode.
    checks
        Validation data, with the least noise of the training.
    noise_std
        Least and largest std of the noise in training, in widths of the window.
    fabric
        Device and precision.
    seed
        Of the noise.

    Returns
    -------
    Calibration or None
        None with fewer than 1000 pixels at an interface.
    """
    network.to(fabric.device)
    low, high = noise_std
    levels = tuple(float(std) for std in np.unique(low + (high - low) * np.array([0, 0.25, 0.5, 1])))
    added = np.sqrt(np.square(levels) - low**2)
    near, everywhere = zip(*(_found(network, checks, std, fabric=fabric, seed=seed) for std in added), strict=True)
    if len(near[0].label) < FEWEST_PIXELS:
        return None
    worst = [max(one.sums(temperature).ece for one in near) for temperature in TEMPERATURES]
    best = float(TEMPERATURES[int(np.argmin(worst))])
    sums = [one.sums(best) for one in everywhere]
    return Calibration(
        temperature=best,
        noise_std=levels,
        ece_before=tuple(one.sums(1.0).ece for one in near),
        ece_after=tuple(one.sums(best).ece for one in near),
        confidence=tuple(one.confidence for one in sums),
        accuracy=tuple(one.accuracy for one in sums),
    )


def with_temperature(weights: Mapping[str, np.ndarray], temperature: float) -> dict[str, np.ndarray]:
    """Return weights of a network whose logits are divided by `temperature`.

    Examples
    --------
    >>> with_temperature({"classify.bias": np.array([2.0]), "first.0.weight": np.array([2.0])}, 4.0)
    {'classify.bias': array([0.5]), 'first.0.weight': array([2.])}
    """
    return {
        name: (value / temperature).astype(value.dtype) if name.startswith("classify.") else value
        for name, value in weights.items()
    }


def _found(network: UNet, checks: Sequence[Check], std: float, *, fabric: Fabric, seed: int) -> tuple[Found, Found]:
    """Return what is found at interfaces, and in some pixels of all."""
    network.eval()
    near, everywhere = [_nothing(network.config.classes)], [_nothing(network.config.classes)]
    for i, check in enumerate(checks):
        noise = np.random.default_rng([seed, i]).standard_normal(check.image.shape, np.float32)
        with torch.inference_mode(), fabric.autocast():
            image = fabric.to_device(torch.from_numpy((check.image + np.float32(std) * noise)[None]))
            given = network(image.contiguous(memory_format=torch.channels_last))[0].float().cpu().numpy()
        known = check.label != UNLABELLED
        logits, label, inside = (
            given[:, check.inner[0], check.inner[1]][:, known],
            check.label[known],
            interior(check.label)[known],
        )
        near.append(Found(logits[:, ~inside], label[~inside]))
        everywhere.append(Found(logits[:, ::_EVERY], label[::_EVERY]))
    return _joined(near), _joined(everywhere)


def _nothing(classes: int) -> Found:
    return Found(np.zeros((classes, 0), np.float32), np.zeros(0, np.uint8))


def _joined(parts: Sequence[Found]) -> Found:
    return Found(np.concatenate([one.logits for one in parts], axis=1), np.concatenate([one.label for one in parts]))
