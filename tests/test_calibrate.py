import numpy as np
import pytest
import torch

from tomoseg.calibrate import calibrate, with_temperature
from tomoseg.checks import Check
from tomoseg.model_file import network_of, weights_of
from tomoseg.train import make_fabric
from tomoseg.unet import UNet
from tomoseg.unet_config import UNetConfig

CONFIG = UNetConfig(classes=2, context=0, widths=(2, 4), bottleneck=4)


class Repeats(UNet):
    """Gives its input as logits: two classes, the second's logit is the image."""

    def forward(self, image):
        return torch.cat([torch.zeros_like(image), image], dim=1)


def check(temperature, *, edge, rng):
    """Return logits that claim too much (above 1) or too little, as the temperature says."""
    logits = rng.normal(0, 3, (edge, edge)).astype(np.float32)
    label = (rng.random((edge, edge)) < 1 / (1 + np.exp(-logits / temperature))).astype(np.uint8)
    return Check(logits[None], (slice(None), slice(None)), label)


def found(temperature, *, edge=300, noise_std=(0.0, 0.0)):
    checks = [check(temperature, edge=edge, rng=np.random.default_rng(seed)) for seed in range(2)]
    return calibrate(Repeats(CONFIG), checks, noise_std=noise_std, fabric=make_fabric(), seed=0)


@pytest.mark.parametrize("temperature", [0.7, 1.0, 1.6])
def test_the_temperature_of_labels_drawn_with_it_is_found(temperature):
    one = found(temperature)
    assert one.temperature == pytest.approx(temperature, rel=0.06)
    assert one.ece_after[0] < 0.01
    assert one.ece_before[0] > 0.03 or temperature == 1.0


def test_the_worst_noise_level_counts():
    one = found(1.0, noise_std=(0.0, 4.0))
    assert len(one.ece_after) == 4
    assert max(one.ece_after) < max(one.ece_before)
    assert one.temperature > 1.2  # noise of the logits makes them claim too much


def test_with_few_pixels_nothing_is_changed():
    assert found(1.6, edge=20) is None


def test_a_temperature_in_the_weights_divides_the_logits():
    torch.manual_seed(0)
    weights = weights_of(UNet(CONFIG).eval().state_dict())
    image = torch.rand(1, 1, 16, 16)
    with torch.inference_mode():
        plain, warm = network_of(CONFIG, weights)(image), network_of(CONFIG, with_temperature(weights, 2.0))(image)
    assert torch.allclose(plain / 2, warm, atol=1e-6)
