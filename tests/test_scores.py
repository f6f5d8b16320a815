"""Metrics, intervals, baselines, held-out slices: on arrays small enough to compute by hand, and by laws."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from tomoseg.baselines import Sample, fit_forest, fit_majority, fit_otsu
from tomoseg.held_out import hold_out
from tomoseg.intervals import (
    bootstrap,
    correlation_length,
    group_by_z,
    mean_chord_length,
    paired_difference,
    tile_confusions,
)
from tomoseg.labels import UNLABELLED, LabelClass
from tomoseg.metrics import CalibrationSums, accuracy, class_scores, confusion, interior, mean_iou
from tomoseg.model_file import ModelRecord, ScanRecord, SliceRecord
from tomoseg.provenance import record
from tomoseg.unet_config import UNetConfig
from tomoseg.window import Window

labels = arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2, UNLABELLED]))
classes = arrays(np.uint8, (6, 7), elements=st.sampled_from([0, 1, 2]))


@given(labels, classes, st.permutations([0, 1, 2]))
def test_renaming_the_classes_renames_the_result(label, found, order):
    table = np.arange(256, dtype=np.uint8)
    table[:3] = order
    before, after = confusion(label, found, 3), confusion(table[label], table[found], 3)
    np.testing.assert_array_equal(after[np.ix_(order, order)], before)
    np.testing.assert_allclose(mean_iou(after), mean_iou(before))


@given(labels, classes, st.integers(1, 7))
def test_blocks_add_up_to_the_whole(label, found, edge):
    np.testing.assert_array_equal(tile_confusions(label, found, 3, edge=edge).sum(0), confusion(label, found, 3))


@given(labels, classes)
def test_unlabelled_pixels_never_matter(label, found):
    other = np.where(label == UNLABELLED, (found + 1) % 3, found)
    np.testing.assert_array_equal(confusion(label, found, 3), confusion(label, other, 3))


def test_scores_by_hand():
    counts = np.array([[8, 2, 0], [1, 9, 0], [0, 0, 0]])
    assert accuracy(counts) == pytest.approx(17 / 20)
    assert mean_iou(counts) == pytest.approx((8 / 11 + 9 / 12) / 2)  # the class that is nowhere counts nowhere
    score = class_scores(counts, ["a", "b", "c"])
    assert (score["a"].precision, score["a"].recall) == (pytest.approx(8 / 9), pytest.approx(0.8))
    assert score["a"].dice == pytest.approx(16 / 19)
    assert np.isnan(score["c"].iou)


def test_interior_is_further_than_one_pixel_from_an_interface():
    label = np.zeros((7, 7), np.uint8)
    label[3:, 3:] = 1
    expected = np.ones((7, 7), bool)
    expected[2:4, 2:] = expected[2:, 2:4] = False
    np.testing.assert_array_equal(interior(label), expected)


@given(labels, st.integers(1, 5))
def test_calibration_sums_of_parts_add_up(label, cut):
    rng = np.random.default_rng(0)
    given = rng.dirichlet([1, 1, 1], size=(6, 7)).transpose(2, 0, 1)
    whole = CalibrationSums.of(given, label)
    parts = CalibrationSums.of(given[:, :cut], label[:cut]) + CalibrationSums.of(given[:, cut:], label[cut:])
    assert parts.pixels == whole.pixels
    np.testing.assert_allclose((parts.nll, parts.brier, parts.ece), (whole.nll, whole.brier, whole.ece), atol=1e-12)


def test_a_calibrated_guess_has_no_calibration_error_and_a_boastful_one_has():
    rng = np.random.default_rng(0)
    sure = rng.uniform(0.5, 1, (300, 300))
    label = (rng.random((300, 300)) > sure).astype(np.uint8)
    assert CalibrationSums.of(np.stack([sure, 1 - sure]), label).ece < 0.01
    assert CalibrationSums.of(np.stack([np.ones_like(sure), 0 * sure]), label).ece == pytest.approx(0.25, abs=0.01)


def test_the_chord_of_stripes_is_their_width():
    stripes = np.tile(np.repeat(np.array([0, 1], np.uint8), 8), (400, 25))
    # along y there is no interface, so a pixel has half as many on average
    assert mean_chord_length(stripes) == pytest.approx(16, rel=0.05)
    assert mean_chord_length(np.zeros((5, 5), np.uint8)) == np.inf


def test_the_correlation_length_grows_with_the_grains():
    coarse = np.random.default_rng(0).integers(2, size=(40, 40), dtype=np.uint8)
    for edge in (3, 6):
        found = correlation_length(np.kron(coarse, np.ones((edge, edge), np.uint8)))
        assert edge - 1 <= found <= edge


def test_slices_nearer_than_the_length_share_a_block():
    assert group_by_z([0, 5, 9, 10, 30, 100], 10) == [0, 0, 0, 1, 2, 3]


def test_four_blocks_have_no_interval_and_say_why():
    blocks = np.tile(np.array([[5, 1], [1, 5]]), (4, 1, 1))
    found = bootstrap(blocks, {"accuracy": accuracy}, rng=np.random.default_rng(0))
    assert (found.intervals, found.n_blocks) == ({}, 4)
    assert "4 independent blocks" in found.why_none
    assert paired_difference(blocks, blocks, accuracy, rng=np.random.default_rng(0)) is None


def test_a_95_per_cent_interval_holds_the_truth_about_95_times_in_100():
    rng, held = np.random.default_rng(1), 0
    for _ in range(200):
        right = rng.binomial(100, rng.beta(18, 2, size=40))
        blocks = np.array([[[r, 100 - r], [0, 0]] for r in right])
        low, high = bootstrap(blocks, {"a": accuracy}, rng=rng, repeats=300).intervals["a"]
        held += low <= 0.9 <= high
    assert 0.88 <= held / 200 <= 0.99


def two_textures():
    rng = np.random.default_rng(0)
    label = np.zeros((96, 96), np.uint8)
    label[:, 48:] = 1
    image = np.where(label == 1, rng.standard_normal(label.shape), 0.1 * rng.standard_normal(label.shape))
    return Sample(image.astype(np.float32), label)


def test_the_forest_sees_textures_that_thresholds_do_not():
    sample = two_textures()
    forest, otsu = fit_forest([sample], rng=np.random.default_rng(0), threads=1), fit_otsu([sample], 2)
    assert (forest.predict(sample.image) == sample.label).mean() > 0.98
    assert (otsu.predict(sample.image) == sample.label).mean() < 0.8


def test_otsu_blurs_as_much_as_helps():
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(3, size=(8, 8), dtype=np.uint8), np.ones((16, 16), np.uint8))
    image = (label + 0.8 * rng.standard_normal(label.shape)).astype(np.float32)
    otsu = fit_otsu([Sample(image, label)], 3)
    assert otsu.sigma >= 1.5
    assert (otsu.predict(image) == label).mean() > 0.85


def test_majority_is_the_commonest_labelled_class():
    label = np.array([[1, 1, 0], [UNLABELLED] * 3], np.uint8)
    assert (
        fit_majority([Sample(np.zeros((2, 3), np.float32), label)]).predict(np.zeros((2, 2), np.float32)) == 1
    ).all()


def model_record(roles, gap=3, source="here"):
    slices = tuple(
        SliceRecord(scan=0, name=str(number), number=number, role=role, content=f"c{number}")
        for number, role in roles.items()
    )
    two = tuple(LabelClass(name=str(c), value=c, colour="#000000") for c in range(2))
    return ModelRecord(
        network=UNetConfig(classes=2), recipe={}, window=Window(low=0, high=1), grey_type="uint8", classes=two,
        scans=(ScanRecord(name="s", source=source),), slices=slices, gap=gap, provenance=record("train"),
    )  # fmt: skip


def test_seen_slices_and_their_neighbours_are_left_out_and_named():
    model = model_record({0: "train", 1: "train", 6: "validation", 20: "test"})
    contents = {n: f"c{n}" for n in (0, 1, 2, 4, 6, 9, 20)}
    found = hold_out(sorted(contents), contents, source="here", record=model)
    assert found.kept == (9, 20)
    assert found.left_out[1] == "trained on"
    assert found.left_out[6] == "validated on"
    assert "nearer than the gap of 3" in found.left_out[2]
    assert found.training == (0, 1)


def test_a_scan_is_recognised_by_its_content_when_it_was_moved_and_renumbered():
    model = model_record({0: "train", 5: "train"}, source="elsewhere")
    contents = {100: "c0", 104: "x", 110: "y"}  # slice 105 was trained on and is not here
    found = hold_out([100, 104, 110], contents, source="other", record=model)
    assert found.kept == (110,)


def test_another_scan_with_the_same_numbers_is_tested_whole():
    model = model_record({0: "train", 1: "train"})
    assert hold_out([0, 1], {0: "x", 1: "y"}, source="other", record=model).kept == (0, 1)
