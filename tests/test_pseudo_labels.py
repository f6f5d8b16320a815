import re
from dataclasses import replace

import numpy as np
import pytest
import tifffile

from tomoseg.field_of_view import everything
from tomoseg.forest import Forest
from tomoseg.labels import UNLABELLED, LabelClass
from tomoseg.patch_noise import FreshNoise
from tomoseg.patches import PatchSettings, labelled_share, patch_source, training_slices
from tomoseg.phantom import PhantomSpec, make_phantom
from tomoseg.pseudo_labels import SHIPPED, Guesser, shipped_network, with_pseudo_labels
from tomoseg.recipe import Recipe
from tomoseg.slices import Pair, Scan, SliceCache
from tomoseg.splits import Block
from tomoseg.volume import Region, open_pictures, open_volume
from tomoseg.window import fit_window
from tomoseg.workflow.console import Console
from tomoseg.workflow.prepare import gap_of_guesses, prepare, split_scans
from tomoseg.workflow.sparse_labels import filled_up

SHAPE, LABELLED = (16, 256, 260), (4, 11)  # large enough for a block that validates
WHOLE = Region.whole(SHAPE)


@pytest.fixture(scope="module")
def phantom():
    made = list(make_phantom(PhantomSpec(shape=SHAPE, seed=5)))
    return np.stack([one.grey for one in made]), np.stack([one.label for one in made])


@pytest.fixture(scope="module")
def scan(phantom, tmp_path_factory):
    """Return a scan of which 60 pixels a class are labelled in each of two slices."""
    folder = tmp_path_factory.mktemp("sparse")
    (folder / "images").mkdir()
    (folder / "labels").mkdir()
    grey, label = phantom
    for z, plane in enumerate(grey):
        tifffile.imwrite(folder / f"images/s_{z}.tif", plane)
    for z in LABELLED:
        tifffile.imwrite(folder / f"labels/s_{z}.tif", few_pixels(label[z], seed=z))
    volume, pictures = open_volume(folder / "images"), open_pictures(folder / "labels")
    classes = tuple(LabelClass(name=str(c), value=c, colour="#000000") for c in range(3))
    pairs = tuple(Pair(z, i) for i, z in enumerate(LABELLED))
    cache = SliceCache(volume, limit_bytes=10**7)
    return Scan(volume, pictures, pairs, classes, 7, everything(SHAPE), WHOLE, "s", cache)


def few_pixels(label, *, seed, each=60):
    rng, kept = np.random.default_rng(seed), np.full(label.shape, 7, np.uint8)
    for c in range(3):
        kept.ravel()[rng.permutation(np.flatnonzero(label == c))[:each]] = c
    return kept


def slices_of(scan, *, context=2, block=None):
    return training_slices(scan, LABELLED, context=context, block=block, halo=4, rare=())


def window_of(scan):
    return fit_window([scan.read_grey(z) for z in LABELLED])


def source_of(scan, slices, **settings):
    return patch_source(slices, PatchSettings(size=32, **settings), window=window_of(scan), noise=FreshNoise(0, 0),
                        rng=np.random.default_rng(0))  # fmt: skip


@pytest.mark.parametrize("context", [0, 1, 2, 4])
def test_guesses_from_360_pixels_are_better_than_a_forest_s(scan, phantom, context):
    slices = slices_of(scan, context=context)
    guesser = Guesser.fit(slices, window_of(scan), seed=0)
    pairs = [(window_of(scan).apply(scan.read_grey(item.z)), item.label) for item in slices]
    forest = Forest.fit(pairs, rng=np.random.default_rng(0), threads=1)
    truth = phantom[1][list(LABELLED)]
    wrong = np.mean(np.stack([guesser.guess(item) for item in slices]) != truth)
    wrong_by_forest = np.mean(np.stack([forest.predict(image, threads=1) for image, _ in pairs]) != truth)
    assert wrong < (0.8 if context else 1.0) * wrong_by_forest
    assert wrong < 0.03


def test_labels_stay_and_what_counts_nowhere_is_not_guessed(scan):
    crossed = Region(0, SHAPE[0], 84, 90, 0, SHAPE[2])  # near a plane across y that tests
    inner = replace(scan, region=Region(0, SHAPE[0], 10, 120, 0, SHAPE[2]), withheld=(crossed,))
    slices = slices_of(inner, block=Block(40, 72, 40, 72))
    (first, _) = with_pseudo_labels(slices, [np.full(SHAPE[1:], 1, np.uint8)] * 2, classes=3)
    known = slices[0].label != UNLABELLED
    np.testing.assert_array_equal(first.label[known], slices[0].label[known])
    assert (first.label[:10] == UNLABELLED).all()
    assert (first.label[120:] == UNLABELLED).all()
    assert (first.label[84:90] == UNLABELLED).all()
    assert (first.label[90:120] != UNLABELLED).all()
    assert (first.label[36:76, 36:76] == UNLABELLED).all()  # the block that validates, and its halo
    assert (first.label[10:36] != UNLABELLED).all()
    assert set(first.labelled) == set(np.flatnonzero(first.label != UNLABELLED))


