"""Volumes in one file: what is written is read back, what others write is read, and what is damaged is refused."""

import gzip
import hashlib
import json
import struct
import tracemalloc
import zlib
from pathlib import Path

import h5py
import nibabel
import nrrd
import numpy as np
import pytest

from cfb import compound_file
from test_field_of_view import SANDSTONE
from tomoseg.cli import run
from tomoseg.errors import VolumeError
from tomoseg.volume import Opening, RawLayout, Region, SliceWriter, flat, open_volume
from tomoseg.volume.base import Volume

GREY = np.random.default_rng(3).integers(0, 250, (20, 30, 41)).astype(np.uint16)
SIZE = (0.02, 0.018, 0.019)
PART = Region(3, 17, 5, 30, 11, 32)
WRITTEN = ("a.tif", "a", "a.zarr", "a.h5", "a.nxs", "a.raw", "a.vol", "a.nrrd", "a.nii", "a.nii.gz", "a.mha")
VOLUMES = SANDSTONE.parent / "volumes"


def write(path: Path, values: np.ndarray = GREY, size: tuple[float, float, float] | None = SIZE) -> Path:
    names = tuple(f"s{z:04d}" for z in range(len(values)))
    with SliceWriter(path, shape=values.shape, dtype=values.dtype, names=names, voxel_size_um=size) as writer:
        for page in values:
            writer.write(page)
    return path


def whole(volume: Volume) -> np.ndarray:
    return volume.read(Region.whole(volume.shape))


@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("dtype", ["u1", "u2", "i2", "f4"])
def test_what_is_written_is_read_back_with_its_voxel_size(tmp_path: Path, name: str, dtype: str) -> None:
    volume = open_volume(write(tmp_path / name, GREY.astype(dtype)))
    assert (volume.shape, volume.dtype) == (GREY.shape, np.dtype(dtype))
    assert volume.voxel_size_um == pytest.approx(SIZE, rel=1e-6)
    assert np.array_equal(volume.read(PART), GREY[PART.slices])
    assert np.array_equal(whole(volume), GREY)


@pytest.mark.parametrize("name", WRITTEN)
def test_where_no_voxel_size_is_known_none_is_read(tmp_path: Path, name: str) -> None:
    assert open_volume(write(tmp_path / name, size=None)).voxel_size_um is None


@pytest.mark.parametrize("name", WRITTEN)
def test_the_same_voxels_make_the_same_bytes(tmp_path: Path, name: str) -> None:
    (tmp_path / "1").mkdir()
    (tmp_path / "2").mkdir()
    first, second = write(tmp_path / "1" / name), write(tmp_path / "2" / name)
    files = [sorted(p for p in place.rglob("*") if p.is_file()) or [place] for place in (first, second)]
    for one, two in zip(*files, strict=True):
        assert one.read_bytes() == two.read_bytes()


@pytest.mark.data
@pytest.mark.skipif(not VOLUMES.exists(), reason="the real volumes are not there")
@pytest.mark.parametrize("name", WRITTEN)
@pytest.mark.parametrize("source", ["cement_128x128x128", "fibers_150x150x150", "NT_128x128x128"])
def test_real_volumes_come_back_from_every_format(tmp_path: Path, source: str, name: str) -> None:
    there, back = tmp_path / name, tmp_path / "back.tif"
    assert run(["convert", str(VOLUMES / f"{source}.tif"), str(there), "--voxel-size", "1.5", "--quiet"]) == 0
    assert run(["convert", str(there), str(back), "--quiet"]) == 0
    before, after = open_volume(VOLUMES / f"{source}.tif"), open_volume(back)
    assert (after.dtype, after.voxel_size_um) == (before.dtype, (1.5, 1.5, 1.5))
    assert np.array_equal(whole(after), whole(before))


@pytest.mark.parametrize(("name", "kept"), [("a.nii.gz", GREY.nbytes), ("a.nii", 0)])
def test_a_volume_says_what_memory_it_keeps(tmp_path: Path, name: str, kept: int) -> None:
    volume = open_volume(write(tmp_path / name))
    assert getattr(volume, "kept_bytes", None) == kept


