"""Masks from files, and fields of view found from constant corners."""

import os
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tomoseg.errors import VolumeError
from tomoseg.field_of_view import FieldOfView, auto_mask, everything, kept, load_mask, same_for_all
from tomoseg.volume import ArrayVolume, open_volume, read_slice

Y, X = np.indices((81, 91))
DISC = (Y - 40) ** 2 + (X - 45) ** 2 <= 38**2
SANDSTONE = Path(os.environ.get("TOMOSEG_DATA", Path(__file__).parents[2] / "shared" / "data")) / "sandstone"


def scan(n: int = 5, outside: float = 0, dtype: type = np.uint16) -> np.ndarray:
    values = np.random.default_rng(0).integers(100, 200, (n, *DISC.shape)).astype(dtype)
    values[:, ~DISC] = outside
    return values


def test_everything_is_inside_everywhere() -> None:
    assert everything((3, 4, 5)).inside(2).sum() == 20


def test_one_picture_is_the_mask_of_all_slices(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", DISC.astype(np.uint8) * 7)
    view = load_mask(tmp_path / "m.tif", (5, 81, 91))
    assert view.shape == (5, 81, 91)
    assert all(np.array_equal(view.inside(z), DISC) for z in range(5))


@pytest.mark.parametrize(("limit", "found"), [(10_000, [0, 1, 2]), (0, [0, 1, 2, 0, 1, 2]), (400, [0, 1, 2, 0, 1, 2])])
def test_masks_are_found_once_within_what_they_may_take(limit: int, found: list[int]) -> None:
    masks, asked = np.random.default_rng(0).random((3, 40, 43)) < 0.5, []

    def source(z: int) -> np.ndarray:
        asked.append(z)
        return masks[z]

    view = kept(FieldOfView((3, 40, 43), source), limit_bytes=limit)
    for z in (0, 1, 2, 0, 1, 2):
        assert np.array_equal(view.inside(z), masks[z])
    assert asked == found  # 240 bytes a mask; going round and round, the least used is the next


def test_the_least_used_mask_makes_room() -> None:
    asked: list[int] = []
    masks = np.random.default_rng(0).random((3, 40, 43)) < 0.5
    view = kept(FieldOfView((3, 40, 43), lambda z: asked.append(z) or masks[z]), limit_bytes=600)
    for z in (0, 1, 0, 2, 0, 1):
        view.inside(z)
    assert asked == [0, 1, 2, 1]


def test_a_stack_masks_slice_by_slice(tmp_path: Path) -> None:
    masks = np.stack([DISC, ~DISC, np.zeros_like(DISC)])
    tifffile.imwrite(tmp_path / "m.tif", masks.astype(np.uint8) * 255, photometric="minisblack")
    view = load_mask(tmp_path / "m.tif", (3, 81, 91))
    assert all(np.array_equal(view.inside(z), masks[z]) for z in range(3))


def test_colours_other_than_black_are_inside(tmp_path: Path) -> None:
    colours = np.zeros((2, 3, 3), np.uint8)
    colours[1, 2] = 0, 0, 9
    tifffile.imwrite(tmp_path / "m.tif", colours, photometric="rgb")
    assert np.argwhere(load_mask(tmp_path / "m.tif", (1, 2, 3)).inside(0)).tolist() == [[1, 2]]


def test_another_size_or_number_of_slices_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "m.tif", np.ones((3, 81, 91), np.uint8), photometric="minisblack")
    with pytest.raises(VolumeError, match=r"m\.tif: has 3 masks for 4 slices; give one for all"):
        load_mask(tmp_path / "m.tif", (4, 81, 91))
    with pytest.raises(VolumeError, match=r"m\.tif: has 81 x 91 pixels, the volume's slices have 81 x 90"):
        load_mask(tmp_path / "m.tif", (3, 81, 90))
    with pytest.raises(VolumeError, match="81 x 91"):
        same_for_all(DISC, shape=(3, 81, 90))


def test_what_the_caller_does_to_a_mask_changes_no_other() -> None:
    view = same_for_all(DISC, shape=(2, 81, 91))
    view.inside(0)[:] = False
    assert np.array_equal(view.inside(1), DISC)


@pytest.mark.parametrize(("outside", "dtype"), [(0, np.uint8), (65535, np.uint16), (-1.5, np.float32)])
@pytest.mark.parametrize("n", [1, 5, 40])
def test_constant_corners_are_outside(n: int, outside: float, dtype: type) -> None:
    assert np.array_equal(auto_mask(ArrayVolume(scan(n, outside, dtype))), DISC)


def test_pores_of_the_outsides_value_stay_inside_also_where_they_are_open_to_it() -> None:
    values = scan()
    values[:, 30:50, 40:50] = 0
    values[:, 36:44, 70:] = 0
    mask = auto_mask(ArrayVolume(values))
    assert not mask[~DISC].any()
    lost = np.argwhere(DISC & ~mask)
    assert (lost[:, 1] >= 82).all()  # columns 82 and 83: beyond the chord of the open pore, less than a pixel deep


def test_hot_pixels_outside_stay_outside() -> None:
    values = scan()
    values[2, 1, 1] = 999
    values[:, 79, 2] = 150
    assert np.array_equal(auto_mask(ArrayVolume(values)), DISC)


def test_without_constant_corners_everything_is_inside() -> None:
    values = np.random.default_rng(0).integers(0, 9, (5, 40, 50), dtype=np.uint8)
    assert auto_mask(ArrayVolume(values)).all()
    values[:, :10, :10] = 0
    assert auto_mask(ArrayVolume(values)).all()


def test_a_grey_corner_is_no_field_of_view() -> None:
    assert auto_mask(ArrayVolume(scan(outside=150))).all()


def test_a_constant_volume_is_refused() -> None:
    with pytest.raises(VolumeError, match="nothing but the value 7"):
        auto_mask(ArrayVolume(np.full((2, 9, 9), 7, np.uint8)))


@pytest.mark.data
@pytest.mark.skipif(not SANDSTONE.exists(), reason="the real data of ../shared/data or TOMOSEG_DATA are not here")
def test_the_sandstones_reconstructed_circle_is_found() -> None:
    volume = open_volume(SANDSTONE / "images")
    mask = auto_mask(volume)
    assert volume.voxel_size_um == pytest.approx((2.23145,) * 3, rel=1e-5)
    area = np.pi / 4 * np.ptp(np.flatnonzero(mask.any(axis=0))) * np.ptp(np.flatnonzero(mask.any(axis=1)))
    assert mask.sum() == pytest.approx(area, rel=0.01)
    assert all(not read_slice(volume, z)[~mask].any() for z in range(volume.shape[0]))
