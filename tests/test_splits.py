import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tomoseg.errors import PairingError, SplitError
from tomoseg.labels import UNLABELLED
from tomoseg.slices import context_slices, pair_slices
from tomoseg.splits import choose_block, smallest_gap, split_slices, training_part, validation_part


def rng():
    return np.random.default_rng(0)


@given(
    numbers=st.sets(st.integers(0, 120), min_size=2, max_size=60),
    gap=st.integers(1, 12),
    start=st.integers(0, 120),
    kind=st.sampled_from(["blocks", "slices"]),
)
def test_roles_never_lie_nearer_than_the_gap(numbers, gap, start, kind):
    numbers = sorted(numbers)
    try:
        split = split_slices(numbers, kind=kind, gap=gap, test=range(start, start + 10), rng=rng())
    except SplitError:
        return
    roles = ("train", "validation", "test")
    for a in roles:
        for b in roles:
            if a < b:
                assert all(abs(x - y) >= gap for x in split.of(a) for y in split.of(b))
    assert sorted(split.roles) == numbers
    assert set(split.of("test")) == set(numbers) & set(range(start, start + 10))


def test_few_slices_all_train():
    split = split_slices(range(0, 50, 10), kind="blocks", gap=5, rng=rng())
    assert split.of("train") == (0, 10, 20, 30, 40)


def test_many_slices_give_a_tenth_to_validation_at_the_end_away_from_the_test():
    split = split_slices(range(160), kind="blocks", gap=5, test=range(136, 160), rng=rng())
    assert split.of("validation") == tuple(range(13))
    assert split.of("train") == tuple(range(17, 132))


def test_a_random_split_warns_that_it_leaks():
    split = split_slices(range(100), kind="random", gap=5, rng=rng())
    assert "leaks" in split.notes[0]
    assert len(split.of("validation")) == 10


def test_nothing_left_to_train_is_an_error():
    with pytest.raises(SplitError, match="--gap"):
        split_slices([1, 2, 3], kind="blocks", gap=10, test=[2], rng=rng())


def test_the_gap_is_the_larger_of_context_and_half_a_chord():
    assert smallest_gap(context=2, mean_chord_px=4.0) == 5
    assert smallest_gap(context=0, mean_chord_px=37.1) == 19


def test_training_labels_lie_a_halo_away_from_the_validation_block():
    label = np.indices((300, 400)).sum(0).astype(np.uint8) % 3
    block = choose_block([label], n_classes=3, halo=20)
    assert (block.y1 - block.y0, block.x1 - block.x0) == (128, 128)
    kept, checked = training_part(label, block, halo=20), validation_part(label, block)
    at = np.argwhere(checked != UNLABELLED)
    assert len(at) == 128 * 128
    y, x = np.nonzero(kept != UNLABELLED)
    outside = (y < block.y0 - 20) | (y >= block.y1 + 20) | (x < block.x0 - 20) | (x >= block.x1 + 20)
    assert outside.all()
    assert not ((kept != UNLABELLED) & (checked != UNLABELLED)).any()


def test_small_slices_have_no_validation_block():
    assert choose_block([np.zeros((255, 400), np.uint8)], n_classes=2, halo=8) is None


def test_names_pair_by_stem_before_number():
    pairs = pair_slices(["a_1.tif", "b_1.tif", "b_2.tif"], ["b_1.png"])
    assert [(pair.z, pair.picture) for pair in pairs] == [(1, 0)]


def test_labels_without_an_image_are_listed():
    with pytest.raises(PairingError, match=r"s_09\.tif"):
        pair_slices(["i_1.tif", "i_2.tif"], ["s_01.tif", "s_09.tif"])


def test_two_labels_with_one_number_are_listed():
    with pytest.raises(PairingError, match=r"s_1\.tif, t_01\.tif"):
        pair_slices(["i_1.tif", "i_2.tif"], ["s_1.tif", "t_01.tif"])


def test_context_repeats_the_nearest_at_gaps_and_ends_of_a_few_slices():
    numbers = [1, 2, 3, 7, 8]
    assert context_slices(0, numbers=numbers, context=2) == (0, 0, 0, 1, 2)
    assert context_slices(2, numbers=numbers, context=2) == (0, 1, 2, 2, 2)
    assert context_slices(3, numbers=numbers, context=1) == (3, 3, 4)