def test_an_ome_zarr_of_the_older_version_is_written_for_older_programs(tmp_path: Path) -> None:
    write(tmp_path / "a.tif")
    words = ["convert", str(tmp_path / "a.tif"), str(tmp_path / "a.zarr"), "--ome-zarr", "0.4", "--quiet"]
    assert run(words) == 0
    assert json.loads((tmp_path / "a.zarr/.zattrs").read_text())["multiscales"][0]["version"] == "0.4"
    assert np.array_equal(whole(open_volume(tmp_path / "a.zarr")), GREY)
    (tmp_path / "a.zarr/.zmetadata").write_text("{}")  # as programs that consolidate it leave it
    assert run([*words, "--roi", "3:17,5:30,11:32"]) == 2
    assert run([*words, "--roi", "3:17,5:30,11:32", "--force"]) == 0
    assert np.array_equal(whole(open_volume(tmp_path / "a.zarr")), GREY[PART.slices])


def test_convert_keeps_the_part_that_is_asked_for_and_replaces_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, target = write(tmp_path / "a.tif"), tmp_path / "b.mha"
    assert run(["convert", str(source), str(target), "--roi", "3:17,5:30,11:32", "--quiet"]) == 0
    assert np.array_equal(whole(open_volume(target)), GREY[PART.slices])
    assert run(["convert", str(source), str(target), "--quiet"]) == 2
    assert run(["convert", str(source), str(tmp_path / "b.txm"), "--quiet"]) == 2
    assert ".txm is not written" in capsys.readouterr().err
    assert run(["convert", str(source), str(tmp_path / "b.zar"), "--quiet"]) == 2
    assert "no format is called .zar" in capsys.readouterr().err
    assert run(["convert", str(source), str(target), "--force", "--quiet"]) == 0
    assert open_volume(target).shape == GREY.shape


# HDF5


def test_the_only_data_set_is_found_and_several_are_listed(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["scan/volume"] = GREY[None]
        file["scan/angles"] = np.arange(20.0)
    assert np.array_equal(whole(open_volume(tmp_path / "a.h5")), GREY)
    with h5py.File(tmp_path / "a.h5", "a") as file:
        file["dark"] = GREY[:2]
    with pytest.raises(
        VolumeError, match=r"2 data sets may be the volume; it holds /dark \(2 x 30 x 41 uint16\), /scan"
    ):
        open_volume(tmp_path / "a.h5")
    assert open_volume(Path(f"{tmp_path}/a.h5:/dark")).shape == (2, 30, 41)
    with pytest.raises(VolumeError, match=r"holds no data set /entry/data; it holds /dark"):
        open_volume(Path(f"{tmp_path}/a.h5:/entry/data"))


def test_nexus_names_its_signal_and_its_steps(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.nxs", "w") as file:
        file.attrs["default"] = "entry"
        entry = file.create_group("entry")
        entry.attrs["default"] = "recon"
        recon = entry.create_group("recon")
        recon.attrs["signal"], recon.attrs["axes"] = "grey", ["z", "y", "x"]
        recon["grey"] = GREY
        recon["other"] = GREY
        for axis, step, n in zip("zyx", (20, 18, 19), GREY.shape, strict=True):
            recon[axis] = np.arange(n) * step
            recon[axis].attrs["units"] = "nm"
    volume = open_volume(tmp_path / "a.nxs")
    assert volume.voxel_size_um == pytest.approx(SIZE)
    assert np.array_equal(whole(volume), GREY)


def test_damaged_hdf5_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.h5")
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(VolumeError, match=r"a\.h5"):
        whole(open_volume(path))
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(VolumeError, match=r"a\.h5: (cannot be read|damaged)"):
        open_volume(path)


# raw


def test_a_raw_file_is_described_beside_it_or_by_the_user(tmp_path: Path) -> None:
    GREY.astype(">u2").tofile(tmp_path / "a.raw")
    with pytest.raises(VolumeError, match=r"neither a\.raw\.json nor a\.vgi lies beside it; .*--raw-shape Z Y X"):
        open_volume(tmp_path / "a.raw")
    told = Opening(RawLayout(GREY.shape, np.dtype(">u2")))
    assert np.array_equal(open_volume(tmp_path / "a.raw", opening=told).read(PART), GREY[PART.slices])
    short = Opening(RawLayout((21, 30, 41), np.dtype("u2")))
    with pytest.raises(VolumeError, match=r"too short: 49,200 bytes, but 21 x 30 x 41 values of uint16 take 51,660"):
        open_volume(tmp_path / "a.raw", opening=short)
    with pytest.raises(VolumeError, match="are for raw files"):
        open_volume(write(tmp_path / "b.mha"), opening=told)


def test_a_vgi_as_scanners_write_it(tmp_path: Path) -> None:
    GREY.tofile(tmp_path / "a.vol")
    (tmp_path / "a.vgi").write_text(
        "{volume1}\n[representation]\nsize = 41 30 20\ndatatype = unsigned integer\ndatarange = 0 -1\n"
        "bitsperelement = 16\n[file1]\nSkipHeader = 0\nSize = 41 30 20\n{volumeprimitive1}\n[geometry]\n"
        "resolution = 1.9e-05 1.8e-05 2e-05\nunit = mm\n"
    )
    for name in ("a.vol", "a.vgi"):
        volume = open_volume(tmp_path / name)
        assert volume.voxel_size_um == pytest.approx(SIZE)
        assert np.array_equal(whole(volume), GREY)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--raw-shape", "1", "2", "3"], "--raw-shape and --raw-dtype go together"),
        (["--raw-shape", "1", "2", "3", "--raw-dtype", "grey"], "is no type; write it like uint16"),
        (["--raw-shape", "0", "2", "3", "--raw-dtype", "u2"], "three numbers above 0"),
    ],
)
def test_wrong_words_about_a_raw_file_are_one_line(
    words: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["inspect", "a.raw", *words]) == 2
    said = capsys.readouterr().err
    assert message.lower() in said.lower()
    assert said.count("\n") == 1


