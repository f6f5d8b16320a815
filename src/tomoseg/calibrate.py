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
"""With fewer validation pixels near an interface the probabilities stay as they are."""


@dataclass(frozen=True)
class Found:
    """Logits and labels of the validation pixels next to an interface, at one noise level."""

    logits: Float[np.ndarray, "class pixel"]
    label: UInt8[np.ndarray, " pixel"]

    def ece(self, temperature: float) -> float:
        """Return the expected calibration error at a temperature."""
        powers = np.exp((self.logits - self.logits.max(axis=0)) / temperature)
        probabilities = powers / powers.sum(axis=0)
        return CalibrationSums.of(probabilities[:, None], self.label[None]).ece


def calibrate(
    network: UNet, checks: Sequence[Check], *, noise_std: tuple[float, float], fabric: Fabric, seed: int
) -> Calibration | None:
    """Return the temperature whose worst calibration error near interfaces, over four levels of noise, is smallest.

    Pixels within two of an interface count, where nearly all errors are. A mean over the levels would be that of the
    noisiest, where most errors are.

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
        None with fewer than 1000 pixels near an interface.
    """
    low, high = noise_std
    levels = tuple(float(std) for std in np.unique(low + (high - low) * np.array([0, 0.25, 0.5, 1])))
    found = [_near_interfaces(network, checks, np.sqrt(std**2 - low**2), fabric, seed) for std in levels]
    if min((len(one.label) for one in found), default=0) < FEWEST_PIXELS:
        return None
    worst = [max(one.ece(temperature) for one in found) for temperature in TEMPERATURES]
    best = float(TEMPERATURES[int(np.argmin(worst))])
    before, after = (tuple(one.ece(temperature) for one in found) for temperature in (1.0, best))
    return Calibration(temperature=best, noise_std=levels, ece_before=before, ece_after=after)


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


def _near_interfaces(network: UNet, checks: Sequence[Check], std: float, fabric: Fabric, seed: int) -> Found:
    network.eval()
    logits = [np.zeros((network.config.classes, 0), np.float32)]
    labels = [np.zeros(0, np.uint8)]
    for i, check in enumerate(checks):
        noise = np.random.default_rng([seed, i]).standard_normal(check.image.shape, np.float32)
        near = ~interior(check.label) & (check.label != UNLABELLED)
        with torch.inference_mode(), fabric.autocast():
            image = fabric.to_device(torch.from_numpy((check.image + np.float32(std) * noise)[None]))
            given = network(image.contiguous(memory_format=torch.channels_last))[0].float().cpu().numpy()
        logits.append(given[:, check.inner[0], check.inner[1]][:, near])
        labels.append(check.label[near])
    return Found(np.concatenate(logits, axis=1), np.concatenate(labels))
