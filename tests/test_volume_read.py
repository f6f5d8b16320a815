"""Reading tomograms: formats, order, voxel sizes, laziness, and what is refused."""

import logging
import os
from pathlib import Path

import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tomoseg.errors import VolumeError
from tomoseg.volume import Region, open_volume, read_slice, tiff
from tomoseg.volume.folder import natural_key

RNG = np.random.default_rng(0)
STACK = RNG.integers(0, 65535, (5, 24, 40), dtype=np.uint16)


def whole(path: Path) -> np.ndarray:
    volume = open_volume(path)
    return volume.read(Region.whole(volume.shape))


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", ">u2", "i2", "u4", "i4", "f2", "f4", ">f4", "f8"])
def test_every_type_of_grey_value_comes_back_in_the_machines_byte_order(tmp_path: Path, dtype: str) -> None:
    values = (STACK // 600).astype(dtype)
    big = ">" if dtype.startswith(">") else "<"
    tifffile.imwrite(tmp_path / "s.tif", values, byteorder=big, photometric="minisblack")
    read = whole(tmp_path / "s.tif")
    assert read.dtype == values.dtype.newbyteorder("=")
    assert np.array_equal(read, values)


@pytest.mark.parametrize(
    "layout",
    [
        {"rowsperstrip": 5},
        {"tile": (16, 16)},
        {"compression": "zlib", "rowsperstrip": 7},
        {"compression": "lzw", "predictor": True},
        {"compression": "zstd", "tile": (16, 16)},
        {"compression": "packbits"},
        {"bigtiff": True},
        {"bigtiff": True, "compression": "zlib"},
        {"metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"imagej": True, "metadata": {"axes": "TYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}},
        {"ome": True, "metadata": {"axes": "ZYX"}, "compression": "zlib", "bigtiff": True},
        {"ome": True, "metadata": {"axes": "TYX"}},
        {"metadata": {"axes": "IYX"}},
    ],
)
def test_every_layout_of_a_stack_gives_the_same_values(tmp_path: Path, layout: dict[str, object]) -> None:
    tifffile.imwrite(tmp_path / "s.tif", STACK, photometric="minisblack", **layout)
    assert np.array_equal(whole(tmp_path / "s.tif"), STACK)


def test_a_region_is_the_box_of_the_whole(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "s.tif", STACK, photometric="minisblack")
    volume = open_volume(tmp_path / "s.tif")
    assert np.array_equal(volume.read(Region(1, 4, 2, 9, 30, 40)), STACK[1:4, 2:9, 30:40])
    assert np.array_equal(read_slice(volume, 3), STACK[3])
    assert volume.names[3] == "s.tif[3]"


@pytest.mark.parametrize("imagej", [True, False])
def test_a_region_reads_its_own_pages_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, imagej: bool) -> None:
    tifffile.imwrite(tmp_path / "s.tif", STACK, photometric="minisblack", imagej=imagej, metadata={"axes": "ZYX"})
    volume = open_volume(tmp_path / "s.tif")
    seen = []
    for page in volume.pages:
        inner = page.load
        object.__setattr__(page, "load", lambda inner=inner, name=page.name: seen.append(name) or inner())
    volume.read(Region(1, 3, 0, 24, 0, 40))
    assert seen == ["s.tif[1]", "s.tif[2]"]


def test_imagejs_layout_above_4_gb_reads_one_page_at_its_place(tmp_path: Path) -> None:
    path = tmp_path / "big.tif"
    text = "ImageJ=1.53t\nimages=5\nslices=5\nunit=nm\nspacing=20.0\nloop=false\n"
    tifffile.imwrite(
        path,
        STACK[0],
        description=text,
        metadata=None,
        byteorder=">",
        resolution=(0.1, 0.1),
        resolutionunit=1,
    )
    with path.open("ab") as file:
        file.write(STACK[1:].astype(">u2").tobytes())
    with tifffile.TiffFile(path) as tif:
        assert len(tif.pages) == 1
        assert tif.pages.first.dataoffsets[0] + STACK.nbytes == path.stat().st_size
    assert np.array_equal(whole(path), STACK)
    assert open_volume(path).voxel_size_um == (0.02, 0.01, 0.01)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 1)
    with pytest.raises(VolumeError, match=r"big.tif: is cut short: 5 pages are announced, 4 are there"):
        open_volume(path)