def test_a_huge_file_opens_at_once_and_only_what_is_asked_for_is_read(tmp_path: Path) -> None:
    path = tmp_path / "a.raw"
    with path.open("wb") as file:
        file.truncate(5000 * 4000 * 3000 * 2)
    volume = open_volume(path, opening=Opening(RawLayout((5000, 4000, 3000), np.dtype("u2"))))
    tracemalloc.start()
    assert volume.read(Region(4000, 4004, 100, 200, 100, 200)).shape == (4, 100, 100)
    assert tracemalloc.get_traced_memory()[1] < 5_000_000
    tracemalloc.stop()


# MetaImage


def mha(path: Path, values: np.ndarray, *lines: str, data: bytes | None = None) -> Path:
    header = ["ObjectType = Image", "NDims = 3", f"DimSize = {values.shape[2]} {values.shape[1]} {values.shape[0]}",
              "ElementSpacing = 1.9e-05 1.8e-05 2e-05", *lines]  # fmt: skip
    text = "\n".join([*header, "ElementType = MET_USHORT", "ElementDataFile = LOCAL", ""])
    path.write_bytes(text.encode() + (values.tobytes() if data is None else data))
    return path


def test_metaimages_of_others(tmp_path: Path) -> None:
    big = mha(tmp_path / "big.mha", GREY.astype(">u2"), "BinaryDataByteOrderMSB = True")
    packed = mha(tmp_path / "z.mha", GREY, "CompressedData = True", data=zlib.compress(GREY.tobytes()))
    (tmp_path / "a.zraw").write_bytes(zlib.compress(GREY.tobytes()))
    (tmp_path / "a.mhd").write_text(
        "NDims = 3\nDimSize = 41 30 20\nCompressedData = True\nElementType = MET_USHORT\nElementDataFile = a.zraw\n"
    )
    for path in (big, packed, tmp_path / "a.mhd"):
        volume = open_volume(path)
        assert np.array_equal(volume.read(PART), GREY[PART.slices])
        assert np.array_equal(whole(volume), GREY)
    assert open_volume(packed).voxel_size_um == pytest.approx(SIZE)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nothing", "is no MetaImage"),
        (
            "DimSize = 2 2 2\nElementNumberOfChannels = 3\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n",
            "3 channels",
        ),
        ("DimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = ../secret.raw\n", "in the same folder"),
        ("DimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = LIST\n", "several files"),
        ("DimSize = 2 2 2\nElementType = MET_UCHAR\nElementDataFile = LOCAL\n1234567", "too short: .* bytes"),
        ("DimSize = 2 2\nElementType = MET_LONG_ARRAY\nElementDataFile = LOCAL\n", "values of type MET_LONG_ARRAY"),
    ],
)
def test_metaimages_that_cant_be_read(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "a.mha").write_text(text)
    with pytest.raises(VolumeError, match=message):
        open_volume(tmp_path / "a.mha")


