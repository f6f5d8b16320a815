"""Writing label stacks: what is read back, and that nothing half-written or lost is left behind."""

import json
import os
import sys
from pathlib import Path

import numpy as np
import pytest
import tifffile

from limits import files_of_at_most
from tomoseg.errors import OutputError, SettingError
from tomoseg.volume import Content, Region, SliceWriter, check_content, check_target, open_volume, read_slice
from tomoseg.volume.tiff_sink import file_names

LABELS = np.random.default_rng(1).integers(0, 3, (3, 40, 50), dtype=np.uint8)
NAMES = ("SOCprist0001.tiff", "SOCprist0002.tiff", "SOCprist0010.tiff")
SIZE = (0.02, 0.018, 0.019)


def write(path: Path, values: np.ndarray = LABELS, **settings: object) -> None:
    names = () if path.suffix else NAMES
    with SliceWriter(path, shape=values.shape, dtype=values.dtype, names=names, **settings) as writer:
        for page in values:
            writer.write(page)


def left_in(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


@pytest.mark.parametrize("name", ["seg", "seg.tif", "deep/er/seg.tiff"])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16, np.float32])
def test_what_is_written_is_read_back_with_its_voxel_size(tmp_path: Path, name: str, dtype: type) -> None:
    write(tmp_path / name, LABELS.astype(dtype), voxel_size_um=SIZE)
    volume = open_volume(tmp_path / name)
    assert volume.dtype == dtype
    assert volume.voxel_size_um == pytest.approx(SIZE, rel=1e-6)
    assert np.array_equal(volume.read(Region.whole(volume.shape)), LABELS)
    assert left_in((tmp_path / name).parent) == [Path(name).name]


def test_a_stack_is_imagejs_to_other_readers_too(tmp_path: Path) -> None:
    write(tmp_path / "seg.tif", voxel_size_um=SIZE)
    with tifffile.TiffFile(tmp_path / "seg.tif") as tif:
        assert tif.imagej_metadata is not None
        assert (tif.imagej_metadata["slices"], tif.imagej_metadata["spacing"]) == (3, 0.02)
        assert np.array_equal(tif.asarray(), LABELS)


def test_a_folder_holds_the_given_names_and_the_record(tmp_path: Path) -> None:
    write(tmp_path / "seg", extra_json={"verb": "predict"})
    assert left_in(tmp_path / "seg") == sorted([*NAMES, "provenance.json"])
    assert json.loads((tmp_path / "seg" / "provenance.json").read_text()) == {"verb": "predict"}
    assert open_volume(tmp_path / "seg").names == NAMES


def test_a_stacks_record_lies_beside_it_and_goes_with_it(tmp_path: Path) -> None:
    write(tmp_path / "seg.tif", extra_json={"verb": "predict"})
    assert left_in(tmp_path) == ["seg.tif", "seg.tif.provenance.json"]
    write(tmp_path / "seg.tif", force=True)
    assert left_in(tmp_path) == ["seg.tif"]


def test_without_a_voxel_size_none_is_read(tmp_path: Path) -> None:
    write(tmp_path / "seg.tif")
    assert open_volume(tmp_path / "seg.tif").voxel_size_um is None


