"""HDF5 whose values are not all there, lie in other files, or have an axis too many."""

import re
from collections.abc import Sequence
from pathlib import Path

import h5py
import numpy as np
import pytest

from test_volume_formats import GREY, PART, whole, write
from tomoseg.errors import VolumeError
from tomoseg.volume import Opening, open_volume
from tomoseg.volume.lazy import LazyVolume

SHOWN = Opening(empty_chunks=True)


def part(path: Path, values: np.ndarray = GREY[:10]) -> Path:
    with h5py.File(path, "w") as file:
        file["data"] = values
    return path


def virtual(path: Path, sources: Sequence[str], *, depth: int = 10) -> Path:
    """Write a data set that is made of the first `depth` slices of each source."""
    layout = h5py.VirtualLayout((depth * len(sources), *GREY.shape[1:]), GREY.dtype)
    for i, source in enumerate(sources):
        layout[i * depth : (i + 1) * depth] = h5py.VirtualSource(source, "data", (depth, *GREY.shape[1:]))
    with h5py.File(path, "w") as file:
        file.create_virtual_dataset("volume", layout, fillvalue=0)
    return path


def refused(path: Path, message: str) -> None:
    """Check that a volume is refused, and read with zeros for what is missing where that is asked for."""
    with pytest.raises(VolumeError, match=message + ".*--empty-chunks"):
        open_volume(path)
    assert not whole(open_volume(path, opening=SHOWN))[-1].any()


