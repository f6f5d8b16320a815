"""Labels on planes of all axes of one tomogram: what trains, and what must not where they cross."""

from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomoseg.crossing import away_from, crossing, held_apart
from tomoseg.errors import PairingError, SettingError
from tomoseg.field_of_view import across, everything, same_for_all
from tomoseg.held_out import hold_out
from tomoseg.labels import UNLABELLED, LabelClass
from tomoseg.model_file import ModelRecord, ScanRecord, SliceRecord
from tomoseg.patch_noise import FreshNoise
from tomoseg.patches import PatchSettings, patch_source, training_slices
from tomoseg.provenance import record
from tomoseg.slices import Pair, Scan, SliceCache, check_sizes, pair_planes
from tomoseg.splits import Block, Split
from tomoseg.unet_config import UNetConfig
from tomoseg.volume import ArrayVolume, PagedVolume, Pictures, Region
from tomoseg.volume.page import Page
from tomoseg.volume.turned import TurnedVolume, read_planes, turn, turn_back
from tomoseg.window import Window
from tomoseg.workflow.reading import refuse_uneven

CLASSES = tuple(LabelClass(name=str(c), value=c, colour="#000000") for c in range(2))
AXES = ("z", "y", "x")


def pages(values):
    return tuple(Page(f"p_{i:03d}.tif", page.shape, page.dtype, 1, partial(page.copy)) for i, page in enumerate(values))


def scan_of(grey, truth, planes, axis, *, source="s"):
    """Return a scan whose `planes` across `axis` are labelled as in `truth`."""
    volume = TurnedVolume(ArrayVolume(grey), axis) if axis != "z" else ArrayVolume(grey)
    labels = Pictures(Path("labels"), pages(turn(truth, axis)[list(planes)]))
    pairs = tuple(Pair(z, i) for i, z in enumerate(planes))
    view, region = everything(volume.shape), Region.whole(volume.shape)
    cache = SliceCache(volume, limit_bytes=10**6)
    return Scan(volume, labels, pairs, CLASSES, None, view, region, source, cache, axis)


def labelled_voxels(scan, zs):
    """Return which voxels of the volume (z, y, x) the labels of some planes of a scan show."""
    shown = np.zeros(scan.volume.shape, np.bool_)
    for z in zs:
        shown[z] = scan.read_label(z) != UNLABELLED
    return turn_back(shown, scan.axis)


# --- planes of other axes are read and paired


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_planes_read_in_one_pass_are_those_of_the_volume(data):
    shape = data.draw(st.tuples(*[st.integers(1, 9)] * 3))
    axis = data.draw(st.sampled_from(["y", "x"]))
    grey = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
    turned = turn(grey, axis)
    planes = data.draw(st.lists(st.integers(0, len(turned) - 1), min_size=1, unique=True).map(sorted))
    volume = data.draw(st.sampled_from([ArrayVolume(grey), PagedVolume(Path("p"), pages(grey))]))
    found = np.concatenate([values for _, values in read_planes(TurnedVolume(volume, axis), planes)], axis=1)
    np.testing.assert_array_equal(found, turned[planes])


def test_each_file_is_opened_once_for_all_planes():
    grey, opened = np.arange(6 * 5 * 200, dtype=np.uint16).reshape(6, 5, 200), []

    def load(z):
        opened.append(z)
        return grey[z].copy()

    files = tuple(Page(f"{z}.tif", (5, 200), grey.dtype, 1, partial(load, z)) for z in range(6))
    cache = SliceCache(TurnedVolume(PagedVolume(Path("p"), files), "x"), limit_bytes=10**6)
    assert list(cache.fetch([199, 0, 100]))[-1] == 1
    assert opened == list(range(6))
    np.testing.assert_array_equal(cache.read(199), grey[:, :, 199])
    assert len(opened) == 6


def test_no_more_planes_are_read_ahead_than_are_kept():
    grey = np.zeros((6, 5, 4), np.uint16)
    cache = SliceCache(TurnedVolume(ArrayVolume(grey), "y"), limit_bytes=2 * 6 * 4 * 2)
    assert list(cache.fetch(range(5)))[-1] == 1
    assert sorted(cache._kept) == [0, 1]