def test_a_class_that_is_rare_in_the_guesses_is_drawn_as_such(scan):
    guess = np.zeros(SHAPE[1:], np.uint8)
    guess[64:] = 2
    (first, _) = with_pseudo_labels(slices_of(scan), [guess] * 2, classes=3)
    assert [set(first.label.ravel()[places]) for places in first.rare] == [{1}]


@pytest.mark.parametrize(("share", "guessed"), [(0.04, True), (0.06, False)])
def test_labels_of_more_than_a_twentieth_are_left_as_they_are(scan, phantom, share, guessed):
    drawn = np.random.default_rng(0).random(SHAPE[1:]) < share
    slices = tuple(
        replace(item.with_label(np.where(drawn, phantom[1][item.z], np.uint8(UNLABELLED)), rare=()), open=~drawn)
        for item in slices_of(scan)
    )
    source = source_of(scan, slices)
    assert (filled_up(source, classes=3, seed=0, console=Console(quiet=True)) is not source) is guessed


def test_sparse_labels_are_filled_up_and_the_user_is_told(scan, capsys):
    source = source_of(scan, slices_of(scan))
    found = filled_up(source, classes=3, seed=0, console=Console())
    assert all((item.label != UNLABELLED).all() for item in found.slices)
    told = " ".join(capsys.readouterr().err.split())
    assert "0.27 % of the pixels of these slices are labelled" in told
    assert float(re.search(r"guesses are right for ([\d.]+) %", told)[1]) > 95


def test_labels_that_contradict_each_other_are_not_filled_up(scan, capsys):
    first, second = slices_of(scan)
    turned = np.where(second.label == UNLABELLED, second.label, (second.label + 1) % 3)
    source = source_of(scan, (first, second.with_label(turned, rare=())))
    assert filled_up(source, classes=3, seed=0, console=Console()) is source
    assert "training learns from the labels alone" in " ".join(capsys.readouterr().err.split())


def test_a_class_of_few_pixels_is_learnt_beside_many_of_the_others(scan, phantom):
    truth = phantom[1]
    slices = []
    for item in slices_of(scan):
        label = np.where(truth[item.z] == 2, np.uint8(UNLABELLED), truth[item.z])
        rare = np.flatnonzero(truth[item.z] == 2)[::150]
        label.ravel()[rare] = 2
        slices.append(item.with_label(label, rare=()))
    guesser = Guesser.fit(slices, window_of(scan), seed=0)
    found = np.stack([guesser.guess(replace(item, open=np.ones_like(item.open))) for item in slices])
    its = truth[list(LABELLED)] == 2
    assert (found[its] == 2).mean() > 0.85


def test_prepared_for_training_with_guesses_but_remembered_with_labels(scan):
    recipe = Recipe(patches=PatchSettings(size=32))
    splits = split_scans((scan,), kind="blocks", gap=5, test=[frozenset()], rng=np.random.default_rng(0), n_classes=3,
                         halo=4)  # fmt: skip
    how = {"context": 2, "splits": splits, "gap": 5, "noise_std": None, "seed": 0, "console": Console(quiet=True)}
    made = prepare((scan,), recipe, **how)
    assert labelled_share(made.source.slices) < 0.02
    assert labelled_share(made.learnt.slices) == 1
    block = splits[0].block
    assert all((item.label[block.slices] == UNLABELLED).all() for item in made.learnt.slices)
    assert gap_of_guesses(made) > 5
    assert gap_of_guesses(replace(made, learnt=made.source)) == 5
    kept = prepare((scan,), recipe.model_copy(update={"pseudo_labels": False}), **how)
    assert kept.learnt is kept.source
    clean, noisy = (np.std(some[0].image) for some in (made.checks, made.noisy_checks))
    assert noisy > 1.05 * clean


def test_fixed_crops_and_a_single_class_get_no_guesses(scan):
    cropped = source_of(scan, slices_of(scan), draw="small")
    assert filled_up(cropped, classes=3, seed=0, console=Console(quiet=True)) is cropped
    one = tuple(item.with_label(np.where(item.label == 1, item.label, np.uint8(UNLABELLED)), rare=())
                for item in slices_of(scan))  # fmt: skip
    source = source_of(scan, one)
    assert filled_up(source, classes=3, seed=0, console=Console(quiet=True)) is source


def test_the_shipped_networks_take_less_than_two_megabytes():
    assert sum(path.stat().st_size for path in SHIPPED.iterdir()) < 2e6
    assert [shipped_network(context=c).config.context for c in (0, 2)] == [0, 2]
