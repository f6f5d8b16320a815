"""Zarr stores: what others wrote is read, what is written is valid, lost or damaged chunks are named."""

from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st

from tomoseg.errors import OutputError, VolumeError
from tomoseg.volume import Region, SliceWriter, open_volume
from tomoseg.volume.base import Volume
from tomoseg.volume.ome_zarr_writer import ImageSpec, build_pyramid, create_image, shard_regions, write_shards
from tomoseg.volume.pyramid import half_by_mean, half_by_mode, level_shapes

GREY = np.random.default_rng(3).integers(0, 65535, (20, 30, 40), dtype=np.uint16)
SIZE = (0.02, 0.018, 0.019)


def whole(path: Path) -> np.ndarray:
    volume = open_volume(path)
    return volume.read(Region.whole(volume.shape))


def foreign(path: Path, version: str, *, shape: tuple[int, ...] = GREY.shape, axes: str = "zyx", **array: Any) -> Path:
    """Write an OME-Zarr as other programs do."""
    group = zarr.open_group(str(path), mode="w", zarr_format=2 if version == "0.4" else 3)
    keys = {"name": "v2", "separator": "/"} if version == "0.4" else None
    data = group.create_array("s0", shape=shape, dtype="u2", chunks=(1,) * (len(shape) - 3) + (8, 16, 16),
                              chunk_key_encoding=keys, **array)  # fmt: skip
    data[...] = GREY.reshape(shape)
    kinds = {"t": "time", "c": "channel"}
    multiscale = {
        "version": version,
        "name": "scan",
        "axes": [
            {"name": a, "type": kinds[a]} if a in kinds else {"name": a, "type": "space", "unit": "nanometer"}
            for a in axes
        ],
        "datasets": [
            {
                "path": "s0",
                "coordinateTransformations": [{"type": "scale", "scale": [1.0] * (len(axes) - 3) + [20, 18, 19]}],
            }
        ],
    }
    group.attrs.update(
        {"multiscales": [multiscale]} if version == "0.4" else {"ome": {"version": "0.5", "multiscales": [multiscale]}}
    )
    return path


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize(("axes", "shape"), [("zyx", GREY.shape), ("tczyx", (1, 1, *GREY.shape))])
def test_what_others_wrote_is_read_with_its_voxel_size(
    tmp_path: Path, version: str, axes: str, shape: tuple[int, ...]
) -> None:
    volume = open_volume(foreign(tmp_path / "a.zarr", version, shape=shape, axes=axes))
    assert (volume.shape, volume.dtype) == (GREY.shape, np.uint16)
    assert volume.voxel_size_um == pytest.approx(SIZE)
    region = Region(3, 19, 7, 30, 11, 33)
    assert np.array_equal(volume.read(region), GREY[region.slices])
    assert volume.names[17] == "a.zarr[17]"


def test_several_channels_are_refused_by_name(tmp_path: Path) -> None:
    path = foreign(tmp_path / "a.zarr", "0.5", shape=(4, 5, 30, 40), axes="czyx")
    with pytest.raises(VolumeError, match=r"more than one entry along c \(c z y x: 4 x 5 x 30 x 40\)"):
        open_volume(path)


def test_plain_arrays_are_read_and_several_are_listed(tmp_path: Path) -> None:
    group = zarr.open_group(str(tmp_path / "a.zarr"), mode="w")
    group.create_array("scan/raw", data=GREY, chunks=(8, 16, 16))
    assert np.array_equal(whole(tmp_path / "a.zarr"), GREY)
    group.create_array("scan/other", data=GREY[:2], chunks=(2, 16, 16))
    with pytest.raises(
        VolumeError, match=r"2 arrays .*; name one of /scan/other \(2, 30, 40\), /scan/raw \(20, 30, 40\)"
    ):
        open_volume(tmp_path / "a.zarr")
    assert np.array_equal(whole(Path(f"{tmp_path}/a.zarr:/scan/other")), GREY[:2])
    with pytest.raises(VolumeError, match="holds no Zarr group or array; the root holds scan"):
        open_volume(Path(f"{tmp_path}/a.zarr:/nothing"))