@pytest.mark.parametrize("name", ["seg", "seg.tif"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_after_an_exception_nothing_is_left(tmp_path: Path, name: str, error: type[BaseException]) -> None:
    with (
        pytest.raises(error),
        SliceWriter(tmp_path / name, shape=LABELS.shape, dtype=np.uint8, names=NAMES) as writer,
    ):
        writer.write(LABELS[0])
        assert left_in(tmp_path) == [f"{name}.partial"]
        raise error
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", ["seg", "seg.tif"])
def test_too_few_slices_are_no_output(tmp_path: Path, name: str) -> None:
    with (
        pytest.raises(ValueError, match="1 of 3 slices were written"),
        SliceWriter(tmp_path / name, shape=LABELS.shape, dtype=np.uint8, names=NAMES) as writer,
    ):
        writer.write(LABELS[0])
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", ["seg", "seg.tif"])
def test_what_a_killed_run_left_is_replaced(tmp_path: Path, name: str) -> None:
    (tmp_path / f"{name}.partial").mkdir()
    (tmp_path / f"{name}.partial" / "old.tif").write_bytes(b"half")
    write(tmp_path / name)
    assert left_in(tmp_path) == [name]
    assert open_volume(tmp_path / name).shape == LABELS.shape


@pytest.mark.parametrize("name", ["seg", "seg.tif"])
def test_an_existing_target_is_refused_and_with_force_replaced_at_the_end(tmp_path: Path, name: str) -> None:
    write(tmp_path / name)
    with pytest.raises(OutputError, match=r"exists; choose another place, or replace it with --force"):
        write(tmp_path / name)
    new = LABELS[::-1].copy()
    with SliceWriter(tmp_path / name, shape=new.shape, dtype=np.uint8, names=NAMES, force=True) as writer:
        for page in new:
            writer.write(page)
        assert np.array_equal(read_slice(open_volume(tmp_path / name), 0), LABELS[0])
    assert np.array_equal(read_slice(open_volume(tmp_path / name), 0), new[0])
    assert left_in(tmp_path) == [name]


def test_a_failed_replacement_keeps_the_old_output(tmp_path: Path) -> None:
    write(tmp_path / "seg")
    with (
        pytest.raises(KeyboardInterrupt),
        SliceWriter(tmp_path / "seg", shape=LABELS.shape, dtype=np.uint8, names=NAMES, force=True),
    ):
        raise KeyboardInterrupt
    assert np.array_equal(read_slice(open_volume(tmp_path / "seg"), 0), LABELS[0])
    assert left_in(tmp_path) == ["seg"]


@pytest.mark.parametrize(("name", "beside"), [("scan.vol", "scan.vgi"), ("scan.raw", "scan.raw.json")])
def test_force_replaces_nothing_beside_it_that_a_user_made(tmp_path: Path, name: str, beside: str) -> None:
    (tmp_path / beside).write_text("the scanner's")
    with pytest.raises(OutputError, match=f"{beside}: lies there without {name}"):
        check_target(tmp_path / name, force=True)


def test_force_replaces_nothing_that_a_user_made(tmp_path: Path) -> None:
    write(tmp_path / "seg")
    (tmp_path / "seg" / "notes.txt").write_text("mine")
    with pytest.raises(OutputError, match=r"notes\.txt: was not written by tomoseg and is not replaced"):
        write(tmp_path / "seg", force=True)
    tifffile.imwrite(tmp_path / "scan.tif", LABELS, photometric="minisblack")
    with pytest.raises(OutputError, match=r"scan\.tif: was not written by tomoseg"):
        write(tmp_path / "scan.tif", force=True)
    (tmp_path / "scans").mkdir()
    tifffile.imwrite(tmp_path / "scans" / "scan.tif", LABELS[0])
    with pytest.raises(OutputError, match=r"scan\.tif: was not written by tomoseg"):
        check_target(tmp_path / "scans", force=True)


@pytest.mark.parametrize("name", ["file/seg", "file/seg.tif"])
def test_a_file_in_the_way_is_named_before_any_work(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(OutputError, match="file is a file, not a folder"):
        check_target(tmp_path / name)
    with pytest.raises(OutputError, match="file is a file, not a folder"):
        write(tmp_path / name)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_no_permission_is_said_before_any_work(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(OutputError, match="no permission to write"):
        check_target(tmp_path / "seg")


@pytest.mark.parametrize("name", ["seg", "seg.tif"])
def test_when_the_system_refuses_more_bytes_it_is_said_and_nothing_is_left(tmp_path: Path, name: str) -> None:
    noise = np.random.default_rng(0).integers(0, 255, (3, 300, 300), dtype=np.uint8)
    with (
        files_of_at_most(20_000),
        pytest.raises(OutputError, match=r"seg.*: cannot be written: File too large"),
    ):
        write(tmp_path / name, noise)
    assert left_in(tmp_path) == []


def test_a_slice_of_another_shape_or_type_is_a_programming_error(tmp_path: Path) -> None:
    with (
        pytest.raises(ValueError, match=r"slice 0, \(40, 50\) uint16"),
        SliceWriter(tmp_path / "seg.tif", shape=LABELS.shape, dtype=np.uint8) as writer,
    ):
        writer.write(LABELS[0].astype(np.uint16))


@pytest.mark.parametrize("names", [["a.tif", "a.png"], ["../a.tif"], ["a/b.tif"]])
def test_names_that_collide_or_lead_elsewhere_are_refused(names: list[str]) -> None:
    with pytest.raises(OutputError, match="the name is taken or leads elsewhere"):
        file_names(names)


@pytest.mark.parametrize("place", [".", "/", "..", "deep/.."])
def test_a_place_without_a_name_is_refused(place: str) -> None:
    with pytest.raises(OutputError, match=r"is no name for an output; give that of a new folder or of a \.tif file"):
        write(Path(place))


def content(dtype: type = np.uint8, shape: tuple[int, int, int] = (2, 3, 4), names: tuple[str, ...] = ()) -> Content:
    return Content(shape, np.dtype(dtype), names)


TOO_MUCH = [
    ("a.nii", content(shape=(2, 3, 32_768)), "room for 32767 voxels along an axis, not 32768; choose another format"),
    ("a.nii.gz", content(np.float16), "NIfTI can't hold float16; choose another format"),
    ("a.mha", content(np.float16), "MHA can't hold float16; it holds uint8, int8"),
    ("a.nrrd", content(np.float16), "NRRD can't hold float16; it holds uint8, int8"),
    *((name, content(kind), f"{name}: values of type .* are not written; integers of 8, 16 or 32 bits and floats are")
      for name in ("a", "a.tif", "a.zarr", "a.h5", "a.raw", "a.vol", "a.nrrd", "a.nii", "a.mha")
      for kind in (np.int64, np.complex64, np.bool_)),
    ("a", content(names=("a.png", "a.tif")), r"slice 'a\.png' cannot be written as 'a\.tif': .*; rename it"),
    ("a", content(names=("scan.h5[1]", "scan_0001.tif")), r"cannot be written as 'scan_0001\.tif'"),
]  # fmt: skip


@pytest.mark.parametrize(("name", "too_much", "message"), TOO_MUCH)
def test_what_a_target_cant_hold_is_said_before_anything_is_made(
    tmp_path: Path, name: str, too_much: Content, message: str
) -> None:
    with pytest.raises(OutputError, match=message):
        check_content(tmp_path / "deep" / name, too_much)
    writer = SliceWriter(
        tmp_path / "deep" / name,
        shape=too_much.shape,
        dtype=too_much.dtype,
        names=too_much.names or [f"s{z}" for z in range(too_much.shape[0])],
    )
    with pytest.raises(OutputError, match=message), writer:
        pass
    assert left_in(tmp_path) == []


@pytest.mark.parametrize("name", ["a", "a.tif", "a.zarr", "a.h5", "a.raw", "a.vol", "a.nrrd", "a.nii", "a.mha"])
@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint32, np.float32])
def test_what_a_target_can_hold_passes(tmp_path: Path, name: str, dtype: type) -> None:
    check_content(tmp_path / name, content(dtype, shape=(2, 3, 32_767), names=("a.tif", "b.tif")))
    assert left_in(tmp_path) == []


def test_a_format_whose_package_is_missing_is_said_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    with pytest.raises(SettingError, match=r"writing NIfTI needs nibabel: pip install \"tomoseg\[formats\]\""):
        check_content(tmp_path / "a.nii", content())
    with pytest.raises(SettingError, match="needs nibabel"):
        write(tmp_path / "deep" / "a.nii.gz")
    assert left_in(tmp_path) == []
