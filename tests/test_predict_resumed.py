"""Predictions that were stopped: what is done is kept, what has changed is noticed, and the bytes are the same."""

import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import psutil
import pytest
import tifffile

from limits import files_of_at_most
from predicting import SHAPE, TORCH, content, interrupt, labels, make_model, predict
from tomoseg.cli import run
from tomoseg.engine import choose as choosing
from tomoseg.engine.gate import Verdict
from tomoseg.errors import OutputError
from tomoseg.volume import SliceWriter, open_volume
from tomoseg.workflow.common import Reading
from tomoseg.workflow.predict_plan import Plan, source_state
from tomoseg.workflow.predict_store import Store, begun_plan


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
    for blocks in (0, 1, 2):
        process = start(model, source, out)
        begun = time.monotonic()
        while count(out) < blocks and process.poll() is None and time.monotonic() < begun + 60:
            time.sleep(0.002)
        time.sleep(draw.uniform(0, 0.02))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
    assert predict(model, source, out) in (0, 2)
    assert content(out) == content(undisturbed)


def count(out: Path) -> int:
    """Return how many blocks are done, -1 before there is a store."""
    records = out / "tomoseg/blocks"
    return len(list(records.glob("*.json"))) if records.is_dir() else -1


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


_MHD = "NDims = 3\nDimSize = 2 2 1\nElementType = MET_USHORT\nElementDataFile = recon.bin\n"
_NHDR = "NRRD0004\ntype: uint16\ndimension: 3\nsizes: 2 2 1\nencoding: raw\nendian: little\ndata file: recon.bin\n"
_JSON = '{"shape": [1, 2, 2], "dtype": "<u2", "voxel_size_um": null}'


@pytest.mark.parametrize(
    ("name", "text", "values"),
    [("a.mhd", _MHD, "recon.bin"), ("a.nhdr", _NHDR, "recon.bin"), ("a.raw.json", _JSON, "a.raw")],
)
def test_header_and_values_in_two_files_both_belong_to_the_source(
    tmp_path: Path, name: str, text: str, values: str
) -> None:
    (tmp_path / name).write_text(text)
    (tmp_path / values).write_bytes(bytes(8))
    source = tmp_path / ("a.raw" if name == "a.raw.json" else name)
    others = open_volume(source).others
    state = source_state(source, how=Reading(), others=others)
    for file in (name, values):
        os.utime(tmp_path / file, ns=(1, 1))
        changed = source_state(source, how=Reading(), others=others)
        assert changed != state
        state = changed


def test_how_a_raw_file_is_read_belongs_to_it(tmp_path: Path) -> None:
    (tmp_path / "a.raw").write_bytes(bytes(8))
    raw, big = (Reading(raw_shape=(1, 2, 2), raw_dtype=dtype) for dtype in ("<u2", ">u2"))
    assert source_state(tmp_path / "a.raw", how=raw) != source_state(tmp_path / "a.raw", how=big)


def test_another_processor_is_refused(
    tmp_path: Path, model: Path, source: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    interrupt(model, source, tmp_path / "out.zarr")
    monkeypatch.setattr("tomoseg.engine.choose.processor", lambda: "x86_64 avx2 avx512_f")
    assert predict(model, source, tmp_path / "out.zarr") == 2
    assert "this one has x86_64 avx2 avx512_f" in capsys.readouterr().err


def test_a_run_begun_in_bf16_goes_on_in_it(
    tmp_path: Path, model: Path, source: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(choosing, "has_bf16", lambda: True)
    monkeypatch.setattr(choosing, "_installed", lambda module: module == "openvino")
    monkeypatch.setattr(choosing, "judge", lambda *_: Verdict(1.0, 0.996, 0.0, 0.0))
    auto, out = ("--engine", "auto"), tmp_path / "out.zarr"
    assert predict(model, source, tmp_path / "whole.zarr", *auto) == 0
    interrupt(model, source, out, *auto)
    monkeypatch.setattr("tomoseg.workflow.predict_begin.choose_engine", None)  # nor is anything checked again
    assert predict(model, source, out, *auto) == 0
    assert content(out) == content(tmp_path / "whole.zarr")
    engine = json.loads((out / "tomoseg/provenance.json").read_text())["plan"]["engine"]
    assert (engine["name"], engine["precision"], engine["found"]["agree_noisy"]) == ("openvino", "bf16", 0.996)


def hold(out: Path, pid: int, started: float) -> None:
    """Note a process of this machine as the one that writes a store."""
    held = {"run": "a", "host": platform.node(), "pid": pid, "started": started}
    (out / "tomoseg/run.json").write_text(json.dumps(held))


def test_two_runs_cant_write_the_same_output(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    interrupt(model, source, out)
    parent = psutil.Process(os.getppid())
    hold(out, parent.pid, parent.create_time())
    assert predict(model, source, out) == 2
    assert f"process {parent.pid} is writing it" in capsys.readouterr().err
    hold(out, parent.pid, 0.0)
    assert predict(model, source, out) == 0
    assert content(out) == content(undisturbed)


def test_force_takes_no_store_from_a_run_that_lives(
    tmp_path: Path, model: Path, source: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    interrupt(model, source, out)
    parent = psutil.Process(os.getppid())
    hold(out, parent.pid, parent.create_time())
    before = content(out)
    assert predict(model, source, out, "--values", "indices", "--force") == 2
    assert f"process {parent.pid} is writing it" in capsys.readouterr().err
    assert content(out) == before


def test_a_killed_run_that_nobody_has_waited_for_holds_no_store(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path
) -> None:
    out = tmp_path / "out.zarr"
    interrupt(model, source, out)
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        started = psutil.Process(process.pid).create_time()
        process.kill()
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is a zombie
        hold(out, process.pid, started)
        assert predict(model, source, out) == 0
    assert content(out) == content(undisturbed)


@pytest.mark.parametrize("where", ["before", "within", "after"])
def test_killed_while_it_takes_its_place_a_finished_run_is_not_lost(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path, where: str
) -> None:
    out, beside = tmp_path / "out.zarr", tmp_path / "out.zarr.unfinished.zarr"
    interrupt(model, source, beside)
    if where != "after":
        shutil.copytree(undisturbed, out)
    if where == "within":
        out.replace(tmp_path / "aside")
    if where == "after":
        beside.replace(out)
    done = (beside if where != "after" else out) / "0/c/0/0/0"
    first = done.stat().st_mtime_ns
    assert predict(model, source, out, "--force") == 0
    assert content(out) == content(undisturbed)
    assert (out / "0/c/0/0/0").stat().st_mtime_ns == first
    assert not beside.exists()


def test_a_run_that_fitted_goes_on_whatever_memory_this_process_has_taken(
    tmp_path: Path, model: Path, source: Path, undisturbed: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    interrupt(model, source, out)
    plan = begun_plan(out)
    assert plan is not None
    assert predict(model, source, out, "--memory", f"{plan.peak_bytes // 1000 - 1}KB") == 2
    assert "was begun with more memory" in capsys.readouterr().err
    assert predict(model, source, out, "--memory", f"{plan.peak_bytes // 1000 + 1}KB") == 0
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
