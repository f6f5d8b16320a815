"""Whole volumes: what is written, in which form, and a word for all that can't be."""

import json
import re
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
import yaozarrs
import zarr

from predicting import NAMES, SHAPE, TORCH, content, labels, make_model, predict, write
from tomoseg.cli import run
from tomoseg.unet_config import UNetConfig
from tomoseg.volume import Region, open_volume
from tomoseg.workflow.predict_memory import Needs, choose_block


def test_the_store_is_valid_and_says_what_it_is(undisturbed: Path, model: Path) -> None:
    for group in (undisturbed, undisturbed / "probabilities", undisturbed / "uncertainty"):
        yaozarrs.validate_zarr_store(str(group))
    volume = open_volume(undisturbed)
    assert (volume.shape, volume.dtype, volume.voxel_size_um) == (SHAPE, np.uint8, pytest.approx((0.02,) * 3))
    made = json.loads((undisturbed / "tomoseg/provenance.json").read_text())
    found = labels(undisturbed)
    assert made["summary"]["voxels"] == {n: int((found == v).sum()) for n, v in zip(NAMES, (0, 128, 255), strict=True)}
    levels = np.asarray(zarr.open_array(str(undisturbed), path="probabilities/0", mode="r")[...])
    assert levels.shape == (3, *SHAPE)
    sums = np.array([made["summary"]["probability_sum"][name] for name in NAMES])
    assert sums.sum() == pytest.approx(np.prod(SHAPE), rel=1e-6)
    assert np.allclose(levels.sum(axis=(1, 2, 3)) / 255, sums, rtol=2e-3)
    assert (np.array([0, 128, 255], np.uint8)[levels.argmax(axis=0)] == found).mean() > 0.98
    uncertainty = np.asarray(zarr.open_array(str(undisturbed), path="uncertainty/0", mode="r")[...])
    assert uncertainty[levels.max(axis=0) > 250].max() < uncertainty[levels.max(axis=0) < 125].min()


def test_two_workers_write_the_same_bytes(tmp_path: Path, model: Path, source: Path, undisturbed: Path) -> None:
    out = tmp_path / "out.zarr"
    assert predict(model, source, out, "--workers", 2, "--memory", "4GB") == 0
    assert content(out) == content(undisturbed)


def test_other_formats_hold_the_same_and_leave_nothing_beside(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path
) -> None:
    assert predict(model, source, tmp_path / "seg.tif") == 0
    assert np.array_equal(tifffile.imread(tmp_path / "seg.tif"), labels(undisturbed))
    expected = {"seg.tif", "seg_uncertainty.tif", *(f"seg_{name}.tif" for name in NAMES)}
    records = {f"{name}.provenance.json" for name in expected}
    assert {path.name for path in tmp_path.iterdir()} == expected | records
    levels = zarr.open_array(str(undisturbed), path="probabilities/0", mode="r")
    assert np.array_equal(tifffile.imread(tmp_path / "seg_YSZ.tif"), levels[1])


