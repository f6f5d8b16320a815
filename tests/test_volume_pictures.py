"""Label pictures: grey values, indices, palettes, colours."""

from pathlib import Path

import numpy as np
import pytest
import tifffile
import zarr
from PIL import Image

from tomoseg.errors import VolumeError
from tomoseg.volume import Opening, open_pictures
from tomoseg.workflow.common import Reading
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import open_scans, open_source

INDICES = np.array([[0, 1, 2], [2, 1, 0]], np.uint8)
COLOURS = np.array([[0, 0, 255], [255, 0, 0], [0, 255, 0]], np.uint8)


def palette_picture() -> Image.Image:
    image = Image.fromarray(INDICES, mode="P")
    image.putpalette(COLOURS.tobytes())
    return image


def test_grey_labels_come_as_they_are(tmp_path: Path) -> None:
    for i in range(2):
        tifffile.imwrite(tmp_path / f"slice__00{i}.tif", INDICES + np.uint8(i))
    pictures = open_pictures(tmp_path)
    assert (len(pictures), pictures.shape) == (2, (2, 2, 3))
    assert pictures.names == ("slice__000.tif", "slice__001.tif")
    assert np.array_equal(pictures.read_picture(1), INDICES + 1)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_palette_is_expanded_to_its_colours(tmp_path: Path, name: str) -> None:
    palette_picture().save(tmp_path / name)
    assert np.array_equal(open_pictures(tmp_path / name).read_picture(0), COLOURS[INDICES])


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_a_grey_ramp_is_no_colour(tmp_path: Path, name: str) -> None:
    image = Image.fromarray(INDICES, mode="P")
    image.putpalette(np.repeat(np.arange(256, dtype=np.uint8), 3).tobytes())
    image.save(tmp_path / name)
    assert np.array_equal(open_pictures(tmp_path / name).read_picture(0), INDICES)


@pytest.mark.parametrize("name", ["a.tif", "a.png"])
def test_constant_transparency_is_dropped_and_varying_refused(tmp_path: Path, name: str) -> None:
    rgba = np.dstack([COLOURS[INDICES], np.full(INDICES.shape, 255, np.uint8)])
    Image.fromarray(rgba).save(tmp_path / name)
    assert np.array_equal(open_pictures(tmp_path / name).read_picture(0), COLOURS[INDICES])
    rgba[0, 0, 3] = 7
    Image.fromarray(rgba).save(tmp_path / name)
    with pytest.raises(VolumeError, match="its transparency varies from 7 to 255"):
        open_pictures(tmp_path / name).read_picture(0)


def test_grey_with_constant_transparency_is_grey(tmp_path: Path) -> None:
    Image.fromarray(np.dstack([INDICES, np.full_like(INDICES, 255)]), mode="LA").save(tmp_path / "a.png")
    assert np.array_equal(open_pictures(tmp_path / "a.png").read_picture(0), INDICES)


@pytest.mark.parametrize("planar", ["contig", "separate"])
def test_rgb_comes_with_the_colours_last_however_it_is_stored(tmp_path: Path, planar: str) -> None:
    values = COLOURS[INDICES]
    stored = values if planar == "contig" else np.moveaxis(values, -1, 0)
    tifffile.imwrite(tmp_path / "a.tif", stored, photometric="rgb", planarconfig=planar)
    assert np.array_equal(open_pictures(tmp_path / "a.tif").read_picture(0), values)


def test_a_stack_of_rgb_pages_has_its_pages_names(tmp_path: Path) -> None:
    values = np.stack([COLOURS[INDICES], COLOURS[INDICES[::-1]]])
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="rgb", compression="zlib")
    pictures = open_pictures(tmp_path / "a.tif")
    assert pictures.names == ("a.tif[0]", "a.tif[1]")
    assert np.array_equal(pictures.read_picture(1), values[1])


def test_colours_of_16_bits_and_two_channels_are_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4, 3), np.uint16), photometric="rgb")
    with pytest.raises(VolumeError, match="3 channels of uint16; label pictures are grey, palette, or RGB of 8 bits"):
        open_pictures(tmp_path / "a.tif")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((3, 4, 2), np.uint8), photometric="minisblack", planarconfig="contig")
    with pytest.raises(VolumeError, match="2 channels"):
        open_pictures(tmp_path / "a.tif")


def test_colours_among_grey_pictures_are_listed(tmp_path: Path) -> None:
    for i in range(3):
        Image.fromarray(INDICES).save(tmp_path / f"{i}.png")
    palette_picture().save(tmp_path / "2.png")
    with pytest.raises(VolumeError, match=r"1 of 3 differ from the others' 2 x 3 uint8: 2.png \(2 x 3 RGB uint8\)"):
        open_pictures(tmp_path)


@pytest.fixture
def sparse(tmp_path: Path) -> Path:
    """Write a label stack of 4 slices of which the second and third are empty chunks, and a scan."""
    labels = np.zeros((4, 20, 30), np.uint8)
    labels[[0, 3]] = np.arange(600).reshape(20, 30) % 3
    array = zarr.create_array(str(tmp_path / "labels.zarr"), data=labels, chunks=(1, 20, 30))
    assert array.shape == labels.shape
    for z in (1, 2):
        (tmp_path / f"labels.zarr/c/{z}/0/0").unlink(missing_ok=True)
    (tmp_path / "scan.raw").write_bytes(bytes(range(200)) * 24)
    return tmp_path / "labels.zarr"


RAW = {"raw_shape": (4, 20, 30), "raw_dtype": "u2"}


def test_empty_chunks_reach_the_labels(sparse: Path) -> None:
    assert not open_pictures(sparse, opening=Opening(empty_chunks=True)).read_picture(2).any()
    places = [(sparse.with_name("scan.raw"), sparse)]
    stated = {"a": 0, "b": 1, "c": 2}
    settings = {"stated": stated, "unlabelled": None, "console": Console(quiet=True)}
    (scan,) = open_scans(places, how=Reading(**RAW, empty_chunks=True), **settings)
    assert set(np.unique(scan.read_label(2))) == {0}
    with pytest.raises(VolumeError, match=r"chunk .* is missing, .* say --empty-chunks"):
        open_scans(places, how=Reading(**RAW), **settings)


def test_empty_chunks_reach_the_mask(sparse: Path) -> None:
    words = {**RAW, "mask": str(sparse)}
    view = open_source(sparse.with_name("scan.raw"), Reading(**words, empty_chunks=True)).view
    assert not view.inside(1).any()
    assert view.inside(3).sum() == 400
    with pytest.raises(VolumeError, match=r"chunk .* is missing, .* say --empty-chunks"):
        open_source(sparse.with_name("scan.raw"), Reading(**words)).view.inside(1)