def test_files_of_a_folder_are_read_in_the_order_of_their_numbers(tmp_path: Path) -> None:
    for number in (10, 9, 100):
        tifffile.imwrite(tmp_path / f"s{number}.tiff", np.full((3, 4), number, np.uint8))
    Image.fromarray(np.full((3, 4), 11, np.uint8)).save(tmp_path / "s11.PNG")
    tifffile.imwrite(tmp_path / "._s1.tif", np.zeros((3, 4), np.uint8))
    (tmp_path / "notes.txt").write_text("no picture")
    assert open_volume(tmp_path).names == ("s9.tiff", "s10.tiff", "s11.PNG", "s100.tiff")
    assert whole(tmp_path)[:, 0, 0].tolist() == [9, 10, 11, 100]


@given(st.lists(st.integers(0, 10**6), min_size=2, unique=True), st.booleans())
@settings(max_examples=50, deadline=None)
def test_natural_order_is_the_order_of_numbers_padded_or_not(numbers: list[int], padded: bool) -> None:
    names = [f"a_{n:07d}b.tif" if padded else f"a_{n}b.tif" for n in numbers]
    assert sorted(names, key=natural_key) == [x for _, x in sorted(zip(numbers, names, strict=True))]


@pytest.mark.parametrize(("dtype", "mode"), [(np.uint8, "L"), (np.uint16, "I;16")])
def test_a_single_png_is_one_slice_of_its_own_bits(tmp_path: Path, dtype: type, mode: str) -> None:
    values = STACK[0].astype(dtype)
    Image.fromarray(values).save(tmp_path / "a.png", dpi=(300, 300))
    volume = open_volume(tmp_path / "a.png")
    assert (volume.dtype, volume.voxel_size_um, volume.names) == (np.dtype(dtype), None, ("a.png",))
    assert np.array_equal(whole(tmp_path / "a.png")[0], values)


@pytest.mark.parametrize("ending", ["tif", "png"])
def test_bits_become_0_and_255(tmp_path: Path, ending: str) -> None:
    bits = STACK[0] > 30000
    Image.fromarray(bits).save(tmp_path / f"a.{ending}")
    read = whole(tmp_path / f"a.{ending}")[0]
    assert read.dtype == np.uint8
    assert np.array_equal(read, bits * np.uint8(255))


def test_bits_that_are_stored_with_white_as_0_come_as_they_look(tmp_path: Path) -> None:
    bits = STACK[0, :, :40] > 30000
    tifffile.imwrite(tmp_path / "a.tif", bits, photometric="miniswhite")
    assert np.array_equal(whole(tmp_path / "a.tif")[0], ~bits * np.uint8(255))


@pytest.mark.parametrize(
    ("unit", "per_unit", "spacing", "expected"),
    [
        ("micron", 2.0, None, (0.5, 0.5, 0.5)),
        ("um", 2.0, 3.0, (3.0, 0.5, 0.5)),
        ("\\u00B5m", 2.0, 3.0, (3.0, 0.5, 0.5)),
        ("nm", 0.125, 20.0, (0.02, 0.008, 0.008)),
        ("mm", 1000.0, 0.002, (2.0, 1.0, 1.0)),
        ("pixel", 2.0, 1.0, None),
        ("inch", 300.0, None, None),
        (None, 2.0, None, None),
    ],
)
def test_imagejs_unit_resolution_and_spacing_give_micrometres(
    tmp_path: Path, unit: str | None, per_unit: float, spacing: float | None, expected: object
) -> None:
    metadata = {k: v for k, v in (("axes", "ZYX"), ("unit", unit), ("spacing", spacing)) if v is not None}
    tifffile.imwrite(tmp_path / "s.tif", STACK, imagej=True, resolution=(per_unit, per_unit), metadata=metadata)
    assert open_volume(tmp_path / "s.tif").voxel_size_um == pytest.approx(expected)