def test_an_aborted_scan_is_refused_unless_it_is_meant_to_be_empty(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("scan", GREY.shape, "u2", chunks=(4, 16, 16))[:8] = GREY[:8]
    refused(tmp_path / "a.h5", r"a\.h5:/scan: 18 of the 30 chunks of /scan were never written")
    assert np.array_equal(whole(open_volume(tmp_path / "a.h5", opening=SHOWN))[:8], GREY[:8])


def test_a_data_set_that_was_announced_and_never_written_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("scan", GREY.shape, "u2")
    refused(tmp_path / "a.h5", "/scan was never written")


def test_a_scan_without_a_frame_is_refused(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_dataset("data", shape=(0, 8, 8), maxshape=(None, 8, 8), dtype="u2", chunks=(1, 8, 8))
    with pytest.raises(VolumeError, match="has 0 x 8 x 8 voxels"):
        open_volume(tmp_path / "a.h5")


def test_a_virtual_data_set_with_all_its_sources_is_read(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    part(tmp_path / "parts/1.h5")
    part(tmp_path / "parts/2.h5", GREY[10:])
    for sources in (["parts/1.h5", "parts/2.h5"], [str(tmp_path / "parts/1.h5"), str(tmp_path / "parts/2.h5")]):
        volume = open_volume(virtual(tmp_path / "a.h5", sources))
        assert np.array_equal(volume.read(PART), GREY[PART.slices])
    assert np.array_equal(whole(open_volume(virtual(tmp_path / "parts/b.h5", ["/gone/1.h5", "/gone/2.h5"]))), GREY)
    virtual(tmp_path / "parts/nested.h5", ["1.h5", "2.h5"])
    with h5py.File(tmp_path / "parts/nested.h5", "a") as file:
        file["data"] = file["volume"]
    nested = open_volume(virtual(tmp_path / "c.h5", ["parts/nested.h5"], depth=20))
    assert np.array_equal(whole(nested), GREY)
    assert isinstance(nested, LazyVolume)
    assert nested.others == tuple(tmp_path / f"parts/{name}.h5" for name in ("1", "2", "nested"))


def test_a_virtual_data_set_within_its_own_file_is_read(tmp_path: Path) -> None:
    layout = h5py.VirtualLayout(GREY.shape, GREY.dtype)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["data"] = GREY
        layout[:] = h5py.VirtualSource(file["data"])
        file.create_virtual_dataset("volume", layout)
    assert np.array_equal(whole(open_volume(Path(f"{tmp_path}/a.h5:/volume"))), GREY)


def test_a_virtual_data_set_without_one_of_its_sources_is_refused(tmp_path: Path) -> None:
    part(tmp_path / "1.h5")
    path = virtual(tmp_path / "a.h5", ["1.h5", "2.h5"])
    refused(path, r"a\.h5:/volume: the file 2\.h5, of which /volume is made, is missing")
    refused(virtual(tmp_path / "a.h5", ["1.h5", "2.h5", "3.h5"]), r"2\.h5, .* is missing, and 1 more like it")
    with h5py.File(tmp_path / "2.h5", "w") as file:
        file["other"] = GREY[10:]
    virtual(path, ["1.h5", "2.h5"])
    refused(path, r"2\.h5 holds no data")
    part(tmp_path / "2.h5", GREY[10:15])
    with pytest.raises(VolumeError, match=r"2\.h5:data holds fewer values than /volume takes from it"):
        open_volume(path)
    (tmp_path / "2.h5").unlink()
    with h5py.File(tmp_path / "2.h5", "w") as file:
        file.create_dataset("data", (10, 30, 41), "u2", chunks=(1, 30, 41))[:5] = GREY[10:15]
    refused(path, "5 of the 10 chunks of /data were never written")


def test_a_virtual_data_set_with_a_gap_is_refused(tmp_path: Path) -> None:
    part(tmp_path / "1.h5")
    layout = h5py.VirtualLayout(GREY.shape, GREY.dtype)
    layout[:10] = h5py.VirtualSource("1.h5", "data", (10, 30, 41))
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("volume", layout)
    refused(tmp_path / "a.h5", r"12,300 of the 24,600 values of /volume have no source")


def test_a_virtual_data_set_that_grows_with_its_source_is_read(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file.create_dataset("data", data=GREY, maxshape=(None, 30, 41), chunks=(1, 30, 41))
    layout = h5py.VirtualLayout((1, 30, 41), GREY.dtype, maxshape=(None, 30, 41))
    source = h5py.VirtualSource("1.h5", "data", (20, 30, 41), maxshape=(None, 30, 41))
    layout[0 : h5py.h5s.UNLIMITED, :, :] = source[0 : h5py.h5s.UNLIMITED, :, :]
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file.create_virtual_dataset("volume", layout)
    assert np.array_equal(whole(open_volume(tmp_path / "a.h5")), GREY)


@pytest.mark.parametrize("opening", [Opening(), SHOWN])
def test_external_raw_storage_is_refused_also_behind_a_virtual_data_set(tmp_path: Path, opening: Opening) -> None:
    GREY[:10].tofile(tmp_path / "secret")
    with h5py.File(tmp_path / "1.h5", "w") as file:
        file.create_dataset("data", (10, 30, 41), "u2", external=[(str(tmp_path / "secret"), 0, h5py.h5f.UNLIMITED)])
    for path in (tmp_path / "1.h5", virtual(tmp_path / "a.h5", ["1.h5"])):
        with pytest.raises(VolumeError, match=re.escape(f"its values lie in '{tmp_path}/secret', which an HDF5 file")):
            open_volume(path, opening=opening)


def test_a_data_set_behind_a_link_to_another_file_is_read(tmp_path: Path) -> None:
    part(tmp_path / "1.h5", GREY)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["entry/volume"] = h5py.ExternalLink("1.h5", "data")
    assert np.array_equal(whole(open_volume(Path(f"{tmp_path}/a.h5:/entry/volume"))), GREY)


@pytest.mark.parametrize(
    ("shape", "read"),
    [((30, 41, 1), (1, 30, 41)), ((1, 30, 41, 1), (1, 30, 41)), ((1, 1, 30, 41, 1), (1, 30, 41)),
     ((30, 41), (1, 30, 41)),
     ((2, 30, 41, 1), (2, 30, 41)), ((1, 2, 30, 41, 1), (2, 30, 41)), ((2, 30, 41, 1, 1), (2, 30, 41)),
     ((1, 2, 30, 41), (2, 30, 41))],
)  # fmt: skip
def test_a_channel_of_one_entry_at_the_end_is_no_axis(
    tmp_path: Path, shape: tuple[int, ...], read: tuple[int, int, int]
) -> None:
    values = GREY[:2].ravel()[: int(np.prod(shape))].reshape(shape)
    part(tmp_path / "a.h5", values)
    volume = open_volume(tmp_path / "a.h5")
    assert volume.shape == read
    assert np.array_equal(whole(volume), values.reshape(read))


def test_what_is_written_one_voxel_wide_is_read_back_so(tmp_path: Path) -> None:
    assert open_volume(write(tmp_path / "a.h5", GREY[:, :, :1])).shape == (20, 30, 1)
