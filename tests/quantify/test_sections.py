import numpy as np
import pytest

from tomoseg.quantify import Measurement
from tomoseg.quantify.sections import effects, read_effects, section_tiles, with_segmentation

NAMES = ["pore", "YSZ", "Ni"]
PORE_NI = "interface area pore-Ni per volume"
LINE = "triple-phase boundary density"


def scene() -> np.ndarray:
    """Return pore and nickel side by side on top of YSZ: a triple point in the middle of the upper edge of the YSZ."""
    label = np.full((128, 128), 1, np.uint8)
    label[:64, :64], label[:64, 64:] = 0, 2
    return label


def filmed(label: np.ndarray) -> np.ndarray:
    """Return what a threshold makes of a blurred edge between black and white: a film of grey in between."""
    found = label.copy()
    found[:64, 63:65] = 1
    return found


def test_lengths_and_points_of_a_section_are_counted_by_pair_and_triple():
    tiles = section_tiles(scene(), scene(), n_classes=3, edge=64)
    assert tiles.shape == (4, 2, 7)
    pixels, lengths, points = np.split(tiles[:, 0].sum(axis=0), [3, 6])
    assert pixels.tolist() == [4096, 8192, 4096]
    assert lengths == pytest.approx([64, 64, 64], rel=0.02)
    assert points.tolist() == [1]


def test_a_false_film_is_small_in_pixels_and_all_of_the_interface():
    tiles = section_tiles(scene(), filmed(scene()), n_classes=3, edge=64)
    found = effects(np.tile(tiles.sum(axis=0), (9, 1, 1)), NAMES)
    assert found["phase fraction YSZ"].correction == pytest.approx(-128 / 128**2)
    assert found[PORE_NI].correction is None and found[PORE_NI].labelled > 0 and found[PORE_NI].predicted == 0
    assert found["interface area pore-YSZ per volume"].note.startswith("predicted 1.9")
    assert found[LINE].note == "nothing to compare"


def test_what_is_predicted_in_one_block_only_has_no_correction():
    blocks = np.tile([[40.0, 60.0, 20.0], [40.0, 60.0, 0.0]], (9, 1, 1))
    blocks[3, 1, 2] = 100.0
    its = effects(blocks, ["a", "b"])["interface area a-b per volume"]
    assert its.correction is None and its.note == "it is predicted or labelled in one block only"


def test_a_number_that_is_far_off_is_not_corrected_and_says_so():
    blocks = np.tile([[40.0, 60.0, 20.0], [40.0, 60.0, 250.0]], (9, 1, 1))
    its = effects(blocks, ["a", "b"])["interface area a-b per volume"]
    assert its.correction is None and its.note.startswith("predicted 12.5 times as much as labelled: too far off")
    area = Measurement(name="interface area a-b per volume", value=2.0, unit="1/um", method="m", source="")
    kept = with_segmentation(area, its, correct=True, voxels=1000)
    assert kept.value == 2.0 and kept.settings["segmentation"].startswith("not corrected: predicted 12.5 times")


def test_pixels_that_are_not_labelled_count_in_neither():
    label = scene()
    label[:, 60:70] = 255
    labelled, predicted = section_tiles(label, scene(), n_classes=3, edge=64).sum(axis=0)
    assert labelled.tolist() == predicted.tolist()


def test_tiles_of_any_size_add_up_to_the_same():
    rng = np.random.default_rng(0)
    label, found = (np.kron(rng.integers(0, 3, (16, 20)), np.ones((8, 8))).astype(np.uint8) for _ in range(2))
    small, large = (section_tiles(label, found, n_classes=3, edge=edge).sum(axis=0) for edge in (20, 500))
    np.testing.assert_allclose(small, large, rtol=1e-6)


def test_the_interval_of_a_ratio_comes_from_how_it_differs_between_blocks():
    rng = np.random.default_rng(1)
    one = np.array([[40.0, 60.0, 20.0], [40.0, 60.0, 16.0]])
    blocks = np.tile(one, (20, 1, 1))
    blocks[:, 1, 2] += rng.normal(0, 1, 20)
    its = effects(blocks, ["a", "b"])["interface area a-b per volume"]
    assert its.interval is not None and its.interval[0] < 1.25 < its.interval[1]
    assert 0.02 < its.interval[1] - its.interval[0] < 0.12
    assert effects(blocks[:5], ["a", "b"])["interface area a-b per volume"].interval is None


def test_a_number_is_corrected_or_has_its_corrected_value_beside_it():
    tiles = np.tile([[40.0, 60.0, 20.0], [45.0, 55.0, 16.0]], (9, 1, 1))
    found = effects(tiles, ["a", "b"])
    area = Measurement(
        name="interface area a-b per volume", value=2.0, unit="1/um", interval=(1.9, 2.1), method="m", source=""
    )
    beside = with_segmentation(area, found[area.name], correct=False, voxels=1000)
    assert beside.value == 2.0 and beside.settings["corrected"] == pytest.approx(2.5)
    assert beside.interval == pytest.approx((2.4, 2.6)) and "segmentation" in str(beside.interval_contains)
    corrected = with_segmentation(area, found[area.name], correct=True, voxels=1000)
    assert corrected.value == pytest.approx(2.5) and corrected.settings["uncorrected"] == 2.0
    share = Measurement(name="phase fraction a", value=0.5, unit="1", method="m", source="")
    assert with_segmentation(share, found[share.name], correct=True, voxels=1000).value == pytest.approx(0.45)
    assert with_segmentation(share, found[share.name], correct=True, voxels=1000).interval is None


def test_sampling_and_segmentation_add_up_in_squares():
    effect = read_effects(
        {"numbers": {"x": {"labelled": 1, "predicted": 1, "correction": 1, "interval": (0.96, 1.04)}}}
    )
    area = Measurement(name="x", value=2.0, unit="1/um", interval=(1.94, 2.06), method="m", source="")
    assert with_segmentation(area, effect["x"], correct=False, voxels=1000).interval == pytest.approx((1.9, 2.1))