def test_ome_physical_sizes_give_micrometres(tmp_path: Path) -> None:
    sizes = {"PhysicalSizeX": 18, "PhysicalSizeXUnit": "nm", "PhysicalSizeY": 0.019, "PhysicalSizeZ": 0.02}
    tifffile.imwrite(tmp_path / "s.tif", STACK, ome=True, photometric="minisblack", metadata={"axes": "ZYX", **sizes})
    assert open_volume(tmp_path / "s.tif").voxel_size_um == pytest.approx((0.02, 0.019, 0.018))


@pytest.mark.parametrize(
    ("per_unit", "unit", "expected"),
    [
        (20000.0, "centimeter", (0.5, 0.5, 0.5)),
        (72.0, "inch", None),
        (300.0, "inch", None),
        (118.11, "centimeter", None),
        (28.3465, "centimeter", None),
        (2.0, "none", None),
    ],
)
def test_plain_resolutions_count_in_centimetres_only(
    tmp_path: Path, per_unit: float, unit: str, expected: object
) -> None:
    tifffile.imwrite(tmp_path / "s.tif", STACK[0], resolution=(per_unit, per_unit), resolutionunit=unit)
    assert open_volume(tmp_path / "s.tif").voxel_size_um == pytest.approx(expected)


@pytest.mark.parametrize("cut", [0.0, 0.02, 0.3, 0.6, 0.97])
@pytest.mark.parametrize(
    "layout",
    [
        {},
        {"metadata": None},
        {"imagej": True, "metadata": {"axes": "ZYX"}},
        {"ome": True},
        {"bigtiff": True},
        {"compression": "zlib"},
        {"tile": (16, 16)},
    ],
)
def test_a_stack_cut_short_is_refused_on_opening(
    tmp_path: Path, layout: dict[str, object], cut: float, capfd: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack", **layout)
    with path.open("r+b") as file:
        file.truncate(int(path.stat().st_size * cut))
    capfd.readouterr()
    with pytest.raises(VolumeError, match=r"s\.tif: (is cut short|damaged)") as error:
        open_volume(path)
    assert "\n" not in str(error.value)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("layout", [{}, {"compression": "lzw"}, {"tile": (16, 16)}, {"rowsperstrip": 4}])
def test_a_slice_cut_short_is_refused_on_opening(tmp_path: Path, layout: dict[str, object]) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, STACK[0], **layout)
    with path.open("r+b") as file:
        file.truncate(path.stat().st_size - 5)
    with pytest.raises(VolumeError, match="is cut short"):
        open_volume(tmp_path)


def test_a_missing_strip_is_refused_not_filled_with_zeros(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, STACK[0], rowsperstrip=4)
    with tifffile.TiffFile(path, mode="r+b") as tif:
        counts = list(tif.pages.first.databytecounts)
        counts[3] = 0
        tif.pages.first.tags["StripByteCounts"].overwrite(counts)
    assert (tifffile.imread(path)[12:16] == 0).all()
    with pytest.raises(VolumeError, match="page 0 lacks some of its 6 strips"):
        open_volume(path)


def test_a_flipped_byte_in_a_compressed_strip_is_refused_on_reading(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, STACK[0], compression="zlib")
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 0x55
    path.write_bytes(data)
    with pytest.raises(VolumeError, match=r"s\.tif: damaged or truncated"):
        whole(path)


def test_a_png_cut_short_is_refused(tmp_path: Path) -> None:
    Image.fromarray(STACK[0]).save(tmp_path / "a.png")
    with (tmp_path / "a.png").open("r+b") as file:
        file.truncate(300)
    with pytest.raises(VolumeError, match=r"a\.png: cannot be read: .*truncated"):
        whole(tmp_path / "a.png")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.tif", b"", r"a\.tif: damaged or truncated"),
        ("a.tif", b"hello world, no TIFF", "not a TIFF file"),
        (
            "a.png",
            b"hello world, no PNG at all, whatever its name",
            r"a\.png: damaged or truncated: not a PNG",
        ),
        ("a.dcm", b"x", r"the ending \.dcm is not read; \.tif \.tiff \.png .* are, and folders"),
    ],
)
def test_what_is_no_picture_is_refused(tmp_path: Path, name: str, content: bytes, message: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VolumeError, match=message):
        open_volume(tmp_path / name)


