"""Values one after the other: files of another size than stated, units of the voxel size, bytes that are skipped."""

import bz2
import gzip
import json
import zlib
from collections.abc import Callable
from pathlib import Path

import nibabel
import nrrd
import numpy as np
import pytest

from test_volume_formats import GREY, SIZE, mha, whole, write
from tomoseg.errors import VolumeError
from tomoseg.volume import Opening, RawLayout, open_volume

XYZ = "19 18 20"


def sidecar(path: Path, **stated: object) -> Path:
    path.with_name(path.name + ".json").write_text(json.dumps({"shape": list(GREY.shape), "dtype": "<u2"} | stated))
    return path


def vgi(path: Path, *lines: str, kind: str = "unsigned integer", bits: int = 16, encoding: str = "utf-8") -> Path:
    text = ["{volume1}", "[representation]", "size = 41 30 20", f"datatype = {kind}", f"bitsperelement = {bits}"]
    path.write_bytes("\n".join([*text, f"resolution = {XYZ}", *lines, ""]).encode(encoding))
    GREY.tofile(path.with_suffix(".vol"))
    return path


# sizes


@pytest.mark.parametrize(
    ("shape", "dtype", "message"),
    [
        ((21, 30, 41), "u2", "too short: 49,200 bytes, .* take 51,660; 20 x 30 x 41 would fit; correct"),
        ((10, 30, 41), "u2", r"too long: .* take 24,600; 20 x 30 x 41 or values of 32 bits or \"offset\": 24600 in"),
        ((20, 30, 41), "u1", "too long: .* values of uint8 take 24,600; 40 x 30 x 41 or values of 16 bits or "),
        ((20, 31, 41), "u2", "too short: .* take 50,840; correct its size and type, or copy it again"),
        ((20, 29, 41), "u2", r"too long: .* take 47,560; \"offset\": 1640 in a\.raw\.json would fit"),
    ],
)
def test_a_raw_file_of_another_size_is_refused_and_what_would_fit_is_said(
    tmp_path: Path, shape: tuple[int, int, int], dtype: str, message: str
) -> None:
    GREY.tofile(tmp_path / "a.raw")
    with pytest.raises(VolumeError, match=message):
        open_volume(tmp_path / "a.raw", opening=Opening(RawLayout(shape, np.dtype(dtype))))
    sidecar(tmp_path / "a.raw", shape=list(shape), dtype=dtype)
    with pytest.raises(VolumeError, match=message):
        open_volume(tmp_path / "a.raw")


def test_a_vol_of_another_size_than_its_vgi_says_is_refused(tmp_path: Path) -> None:
    vgi(tmp_path / "a.vgi", "SkipHeader = 2")
    with pytest.raises(VolumeError, match=r"too short: 49,200 bytes, but .* take 49,200 after a header of 2"):
        open_volume(tmp_path / "a.vgi")
    (tmp_path / "a.vol").write_bytes(b"xx" + GREY.tobytes())
    assert np.array_equal(whole(open_volume(tmp_path / "a.vgi")), GREY)


@pytest.mark.parametrize(
    ("stated", "size"), [({"shape": [-20, -30, 41]}, 49_200), ({"shape": [0, 30, 41]}, 0), ({"offset": -10}, 49_190)]
)
def test_a_size_or_header_below_nothing_is_refused(tmp_path: Path, stated: dict[str, object], size: int) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(size))
    with pytest.raises(VolumeError, match=r"values begin at byte .*; correct that"):
        open_volume(sidecar(tmp_path / "a.raw", **stated))


def test_metaimages_whose_values_end_with_the_file(tmp_path: Path) -> None:
    header = "NDims = 3\nDimSize = 41 30 20\nHeaderSize = {}\nElementType = MET_USHORT\nElementDataFile = a.bin\n"
    (tmp_path / "a.bin").write_bytes(b"a header of its own" + GREY.tobytes())
    for size in (-1, 19):
        (tmp_path / "a.mhd").write_text(header.format(size))
        assert np.array_equal(whole(open_volume(tmp_path / "a.mhd")), GREY)
    (tmp_path / "a.bin").write_bytes(GREY.tobytes()[:-1])
    (tmp_path / "a.mhd").write_text(header.format(-1))
    with pytest.raises(VolumeError, match="too short"):
        open_volume(tmp_path / "a.mhd")
    with pytest.raises(VolumeError, match="HeaderSize = -1, which says nothing"):
        open_volume(mha(tmp_path / "a.mha", GREY, "HeaderSize = -1", "CompressedData = True"))


def test_a_metaimage_of_text_is_refused(tmp_path: Path) -> None:
    path = mha(tmp_path / "a.mha", GREY, "BinaryData = False", data=b"1 " * GREY.size)
    with pytest.raises(VolumeError, match=r"a\.mha: holds its values as text; save it with BinaryData = True"):
        open_volume(path)
    assert np.array_equal(whole(open_volume(mha(tmp_path / "b.mha", GREY, "BinaryData = True"))), GREY)


# bytes that are skipped


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, bytes])
def test_the_bytes_that_nrrd_skips_are_decoded_ones(tmp_path: Path, pack: Callable[[bytes], bytes]) -> None:
    encoding = {gzip.compress: "gzip", bz2.compress: "bzip2", bytes: "raw"}[pack]
    lines = ["NRRD0004", "type: uint16", "dimension: 3", "sizes: 41 30 20", "endian: little", f"encoding: {encoding}"]
    path = tmp_path / "a.nrrd"
    path.write_bytes("\n".join([*lines, "byte skip: 7", "", ""]).encode() + pack(b"skipped" + GREY.tobytes()))
    assert np.array_equal(whole(open_volume(path)), GREY)
    path.write_bytes("\n".join([*lines, "byte skip: -2", "", ""]).encode() + pack(GREY.tobytes()))
    with pytest.raises(VolumeError, match="has 'byte skip: -2' with the encoding"):
        open_volume(path)


