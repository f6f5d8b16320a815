import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from quantify_volumes import labelled
from tomoseg.labels import UNLABELLED
from tomoseg.quantify.chords import count_chords, mean_chord, mean_complete_chord, pencils

axes = st.integers(0, 2)


def counted(chords):
    """Return all that chords hold, without the lengths that none has."""
    lengths = [np.trim_zeros(row, "b").tolist() for row in chords.complete]
    return lengths, chords.cut_runs.tolist(), chords.cut_ends.tolist(), chords.cut_voxels.tolist()


def by_walking(labels, axis, n_classes):
    """Return what `counted` does, from a walk along every line."""
    lengths = [[0] * (labels.shape[axis] + 1) for _ in range(n_classes)]
    cut = np.zeros((3, n_classes), int)
    for line in np.moveaxis(labels, axis, -1).reshape(-1, labels.shape[axis]).tolist():
        beyond = [UNLABELLED, *line, UNLABELLED]
        start = 1
        for i in range(1, len(line) + 1):
            if beyond[i] == beyond[i + 1] and i < len(line):
                continue
            run, ends = beyond[i], (beyond[start - 1] == UNLABELLED) + (beyond[i + 1] == UNLABELLED)
            if run != UNLABELLED and ends:
                cut[:, run] += (1, ends, i + 1 - start)
            elif run != UNLABELLED:
                lengths[run][i + 1 - start] += 1
            start = i + 1
    return [np.trim_zeros(np.array(row), "b").tolist() for row in lengths], *cut.tolist()


@given(volume=labelled(), axis=axes, most=st.integers(1, 200))
@settings(deadline=None, max_examples=200)
def test_any_pencils_give_the_chords_of_a_walk_along_every_line(volume, axis, most):
    labels, n_classes = volume
    sums = None
    for pencil in pencils(labels.shape, axis=axis, most_voxels=most):
        chords = count_chords(labels[pencil.slices], axis=axis, n_classes=n_classes)
        sums = chords if sums is None else sums + chords
    assert counted(sums) == by_walking(labels, axis, n_classes)


@given(shape=st.tuples(*[st.integers(1, 12)] * 3), axis=axes, most=st.integers(1, 300))
@settings(deadline=None)
def test_pencils_are_whole_small_and_cover_each_voxel_once(shape, axis, most):
    times = np.zeros(shape, int)
    for pencil in pencils(shape, axis=axis, most_voxels=most):
        times[pencil.slices] += 1
        assert pencil.shape[axis] == shape[axis]
        assert np.prod(pencil.shape) <= max(most, shape[axis])
    assert (times == 1).all()


def test_plates_have_chords_as_long_as_they_are_thick():
    layers = np.repeat([0, 1, 0, 1, 0], [3, 4, 5, 4, 3]).astype(np.uint8)
    labels = np.broadcast_to(layers[:, None, None], (19, 2, 3)).copy()
    across = count_chords(labels, axis=0, n_classes=2)
    assert counted(across) == ([[0, 0, 0, 0, 0, 6], [0, 0, 0, 0, 12]], [12, 0], [12, 0], [36, 0])
    np.testing.assert_allclose(mean_complete_chord(across, edge_um=0.5), [2.5, 2])
    # (2 x 66 voxels - 12 cut ends) / (2 x 18 runs - 12 cut ends) = 5 voxels.
    np.testing.assert_allclose(mean_chord(across, edge_um=0.5), [2.5, 2])
    along = count_chords(labels, axis=1, n_classes=2)
    assert np.isnan(mean_chord(along, edge_um=1)).all()
    assert along.cut_runs.tolist() == [33, 24]
    assert along.cut_ends.tolist() == [66, 48]


def test_the_mask_cuts_a_chord_as_the_border_does():
    inside = count_chords(np.array([[[1, 1, 0, 1, 1]]], np.uint8), axis=2, n_classes=2)
    masked = count_chords(np.array([[[255, 1, 1, 0, 1, 1, 255]]], np.uint8), axis=2, n_classes=2)
    assert counted(inside) == counted(masked)


def test_the_mean_from_interfaces_is_not_biased_in_a_short_volume():
    # A two-state Markov chain: its runs are geometric, of mean 1 / p and 1 / q.
    rng, p, q, n = np.random.default_rng(0), 0.05, 0.1, 12
    lines = np.empty((200_000, n), np.uint8)
    lines[:, 0] = rng.random(len(lines)) < p / (p + q)
    for i in range(1, n):
        leaves = rng.random(len(lines)) < np.where(lines[:, i - 1], q, p)
        lines[:, i] = lines[:, i - 1] ^ leaves
    chords = count_chords(lines[None], axis=2, n_classes=2)
    np.testing.assert_allclose(mean_chord(chords, edge_um=1), [20, 10], rtol=0.02)
    assert (mean_complete_chord(chords, edge_um=1) < [5, 5]).all()


@given(volume=labelled(), axis=axes)
@settings(deadline=None)
def test_renaming_the_classes_renames_the_chords(volume, axis):
    labels, n = volume
    renamed = np.where(labels == UNLABELLED, labels, n - 1 - labels).astype(np.uint8)
    first, second = (count_chords(one, axis=axis, n_classes=n) for one in (labels, renamed))
    assert [part[::-1] for part in counted(second)] == list(counted(first))


def test_a_class_that_is_not_there_is_refused():
    with pytest.raises(ValueError, match="class 2; there are 2"):
        count_chords(np.array([[[2]]], np.uint8), axis=0, n_classes=2)