def test_nan_and_inf_are_refused_with_slice_and_count_where_they_are_asked_for(tmp_path: Path) -> None:
    values = STACK.astype(np.float32)
    values[2, 3, 4:6] = np.nan, np.inf
    tifffile.imwrite(tmp_path / "s.tif", values, photometric="minisblack")
    volume = open_volume(tmp_path / "s.tif")
    with pytest.raises(VolumeError, match=r"slice s\.tif\[2\] holds 2 NaN or infinite"):
        volume.read(Region.whole(volume.shape))
    with pytest.raises(VolumeError, match="holds 2 NaN"):
        read_slice(volume, 2)
    assert volume.read(Region(2, 3, 4, 24, 0, 40)).shape == (1, 20, 40)


def test_odd_sizes_and_types_in_a_folder_are_listed(tmp_path: Path) -> None:
    for i in range(4):
        tifffile.imwrite(tmp_path / f"s{i}.tif", np.zeros((3, 4), np.uint8))
    tifffile.imwrite(tmp_path / "s2.tif", np.zeros((3, 5), np.uint8))
    with pytest.raises(VolumeError, match=r"1 of 4 differ from the others' 3 x 4 uint8: s2.tif \(3 x 5 uint8\)"):
        open_volume(tmp_path)
    tifffile.imwrite(tmp_path / "s2.tif", np.zeros((3, 4), np.uint16))
    with pytest.raises(VolumeError, match=r"s2.tif \(3 x 4 uint16\)"):
        open_volume(tmp_path)