# NRRD and NIfTI, as their own libraries write them


@pytest.mark.parametrize("encoding", ["raw", "gzip", "bzip2"])
@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr"])
def test_nrrd_of_its_own_library(tmp_path: Path, encoding: str, name: str) -> None:
    header = {
        "encoding": encoding, "space dimension": 3, "space units": ["mm"] * 3,
        "space directions": np.diag([1.9e-5, 1.8e-5, 2e-5]), "space origin": np.zeros(3),
    }  # fmt: skip
    nrrd.write(str(tmp_path / name), GREY.T, header)
    volume = open_volume(tmp_path / name)
    assert volume.voxel_size_um == pytest.approx(SIZE)
    assert np.array_equal(volume.read(PART), GREY[PART.slices])


def test_our_nrrd_is_read_by_its_own_library(tmp_path: Path) -> None:
    values, header = nrrd.read(str(write(tmp_path / "a.nrrd")))
    assert np.array_equal(values.T, GREY)
    assert header["spacings"] == pytest.approx([edge / 1000 for edge in SIZE[::-1]])
    assert header["units"] == ["mm"] * 3


def test_nrrd_with_colours_or_values_elsewhere_is_refused(tmp_path: Path) -> None:
    nrrd.write(str(tmp_path / "c.nrrd"), np.zeros((3, 4, 5, 6), np.uint8), {"kinds": ["vector", *["domain"] * 3]})
    with pytest.raises(VolumeError, match="x y z are read"):
        open_volume(tmp_path / "c.nrrd")
    (tmp_path / "a.nhdr").write_text(
        "NRRD0004\ntype: uint8\ndimension: 3\nsizes: 2 2 2\nencoding: raw\ndata file: ../b.raw\n\n"
    )
    with pytest.raises(VolumeError, match="in the same folder"):
        open_volume(tmp_path / "a.nhdr")


@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
@pytest.mark.parametrize("order", ["<", ">"])
def test_nifti_of_its_own_library(tmp_path: Path, name: str, order: str) -> None:
    header = nibabel.Nifti1Header(endianness=order)
    header.set_data_dtype(np.uint16)
    image = nibabel.Nifti1Image(GREY.T, np.diag([0.019, 0.018, 0.02, 1]), header)
    image.header.set_xyzt_units("micron")
    image.to_filename(tmp_path / name)
    volume = open_volume(tmp_path / name)
    assert volume.voxel_size_um == pytest.approx(SIZE)
    assert np.array_equal(volume.read(PART), GREY[PART.slices])


def test_our_nifti_is_read_by_its_own_library(tmp_path: Path) -> None:
    image = nibabel.load(write(tmp_path / "a.nii.gz"))
    assert np.array_equal(np.asarray(image.dataobj).T, GREY)
    assert image.header.get_zooms() == pytest.approx(SIZE[::-1])


def test_nifti_with_scaled_values_or_several_volumes_is_refused(tmp_path: Path) -> None:
    image = nibabel.Nifti1Image(GREY.T, np.eye(4))
    image.header.set_slope_inter(2.0, 1.0)
    image.to_filename(tmp_path / "a.nii")
    with pytest.raises(VolumeError, match="scaled by 2 and shifted by 1"):
        open_volume(tmp_path / "a.nii")
    nibabel.Nifti1Image(np.zeros((3, 4, 5, 6), np.uint8), np.eye(4)).to_filename(tmp_path / "b.nii")
    with pytest.raises(VolumeError, match="3 x 4 x 5 x 6"):
        open_volume(tmp_path / "b.nii")


# one compressed stream


@pytest.fixture
def large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flat, "MOST_DECODED", 1000)