def test_planes_far_apart_are_not_read_with_all_that_lies_between():
    regions = []

    class Watched(ArrayVolume):
        def read(self, region):
            regions.append(region.shape)
            return super().read(region)

    volume = TurnedVolume(Watched(np.zeros((3, 500, 4), np.uint8)), "y")
    list(read_planes(volume, [10, 12, 400]))
    assert regions == [(3, 3, 4), (3, 1, 4)]


def test_labels_of_planes_pair_by_their_last_number():
    assert pair_planes("x", 9, ["b_7.tif", "a_0002.tif"]) == (Pair(2, 1), Pair(7, 0))


@pytest.mark.parametrize(
    ("names", "message"),
    [
        (["y_9.tif"], r"1 of 1 labels across y have no plane: y_9.tif; .* the plane along y, 0 to 8"),
        (["left.tif"], "no plane: left.tif"),
        (["a_3.tif", "b_3.tif"], "same last number: a_3.tif, b_3.tif"),
    ],
)
def test_labels_without_a_plane_are_refused_by_name(names, message):
    with pytest.raises(PairingError, match=message):
        pair_planes("y", 9, names)


@pytest.mark.parametrize(("axis", "expected"), [("y", "6 x 4 pixels .rows z, columns x"), ("x", "6 x 5 .*columns y")])
def test_labels_of_another_size_are_told_what_a_plane_has(axis, expected):
    volume = TurnedVolume(ArrayVolume(np.zeros((6, 5, 4), np.uint8)), axis)
    with pytest.raises(PairingError, match=rf"planes across {axis} have {expected}.*the labels 7 x 4"):
        check_sizes(volume, Pictures(Path("p"), pages(np.zeros((1, 7, 4), np.uint8))), axis)


def test_voxels_that_are_no_cubes_and_missing_slices_are_refused():
    grey = np.zeros((2, 3, 4), np.uint8)
    with pytest.raises(SettingError, match=r'axis = "y" needs voxels of one size .* 2 x 1 x 1 um'):
        refuse_uneven(ArrayVolume(grey, (2.0, 1.0, 1.0)), place=Path("p"), asking='axis = "y"')
    with pytest.raises(SettingError, match="some numbers are missing"):
        refuse_uneven(ArrayVolume(grey, None, ("a_1.tif", "a_3.tif")), place=Path("p"), asking='axis = "y"')
    refuse_uneven(ArrayVolume(grey), place=Path("p"), asking='axis = "y"')


def test_a_mask_counts_on_planes_of_all_axes():
    mask = np.arange(12).reshape(3, 4) % 5 != 0
    view, solid = same_for_all(mask, shape=(2, 3, 4)), np.broadcast_to(mask, (2, 3, 4))
    for axis in ("y", "x"):
        for plane, expected in enumerate(turn(solid, axis)):
            np.testing.assert_array_equal(across(view, axis, [plane]).inside(plane), expected)


@pytest.mark.parametrize("axis", ["y", "x"])
def test_a_plane_across_an_axis_trains_as_the_same_slice_along_z(axis):
    rng = np.random.default_rng(0)
    grey, truth = rng.integers(1000, size=(6, 7, 8), dtype=np.uint16), rng.integers(2, size=(6, 7, 8), dtype=np.uint8)
    across_axis = scan_of(grey, truth, (2, 4), axis)
    along_z = scan_of(np.ascontiguousarray(turn(grey, axis)), np.ascontiguousarray(turn(truth, axis)), (2, 4), "z")
    batches = []
    for scan in (across_axis, along_z):
        slices = training_slices(scan, [2, 4], context=1, block=Block(0, 2, 0, 2), halo=1, rare=(1,))
        source = patch_source(
            slices, PatchSettings(size=16, batch=8), window=Window(low=0, high=1000), noise=FreshNoise(0, 9),
            rng=np.random.default_rng(0),
        )  # fmt: skip
        batches.append(source.batch(np.random.default_rng(1)))
    for ours, theirs in zip(*batches, strict=True):
        np.testing.assert_array_equal(ours, theirs)


