"""Whole volumes: the same bytes whatever happens on the way, and a word for all that can't be."""

import json
import os
import platform
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile
import torch
import yaozarrs
import zarr

from tomoseg.cli import run
from tomoseg.errors import OutputError
from tomoseg.labels import LabelClass
from tomoseg.model_file import Model, ModelRecord, Samples, ScanRecord, save_model, weights_of
from tomoseg.provenance import record
from tomoseg.recipe import FAST
from tomoseg.unet import UNet
from tomoseg.unet_config import UNetConfig
from tomoseg.volume import Region, SliceWriter, open_volume
from tomoseg.window import Window
from tomoseg.workflow.common import Reading
from tomoseg.workflow.predict_memory import Needs, choose_block
from tomoseg.workflow.predict_plan import Plan, source_state
from tomoseg.workflow.predict_store import Store, begun_plan, checksum

NAMES = ("pore", "YSZ", "Ni")
SHAPE = (37, 70, 150)
TORCH = ("--engine", "torch", "--threads", 1)


def make_model(path: Path, *, context: int = 1, seed: int = 0) -> Path:
    torch.manual_seed(seed)
    network = UNet(UNetConfig(classes=3, context=context, widths=(4, 8), bottleneck=8))
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.running_var.uniform_(0.05, 0.3)
    _vary(network)
    classes = tuple(
        LabelClass(name=name, value=value, colour=f"#{value:02x}{value:02x}{value:02x}")
        for name, value in zip(NAMES, (0, 128, 255), strict=True)
    )
    made = ModelRecord(
        network=network.config, recipe=FAST.model_dump(mode="json"), window=Window(low=0, high=40_000),
        grey_type="uint16", classes=classes, scans=(ScanRecord(name="a", source="0" * 16),), slices=(), gap=3,
        provenance=record("train", seed=0),
    )  # fmt: skip
    tiles = np.random.default_rng(5).integers(0, 40_000, (4, 64, 64), dtype=np.uint16)
    save_model(path, Model(made, weights_of(network.state_dict()), Samples(tiles, np.zeros((4, 64, 64), np.uint8))))
    return path


@torch.no_grad()
def _vary(network: UNet) -> None:
    """Centre and stretch the last layer, so that all classes appear, some of them surely."""
    given = torch.rand(1, network.config.channels, 64, 64)
    last = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)][-1]
    assert last.bias is not None
    logits = network.eval()(given)
    last.bias -= logits.mean(dim=(0, 2, 3))
    factor = 3 / logits.std(dim=(0, 2, 3))
    last.weight *= factor[:, None, None, None]
    last.bias *= factor


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("model") / "m.tomoseg")


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("source") / "scan.tif"
    values = np.random.default_rng(1).integers(0, 40_000, SHAPE, dtype=np.uint16)
    with SliceWriter(path, shape=SHAPE, dtype=np.uint16, voxel_size_um=(0.02, 0.02, 0.02)) as writer:
        for page in values:
            writer.write(page)
    return path


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path, source: Path) -> Path:
    out = tmp_path_factory.mktemp("undisturbed") / "out.zarr"
    assert predict(model, source, out) == 0
    return out


def predict(model: Path, source: Path, out: Path, *words: object) -> int:
    given = ["predict", model, source, "-o", out, "--probabilities", "--uncertainty", "--quiet", *TORCH, *words]
    return run([str(word) for word in given])


def content(store: Path) -> dict[str, str]:
    return {file.relative_to(store).as_posix(): checksum(file) for file in sorted(store.rglob("*")) if file.is_file()}


def labels(path: Path) -> np.ndarray:
    volume = open_volume(path)
    return volume.read(Region.whole(volume.shape))


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


def start(model: Path, source: Path, out: Path) -> subprocess.Popen[bytes]:
    words = ["predict", model, source, "-o", out, "--probabilities", "--uncertainty", "--quiet", *TORCH]
    return subprocess.Popen(
        [sys.executable, "-m", "tomoseg", *map(str, words)],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, start_new_session=True,
    )  # fmt: skip