@pytest.mark.usefixtures("large")
@pytest.mark.parametrize("name", ["a.nii.gz", "a.mha"])
def test_a_large_compressed_stream_is_read_in_order_only(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    if name == "a.mha":
        mha(path, GREY, "CompressedData = True", data=zlib.compress(GREY.tobytes()))
    else:
        write(path)
    volume = open_volume(path)
    assert np.array_equal(volume.read(Region(2, 5, 0, 30, 3, 9)), GREY[2:5, :, 3:9])
    assert np.array_equal(volume.read(Region(9, 10, 1, 30, 0, 41)), GREY[9:10, 1:])
    with pytest.raises(VolumeError, match=r"one compressed stream, .*tomoseg convert .* a\.zarr"):
        volume.read(Region(8, 9, 0, 30, 0, 41))
    assert run(["convert", str(path), str(tmp_path / "b.zarr"), "--quiet"]) == 0
    assert np.array_equal(whole(open_volume(tmp_path / "b.zarr")), GREY)


def test_a_stream_that_is_cut_short_is_refused(tmp_path: Path) -> None:
    path = write(tmp_path / "a.nii.gz")
    plain = gzip.decompress(path.read_bytes())
    path.write_bytes(gzip.compress(plain[:20_000]))
    with pytest.raises(VolumeError, match="compressed values end in slice"):
        whole(open_volume(path))
    path.write_bytes(gzip.compress(plain)[:5000])
    with pytest.raises(VolumeError, match=r"a\.nii\.gz: damaged or truncated"):
        whole(open_volume(path))


# Zeiss


def txm(path: Path, values: np.ndarray, *, pictures: int | None = None) -> Path:
    code = {np.dtype("u1"): 3, np.dtype("u2"): 5, np.dtype("f4"): 10}[values.dtype]
    depth, height, width = values.shape
    streams = {
        "ImageInfo/ImageWidth": struct.pack("<i", width), "ImageInfo/ImageHeight": struct.pack("<i", height),
        "ImageInfo/NoOfImages": struct.pack("<i", depth), "ImageInfo/DataType": struct.pack("<i", code),
        "ImageInfo/PixelSize": struct.pack("<f", 0.65),
    }  # fmt: skip
    streams |= {f"ImageData{z // 100 + 1}/Image{z + 1}": values[z].tobytes() for z in range(pictures or depth)}
    path.write_bytes(compound_file(streams))
    return path


@pytest.mark.parametrize("dtype", ["u1", "u2", "f4"])
@pytest.mark.parametrize("name", ["a.txm", "a.txrm"])
def test_zeiss_volumes(tmp_path: Path, dtype: str, name: str) -> None:
    values = np.random.default_rng(0).integers(0, 250, (103, 40, 60)).astype(dtype)
    volume = open_volume(txm(tmp_path / name, values))
    assert (volume.shape, volume.dtype) == (values.shape, np.dtype(dtype))
    assert volume.voxel_size_um == pytest.approx((0.65,) * 3)
    assert np.array_equal(volume.read(Region(98, 103, 3, 40, 5, 60)), values[98:103, 3:40, 5:60])


def test_damaged_zeiss_volumes_are_refused(tmp_path: Path) -> None:
    path = txm(tmp_path / "a.txm", np.zeros((5, 40, 60), np.uint16), pictures=4)
    with pytest.raises(VolumeError, match="has no ImageData1/Image5; it was not written to its end"):
        whole(open_volume(path))
    path.write_bytes(b"no such thing")
    with pytest.raises(VolumeError, match="is no TXM or TXRM file"):
        open_volume(path)


REFERENCE = Path(__file__).parent / "reference/simpleitk"
ANSWER = json.loads((REFERENCE / "reference.json").read_text())
ITK_VOXELS = sum(np.indices(ANSWER["shape"]) * np.reshape([100, 10, 1], (3, 1, 1, 1)))


@pytest.mark.parametrize("path", sorted(REFERENCE.glob("*_*[!w]")), ids=lambda path: path.name)
def test_what_simpleitk_writes_is_read(path: Path) -> None:
    dtype, name = path.name.split("_")
    volume = open_volume(path)
    assert volume.dtype == np.dtype(dtype)
    # SimpleITK notes no unit in NRRD, and the format has no default.
    assert volume.voxel_size_um == (None if name.endswith("nrrd") else pytest.approx(ANSWER["voxel_size_um"]))
    voxels = ITK_VOXELS + (0.5 if dtype == "float32" else 0)
    assert np.array_equal(whole(volume), voxels.astype(dtype))


@pytest.mark.parametrize("name", ANSWER["read"])
def test_simpleitk_has_read_what_is_written_now(tmp_path: Path, name: str) -> None:
    path = write(tmp_path / name, ITK_VOXELS.astype(np.uint16), tuple(ANSWER["voxel_size_um"]))
    content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    assert hashlib.sha256(content).hexdigest() == ANSWER["read"][name], "let it read again: make oracle"