@pytest.mark.parametrize("shards", [None, (16, 32, 32)])
def test_a_missing_or_damaged_chunk_is_named(tmp_path: Path, shards: tuple[int, int, int] | None) -> None:
    array = zarr.create_array(str(tmp_path / "a.zarr"), data=GREY, chunks=(8, 16, 16), shards=shards)
    assert array.read_only is False
    chunk = tmp_path / "a.zarr" / "c" / "0" / "0" / "1"
    content = chunk.read_bytes()
    chunk.unlink()
    volume = open_volume(tmp_path / "a.zarr")
    with pytest.raises(VolumeError, match=r"the chunk /?c/0/0/1 is missing.*--empty-chunks"):
        volume.read(Region.whole(volume.shape))
    assert np.array_equal(volume.read(Region(0, 8, 0, 16, 0, 16)), GREY[:8, :16, :16])
    chunk.write_bytes(content[: len(content) // 2])
    with pytest.raises(VolumeError, match=r"the chunk /?c/0/0/1 is damaged"):
        volume.read(Region.whole(volume.shape))


def test_what_is_no_zarr_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.zarr").mkdir()
    with pytest.raises(VolumeError, match="holds no Zarr group or array"):
        open_volume(tmp_path / "a.zarr")
    with pytest.raises(VolumeError, match="no such file or folder"):
        open_volume(tmp_path / "b.zarr")
    (tmp_path / "a.zarr" / "zarr.json").write_text("{")
    with pytest.raises(VolumeError, match=r"a\.zarr"):
        open_volume(tmp_path / "a.zarr")


def write(path: Path, values: np.ndarray, **given: Any) -> None:
    with SliceWriter(path, shape=values.shape, dtype=values.dtype, **given) as writer:
        for page in values:
            writer.write(page)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_is_written_slice_by_slice_is_read_back_and_valid(tmp_path: Path, dtype: type, version: str) -> None:
    values = np.random.default_rng(0).integers(0, 255, (21, 140, 260)).astype(dtype)
    write(tmp_path / "a.zarr", values, voxel_size_um=SIZE, ome_zarr=version, extra_json={"provenance": {}})
    assert zarr.open_group(str(tmp_path / "a.zarr"), mode="r").metadata.zarr_format == (2 if version == "0.4" else 3)
    volume = open_volume(tmp_path / "a.zarr")
    assert (volume.dtype, volume.voxel_size_um) == (dtype, pytest.approx(SIZE))
    assert np.array_equal(whole(tmp_path / "a.zarr"), values)
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))
    half = zarr.open_array(str(tmp_path / "a.zarr"), path="1", mode="r")
    assert np.array_equal(half[0, :2, 3], half_by_mean(values[:2, :4, 6:8])[0, :, 0])


def test_a_store_of_others_is_not_replaced(tmp_path: Path) -> None:
    foreign(tmp_path / "a.zarr", "0.5")
    with pytest.raises(OutputError, match="was not written by tomoseg"):
        write(tmp_path / "a.zarr", GREY, force=True)
    write(tmp_path / "b.zarr", GREY)
    write(tmp_path / "b.zarr", GREY[:3], force=True)
    assert open_volume(tmp_path / "b.zarr").shape == (3, 30, 40)
    (tmp_path / "b.zarr" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match="was not written by tomoseg"):
        write(tmp_path / "b.zarr", GREY, force=True)


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_label_images_are_valid_and_their_pyramids_hold_no_new_value(
    tmp_path: Path, version: Literal["0.4", "0.5"]
) -> None:
    labels = np.random.default_rng(1).choice(np.array([0, 128, 255], np.uint8), (40, 200, 300))
    spec = ImageSpec("labels", labels.shape, labels.dtype, (16, 128, 128), SIZE,
                     classes={0: "pore", 128: "YSZ", 255: "Ni"}, version=version)  # fmt: skip
    create_image(tmp_path / "a.zarr", spec)
    for region in reversed(list(shard_regions(spec.shape, spec.shard))):
        write_shards(tmp_path / "a.zarr", labels[region.slices], region)
    assert list(build_pyramid(tmp_path / "a.zarr"))[-1] == 1.0
    yaozarrs.validate_zarr_store(str(tmp_path / "a.zarr"))
    assert np.array_equal(whole(tmp_path / "a.zarr"), labels)
    coarse = np.asarray(zarr.open_array(str(tmp_path / "a.zarr"), path="2", mode="r")[...])
    assert coarse.shape == level_shapes(labels.shape)[2]
    assert set(np.unique(coarse)) <= {0, 128, 255}
    attributes = zarr.open_group(str(tmp_path / "a.zarr"), mode="r").attrs
    attributes = attributes.get("ome", attributes)
    assert attributes["image-label"]["properties"][1] == {"label-value": 128, "name": "YSZ"}
    assert attributes["multiscales"][0]["datasets"][1]["coordinateTransformations"] == [
        {"type": "scale", "scale": pytest.approx([0.04, 0.036, 0.038])},
        {"type": "translation", "translation": pytest.approx([0.01, 0.009, 0.0095])},
    ]


@given(st.data())
@settings(deadline=None, max_examples=40)
def test_the_mode_is_a_most_frequent_value_of_each_cell(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(*[st.integers(1, 5)] * 3))
    values = np.array(
        data.draw(st.lists(st.integers(0, 3), min_size=int(np.prod(shape)), max_size=int(np.prod(shape))))
    )
    values = values.reshape(shape).astype(np.uint8)
    found = half_by_mode(values)
    even = np.pad(values, [(0, size % 2) for size in shape], mode="edge")
    for z, y, x in np.ndindex(*found.shape):
        cell = even[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        counts = np.bincount(cell.ravel())
        assert found[z, y, x] == int(np.argmax(counts))


def check_is_volume(volume: Volume) -> None:
    assert isinstance(volume, Volume)


def test_a_store_is_a_volume(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", GREY)
    check_is_volume(open_volume(tmp_path / "a.zarr"))
