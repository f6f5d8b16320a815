from pathlib import Path

import numpy as np
import pytest
import torch

from tomoseg.checkpoint import load_checkpoint, save_checkpoint
from tomoseg.checks import Check
from tomoseg.errors import ModelFileError, SettingError
from tomoseg.losses import cross_entropy
from tomoseg.model_file import weights_of
from tomoseg.patches import PatchSettings
from tomoseg.recipe import Recipe, load_recipe
from tomoseg.train import SETTLED_FROM, Budget, make_fabric, rate_factor, start, train
from tomoseg.unet_config import UNetConfig
from tomoseg.workflow.train import TrainSettings, usual_recipe

RECIPE = Recipe(widths=(4, 8), bottleneck=8, learning_rate=1e-2, patches=PatchSettings(size=32, batch=4))
CONFIG = UNetConfig(classes=2, widths=(4, 8), bottleneck=8, dropout=0.25)


class Bright:
    """Patches whose class is whether a smooth image is bright."""

    settings = RECIPE.patches

    def batch(self, rng):
        coarse = rng.standard_normal((4, 1, 8, 8)).astype(np.float32)
        image = coarse.repeat(4, axis=2).repeat(4, axis=3)
        return image + 0.05 * rng.standard_normal(image.shape).astype(np.float32), (image[:, 0] > 0).astype(np.uint8)


def checks():
    images, labels = Bright().batch(np.random.default_rng(99))
    whole = (slice(None), slice(None))
    return [Check(image, whole, label) for image, label in zip(images, labels, strict=True)]


def run(budget, *, training=None, seed=0, clock=lambda: 0.0, stop=None):
    torch.set_num_threads(1)
    training = training or start(CONFIG, RECIPE, seed=seed)
    steps = []
    for step in train(
        training, RECIPE, Bright(), checks(), fabric=make_fabric(), budget=budget, clock=clock, seed=seed
    ):
        steps.append(step)
        if step.step == stop:
            break
    return training, steps


def same(a, b):
    return all((a[name] == b[name]).all() for name in a)


def test_a_tiny_network_learns_two_classes_in_200_steps():
    training, steps = run(Budget(steps=200))
    assert len(steps) == 200
    assert training.best_scores["accuracy"] >= 0.98
    assert len(training.validations) == 8


def test_costly_validations_leave_most_of_the_time_to_training(monkeypatch):
    now = [0.0]

    def clock():
        now[0] += 0.01
        return now[0]

    def slow(*_):
        now[0] += 5.0
        return {"mean_iou": 0.5, "accuracy": 0.5}

    monkeypatch.setattr("tomoseg.train.validate", slow)
    training, steps = run(Budget(seconds=100), clock=clock)
    spent = 5.0 * len(training.validations)
    assert 10 <= spent <= 15 + 2 * 5  # the first, whose cost is not known before, and the last come on top
    assert steps[-1].validation
    assert now[0] <= 101


def test_same_seed_and_steps_give_the_same_weights_and_another_seed_others():
    a, b, c = (run(Budget(steps=5), seed=seed)[0] for seed in (0, 0, 1))
    first, second, third = (weights_of(t.averaged.state_dict()) for t in (a, b, c))
    assert same(first, second)
    assert not same(first, third)


def test_a_stopped_training_goes_on_as_if_it_had_not_been(tmp_path):
    straight, _ = run(Budget(steps=9))
    stopped, _ = run(Budget(steps=9), stop=4)
    save_checkpoint(tmp_path / "c", stopped, fingerprint="f", seconds=2.0)
    fresh = start(CONFIG, RECIPE, seed=0)
    assert load_checkpoint(tmp_path / "c", fresh, fingerprint="f") == 2.0
    resumed, _ = run(Budget(steps=9), training=fresh)
    assert same(weights_of(straight.averaged.state_dict()), weights_of(resumed.averaged.state_dict()))
    assert same(straight.best, resumed.best)
    assert straight.validations == resumed.validations


def test_a_checkpoint_of_other_settings_is_refused(tmp_path):
    training = start(CONFIG, RECIPE, seed=0)
    save_checkpoint(tmp_path / "c", training, fingerprint="f", seconds=0.0)
    with pytest.raises(ModelFileError, match="other data or settings"):
        load_checkpoint(tmp_path / "c", training, fingerprint="g")


def test_the_time_budget_is_kept_within_five_per_cent_validation_included():
    now = [0.0]

    def clock():
        now[0] += 0.25  # a step asks a few times, so that each takes some seconds
        return now[0]

    _, steps = run(Budget(seconds=120.0), clock=clock)
    assert 0.95 * 120 <= steps[-1].seconds <= 1.05 * 120


def test_batch_norms_keep_their_statistics_once_settled():
    training, _ = run(Budget(steps=160), stop=40)  # a quarter
    before = training.network.first[1].running_mean.clone()
    run(Budget(steps=160), training=training)
    assert torch.equal(before, training.network.first[1].running_mean)


def test_batch_norms_do_not_settle_before_their_statistics_are_there():
    training, _ = run(Budget(steps=40), stop=SETTLED_FROM - 1)  # long after a quarter
    before = training.network.first[1].running_mean.clone()
    run(Budget(steps=40), training=training, stop=SETTLED_FROM)
    after = training.network.first[1].running_mean.clone()
    assert not torch.equal(before, after)
    run(Budget(steps=40), training=training)
    assert torch.equal(after, training.network.first[1].running_mean)