def test_values_at_the_end_of_an_nrrd_that_is_too_short_are_refused(tmp_path: Path) -> None:
    lines = ["NRRD0004", "type: uint16", "dimension: 3", "sizes: 41 30 20", "endian: little", "encoding: raw"]
    (tmp_path / "a.nhdr").write_text("\n".join([*lines, "byte skip: -1", "data file: a.bin", "", ""]))
    (tmp_path / "a.bin").write_bytes(GREY.tobytes()[:-1])
    with pytest.raises(VolumeError, match="too short"):
        open_volume(tmp_path / "a.nhdr")


@pytest.mark.parametrize(("name", "packed"), [("a.gz.nii", False), ("a.nii.gz", True), ("A.NII.GZ", True)])
def test_a_nifti_is_gzipped_where_its_name_ends_so(tmp_path: Path, name: str, packed: bool) -> None:
    path = write(tmp_path / name)
    assert (path.read_bytes()[:2] == b"\x1f\x8b") is packed
    assert np.array_equal(whole(open_volume(path)), GREY)


# units


@pytest.mark.parametrize(
    ("unit", "factor"),
    [("mm", 1e3), ("MM", 1e3), ("um", 1.0), ("µm", 1.0), ("nm", 1e-3), ("cm", 1e4), ("m", 1e6), ("micron", 1.0),
     ("inch", None), ("voxel", None)],
)  # fmt: skip
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_the_unit_of_a_vgi_counts_and_an_unknown_one_is_no_millimetre(
    tmp_path: Path, unit: str, factor: float | None, encoding: str
) -> None:
    size = open_volume(vgi(tmp_path / "a.vgi", f"unit = {unit}", encoding=encoding)).voxel_size_um
    assert size == (None if factor is None else pytest.approx([20 * factor, 18 * factor, 19 * factor]))


def test_a_vgi_without_a_unit_is_in_millimetres(tmp_path: Path) -> None:
    assert open_volume(vgi(tmp_path / "a.vgi")).voxel_size_um == (20_000.0, 18_000.0, 19_000.0)


@pytest.mark.parametrize(("kind", "bits"), [("complex", 16), ("unsigned integer", 12), ("unsigned integer", 0)])
def test_a_vgi_of_an_unknown_type_is_refused(tmp_path: Path, kind: str, bits: int) -> None:
    with pytest.raises(VolumeError, match=f"has values of the type {kind} with {bits} bits; unsigned integer, signed"):
        open_volume(vgi(tmp_path / "a.vgi", kind=kind, bits=bits))


@pytest.mark.parametrize(("unit", "factor"), [("um", 1.0), ("mm", 1e3), ("cm", 1e4), ("?", None)])
def test_a_metaimage_may_state_its_unit(tmp_path: Path, unit: str, factor: float | None) -> None:
    found = open_volume(mha(tmp_path / "a.mha", GREY, f"DistanceUnits = {unit}")).voxel_size_um
    assert found == (None if factor is None else pytest.approx([edge * factor / 1e3 for edge in SIZE]))
    packed = mha(tmp_path / "b.mha", GREY, "CompressedData = True", f"DistanceUnits = {unit}",
                 data=zlib.compress(GREY.tobytes()))  # fmt: skip
    assert open_volume(packed).voxel_size_um == found


def test_a_nifti_with_an_edge_of_0_has_no_voxel_size(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write(tmp_path / "a.nii")
    assert open_volume(path).voxel_size_um == pytest.approx(SIZE)
    image = nibabel.load(path)
    header = image.header.copy()
    header["pixdim"][3] = 0
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])
    assert open_volume(path).voxel_size_um is None
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize(
    "stated", [[0.02, 0.018], [0.02, 0, 0.019], [-1, 1, 1], [float("nan"), 1, 1], [float("inf"), 1, 1], 0.02, "1 1 1",
               ["1", "1", "1"], []]
)  # fmt: skip
def test_a_sidecar_states_three_lengths_or_none(tmp_path: Path, stated: object) -> None:
    GREY.tofile(tmp_path / "a.raw")
    with pytest.raises(VolumeError, match=r"a\.raw\.json: voxel_size_um is .*; it is three lengths above 0"):
        open_volume(sidecar(tmp_path / "a.raw", voxel_size_um=stated))
    assert open_volume(sidecar(tmp_path / "a.raw", voxel_size_um=None)).voxel_size_um is None
    assert open_volume(sidecar(tmp_path / "a.raw", voxel_size_um=list(SIZE))).voxel_size_um == SIZE


def test_nrrd_states_a_unit_for_each_axis(tmp_path: Path) -> None:
    header = {"units": ["um", "nm", "mm"], "spacings": [19, 18_000, 0.02], "encoding": "raw"}
    nrrd.write(str(tmp_path / "a.nrrd"), GREY.T, header)
    assert open_volume(tmp_path / "a.nrrd").voxel_size_um == pytest.approx((20, 18, 19))
    nrrd.write(str(tmp_path / "b.nrrd"), GREY.T, header | {"units": ["um", "pixel", "mm"]})
    assert open_volume(tmp_path / "b.nrrd").voxel_size_um is None
