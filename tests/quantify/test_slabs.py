import numpy as np
import pytest

from tomoseg.evaluate import SliceScores, TestSlice, number_effects
from tomoseg.metrics import CalibrationSums, confusion
from tomoseg.quantify.measurement import Measurement
from tomoseg.quantify.sections import effects, own_interval, read_effects, section_tiles, with_segmentation
from tomoseg.quantify.slabs import slab_tiles, slabs_of
from tomoseg.quantify.surfaces import measure_surfaces
from tomoseg.quantify.triple_lines import measure_lines

AREA = "interface area a-b per volume"
ISOTROPIC = (1.0, 1.0, 1.0)


def halves(shape: tuple[int, int, int], *, uneven: int) -> np.ndarray:
    """Return two classes beside each other along x; every other pair of slices has its interface moved by `uneven`."""
    labels = np.zeros(shape, np.uint8)
    for z, plane in enumerate(labels):
        plane[:, shape[2] // 2 + (uneven if z // 2 % 2 else 0) :] = 1
    return labels


def test_unevenness_between_slices_is_seen_in_a_slab_and_not_in_its_sections():
    label, found = halves((16, 64, 64), uneven=0), halves((16, 64, 64), uneven=2)
    along = sum(section_tiles(a, b, n_classes=2, edge=64) for a, b in zip(label, found, strict=True))
    assert along[0, 1, 2] == pytest.approx(along[0, 0, 2])
    slab = slab_tiles(label, found, n_classes=2, edge=64, voxel_size=ISOTROPIC)
    # a step of 2 after every 2 slices doubles the faces; the smoothed normal, of std 1.5, levels most of it
    assert slab[0, 1, 2] > 1.05 * slab[0, 0, 2]


def test_tiles_of_a_slab_are_densities_times_voxels_of_the_whole():
    rng = np.random.default_rng(0)
    label = np.kron(rng.integers(0, 3, (2, 16, 20)), np.ones((8, 8, 8))).astype(np.uint8)
    edges = (2.0, 1.0, 1.0)
    found = slab_tiles(label, label, n_classes=3, edge=500, voxel_size=edges)[0, 0] / label.size
    assert found[:3] == pytest.approx(np.bincount(label.ravel()) / label.size)
    areas = measure_surfaces(label, n_classes=3, voxel_size=edges).densities
    assert found[3:6] == pytest.approx([areas[0, 1], areas[0, 2], areas[1, 2]])
    assert found[6:] == pytest.approx(measure_lines(label, n_classes=3, voxel_size=edges).densities)


def test_voxels_that_are_not_labelled_count_in_neither():
    label, found = halves((8, 64, 64), uneven=0), halves((8, 64, 64), uneven=2)
    label[:, :, 20:44] = 255
    labelled, predicted = slab_tiles(label, found, n_classes=2, edge=64, voxel_size=ISOTROPIC)[0]
    assert labelled.tolist() == predicted.tolist()


def test_runs_of_neighbours_make_slabs_of_16_slices_or_more_where_there_are_as_many():
    numbers = [0, 2, 3, *range(10, 50)]
    parts = [numbers[part] for part in slabs_of(numbers)]
    assert parts == [[0], [2, 3], list(range(10, 30)), list(range(30, 50))]


def scored(number: int, label: np.ndarray, found: np.ndarray, slab: np.ndarray | None) -> SliceScores:
    nothing = CalibrationSums.of(np.zeros((2, 0, 0), np.float32), np.zeros((0, 0), np.uint8))
    counts = confusion(label, found, 2)
    sections = section_tiles(label, found, n_classes=2, edge=64)
    return SliceScores(
        TestSlice(0, number), f"{number}", number, counts[None], counts, nothing, nothing, sections, slab
    )


@pytest.mark.parametrize(("slabs", "told_by"), [(8, "slabs"), (7, "sections")])
def test_slabs_tell_the_numbers_where_they_make_blocks_enough(slabs, told_by):
    label, found = halves((16, 64, 64), uneven=0), halves((16, 64, 64), uneven=2)
    tiles = slab_tiles(label, found, n_classes=2, edge=64, voxel_size=ISOTROPIC)
    results = [
        scored(16 * i + z, label[z], found[z], tiles if z == 15 else None) for i in range(slabs) for z in range(16)
    ]
    its = number_effects(results, ["a", "b"], edge=8, along_z={0: 1.0}, length="voxel")[AREA]
    assert its.correction is not None
    if told_by == "slabs":
        assert its.voxels == slabs * label.size and its.correction < 1 / 1.05 and its.unit == "1/voxel"
    else:
        assert its.voxels is None and its.correction == pytest.approx(1.0) and its.unit == "1/pixel"


def test_a_volume_s_own_interval_is_wider_the_less_of_it_there_is():
    effect = {"labelled": 1, "predicted": 1, "correction": 1.1, "interval": (1.0, 1.2), "voxels": 300}
    its, area = (
        read_effects({"numbers": {AREA: effect}})[AREA],
        Measurement(name=AREA, value=2.0, unit="1/um", method="m", source=""),
    )
    assert own_interval(area, its, voxels=10**12) == pytest.approx((2.0, 2.4))
    assert own_interval(area, its, voxels=100) == pytest.approx((2.2 - 0.4, 2.2 + 0.4))
    told = with_segmentation(area, its, correct=False, voxels=100)
    assert told.settings["interval_of_this_volume"] == pytest.approx((1.8, 2.6)) and told.interval is None
    assert own_interval(area, its.model_copy(update={"voxels": None}), voxels=100) is None


def test_a_volume_s_own_interval_holds_its_number_as_often_as_it_says():
    rng, inside = np.random.default_rng(0), 0
    scan = Measurement(name="phase fraction a", value=0.3, unit="1", method="m", source="")
    for _ in range(1000):
        blocks = np.tile([[300.0, 700.0, 10.0], [300.0, 700.0, 10.0]], (20, 1, 1))
        blocks[:, 1, 0] += rng.normal(5, 3, 20)
        effect = effects(blocks, ["a", "b"], slabs_in="voxel")[scan.name]
        # this volume is as large as ten blocks; each block is labelled 0.3
        low, high = own_interval(scan.model_copy(update={"value": 0.3 + rng.normal(5, 3, 10).mean() / 1000}), effect,
                                 voxels=10_000)  # fmt: skip
        inside += low < 0.3 < high
    # 3 standard errors of 1000 draws at 0.95
    assert abs(inside / 1000 - 0.95) < 3 * (0.95 * 0.05 / 1000) ** 0.5