def test_the_learning_rate_warms_up_and_falls_to_zero():
    recipe = Recipe(warm_up=0.1)
    assert rate_factor(recipe, 0.05) == pytest.approx(0.5)
    assert rate_factor(recipe, 0.1) == pytest.approx(1.0)
    assert rate_factor(recipe, 0.55) == pytest.approx(0.5)
    assert rate_factor(recipe, 1.0) == pytest.approx(0.0)
    assert rate_factor(Recipe(schedule="constant", warm_up=0.0), 0.9) == 1.0


def test_unlabelled_pixels_have_no_part_in_the_loss():
    logits = torch.randn(1, 3, 2, 2, requires_grad=True)
    label = torch.tensor([[[0, 255], [2, 255]]], dtype=torch.uint8)
    loss = cross_entropy(logits, label)
    loss.backward()
    by_hand = -torch.log_softmax(logits.detach(), 1)[0, [0, 2], [0, 1], [0, 0]].mean()
    assert loss.item() == pytest.approx(by_hand.item())
    assert not logits.grad[..., 1].any()


def test_with_power_one_half_a_gradient_is_divided_by_twice_the_root_of_its_loss():
    logits = torch.tensor([1.0, -1.0]).reshape(2, 1, 1, 1) * torch.tensor([1.0, 0.0]).reshape(1, 2, 1, 1)
    logits.requires_grad_(True)
    label = torch.zeros(2, 1, 1, dtype=torch.uint8)
    cross_entropy(logits, label, power=0.5).backward()
    p = torch.sigmoid(torch.tensor([1.0, -1.0]))
    by_hand = (p - 1) * 0.5 * (-p.log() + 1e-6) ** -0.5 / 2
    assert torch.allclose(logits.grad[:, 0, 0, 0], by_hand)


def test_patches_count_by_their_labelled_pixels_whatever_the_power():
    label = torch.full((2, 2, 2), 255, dtype=torch.uint8)
    label[0] = 0
    label[1, 0, 0] = 0
    logits = torch.zeros(2, 2, 2, 2)
    logits[1, 0] = -2.0
    each = torch.log1p(torch.exp(torch.tensor([0.0, 2.0])))
    assert cross_entropy(logits, label).item() == pytest.approx(float((4 * each[0] + each[1]) / 5))
    root = float((4 * each[0] ** 0.5 + each[1] ** 0.5) / 5)
    assert cross_entropy(logits, label, power=0.5).item() == pytest.approx(root, abs=1e-3)


def test_without_any_label_the_loss_is_zero():
    for power in (1.0, 0.5):
        logits = torch.randn(1, 2, 2, 2, requires_grad=True)
        loss = cross_entropy(logits, torch.full((1, 2, 2), 255, dtype=torch.uint8), power=power)
        loss.backward()
        assert loss.item() == 0
        assert not logits.grad.any()


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("widths = []", "widths: "),
        ("widths = [0]", "widths.0: "),
        ("[patches]\nsize = 101", "whole pooling cells of 4; take 100"),
        ("stem = 3", "whole pooling cells of 12; take 132"),
        ("width = 3", "width: "),
    ],
)
def test_a_recipe_that_no_network_can_have_is_refused_when_it_is_read(tmp_path, text, said):
    (tmp_path / "r.toml").write_text(text)
    with pytest.raises(SettingError, match=r"r\.toml") as caught:
        load_recipe(str(tmp_path / "r.toml"))
    assert said in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_weights_that_are_kept_are_the_best_on_clean_and_noisy_slices_together(monkeypatch):
    clean, noisy = checks()[:1], checks()[1:2]
    scripted = {id(clean): iter([0.950, 0.949, 0.960]), id(noisy): iter([0.80, 0.85, 0.70])}
    monkeypatch.setattr(
        "tomoseg.train.validate",
        lambda network, some, fabric: {"mean_iou": next(scripted[id(some)]), "accuracy": 0.9},
    )
    training = start(CONFIG, RECIPE, seed=0)
    budget = Budget(steps=3, validations=3)
    steps = train(training, RECIPE, Bright(), clean, noisy_checks=noisy, fabric=make_fabric(), budget=budget,
                  clock=lambda: 0.0, seed=0)  # fmt: skip
    weights = []
    for step in steps:
        weights.append(weights_of(training.averaged.state_dict()))
        assert step.validation["noisy_mean_iou"] == training.validations[-1]["noisy_mean_iou"]
    assert training.best_scores["mean_iou"] == 0.949
    assert same(training.best, weights[1])
    assert not same(training.best, weights[2])


def test_weights_and_statistics_are_averaged_each_with_its_own():
    fresh = start(CONFIG, RECIPE, seed=0).network.state_dict()
    training, _ = run(Budget(steps=1))
    now, averaged = training.network.state_dict(), training.averaged.state_dict()
    moved = [name for name in fresh if now[name].is_floating_point() and not torch.equal(now[name], fresh[name])]
    assert "first.1.running_mean" in moved and "classify.weight" in moved
    for name in moved:  # after the first step ten elevenths of the way
        torch.testing.assert_close(averaged[name], fresh[name] + (now[name] - fresh[name]) * 10 / 11)


@pytest.mark.parametrize(
    ("length", "name"),
    [
        ({}, "fast"),
        ({"minutes": 1.0}, "brief"),
        ({"minutes": 2.0}, "fast"),
        ({"steps": 1499}, "brief"),
        ({"steps": 1500}, "fast"),
    ],
)
def test_a_short_training_gets_the_small_network(length, name):
    assert usual_recipe(TrainSettings(out=Path("m.tomoseg"), **length)) == name