def test_a_format_that_cant_hold_the_output_is_refused_before_anything_is_computed(
    tmp_path: Path, model: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(sys.modules, "nibabel", None)
    assert predict(model, source, tmp_path / "seg.nii.gz") == 2
    assert 'pip install "tomoseg[formats]"' in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_along_all_axes_the_probabilities_are_the_mean_of_three(tmp_path: Path, source: Path) -> None:
    flat = make_model(tmp_path / "flat.tomoseg", context=0)
    cube = open_volume(source).read(Region(0, 32, 0, 40, 0, 48))
    tables = []
    for turned, back in (((0, 1, 2), (0, 1, 2)), ((1, 0, 2), (1, 0, 2)), ((2, 0, 1), (1, 2, 0))):
        write(tmp_path / f"{turned}.tif", np.ascontiguousarray(cube.transpose(turned)))
        assert predict(flat, tmp_path / f"{turned}.tif", tmp_path / f"{turned}.zarr") == 0
        found = zarr.open_array(str(tmp_path / f"{turned}.zarr"), path="probabilities/0", mode="r")
        tables.append(np.asarray(found[...]).transpose(0, *(1 + axis for axis in back)).astype(float))
    assert predict(flat, tmp_path / "(0, 1, 2).tif", tmp_path / "all.zarr", "--axes", "zyx") == 0
    found = np.asarray(zarr.open_array(str(tmp_path / "all.zarr"), path="probabilities/0", mode="r")[...])
    assert np.abs(found - np.mean(tables, axis=0)).max() <= 1
    assert sorted(path.name for path in (tmp_path / "all.zarr").iterdir()) == [
        "0", "probabilities", "tomoseg", "uncertainty", "zarr.json"
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("size", "message"),
    [(None, "does not say its voxel size"), ((0.04, 0.02, 0.02), "here they are 0.04 x 0.02 x 0.02")],
)
def test_along_all_axes_voxels_must_be_cubes(
    tmp_path: Path, model: Path, size: tuple[float, float, float] | None, message: str,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    write(tmp_path / "a.tif", np.zeros((4, 32, 32), np.uint16), size)
    assert predict(model, tmp_path / "a.tif", tmp_path / "out.zarr", "--axes", "zyx") == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "out.zarr").exists()


def test_a_promise_of_memory_that_cant_be_kept_is_not_given(
    tmp_path: Path, model: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(model, source, tmp_path / "out.zarr", "--memory", "50MB") == 2
    found = re.search(r"--memory 50MB is too little .*; give (\d+)MB or more", capsys.readouterr().err)
    assert found
    assert int(found[1]) > 100
    assert predict(model, source, tmp_path / "out.zarr", "--memory", "50MB", "--workers", 2) == 2
    two = re.search(r"give (\d+)MB or more", capsys.readouterr().err)
    assert two
    assert int(two[1]) > 2 * 400
    assert not (tmp_path / "out.zarr").exists()


def test_less_memory_means_smaller_blocks_and_tiles_never_more_than_promised() -> None:
    needs = Needs(shape=(1000, 4000, 4000), itemsize=2, network=UNetConfig(classes=3, context=2), outputs=5, axes="z",
                  bytes_per_pixel=384, threads=1, process=400_000_000)  # fmt: skip
    edges = []
    for memory in (490_000_000, 570_000_000, 800_000_000, 1_200_000_000, 4_000_000_000):
        block, tile = choose_block(needs, memory=memory)
        assert needs.of(block, tile) <= memory
        edges.append(tile)
    assert edges == sorted(edges)
    assert edges[0] < 256 < edges[-1]
    pages = needs.model_copy(update={"reading": 50_000_000})
    assert pages.of(block, tile) == needs.of(block, tile) + 2 * 50_000_000  # two blocks at a time
    long = needs.model_copy(update={"shape": (4000, 500, 500), "process": 0})
    assert long.model_copy(update={"axes": "zyx"}).of(block, tile) > 2 * long.of(block, tile)  # wide along y and x
    two = needs.model_copy(update={"threads": 2})
    assert two.of(block, tile) > needs.of(block, tile) + (tile + 112) ** 2 * 384


def test_a_scan_in_other_grey_values_is_segmented_with_the_window_refitted(
    tmp_path: Path, model: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = open_volume(source).read(Region.whole(SHAPE))
    write(tmp_path / "other.tif", np.float32(0.001) * values.astype(np.float32) - 3)
    assert predict(model, tmp_path / "other.tif", tmp_path / "refused.zarr") == 2
    assert "--window refit" in capsys.readouterr().err
    for given, out in ((source, "own.zarr"), (tmp_path / "other.tif", "other.zarr")):
        assert predict(model, given, tmp_path / out, "--window", "refit") == 0
    assert (labels(tmp_path / "own.zarr") == labels(tmp_path / "other.zarr")).mean() > 0.9999
    found = [
        json.loads((tmp_path / out / "tomoseg/provenance.json").read_text())["summary"]["unlike_training"]
        for out in ("own.zarr", "other.zarr")
    ]
    own, other = ({unlike["slice"].split("[")[1]: unlike["why"] for unlike in unlikes} for unlikes in found)
    assert own == other  # a network trained for seconds is less sure at the ends
    assert set(other) <= {f"{z}]" for z in (0, 1, SHAPE[0] - 2, SHAPE[0] - 1)}
    assert all("confidence" in why and ";" not in why for why in other.values())


@pytest.mark.skipif(sys.platform != "linux", reason="others know no proportional set size")
def test_memory_is_what_was_promised(tmp_path: Path) -> None:
    network = make_model(tmp_path / "m.tomoseg", context=2)
    write(tmp_path / "scan.tif", np.random.default_rng(1).integers(0, 40_000, (48, 600, 700), dtype=np.uint16))
    words = ["predict", network, tmp_path / "scan.tif", "-o", tmp_path / "out.zarr", "--memory", "520MB", *TORCH]
    process = subprocess.Popen([sys.executable, "-m", "tomoseg", *map(str, words)])
    peak = 0
    while process.poll() is None:
        with suppress(psutil.Error):
            peak = max(peak, psutil.Process(process.pid).memory_full_info().pss)
        time.sleep(0.02)
    assert process.returncode == 0
    assert 250_000_000 < peak <= 520_000_000


def test_the_source_is_not_written_over(tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write(tmp_path / "scan.zarr", np.random.default_rng(1).integers(0, 40_000, (4, 64, 64), dtype=np.uint16))
    before = content(tmp_path / "scan.zarr")
    assert predict(model, tmp_path / "scan.zarr", tmp_path / "scan.zarr", "--force") == 2
    assert "as the source and as the output" in capsys.readouterr().err
    assert predict(model, tmp_path / "scan.zarr", tmp_path / "scan.zarr/seg.zarr") == 2
    assert "lies within the source" in capsys.readouterr().err
    assert content(tmp_path / "scan.zarr") == before


def test_slices_unlike_the_training_data_are_named(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(1).integers(0, 40_000, (12, 64, 64), dtype=np.uint16)
    values[7] = 39_000
    write(tmp_path / "a.tif", values)
    assert predict(model, tmp_path / "a.tif", tmp_path / "out.zarr") == 0
    summary = json.loads((tmp_path / "out.zarr/tomoseg/provenance.json").read_text())["summary"]
    odd = {found["slice"]: found["why"] for found in summary["unlike_training"]}
    assert "grey values lie elsewhere" in odd["a.tif[7]"]
    assert "a.tif[2]" not in odd
    assert "--window refit" not in capsys.readouterr().err
    write(tmp_path / "small.tif", values[:4, :8, :8])
    assert predict(model, tmp_path / "small.tif", tmp_path / "small.zarr") == 0
    assert "unlike" not in capsys.readouterr().err  # so few pixels differ by chance
    write(tmp_path / "dim.tif", values // 3)
    assert predict(model, tmp_path / "dim.tif", tmp_path / "dim.zarr") == 2
    assert "seem to stand for" in capsys.readouterr().err
    assert not (tmp_path / "dim.zarr").exists()
    assert predict(model, tmp_path / "dim.tif", tmp_path / "dim.zarr", "--window", "keep") == 0
    assert "--window refit" in capsys.readouterr().err
    write(tmp_path / "bright.tif", np.uint16(60_000) - values // 8)
    assert predict(model, tmp_path / "bright.tif", tmp_path / "bright.zarr") == 2
    assert "lie far outside" in capsys.readouterr().err


@pytest.mark.parametrize("out", ["out.zarr", "out.tif"])
def test_slices_apart_become_no_volume_by_being_segmented_or_converted(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], out: str
) -> None:
    (tmp_path / "slices").mkdir()
    values = np.random.default_rng(0).integers(0, 40_000, (3, 64, 64), dtype=np.uint16)
    for number, page in zip((0, 50, 100), values, strict=True):
        tifffile.imwrite(tmp_path / f"slices/plug_{number:04d}.tif", page)
    flat = make_model(tmp_path / "flat.tomoseg", context=0)
    assert predict(flat, tmp_path / "slices", tmp_path / out) == 0
    assert run(["convert", str(tmp_path / "slices"), str(tmp_path / "scan.zarr"), "--quiet"]) == 0
    assert "some numbers are missing" in capsys.readouterr().err
    assert run(["convert", str(tmp_path / out), str(tmp_path / "again.nrrd"), "--quiet"]) == 0
    assert open_volume(tmp_path / "again.nrrd").names == tuple(f"again.nrrd[{z}]" for z in (0, 50, 100))
    for volume in (out, "scan.zarr", "again.nrrd"):
        given = ["quantify", tmp_path / volume, "-o", tmp_path / "numbers", "--roi", "1:3,:,:", "--classes", "a=0"]
        assert run([str(word) for word in given]) == 2
        assert "after slice 50 comes 100, they are no neighbours" in capsys.readouterr().err
    assert predict(make_model(tmp_path / "deep.tomoseg"), tmp_path / "scan.zarr", tmp_path / "deep.zarr") == 2
    assert "no two slices with consecutive numbers" in " ".join(capsys.readouterr().err.split())