# --- no leak where slices cross


def test_rows_near_a_test_slice_train_on_no_plane_that_crosses_it():
    grey = np.zeros((8, 6, 5), np.uint16)
    truth = np.ones((8, 6, 5), np.uint8)
    z, y, x = scan_of(grey, truth, (1, 6), "z"), scan_of(grey, truth, (2,), "y"), scan_of(grey, truth, (4,), "x")
    splits = (Split({1: "train", 6: "test"}), Split({2: "train"}), Split({4: "test"}))
    z, y, x = held_apart((z, y, x), splits, gap=2, reach=1, roles=["test", "validation"])
    # y[2]: rows z 5, 6, 7 lie within the gap of slice 6; columns x 3, 4 within that of x[4]
    rows, columns = np.indices((8, 5))
    np.testing.assert_array_equal(y.read_label(2) == 1, (rows < 5) & (columns < 3))
    # slice 1: columns x 3, 4; x[4]: rows z 5 to 7 (it is a test itself)
    np.testing.assert_array_equal(z.read_label(1) == 1, np.tile(np.arange(5) < 3, (6, 1)))
    np.testing.assert_array_equal(x.read_label(4) == 1, np.tile((np.arange(8) < 5)[:, None], (1, 6)))


def test_a_validation_block_takes_its_part_of_the_planes_through_it_and_no_more():
    grey, truth = np.zeros((9, 8, 7), np.uint16), np.ones((9, 8, 7), np.uint8)
    z, y = scan_of(grey, truth, (4,), "z"), scan_of(grey, truth, (0, 3, 7), "y")
    splits = (Split({4: "train"}, Block(2, 4, 3, 5)), Split(dict.fromkeys((0, 3, 7), "train")))
    z, y = held_apart((z, y), splits, gap=2, reach=1, roles=["test", "validation"])
    # the block and a reach around it: rows y 1 to 4, columns x 2 to 5; slices nearer than 2: z 3 to 5
    rows, columns = np.indices((9, 7))
    hidden = (rows >= 3) & (rows <= 5) & (columns >= 2) & (columns <= 5)
    np.testing.assert_array_equal(y.read_label(3) == 1, ~hidden)
    assert (y.read_label(0) == 1).all() and (y.read_label(7) == 1).all()
    assert (z.read_label(4) == 1).all()


def test_scans_of_other_sources_are_left_alone():
    grey, truth = np.zeros((4, 4, 4), np.uint16), np.ones((4, 4, 4), np.uint8)
    scans = scan_of(grey, truth, (1,), "z"), scan_of(grey, truth, (1,), "y", source="other")
    splits = (Split({1: "test"}), Split({1: "train"}))
    assert held_apart(scans, splits, gap=2, reach=1, roles=["test"]) == scans
    assert not crossing(scans)
    assert crossing((scans[0], replace(scans[1], source="s")))


@settings(deadline=None, max_examples=50)
@given(st.data())
def test_what_trains_is_all_that_is_apart_from_test_and_validation_and_nothing_else(data):
    shape = data.draw(st.tuples(*[st.integers(2, 8)] * 3))
    gap, reach = data.draw(st.integers(0, 3)), data.draw(st.integers(0, 2))
    axes = data.draw(st.lists(st.sampled_from(AXES), min_size=2, max_size=3, unique=True))
    grey, truth = np.zeros(shape, np.uint16), np.ones(shape, np.uint8)
    scans, splits = [], []
    for axis in axes:
        depth, height, width = turn(grey, axis).shape
        roles = data.draw(
            st.dictionaries(st.integers(0, depth - 1), st.sampled_from(["train", "validation", "test"]), min_size=1)
        )
        y0, x0 = data.draw(st.integers(0, height - 1)), data.draw(st.integers(0, width - 1))
        block = Block(y0, data.draw(st.integers(y0 + 1, height)), x0, data.draw(st.integers(x0 + 1, width)))
        scans.append(scan_of(grey, truth, sorted(roles), axis))
        splits.append(Split(roles, data.draw(st.sampled_from([None, block]))))
    apart = held_apart(tuple(scans), splits, gap=gap, reach=reach, roles=["test", "validation"])
    for i, (scan, split) in enumerate(zip(apart, splits, strict=True)):
        near = np.zeros(shape, np.bool_)
        for j, (other, its) in enumerate(zip(scans, splits, strict=True)):
            if i != j:
                near |= within(shape, other.axis, its, gap, reach)
        own = labelled_voxels(scans[i], split.of("train"))
        np.testing.assert_array_equal(labelled_voxels(scan, split.of("train")), own & ~near)


