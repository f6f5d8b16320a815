import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from tomoseg.muon import Muon, orthogonalised
from tomoseg.unet import UNet
from tomoseg.unet_config import UNetConfig


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(2, 24), columns=st.integers(2, 24), seed=st.integers(0, 999))
def test_singular_vectors_stay_and_singular_values_become_about_one(rows, columns, seed):
    rng = np.random.default_rng(seed)
    short = min(rows, columns)
    left, _ = np.linalg.qr(rng.standard_normal((rows, short)))
    right, _ = np.linalg.qr(rng.standard_normal((columns, short)))
    values = rng.uniform(0.3, 3.0, short)
    found = orthogonalised(torch.from_numpy((left * values @ right.T).astype(np.float32))).numpy()
    inner = left.T @ found @ right
    assert np.allclose(inner, np.diag(np.diag(inner)), atol=1e-4)
    assert (np.diag(inner) > 0.6).all()
    assert (np.diag(inner) < 1.3).all()


def test_a_kernels_step_has_its_rate_in_every_direction_whatever_the_gradients_size():
    steps = []
    for size in (1e-4, 1e4):
        network = nn.Sequential(nn.Conv2d(2, 4, 3, bias=False), nn.Conv2d(4, 2, 1))
        before = network[0].weight.detach().clone()
        generator = torch.Generator().manual_seed(0)
        network[0].weight.grad = size * torch.randn(before.shape, generator=generator)
        Muon(network, lr=1e-3, kernel_lr=0.1, weight_decay=0.0).step()
        steps.append((network[0].weight.detach() - before).reshape(4, -1))
    assert torch.allclose(steps[0], steps[1], atol=1e-5)
    values = torch.linalg.svdvals(steps[0])
    assert (values > 0.06).all()
    assert (values < 0.13).all()


def test_all_weights_but_the_inner_kernels_move_as_by_torchs_adamw():
    def gradients(network):
        generator = torch.Generator().manual_seed(1)
        for weight in network.parameters():
            weight.grad = torch.randn(weight.shape, generator=generator)

    torch.manual_seed(0)
    ours = UNet(UNetConfig(classes=3, widths=(2, 4), bottleneck=4))
    theirs = UNet(ours.config)
    theirs.load_state_dict(ours.state_dict())
    muon = Muon(ours, lr=1e-2, kernel_lr=0.1, weight_decay=0.1)
    adamw = torch.optim.AdamW(theirs.parameters(), lr=1e-2, weight_decay=0.1)
    for _ in range(3):
        gradients(ours)
        gradients(theirs)
        muon.step()
        adamw.step()
    other = dict(theirs.named_parameters())
    for name, weight in ours.named_parameters():
        inner = weight.ndim == 4 and not name.startswith("classify")
        assert torch.allclose(weight, other[name], atol=1e-6) != inner, name


def test_a_weight_without_a_gradient_stays():
    network = nn.Sequential(nn.Conv2d(1, 1, 1), nn.Conv2d(1, 1, 1))
    before = network[0].weight.item()
    Muon(network, lr=1.0, kernel_lr=1.0, weight_decay=0.5).step()
    assert network[0].weight.item() == pytest.approx(before)
