"""Zarr stores: what others wrote is read, what is written is valid, lost or damaged chunks are named."""

import json
import pickle
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any, Literal

import numcodecs
import numpy as np
import pytest
import yaozarrs
import zarr
from hypothesis import given, settings
from hypothesis import strategies as st
from zarr.codecs.numcodecs import LZ4

from tomoseg.errors import OutputError, VolumeError
from tomoseg.volume import Region, SliceWriter, open_volume
from tomoseg.volume.base import Volume
from tomoseg.volume.ome_zarr_writer import (
    ImageSpec,
    build_pyramid,
    create_image,
    shard_files,
    shard_regions,
    write_shards,
)
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


def edit(path: Path, change: Callable[[dict[str, Any]], object], file: str = "zarr.json") -> Path:
    """Change the metadata of a store."""
    found = json.loads((path / file).read_text())
    change(found)
    (path / file).write_text(json.dumps(found))
    return path


def dataset(found: dict[str, Any]) -> dict[str, Any]:
    level: dict[str, Any] = found["attributes"]["ome"]["multiscales"][0]["datasets"][0]
    return level


def test_what_lies_in_a_store_may_be_named_as_a_file_browser_does(tmp_path: Path) -> None:
    zarr.create_array(str(tmp_path / "a.zarr/inner"), data=GREY, chunks=(8, 16, 16))
    assert np.array_equal(whole(tmp_path / "a.zarr/inner"), GREY)
    write(tmp_path / "b.tif", GREY)
    assert open_volume(tmp_path / "a.zarr/../b.tif").shape == GREY.shape


@pytest.mark.parametrize("inside", ["../other.zarr", "s0/../../other.zarr", "{}/other.zarr", "..\\other.zarr"])
def test_a_path_that_leaves_the_store_is_refused(tmp_path: Path, inside: str) -> None:
    zarr.create_array(str(tmp_path / "other.zarr"), data=GREY, chunks=(8, 16, 16))
    path = foreign(tmp_path / "a.zarr", "0.5")
    edit(path, lambda found: dataset(found).update(path=inside.format(tmp_path)))
    with pytest.raises(VolumeError, match=r"a\.zarr: the path .*other\.zarr leads out of the store"):
        open_volume(path)


@pytest.mark.parametrize(
    ("transformations", "known"),
    [
        ([{"type": "scale", "path": "scale"}], False),
        ([{"type": "identity"}, {"type": "scale", "scale": [20, 18, 19]}], True),
        ([{"type": "scale", "scale": [20, 0, 19]}], False),
        ([{"type": "scale", "scale": [20, -18, 19]}], False),
    ],
)
def test_a_scale_that_is_legal_and_odd_is_read_or_unknown(
    tmp_path: Path, transformations: list[dict[str, Any]], known: bool
) -> None:
    path = foreign(tmp_path / "a.zarr", "0.5")
    edit(path, lambda found: dataset(found).update(coordinateTransformations=transformations))
    assert open_volume(path).voxel_size_um == (pytest.approx(SIZE) if known else None)
    assert np.array_equal(whole(path), GREY)


def test_without_transformations_the_voxel_size_is_one_of_the_unit(tmp_path: Path) -> None:
    path = edit(
        foreign(tmp_path / "a.zarr", "0.5"), lambda found: dataset(found).update(coordinateTransformations=None)
    )
    assert open_volume(path).voxel_size_um == pytest.approx((1e-3, 1e-3, 1e-3))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"coordinateTransformations": [{"type": "scale", "scale": [18, 19]}]}, r"scale \[18, 19\] is not one number"),
        ({"coordinateTransformations": [{"type": "scale", "scale": [[1], 18, 19]}]}, "damaged"),
        ({"coordinateTransformations": [{"type": "scale", "scale": ["a", 18, 19]}]}, "damaged"),
        ({"coordinateTransformations": ["scale"]}, "damaged"),
        ({"coordinateTransformations": 3}, "damaged"),
        ({"path": 7}, "damaged"),
        ({"path": None}, "damaged"),
        ({"path": ""}, "is no array of the 3 axes"),
    ],
)
def test_damaged_metadata_is_one_line(tmp_path: Path, change: dict[str, Any], message: str) -> None:
    path = edit(foreign(tmp_path / "a.zarr", "0.5"), lambda found: dataset(found).update(change))
    with pytest.raises(VolumeError, match=message):
        open_volume(path)


@pytest.mark.parametrize("ome", [[], "x", {"multiscales": {}}, {"multiscales": 3}, {"multiscales": [{"axes": "zyx"}]}])
def test_an_ome_of_another_kind_is_one_line(tmp_path: Path, ome: object) -> None:
    path = edit(foreign(tmp_path / "a.zarr", "0.5"), lambda found: found["attributes"].update(ome=ome))
    if ome in ([], "x"):
        assert np.array_equal(whole(path), GREY)
        return
    with pytest.raises(VolumeError, match=r"a\.zarr"):
        open_volume(path)


@pytest.mark.parametrize("ndim", [0, 1, 6])
def test_an_array_of_too_few_or_many_axes_is_refused(tmp_path: Path, ndim: int) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=np.ones((1,) * ndim, np.uint8))
    with pytest.raises(VolumeError, match=r"a\.zarr"):
        open_volume(tmp_path / "a.zarr")


class Trap:
    """Leaves a trace where it is unpickled."""

    def __init__(self, trace: Path) -> None:
        self.trace = trace

    def __reduce__(self) -> tuple[Any, tuple[Path]]:
        return Path.touch, (self.trace,)


