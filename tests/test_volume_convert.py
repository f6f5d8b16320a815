"""Conversion reads each chunk once."""

from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
import tifffile
import zarr

from tomoseg.cli import run
from tomoseg.volume import Region, open_volume
from tomoseg.volume.lazy import LazyVolume
from tomoseg.workflow import convert

GREY = np.random.default_rng(0).integers(0, 65_535, (50, 20, 30), dtype=np.uint16)
SLICE = 20 * 30 * 2


def stored(path: Path, depth: int) -> LazyVolume:
    """Write and open a volume in chunks of `depth` slices."""
    if path.suffix == ".h5":
        with h5py.File(path, "w") as file:
            file.create_dataset("data", data=GREY, chunks=(depth, 8, 8))
    else:
        shards = (2 * depth, 16, 16) if path.stem == "sharded" else None
        zarr.create_array(str(path), data=GREY, chunks=(depth, 8, 8), shards=shards)
    volume = open_volume(path)
    assert isinstance(volume, LazyVolume)
    return volume


def decoded(volume: LazyVolume, region: Region) -> list[int]:
    """Convert a region; return how often each layer of chunks was decoded."""
    counts = [0] * -(-volume.shape[0] // volume.chunk_depth)

    def load(part: Region) -> np.ndarray:
        for layer in range(part.z0 // volume.chunk_depth, -(-part.z1 // volume.chunk_depth)):
            counts[layer] += 1
        return volume.load(part)

    pages = list(convert.slices(replace(volume, load=load), region))
    assert np.array_equal(pages, GREY[region.slices])
    return counts


@pytest.mark.parametrize("name", ["a.h5", "a.zarr", "sharded.zarr"])
@pytest.mark.parametrize("depth", [1, 3, 16, 20, 40])
@pytest.mark.parametrize("slab", [1, 7 * SLICE, 16 * SLICE, 10**9])
def test_each_chunk_is_decoded_once(
    tmp_path: Path, name: str, depth: int, slab: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "_SLAB_BYTES", slab)
    volume = stored(tmp_path / name, depth)
    assert volume.chunk_depth == depth
    assert set(decoded(volume, Region.whole(GREY.shape))) == {1}
    assert set(decoded(volume, Region(5, 47, 2, 20, 0, 30))) <= {0, 1}


def test_chunks_thicker_than_the_most_memory_are_decoded_once_for_each_part(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(convert, "_SLAB_BYTES", 5 * SLICE)
    monkeypatch.setattr(convert, "_MOST_SLAB_BYTES", 10 * SLICE)
    volume = stored(tmp_path / "a.h5", 20)
    assert convert.slab_depth(volume, SLICE) == 10
    assert decoded(volume, Region.whole(GREY.shape)) == [2, 2, 1]


@pytest.mark.parametrize("words", [("18nm",), ("0.018um",), ("0.018", "um"), ("0.018",)])
def test_a_voxel_size_is_stated_with_or_without_its_unit(words: tuple[str, ...], tmp_path: Path) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY[:2])
    assert run(["convert", str(tmp_path / "a.tif"), str(tmp_path / "b.zarr"), "--quiet", "--voxel-size", *words]) == 0
    assert open_volume(tmp_path / "b.zarr").voxel_size_um == (0.018, 0.018, 0.018)


def test_what_is_no_voxel_size_is_refused_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(tmp_path / "a.tif", GREY[:2])
    assert run(["convert", str(tmp_path / "a.tif"), str(tmp_path / "b.zarr"), "--voxel-size", "18ym"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "18ym is no voxel size; it takes one length above 0, or three" in line and "18nm" in line
