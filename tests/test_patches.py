from dataclasses import replace

import numpy as np
import pytest
import tifffile
from pydantic import ValidationError

from tomoseg.degrade import GreyScale, find_kind
from tomoseg.errors import SplitError
from tomoseg.field_of_view import everything
from tomoseg.labels import UNLABELLED, LabelClass
from tomoseg.patch_noise import FreshNoise, SomeArtefacts, SomeNoisy
from tomoseg.patches import PatchSettings, patch_source, rare_classes, training_slices
from tomoseg.slices import Pair, Scan, SliceCache
from tomoseg.volume import Region, open_pictures, open_volume
from tomoseg.window import Window

SHAPE = (3, 80, 90)


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("patches")
    label = np.zeros(SHAPE[1:], np.uint8)
    label[:, 45:] = 1
    label[40:44, 10:14] = 2
    for part in ("images", "labels"):
        (folder / part).mkdir()
    for z in range(SHAPE[0]):
        tifffile.imwrite(folder / f"images/s_{z}.tif", 1000 * np.uint16(z + 1) + 100 * label.astype(np.uint16))
        tifffile.imwrite(folder / f"labels/s_{z}.tif", label)
    volume, pictures = open_volume(folder / "images"), open_pictures(folder / "labels")
    classes = tuple(LabelClass(name=str(c), value=c, colour="#000000") for c in range(3))
    pairs = tuple(Pair(z, z) for z in range(SHAPE[0]))
    cache = SliceCache(volume, limit_bytes=10**6)
    return Scan(volume, pictures, pairs, classes, None, everything(SHAPE), Region.whole(SHAPE), "s", cache)


def source(scan, *, noise=(0.0, 0.0), context=0, **settings):
    slices = training_slices(scan, [0, 1, 2], context=context, block=None, halo=0, rare=(2,))
    given = PatchSettings(size=32, batch=16, **settings)
    window = Window(low=0.0, high=1000.0)
    return patch_source(slices, given, window=window, noise=FreshNoise(*noise), rng=np.random.default_rng(0))


def test_image_and_label_of_a_patch_belong_together(scan):
    images, labels = source(scan).batch(np.random.default_rng(0))
    known = labels != UNLABELLED
    grey = images[:, 0] * 1000
    np.testing.assert_allclose(((grey - 100.0 * labels) % 1000)[known] % 1000, 0, atol=0.01)


def test_context_channels_are_the_neighbouring_slices(scan):
    images, _ = source(scan, context=1, turn=False).batch(np.random.default_rng(0))
    steps = np.diff(np.floor(images), axis=1)[:, :, 0, 0]
    assert {tuple(step) for step in steps.tolist()} <= {(0.0, 1.0), (1.0, 1.0), (1.0, 0.0)}


def test_label_and_grey_values_of_a_resized_patch_belong_together(scan):
    images, labels = source(scan, resized_share=1.0).batch(np.random.default_rng(0))
    grey = images[:, 0] * 1000 % 1000
    for label in (0, 1):  # class 2 is small, and smoothed
        assert np.median(grey[labels == label]) == pytest.approx(100 * label, abs=0.1)
    near_an_edge = (np.abs(grey - 50) < 45)[labels != UNLABELLED].mean()
    assert 0.001 < near_an_edge < 0.1  # interpolated, in a line of pixels


def test_only_a_share_of_the_patches_is_resized(scan):
    images, _ = source(scan, resized_share=0.5).batch(np.random.default_rng(0))
    as_they_are = [bool(np.isin(np.round(image * 1000) % 1000, [0, 100, 200]).all()) for image in images]
    assert 0 < sum(as_they_are) < len(as_they_are)


def test_a_resized_patch_keeps_a_labelled_pixel(scan):
    slices = training_slices(scan, [0], context=0, block=None, halo=0, rare=())
    lone = np.full(SHAPE[1:], UNLABELLED, np.uint8)
    lone[40, 45] = 1
    made = source(scan, resized_share=1.0)
    made = replace(made, slices=(slices[0].with_label(lone, rare=()),))
    _, labels = made.batch(np.random.default_rng(0))
    assert (labels == 1).any(axis=(1, 2)).all()


def test_fixed_crops_are_not_resized():
    with pytest.raises(ValidationError, match="resized_share is for fresh patches"):
        PatchSettings(draw="small", resized_share=0.1)


@pytest.mark.parametrize("share", [0.0, 0.6, 1.0])
def test_the_rare_class_is_drawn_as_often_as_asked(scan, share):
    made, rng = source(scan, rare_share=share), np.random.default_rng(1)
    # A patch around the rare class holds it; of the others, few do.
    held = np.mean([(made.batch(rng)[1] == 2).any(axis=(1, 2)).mean() for _ in range(20)])
    by_chance = np.mean([(source(scan, rare_share=0.0).batch(rng)[1] == 2).any(axis=(1, 2)).mean() for _ in range(20)])
    assert held == pytest.approx(share + (1 - share) * by_chance, abs=0.08)