@pytest.mark.parametrize("place", ["filters", "compressor"])
def test_a_store_that_would_run_code_is_refused_before_anything_is_decoded(
    tmp_path: Path, place: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("numcodecs.pickles.ALLOW_UNSAFE_PICKLE_DECODE", True, raising=False)
    path, trace = tmp_path / "a.zarr", tmp_path / "trace"
    zarr.create_array(str(path), data=GREY, chunks=GREY.shape, zarr_format=2)
    codec = {"id": "pickle", "protocol": 5}
    edit(
        path,
        lambda found: found.update({"compressor": None, place: [codec] if place == "filters" else codec}),
        ".zarray",
    )
    (path / "0.0.0").write_bytes(pickle.dumps(Trap(trace)))
    with pytest.raises(VolumeError, match="pickle"):
        whole(path)
    assert not trace.exists()


@pytest.mark.filterwarnings("ignore:Numcodecs codecs are not in the Zarr version 3 specification")
def test_an_unknown_codec_is_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.zarr"
    zarr.create_array(str(path), data=GREY, chunks=(4, 16, 16), shards=(8, 32, 32), compressors=[LZ4()])
    assert np.array_equal(whole(path), GREY)
    monkeypatch.setattr("tomoseg.volume.ome_zarr._CODECS", {"sharding_indexed", "bytes", "crc32c"})
    with pytest.raises(VolumeError, match=r"is encoded by numcodecs\.lz4, which is not read"):
        open_volume(path)


@pytest.mark.parametrize("compressor", [numcodecs.Blosc(), numcodecs.Zlib(), numcodecs.LZMA(), numcodecs.BZ2(), None])
def test_what_zarr_2_is_usually_encoded_by_is_read(tmp_path: Path, compressor: Any) -> None:
    zarr.create_array(str(tmp_path / "a.zarr"), data=GREY, chunks=(8, 16, 16), zarr_format=2, compressors=compressor,
                      filters=[numcodecs.Delta("<u2"), numcodecs.Shuffle(2)])  # fmt: skip
    assert np.array_equal(whole(tmp_path / "a.zarr"), GREY)


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


@pytest.mark.parametrize("version", ["0.4", "0.5"])
def test_what_holds_nothing_but_zeros_is_written_too(tmp_path: Path, version: Literal["0.4", "0.5"]) -> None:
    values = np.zeros((40, 64, 300), np.uint16)
    values[33:] = 7
    with SliceWriter(tmp_path / "a.zarr", shape=values.shape, dtype=values.dtype, ome_zarr=version) as writer:
        for page in values:
            writer.write(page)
    assert np.array_equal(whole(tmp_path / "a.zarr"), values)
    for level, shape in enumerate(level_shapes(values.shape)):
        assert all(file.is_file() for file in shard_files(tmp_path / "a.zarr", Region.whole(shape), level=level))


def test_a_channel_of_zeros_is_written_too(tmp_path: Path) -> None:
    spec = ImageSpec("p", (16, 128, 256), np.dtype(np.uint8), (16, 128, 128), channels=("a", "b"))
    create_image(tmp_path / "p.zarr", spec)
    for region in shard_regions(spec.shape, spec.shard):
        files = write_shards(tmp_path / "p.zarr", np.zeros((2, *region.shape), np.uint8), region)
        assert [file.is_file() for file in files] == [True, True]
    for _ in build_pyramid(tmp_path / "p.zarr"):
        pass
    for level, shape in enumerate(spec.levels):
        assert all(file.is_file() for file in shard_files(tmp_path / "p.zarr", Region.whole(shape), level=level))


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
    found = half_by_mode(np.asarray(values, order=data.draw(st.sampled_from("CF"))))
    even = np.pad(values, [(0, size % 2) for size in shape], mode="edge")
    for z, y, x in np.ndindex(*found.shape):
        cell = even[2 * z : 2 * z + 2, 2 * y : 2 * y + 2, 2 * x : 2 * x + 2]
        counts = np.bincount(cell.ravel())
        assert found[z, y, x] == int(np.argmax(counts))


@pytest.mark.parametrize(
    ("dtype", "values"),
    [
        ("u1", [255] * 8), ("u2", [65_535] * 7 + [65_533]), ("i2", [-32_768] * 8), ("u4", [2**32 - 1] * 8),
        ("u4", [2**32 - 1, 2**32 - 3] * 4), ("i4", [-(2**31)] * 8), ("i4", [2**31 - 1] * 8), ("i4", [16_777_217] * 8),
        ("f2", [65_504] * 8), ("f4", [2.0**127] * 8), ("f8", [1e308] * 8), ("f8", [1 + 2**-40] * 8),
    ],
)  # fmt: skip
def test_the_mean_of_large_values_is_exact(dtype: str, values: list[float]) -> None:
    cell = np.array(values, dtype).reshape(2, 2, 2)
    mean = sum(Fraction(value.item()) for value in cell.ravel()) / 8
    found = half_by_mean(cell)
    assert (found.dtype, found.shape) == (cell.dtype, (1, 1, 1))
    assert found.item() == np.array(round(mean) if cell.dtype.kind in "iu" else float(mean), dtype)


def check_is_volume(volume: Volume) -> None:
    assert isinstance(volume, Volume)


def test_a_store_is_a_volume(tmp_path: Path) -> None:
    write(tmp_path / "a.zarr", GREY)
    check_is_volume(open_volume(tmp_path / "a.zarr"))