def within(shape, axis, split, gap, reach):
    """Return, voxel by voxel, what lies in or nearer than the gap to what tests or validates."""
    order = {"z": (0, 1, 2), "y": (1, 0, 2), "x": (2, 0, 1)}[axis]
    plane, row, column = (np.indices(shape)[i] for i in order)
    found = np.zeros(shape, np.bool_)
    for number, role in split.roles.items():
        close = np.abs(plane - number) < max(gap, 1)
        if role in ("test", "validation"):
            found |= close
        elif split.block is not None:
            b = split.block
            in_rows = (row >= b.y0 - reach) & (row < b.y1 + reach)
            found |= close & in_rows & (column >= b.x0 - reach) & (column < b.x1 + reach)
    return found


def test_in_evaluation_rows_and_columns_near_seen_planes_do_not_count():
    grey, truth = np.zeros((4, 9, 10), np.uint16), np.ones((4, 9, 10), np.uint8)
    scan = away_from(scan_of(grey, truth, (0, 3), "z"), {"y": (4,), "x": (0, 9)}, gap=2, excepted=[3])
    rows, columns = np.indices((9, 10))
    counts = (abs(rows - 4) >= 2) & (columns >= 2) & (columns <= 7)
    np.testing.assert_array_equal(scan.read_label(0) == 1, counts)
    assert (scan.read_label(3) == 1).all()


def model_of(*scans, gap=3):
    """Return the record of a model of scans, each (source, axis, middle, number -> role)."""
    slices = [
        SliceRecord(scan=i, name=f"{axis}[{n}]", number=n, role=role, content=f"{source}{axis}{n}")
        for i, (source, axis, _, roles) in enumerate(scans)
        for n, role in roles.items()
    ]
    return ModelRecord(
        network=UNetConfig(classes=2), recipe={}, window=Window(low=0, high=1), grey_type="uint8", classes=CLASSES,
        scans=tuple(ScanRecord(name="s", source=source, axis=axis, middle=middle) for source, axis, middle, _ in scans),
        slices=tuple(slices), gap=gap, provenance=record("train"),
    )  # fmt: skip


def contents_of(source, numbers, offset=0):
    return {n + offset: f"{source}z{n}" for n in numbers}


def test_numbers_of_planes_across_y_are_no_numbers_of_slices():
    model = model_of(("a", "y", "m", {5: "train", 7: "validation", 9: "test", 2: "gap"}))
    found = hold_out([4, 5], contents_of("a", [4, 5]), source="a", record=model)
    assert (found.kept, found.planes, found.reserved) == ((4, 5), {"y": (5, 7)}, ())


def test_a_test_slice_is_reserved_only_in_the_scan_that_the_planes_are_of():
    kept = ("a", "z", None, {4: "test", 20: "train"})
    same, copy = (model_of(kept, (name, "x", "m", {5: "train"})) for name in "ab")
    for model, reserved in ((same, (4,)), (copy, ())):
        found = hold_out([4, 9], contents_of("a", [4, 9]), source="a", record=model, middle="m")
        assert (found.kept, found.planes, found.reserved) == ((4, 9), {"x": (5,)}, reserved)


def test_planes_are_known_through_slices_along_z_of_a_moved_copy():
    model = model_of(("a", "z", None, {4: "test", 20: "train"}), ("a", "y", "m", {5: "train"}))
    found = hold_out([104, 110], contents_of("a", [4, 10, 20], 100), source="elsewhere", record=model, middle="cropped")
    assert (found.kept, found.planes, found.reserved) == ((104, 110), {"y": (5,)}, (104,))
    assert hold_out([4], {4: "new"}, source="elsewhere", record=model, middle="other").planes == {}