def test_odd_sizes_in_a_stack_are_listed(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        for size in (4, 4, 5):
            file.write(np.zeros((3, size), np.uint8), metadata=None)
    with pytest.raises(VolumeError, match=r"1 of 3 differ .* s\.tif\[2\] \(3 x 5 uint8\)"):
        open_volume(tmp_path / "s.tif")


@pytest.mark.parametrize("kwargs", [{"imagej": True}, {"ome": True}, {}])
def test_several_channels_are_refused(tmp_path: Path, kwargs: dict[str, bool]) -> None:
    tifffile.imwrite(
        tmp_path / "s.tif",
        STACK[:4].reshape(2, 2, 24, 40),
        metadata={"axes": "ZCYX"},
        photometric="minisblack",
        **kwargs,
    )
    with pytest.raises(VolumeError, match="has 2 channels"):
        open_volume(tmp_path / "s.tif")


def test_more_channels_than_imagej_can_show_are_slices(tmp_path: Path) -> None:
    values = np.concatenate([STACK, STACK])
    tifffile.imwrite(tmp_path / "s.tif", values, imagej=True)
    with tifffile.TiffFile(tmp_path / "s.tif") as tif:
        assert tif.imagej_metadata is not None
        assert tif.imagej_metadata["channels"] == 10
    assert np.array_equal(whole(tmp_path / "s.tif"), values)


@pytest.mark.parametrize("kwargs", [{"imagej": True}, {"ome": True}, {}])
def test_times_of_slices_are_refused(tmp_path: Path, kwargs: dict[str, bool]) -> None:
    tifffile.imwrite(
        tmp_path / "s.tif",
        STACK[:4].reshape(2, 2, 24, 40),
        metadata={"axes": "TZYX"},
        photometric="minisblack",
        **kwargs,
    )
    with pytest.raises(VolumeError, match="beyond y and x; a volume has one"):
        open_volume(tmp_path / "s.tif")


def test_colours_are_no_tomogram(tmp_path: Path) -> None:
    Image.fromarray(np.zeros((3, 4, 3), np.uint8)).save(tmp_path / "a.tif")
    with pytest.raises(VolumeError, match=r"a\.tif has 3 channels; a tomogram has one grey value a pixel"):
        open_volume(tmp_path)


def test_a_palette_is_no_tomogram_unless_it_is_a_grey_ramp(tmp_path: Path) -> None:
    ramp = np.tile(np.arange(256, dtype=np.uint16) * 257, (3, 1))
    values = (STACK[0] // 256).astype(np.uint8)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=ramp)
    assert np.array_equal(whole(tmp_path / "a.tif")[0], values)
    tifffile.imwrite(tmp_path / "a.tif", values, photometric="palette", colormap=ramp[:, ::-1])
    with pytest.raises(VolumeError, match="a tomogram has one grey value a pixel"):
        open_volume(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.complex64, np.uint64, np.int64])
def test_types_that_are_no_grey_values_are_refused(tmp_path: Path, dtype: type) -> None:
    tifffile.imwrite(tmp_path / "a.tif", np.ones((3, 4), dtype))
    with pytest.raises(VolumeError, match=f"has values of type {np.dtype(dtype)}; integers of 8"):
        open_volume(tmp_path / "a.tif")


def test_missing_empty_nested_and_unfinished_places_say_what_would_be_right(tmp_path: Path) -> None:
    with pytest.raises(VolumeError, match="nowhere: no such file or folder"):
        open_volume(tmp_path / "nowhere")
    with pytest.raises(VolumeError, match=r"holds no \.tif \.tiff \.png files$"):
        open_volume(tmp_path)
    (tmp_path / "slices").mkdir()
    tifffile.imwrite(tmp_path / "slices" / "a.tif", STACK[0])
    with pytest.raises(VolumeError, match=r"its subfolders do: give one of slices$"):
        open_volume(tmp_path)
    (tmp_path / "seg.partial").mkdir()
    with pytest.raises(VolumeError, match="never finished"):
        open_volume(tmp_path / "seg.partial")


def test_a_folder_of_other_pictures_says_which_and_what_to_do(tmp_path: Path) -> None:
    for name in ("a.jpg", "b.jpg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(VolumeError, match=r"files, but \.jpg, \.txt; save the slices as TIFF or PNG$"):
        open_volume(tmp_path)


def test_a_slice_whose_file_is_gone_is_an_error_not_a_gap(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "s1.tif", STACK[0])
    (tmp_path / "s2.tif").symlink_to(tmp_path / "gone.tif")
    with pytest.raises(VolumeError, match=r"s2\.tif: no such file or folder"):
        open_volume(tmp_path)


def test_a_stack_that_changes_after_it_was_opened_is_refused_on_reading(tmp_path: Path) -> None:
    path = tmp_path / "s.tif"
    tifffile.imwrite(path, STACK, photometric="minisblack")
    volume = open_volume(path)
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(VolumeError, match=r"s\.tif: (is cut short|damaged or truncated)"):
        read_slice(volume, 4)
    path.unlink()
    with pytest.raises(VolumeError, match=r"s\.tif: no such file or folder"):
        read_slice(volume, 0)


def test_a_stack_among_slices_is_refused(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK, photometric="minisblack")
    with pytest.raises(VolumeError, match="stack of 5 pages inside a folder"):
        open_volume(tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_no_permission_is_one_line(tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", STACK[0])
    (tmp_path / "a.tif").chmod(0)
    with pytest.raises(VolumeError, match=r"a\.tif: cannot be read: Permission denied"):
        open_volume(tmp_path / "a.tif")


def test_thumbnails_are_passed_over(tmp_path: Path) -> None:
    with tifffile.TiffWriter(tmp_path / "s.tif") as file:
        file.write(STACK[0], metadata=None)
        file.write(STACK[0, ::2, ::2], metadata=None, subfiletype=1)
    assert np.array_equal(whole(tmp_path / "s.tif"), STACK[:1])


def test_tifffiles_own_warnings_have_a_handler_that_keeps_them_off_the_terminal() -> None:
    assert tiff.__name__
    assert any(isinstance(h, logging.NullHandler) for h in logging.getLogger("tifffile").handlers)