def test_killed_again_and_again_it_ends_with_the_same_bytes(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path
) -> None:
    out, draw = tmp_path / "out.zarr", random.Random(4)
    for _ in range(3):
        process = start(model, source, out)
        begun = time.monotonic()
        while not out.exists() and process.poll() is None and time.monotonic() < begun + 60:
            time.sleep(0.01)
        time.sleep(draw.uniform(0, 1.5))
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert predict(model, source, out) == 0
    assert content(out) == content(undisturbed)


def test_an_unfinished_output_says_so_when_it_is_opened_and_goes_on(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    interrupt(model, source, out)
    assert run(["inspect", str(out)]) == 2
    assert "out.zarr: is not finished (predict was interrupted); run the same command again" in capsys.readouterr().err
    assert json.loads((out / "zarr.json").read_text())["attributes"]["tomoseg"]["finished"] is False
    assert predict(model, source, out) == 0
    assert content(out) == content(undisturbed)


def interrupt(model: Path, source: Path, out: Path) -> None:
    """Leave a prediction whose first block is done, the second half-written, the third missing."""
    assert predict(model, source, out) == 0
    state = json.loads((out / "zarr.json").read_text())
    state["attributes"]["tomoseg"]["finished"] = False
    (out / "zarr.json").write_text(json.dumps(state, indent=2))
    (out / "tomoseg/provenance.json").unlink()
    records = sorted((out / "tomoseg/blocks").iterdir())
    shard = out / "0/c/1/0/0"
    shard.write_bytes(shard.read_bytes()[:100])
    shutil.rmtree(out / "0/c/2")
    records[2].unlink()
    (out / "0/c/1/0/0.0123.partial").write_bytes(b"half")


def test_blocks_that_are_there_are_not_done_again(tmp_path: Path, model: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    interrupt(model, source, out)
    first = (out / "0/c/0/0/0").stat().st_mtime_ns
    before = (out / "0/c/1/0/0").stat().st_mtime_ns
    assert predict(model, source, out) == 0
    assert (out / "0/c/0/0/0").stat().st_mtime_ns == first
    assert (out / "0/c/1/0/0").stat().st_mtime_ns > before


@pytest.mark.parametrize("changed", ["source", "model", "options", "window"])
def test_what_has_changed_in_the_meantime_is_noticed(
    tmp_path: Path, model: Path, source: Path, changed: str, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copy(source, tmp_path / "scan.tif")
    out = tmp_path / "out.zarr"
    interrupt(model, tmp_path / "scan.tif", out)
    before = content(out)
    words: list[object] = []
    if changed == "source":
        os.utime(tmp_path / "scan.tif", ns=(1, 1))
    elif changed == "model":
        model = make_model(tmp_path / "other.tomoseg", seed=1)
    else:
        words = ["--values", "indices"] if changed == "options" else ["--window", "refit"]
    assert predict(model, tmp_path / "scan.tif", out, *words) == 2
    said = capsys.readouterr().err
    expected = {
        "source": "the source, its mask or how it is read has changed",
        "model": "begun with another model",
        "options": "begun with values",
        "window": "begun with window",
    }
    assert expected[changed] in said
    assert "--force" in said
    assert content(out) == before
    assert predict(model, tmp_path / "scan.tif", out, *words, "--force") == 0
    assert predict(model, tmp_path / "scan.tif", tmp_path / "new.zarr", *words) == 0
    assert content(out) == content(tmp_path / "new.zarr")


def test_with_force_a_run_that_can_go_on_does(tmp_path: Path, model: Path, source: Path, undisturbed: Path) -> None:
    out = tmp_path / "out.zarr"
    interrupt(model, source, out)
    first = (out / "0/c/0/0/0").stat().st_mtime_ns
    assert predict(model, source, out, "--force") == 0
    assert (out / "0/c/0/0/0").stat().st_mtime_ns == first
    assert content(out) == content(undisturbed)


def test_a_folder_of_slices_has_not_changed_when_something_else_is_put_there(tmp_path: Path) -> None:
    for z in range(3):
        tifffile.imwrite(tmp_path / f"{z}.tif", np.zeros((4, 4), np.uint8))
    mask = tmp_path / "mask"
    mask.mkdir()
    tifffile.imwrite(mask / "m.tif", np.ones((4, 4), np.uint8))
    how = Reading(mask=str(mask / "m.tif"))
    before = source_state(tmp_path, how=how)
    (tmp_path / ".DS_Store").write_text("")
    (tmp_path / "out.zarr").mkdir()
    assert source_state(tmp_path, how=how) == before
    tifffile.imwrite(mask / "m.tif", np.zeros((5, 5), np.uint8))
    assert source_state(tmp_path, how=how) != before
    assert source_state(tmp_path, how=Reading(empty_chunks=True)) != source_state(tmp_path, how=Reading())


def test_the_parts_of_a_virtual_data_set_belong_to_it(tmp_path: Path) -> None:
    for name in ("a.h5", "part.h5"):
        (tmp_path / name).write_text("x")
    others = [tmp_path / "part.h5"]
    before = source_state(tmp_path / "a.h5", how=Reading(), others=others)
    (tmp_path / "part.h5").write_text("other")
    assert source_state(tmp_path / "a.h5", how=Reading(), others=others) != before


def test_a_file_that_has_gone_is_no_class_zero(tmp_path: Path, undisturbed: Path) -> None:
    shutil.copytree(undisturbed, tmp_path / "out.zarr")
    plan = Plan.model_validate(json.loads((undisturbed / "zarr.json").read_text())["attributes"]["tomoseg"]["plan"])
    store = Store(tmp_path / "out.zarr", plan)
    store.refuse_missing(plan.tasks("labels"))
    (tmp_path / "out.zarr/0/c/1/0/0").unlink()
    with pytest.raises(OutputError, match=r"0/c/1/0/0: has gone"):
        store.refuse_missing(plan.tasks("labels"))


def test_what_describes_a_raw_file_belongs_to_it(tmp_path: Path) -> None:
    raw, big = (Reading(raw_shape=(1, 2, 2), raw_dtype=dtype) for dtype in ("<u2", ">u2"))
    for name in ("a.raw", "a.raw.json", "a.mhd", "a.tif"):
        (tmp_path / name).write_text("x")
    assert source_state(tmp_path / "a.raw", how=raw) != source_state(tmp_path / "a.raw", how=big)
    before = [source_state(tmp_path / name, how=Reading()) for name in ("a.raw", "a.mhd", "a.tif")]
    (tmp_path / "a.raw.json").write_text("other")
    (tmp_path / "a.raw").write_text("other")
    after = [source_state(tmp_path / name, how=Reading()) for name in ("a.raw", "a.mhd", "a.tif")]
    assert [one != other for one, other in zip(before, after, strict=True)] == [True, True, False]


def test_another_processor_is_refused(
    tmp_path: Path, model: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(model, source, tmp_path / "out.zarr")
    monkeypatch.setattr("tomoseg.engine.choose.processor", lambda: "x86_64 avx2 avx512_f")
    assert predict(model, source, tmp_path / "out.zarr") == 2
    assert "this one has x86_64 avx2 avx512_f" in capsys.readouterr().err


def test_two_runs_cant_write_the_same_output(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    interrupt(model, source, out)
    parent = psutil.Process(os.getppid())
    held = {"run": "a", "host": platform.node(), "pid": parent.pid, "started": parent.create_time()}
    (out / "tomoseg/run.json").write_text(json.dumps(held))
    assert predict(model, source, out) == 2
    assert f"process {parent.pid} is writing it" in capsys.readouterr().err
    (out / "tomoseg/run.json").write_text(json.dumps({**held, "started": 0.0}))
    assert predict(model, source, out) == 0
    assert content(out) == content(undisturbed)


def test_what_is_left_of_an_earlier_run_writes_no_more(tmp_path: Path, model: Path, source: Path) -> None:
    out = tmp_path / "out.zarr"
    interrupt(model, source, out)
    plan = begun_plan(out)
    assert plan is not None
    early = Store(out, plan).claim()
    Store(out, plan).claim()
    with pytest.raises(OutputError, match="another run has taken it over"):
        early.write(plan.tasks("labels")[0], {}, {})


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


@pytest.mark.parametrize("stopped", ["seg.tif", "seg_YSZ.tif", "seg_uncertainty.tif"])
def test_a_stop_while_another_format_is_written_costs_no_block(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path, stopped: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_page = SliceWriter.write

    def stop(writer: SliceWriter, values: np.ndarray) -> None:
        if writer._path.name == stopped:
            raise KeyboardInterrupt
        write_page(writer, values)

    monkeypatch.setattr(SliceWriter, "write", stop)
    assert predict(model, source, tmp_path / "seg.tif") == 130
    assert (tmp_path / "seg.tif.unfinished.zarr").exists()
    assert not (tmp_path / stopped).exists()
    monkeypatch.undo()
    monkeypatch.setattr("tomoseg.workflow.predict_run.run_here", None)  # no block is done again
    assert predict(model, source, tmp_path / "seg.tif") == 0
    assert np.array_equal(tifffile.imread(tmp_path / "seg.tif"), labels(undisturbed))
    assert not (tmp_path / "seg.tif.unfinished.zarr").exists()
    assert predict(model, source, tmp_path / "seg.tif") == 2


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


def write(path: Path, values: np.ndarray, size: tuple[float, float, float] | None = (0.02, 0.02, 0.02)) -> None:
    with SliceWriter(path, shape=values.shape, dtype=values.dtype, voxel_size_um=size) as writer:
        for page in values:
            writer.write(page)


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
    found = re.search(r"--memory: 50 MB a process are not enough; .* takes (\d+) MB", capsys.readouterr().err)
    assert found
    assert int(found[1]) > 100
    assert not (tmp_path / "out.zarr").exists()


def test_less_memory_means_smaller_blocks_and_tiles_never_more_than_promised() -> None:
    needs = Needs(shape=(1000, 4000, 4000), itemsize=2, network=UNetConfig(classes=3, context=2), outputs=5, axes="z",
                  bytes_per_pixel=384, threads=1, process=400_000_000)  # fmt: skip
    edges = []
    for memory in (470_000_000, 550_000_000, 800_000_000, 1_200_000_000, 4_000_000_000):
        block, tile = choose_block(needs, memory=memory)
        assert needs.of(block, tile) <= memory
        edges.append(tile)
    assert edges == sorted(edges)
    assert edges[0] < 256 < edges[-1]
    two = needs.model_copy(update={"threads": 2})
    assert two.of(block, tile) > needs.of(block, tile) + (tile + 112) ** 2 * 384


@contextmanager
def files_of_at_most(size: int) -> Iterator[None]:
    """Let the system refuse larger files, as a full disk does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_full_disk_stops_it_cleanly_and_it_goes_on_when_there_is_room(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    with files_of_at_most(60_000):
        assert predict(model, source, out) == 2
    said = capsys.readouterr().err
    assert "File too large" in said
    assert "the same command goes on with it" in said
    assert predict(model, source, out) == 0
    assert content(out) == content(undisturbed)


def test_a_finished_output_is_replaced_only_when_asked_and_only_by_a_finished_one(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    shutil.copytree(undisturbed, out)
    assert predict(model, source, out) == 2
    assert "--force" in capsys.readouterr().err
    with files_of_at_most(60_000):
        assert predict(model, source, out, "--force") == 2
    assert content(out) == content(undisturbed)
    assert predict(model, source, out, "--force", "--roi", "0:8,:,:") == 0
    assert open_volume(out).shape == (8, *SHAPE[1:])
    assert predict(model, source, out, "--force") == 0
    assert [path.name for path in tmp_path.iterdir()] == ["out.zarr"]


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
    summary = json.loads((tmp_path / "other.zarr/tomoseg/provenance.json").read_text())["summary"]
    assert summary["unlike_training"] == []


def test_slices_unlike_the_training_data_are_named(tmp_path: Path, model: Path) -> None:
    values = np.random.default_rng(1).integers(0, 40_000, (12, 64, 64), dtype=np.uint16)
    values[7] = 39_000
    write(tmp_path / "a.tif", values)
    assert predict(model, tmp_path / "a.tif", tmp_path / "out.zarr") == 0
    summary = json.loads((tmp_path / "out.zarr/tomoseg/provenance.json").read_text())["summary"]
    odd = {found["slice"]: found["why"] for found in summary["unlike_training"]}
    assert "grey values lie elsewhere" in odd["a.tif[7]"]
    assert "a.tif[2]" not in odd