def test_pixels_beyond_the_slice_are_unlabelled(scan):
    _, labels = source(scan, rare_share=0.0).batch(np.random.default_rng(3))
    outside = (labels == UNLABELLED).mean()
    assert 0.05 < outside < 0.6


def test_the_same_generator_draws_the_same_batch(scan):
    made = source(scan, noise=(0.0, 50.0))
    a, b = (made.batch(np.random.default_rng(7)) for _ in range(2))
    np.testing.assert_array_equal(a[0], b[0])
    np.testing.assert_array_equal(a[1], b[1])


def test_each_patch_has_its_own_noise_level_within_the_range(scan):
    clean, noisy = (source(scan, noise=n).batch(np.random.default_rng(4))[0] for n in ((0.0, 0.0), (20.0, 80.0)))
    # the draws of places differ once noise is drawn, so only the first patch is the same
    std = (noisy[0] - clean[0]).std() * 1000
    assert 18 < std < 82


@pytest.mark.parametrize(("draw", "crops"), [("small", 3), ("large", 27)])
def test_small_is_one_fixed_crop_a_slice_and_large_nine(scan, draw, crops):
    assert len(source(scan, draw=draw).crops) == crops


def test_fixed_crops_larger_than_the_slices_are_refused(scan):
    slices = training_slices(scan, [0], context=0, block=None, halo=0, rare=())
    with pytest.raises(SplitError, match="no crop"):
        patch_source(
            slices, PatchSettings(draw="small"), window=Window(low=0, high=1), noise=FreshNoise(0, 0),
            rng=np.random.default_rng(0),
        )  # fmt: skip


def test_rare_classes_have_less_than_half_an_equal_share():
    assert rare_classes(np.array([0.5, 0.3, 0.2, 0.0])) == ()
    assert rare_classes(np.array([0.6, 0.3, 0.1])) == (2,)


def test_noise_on_some_crops_leaves_the_others_clean():
    image = np.full((1, 40, 40), 500, np.uint16)
    noise = SomeNoisy(20.0, 20.0, frozenset({(1, 3, 4)}))
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(noise.on(image, (1, 3, 5), rng), image)
    assert noise.on(image, (1, 3, 4), rng).std() == pytest.approx(20, rel=0.1)


def test_noise_of_any_std_is_spread_evenly_over_its_range():
    image = np.zeros((1, 60, 60), np.uint16)
    noise = SomeNoisy(0.0, 100.0, frozenset({(0, 0, 0)}))
    stds = [noise.on(image, (0, 0, 0), np.random.default_rng(i)).std() for i in range(200)]
    np.testing.assert_allclose(np.quantile(stds, [0.25, 0.5, 0.75]), [25, 50, 75], atol=9)


def test_noise_drawn_once_is_the_same_at_a_place_and_another_elsewhere():
    image = np.zeros((1, 16, 16), np.uint16)
    places = frozenset({(0, 3, 4), (0, 3, 5)})
    once, afresh = SomeNoisy(1.0, 1.0, places, once=7), SomeNoisy(1.0, 1.0, places)
    rng = np.random.default_rng(0)
    np.testing.assert_array_equal(once.on(image, (0, 3, 4), rng), once.on(image, (0, 3, 4), rng))
    assert not np.array_equal(once.on(image, (0, 3, 4), rng), once.on(image, (0, 3, 5), rng))
    assert not np.array_equal(afresh.on(image, (0, 3, 4), rng), afresh.on(image, (0, 3, 4), rng))


SCALE = GreyScale(np.dtype(np.uint16), Window(low=20_000, high=42_000))


def artefacts_on(kind: str, *, share: float = 1.0, seed: int = 0) -> np.ndarray:
    """Return what an artefact changes in a patch of three alike slices."""
    image = np.tile(np.random.default_rng(5).integers(20_000, 42_000, (32, 32), dtype=np.uint16), (3, 1, 1))
    noise = SomeArtefacts(share, [find_kind(kind)], SCALE, FreshNoise(0.0, 0.0))
    return noise.on(image, (0, 0, 0), np.random.default_rng(seed)) - image


def test_what_depends_on_the_sample_is_the_same_in_its_context():
    change = artefacts_on("beam-hardening")
    np.testing.assert_allclose(change[0], change[2], atol=0.01)
    assert np.abs(change[0]).max() > 100


def test_noise_and_rings_differ_between_the_slices_of_a_patch():
    for kind in ("poisson", "rings", "correlated"):
        change = artefacts_on(kind, seed=3)
        assert np.abs(change[0] - change[2]).max() > np.abs(change[0]).max() / 10
        assert 0.5 < change[0].std() / change[2].std() < 2


def test_only_a_share_of_the_patches_gets_an_artefact():
    hit = [bool(artefacts_on("drift", share=0.3, seed=seed).any()) for seed in range(400)]
    assert 0.23 < np.mean(hit) < 0.37


def test_an_unknown_artefact_is_refused_by_name():
    with pytest.raises(ValueError, match="no degradation 'fog'; there are gaussian, correlated"):
        PatchSettings(artefacts=("fog",))
