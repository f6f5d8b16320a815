"""The noise study: its arithmetic by hand, and the verb on a small phantom."""

import csv
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tifffile
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage

from tomoseg.cli import run
from tomoseg.degrade import add_correlated_noise, gaussian_autocorrelation, measure_noise
from tomoseg.metrics import accuracy
from tomoseg.quantify.slab_transport import Factor
from tomoseg.quantify.transport import tortuosity
from tomoseg.study import (
    Cell,
    fraction_errors,
    noisy_places,
    seed_means,
    study_cells,
    tolerated,
    tolerated_interval,
    tortuosity_errors,
)
from tomoseg.workflow import study_slab
from tomoseg.workflow.console import Console
from tomoseg.workflow.study import StudySettings, _quick
from tomoseg.workflow.study_cell import stopped_improving
from tomoseg.workflow.study_data import open_study, prepare_cell
from tomoseg.workflow.study_plan import scan_noise_std
from tomoseg.workflow.study_results import Study
from tomoseg.workflow.study_run import only_one
from tomoseg.workflow.study_slab import open_slab, slab_slices

TINY = (
    *("--steps", 3, "--width", 2, "--patch", 32, "--batch", 2, "--gap", 4, "--threads", 1, "--test-slices", 2),
    *("--levels", 0, 5000, "--shares", 0.5, "--sizes", "large", "--no-forest", "--noise-like", "white", "--quiet"),
)
END = ("--to-the-end", 0.5, "--most-minutes", 0.05, "--patience", 1)
CELLS = {"poster-large-baseline-s0", "poster-large-050-s0", "ours-large-s0", "ours_2D-large-s0", "ours_clean-large-s0",
         "poster-large-baseline-s0-random", "poster-large-050-s0-varied"}  # fmt: skip


def cells(**changes):
    given = {
        "sizes": ["small", "large"], "shares": [0.0, 0.5], "seeds": [0], "methods": ["ours", "ours 2D", "forest"],
        "levels": [0.0, 5000.0], "neighbours": True, "per_level": False, "varied": False, "to_the_end": [],
    }  # fmt: skip
    return study_cells(**{**given, **changes})


def test_a_study_has_the_posters_cells_ours_and_a_forest_for_each_level():
    # a size: baseline, two shares, ours, ours 2D, two forests; one random split of the large baseline
    assert len(cells()) == 2 * 7 + 1
    assert len(cells(varied=True)) == 2 * 7 + 2
    assert len(cells(seeds=[0, 1])) == 2 * (2 * 7 + 1)
    assert (
        len({cell.key for cell in cells(seeds=[0, 1], per_level=True, to_the_end=[None, 0.5])})
        == 2 * 15 + 2 * 2 * 2 + 2
    )


def test_without_neighbours_there_is_no_second_network_of_ours_and_no_random_split():
    found = cells(neighbours=False)
    assert not any(cell.method == "ours 2D" or cell.split == "random" for cell in found)


def test_every_cell_of_a_study_has_a_name_of_its_own():
    found = [
        Cell("poster", "large", share, seed, split, end, std, varied)
        for share in (None, 0.0, 0.25)
        for seed in (0, 1)
        for split in ("blocks", "random")
        for end in (False, True)
        for std in (None, 0.0, 1250.0)
        for varied in (False, True)
    ]
    assert len({cell.key for cell in found}) == len(found)


@given(n=st.integers(1, 60), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_the_share_of_noisy_images_is_as_asked(n, share, seed):
    found = noisy_places(n, share, rng=np.random.default_rng(seed))
    assert abs(len(found) - share * n) <= 0.5
    assert found <= set(range(n))


@given(level=st.floats(0, 300))
def test_on_a_straight_line_the_tolerated_level_is_where_it_crosses(level):
    levels = [0.0, 100.0, 200.0, 300.0]
    values = [1 - at / 1000 for at in levels]
    found = tolerated(levels, values, 1 - level / 1000, at_least=True)
    # rounding can put the last crossing beyond the curve
    assert found == pytest.approx(level, abs=1e-6) or (level > 299.99 and found == np.inf)


def test_a_curve_outside_at_once_tolerates_nothing_and_one_inside_tolerates_all():
    assert tolerated([0, 1], [0.9, 0.8], 0.95, at_least=True) is None
    assert tolerated([0, 1], [0.01, 0.02], 0.05, at_least=False) == np.inf


def test_a_curve_that_comes_back_counts_until_it_first_leaves():
    assert tolerated([0, 10, 20], [1.0, 0.8, 1.0], 0.9, at_least=True) == pytest.approx(5)


def test_the_interval_of_the_tolerated_level_holds_it_and_needs_five_blocks():
    rng = np.random.default_rng(0)
    wrong = rng.binomial(1000, [[0.01] * 30, [0.03] * 30, [0.05] * 30])
    blocks = np.array([[[[[1000 - n, n], [0, 1000]] for n in row] for row in wrong]])
    ends = tolerated_interval([0, 1, 2], blocks, 0.98, statistic=accuracy, at_least=True, rng=rng)
    level = tolerated([0, 1, 2], [accuracy(b.sum(axis=0)) for b in blocks[0]], 0.98, at_least=True)
    assert ends[0] < level < ends[1]
    assert ends[1] - ends[0] < 0.6
    assert tolerated_interval([0, 1, 2], blocks[:, :, :4], 0.98, statistic=accuracy, at_least=True, rng=rng) is None


def test_errors_of_opposite_sign_in_two_seeds_do_not_cancel():
    def largest(counts):
        return float(np.abs(fraction_errors(counts)).max())

    one, other = [[90, 10], [0, 100]], [[100, 0], [10, 90]]
    assert seed_means(np.array([[one], [other]]), largest) == [5.0]


@pytest.fixture(scope="module")
def scan(tmp_path_factory):
    folder = tmp_path_factory.mktemp("study") / "phantom"
    assert run(["phantom", "-o", str(folder), "--shape", "40", "64", "64", "--quiet"]) == 0
    return str(folder / "images"), str(folder / "labels")


def words(scan, out, *more):
    return [str(word) for word in ("study", "noise", *scan, "-o", out, *TINY, *more)]


@pytest.fixture(scope="module")
def done(scan, tmp_path_factory):
    out = tmp_path_factory.mktemp("done") / "study"
    assert run(words(scan, out, *END)) == 0
    return out


def table(out):
    with (out / "table.csv").open() as file:
        return list(csv.reader(file))


def test_a_study_leaves_table_curve_pictures_and_all_cells(done):
    found = json.loads((done / "study.json").read_text())
    assert {cell["key"] for cell in found["cells"]} == CELLS | {"poster-large-050-s0-end"}
    assert found["missing"] == []
    assert [point["level"] for point in found["cells"][0]["curve"]] == [0.0, 5000.0]
    assert (done / "figures/curve.png").exists()
    assert (done / "report.html").read_text().count("<figure>") == 1 + 2 * 2  # the curve; two methods, two levels


def test_a_training_to_the_end_stands_above_its_twin_and_ours(done):
    page = (done / "report.html").read_text()
    order = [page.index(title) for title in ("50 % noisy, to the end, ended", "the same, in the budget")]
    assert order == sorted(order)


def test_the_table_has_the_posters_layout_with_its_own_figures_under_ours(done):
    rows = table(done)
    assert rows[0] == ["", "Baseline", "50 %", "ours", "ours 2D", "ours clean"]
    assert [row[0] for row in rows[1:]] == ["Testing (large)", "the poster's own", "Validation (large)",
                                            "the poster's own"]  # fmt: skip
    assert rows[2][1:3] == ["0.990", "0.954"]
    found = {cell["key"]: cell for cell in json.loads((done / "study.json").read_text())["cells"]}
    noisy = found["poster-large-050-s0"]["curve"][1]["accuracy"]
    assert rows[1][2] == f"{noisy:.4f}"
    assert rows[1][1] == f"{found['poster-large-baseline-s0']['curve'][0]['accuracy']:.4f}"


def test_a_study_killed_in_the_middle_goes_on_with_the_missing_cells_to_the_same_table(scan, done, tmp_path):
    out = tmp_path / "study"
    command = [sys.executable, "-m", "tomoseg", *words(scan, out)]
    with subprocess.Popen(command, start_new_session=True, stdout=subprocess.DEVNULL) as process:
        until = time.monotonic() + 240
        while len(list(out.glob("cells/*-s0*.json"))) < 2 and time.monotonic() < until:
            time.sleep(0.05)
        os.killpg(process.pid, signal.SIGKILL)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*-s0*.json")}
    assert 2 <= len(kept) < len(CELLS)
    assert run(words(scan, out)) == 0
    assert table(out) == table(done)
    assert all(path.stat().st_mtime_ns == at for path, at in kept.items())


def test_two_worker_processes_give_the_same_table(scan, done, tmp_path):
    out = tmp_path / "study"
    assert run(words(scan, out, "--workers", 2)) == 0
    assert table(out) == table(done)


@pytest.mark.parametrize(
    ("scores", "ends"),
    [
        ([0.5, 0.6, 0.6, 0.6], True),
        ([0.5, 0.5, 0.6, 0.6], False),  # two validations without gain are wanted
        ([0.5, 0.4], False),
        ([], False),
    ],
)
def test_a_training_ends_when_validation_has_stopped_improving(scores, ends):
    training = SimpleNamespace(validations=[{"mean_iou": score} for score in scores])
    assert stopped_improving(training, 2) is ends


def test_a_folder_with_another_study_is_refused_and_left_as_it_is(scan, done, capsys):
    before = sorted(path.name for path in done.rglob("*"))
    assert run(words(scan, done, *END, "--batch", 4)) == 2
    assert "another study (other batch)" in capsys.readouterr().err
    assert sorted(path.name for path in done.rglob("*")) == before


def test_a_study_grows_by_cells_and_keeps_those_that_are_done(scan, done, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(done, out)
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*-s0*.json")}
    assert run(words(scan, out, "--shares", 0.5, 1)) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    assert len(list(out.glob("cells/*-s0*.json"))) == len(kept) + 1
    assert table(out)[0][1:4] == ["Baseline", "50 %", "100 %"]


def test_other_threads_are_named_as_what_keeps_a_study_from_going_on(scan, done, capsys):
    assert run(words(scan, done, *END, "--threads", 2)) == 2
    assert "was begun with 1 threads a cell, which are 2" in capsys.readouterr().err


def test_force_drops_the_report_of_another_study_with_its_cells(scan, done, tmp_path, monkeypatch):
    from tomoseg.workflow import study_run

    out = tmp_path / "study"
    shutil.copytree(done, out)
    monkeypatch.setattr(study_run, "run_all", lambda *_: {})  # as if it were killed before its first cell is done
    assert run(words(scan, out, *END, "--batch", 4, "--force")) == 2
    assert sorted(path.name for path in out.iterdir()) == ["cells", "figures"]
    assert not list(out.glob("cells/*-s0*"))


def test_a_study_of_a_version_that_knew_fewer_options_goes_on(scan, done):
    mark = done / "cells/study.json"
    before = mark.read_text()
    known = json.loads(before)
    assert known.pop("empty_chunks") is False
    mark.write_text(json.dumps(known))
    cells = {path: path.stat().st_mtime_ns for path in done.glob("cells/*-s0*.json")}
    assert run(words(scan, done, *END)) == 0
    assert {path: path.stat().st_mtime_ns for path in done.glob("cells/*-s0*.json")} == cells
    mark.write_text(before)


def test_a_cell_that_fails_is_named_and_stops_no_other(scan, tmp_path, capsys, monkeypatch):
    from tomoseg.workflow import study_cell

    whole = study_cell.run_cell

    def run_cell(cell, settings, threads):
        if cell.method == "ours 2D":
            raise RuntimeError("out of luck")
        return whole(cell, settings, threads)

    monkeypatch.setattr(study_cell, "run_cell", run_cell)
    out = tmp_path / "study"
    assert run(words(scan, out)) == 0
    assert "ours_2D-large-s0 failed" in capsys.readouterr().err
    assert "out of luck" in (out / "cells/ours_2D-large-s0.failed.txt").read_text()
    assert json.loads((out / "study.json").read_text())["missing"] == ["ours_2D-large-s0"]


def test_photons_which_have_an_infinite_identity_are_studied_to_the_end(scan, tmp_path):
    out = tmp_path / "study"
    assert run(words(scan, out, "--kind", "poisson", "--levels", 1000)) == 0
    assert json.loads((out / "study.json").read_text())["levels"] == [None, 5000, 1000]  # JSON has no infinity
    rows = list(csv.DictReader((out / "curve.csv").open()))
    assert len(rows) == 5 * 3
    for row in rows:  # of one seed
        fractions = [float(value) for name, value in row.items() if name.startswith("error of phase fraction")]
        assert max(map(abs, fractions)) == pytest.approx(float(row["largest fraction error, points"]), abs=2e-3)
    assert "What it does to the numbers" in (out / "report.html").read_text()


def test_the_short_form_is_short_from_the_command_line_too(scan, tmp_path):
    settings = StudySettings(what="noise", images=scan[0], labels=scan[1], out=tmp_path, steps=3, quick=True)
    short = _quick(settings)
    assert (short.width, short.sizes, short.levels) == (8, ("large",), (0.0, 5000.0, 10_000.0))
    # the command line passes every field, so that what was set cannot tell what is wanted
    passed = StudySettings(**settings.model_dump())
    assert _quick(passed) == short
    assert _quick(settings.model_copy(update={"width": 16})).width == 16
    assert _quick(settings.model_copy(update={"kind": "blur"})).levels is None


def test_a_second_study_in_the_same_folder_is_kept_out(scan, done, capsys):
    with only_one(done):
        assert run(words(scan, done)) == 2
    assert "another study is running" in capsys.readouterr().err


def test_shares_that_differ_by_little_have_cells_of_their_own():
    assert len({Cell("poster", "large", share).key for share in (0.0, 0.004, 0.12, 0.124)}) == 4


def test_noise_of_the_scan_is_measured_right_where_it_is_correlated(tmp_path):
    grey = np.full((400, 400), 30_000.0)
    smooth = gaussian_autocorrelation(1.0)
    noisy = add_correlated_noise(grey, 740, autocorrelation=smooth, rng=np.random.default_rng(0))
    found = measure_noise(noisy.round().astype(np.uint16))
    assert found.std_grey == pytest.approx(740, rel=0.1)
    assert found.autocorrelation[8, 9] == pytest.approx(smooth[6, 7], abs=0.06)


def test_empty_blocks_are_no_samples():
    rng = np.random.default_rng(0)
    blocks = np.zeros((1, 2, 14, 2, 2), np.int64)
    blocks[0, :, :4] = [[99, 1], [0, 100]]
    assert tolerated_interval([0, 1], blocks, 0.9, statistic=accuracy, at_least=True, rng=rng) is None


def test_a_study_without_any_cell_says_why(scan, tmp_path, capsys):
    assert run(words(scan, tmp_path / "study", "--patch", 128)) == 2
    assert "hold no crop of 128 x 128" in capsys.readouterr().err


def test_a_study_whose_cells_all_fail_by_a_fault_of_ours_says_so(scan, tmp_path, capsys, monkeypatch):
    def broken(*_):
        raise KeyError("here")

    monkeypatch.setattr("tomoseg.workflow.study_cell.run_cell", broken)
    assert run(words(scan, tmp_path / "study")) == 1
    said = capsys.readouterr().err
    assert "no network could be trained; the first: KeyError: 'here'" in said
    assert "this is a fault of tomoseg" in said


def test_half_of_the_training_and_of_the_validation_images_are_noisy(scan, tmp_path):
    settings = StudySettings(
        what="noise", images=scan[0], labels=scan[1], out=tmp_path, patch=32, width=2, gap=4, noise_std=5000
    )
    layout = open_study(settings, Console(quiet=True))
    clean, noisy = (prepare_cell(Cell("poster", "large", share), layout, settings) for share in (None, 0.5))
    assert len(noisy.source.noise.noisy) == pytest.approx(len(noisy.source.crops) / 2, abs=2)  # two may coincide
    assert noisy.source.noise.noisy <= {tuple(crop) for crop in noisy.source.crops.tolist()}
    stds = [(a.image - b.image).std() for a, b in zip(noisy.checks, clean.checks, strict=True)]
    assert sum(std > 0 for std in stds) == round(len(stds) / 2)
    assert len(stds) == len(clean.splits[0].of("validation")) > 1
    np.testing.assert_allclose([std for std in stds if std > 0], 5000 / clean.window.width, rtol=0.1)


def test_ours_trains_on_noise_up_to_the_top_and_its_twin_on_none(scan, tmp_path):
    settings = StudySettings(what="noise", images=scan[0], labels=scan[1], out=tmp_path, patch=32, width=2, gap=4)
    layout = open_study(settings, Console(quiet=True))
    noise = {}
    for method in ("ours", "ours 2D", "ours clean"):
        source = prepare_cell(Cell(method, "large"), layout, settings).source
        flat = np.full((1, 256, 256), 30_000, np.uint16)
        draws = [source.noise.on(flat, (0, 0, 0), np.random.default_rng(seed)).std() for seed in range(40)]
        noise[method] = min(draws), max(draws)
    assert noise["ours"] == noise["ours 2D"]
    assert noise["ours"][0] < 0.2 * settings.trained_noise_std
    assert 0.8 * settings.trained_noise_std < noise["ours"][1] < 1.05 * settings.trained_noise_std
    assert noise["ours clean"] == (0, 0)


def test_another_degradation_is_studied_in_its_own_unit(scan, tmp_path):
    out = tmp_path / "study"
    assert run(words(scan, out, "--kind", "blur", "--levels", 0.0, 1.0)) == 0
    found = json.loads((out / "study.json").read_text())
    assert found["levels"] == [0.0, 1.0, 2.0]  # 2 px is the table's
    assert found["plan"] == []
    assert "no exposure" in found["why_no_exposure"]


@pytest.fixture(scope="module")
def planned(scan, tmp_path_factory):
    """A study of two seeds with a forest, on a scan whose noise is correlated."""
    place = tmp_path_factory.mktemp("planned")
    (place / "images").mkdir()
    for page in sorted(Path(scan[0]).iterdir()):
        smooth = ndimage.gaussian_filter(tifffile.imread(page).astype(np.float32), 0.5)
        tifffile.imwrite(place / "images" / page.name, smooth.round().astype(np.uint16))
    given = ["study", "noise", place / "images", scan[1], "-o", place / "study", *TINY, "--seeds", 0, 1, "--forest"]
    assert run([str(word) for word in (*given, "--noise-like", "scan", "--tolerance", "accuracy=0.4")]) == 0
    return json.loads((place / "study/study.json").read_text())


def test_the_plan_is_from_noise_like_the_scans_own(planned):
    forest = [cell for cell in planned["cells"] if cell["cell"]["method"] == "forest"]
    assert [cell["curve"][0]["level"] for cell in forest] == [0.0, 5000.0] * 2
    assert all("curve_like_scan" in cell for cell in planned["cells"])
    noisy = next(cell for cell in forest if cell["cell"]["noise_std"] == 5000)
    assert noisy["curve_like_scan"][0]["accuracy"] != noisy["curve"][0]["accuracy"]


def test_the_plan_says_what_a_tolerated_noise_means_for_the_exposure(planned):
    rows = {row["method"]: row for row in planned["plan"]}
    row = rows["forest"]
    own = row["scan_noise_std"]
    assert 350 < own < 600  # 739 before it was smoothed
    assert row["exposure_fraction"] == pytest.approx(own**2 / (own**2 + row["noise_std"] ** 2))
    assert row["between"] in (None, [0.0, 5000.0])
    assert row["beyond_the_curve"] is (row["between"] is None)


def test_a_filtered_scan_has_no_exposure(scan, tmp_path):
    (tmp_path / "images").mkdir()
    for page in sorted(Path(scan[0]).iterdir()):
        smooth = ndimage.gaussian_filter(tifffile.imread(page).astype(np.float32), 1.2)
        tifffile.imwrite(tmp_path / "images" / page.name, smooth.round().astype(np.uint16))
    settings = StudySettings(what="noise", images=tmp_path / "images", labels=scan[1], out=tmp_path / "o")
    layout = open_study(settings, Console(quiet=True))
    level, why = scan_noise_std(Study(settings, layout, (), {}))
    assert level is None
    assert "was filtered" in why


def test_the_error_of_a_tortuosity_factor_is_the_mean_over_the_axes_with_its_sign():
    labelled = ((Factor(2.0), Factor(4.0)),)
    errors, reasons = tortuosity_errors(labelled, ((Factor(1.8), Factor(4.2)),), ["a"])  # -10 and +5 %
    assert errors == {"tortuosity factor a": pytest.approx(-2.5)}
    assert reasons == {}


@pytest.mark.parametrize("which", ["labelled", "predicted"])
def test_a_phase_that_conducts_along_one_axis_only_has_no_error_and_says_in_what(which):
    both, one = ((Factor(2.0), Factor(2.0)),), ((Factor(2.0), Factor(None, "does not percolate along x")),)
    ways = (one, both) if which == "labelled" else (both, one)
    assert tortuosity_errors(*ways, ["a"]) == (
        {"tortuosity factor a": None},
        {"tortuosity factor a": f"a does not percolate along x, as {which}"},
    )


CLASSES = ("pore=0", "YSZ=128", "Ni=255")
SLAB = ("--test", "26:40", "--forest", "--levels", 2500, "--classes", *CLASSES)


@pytest.fixture(scope="module")
def fine(tmp_path_factory):
    """A phantom fine enough for its phases to percolate in slabs of some slices."""
    folder = tmp_path_factory.mktemp("fine") / "phantom"
    assert run(["phantom", "-o", str(folder), "--shape", "40", "64", "64", "--chord", "5", "--quiet"]) == 0
    return str(folder / "images"), str(folder / "labels")


@pytest.fixture(scope="module")
def fine_layout(fine, tmp_path_factory):
    out = tmp_path_factory.mktemp("o")
    settings = StudySettings(what="noise", images=fine[0], labels=fine[1], out=out, gap=4, classes=CLASSES)
    return open_study(settings, Console(quiet=True))


@pytest.fixture(scope="module")
def in_slab(fine, tmp_path_factory):
    """A study whose test slices are neighbours."""
    out = tmp_path_factory.mktemp("slab") / "study"
    assert run(words(fine, out, *SLAB)) == 0
    return out


def curve(out):
    with (out / "curve.csv").open() as file:
        return {(row["method"], float(row["level"])): row for row in csv.DictReader(file)}


def factors_of(row):
    return [value for name, value in row.items() if name.startswith("error of tortuosity factor")]


def test_a_study_on_neighbours_has_tortuosity_factors_as_it_is_and_at_the_tables_level(in_slab):
    rows = curve(in_slab)
    found = {cell["key"]: cell for cell in json.loads((in_slab / "study.json").read_text())["cells"]}
    for level in (0.0, 5000.0):
        told = found[f"forest-large-s0-at{level:g}"]["curve"][0]["number_errors"]
        row = rows["forest", level]
        for name in ("pore", "YSZ", "Ni"):
            error = told[f"tortuosity factor {name}"]
            assert float(row[f"error of tortuosity factor {name}, %"]) == pytest.approx(error, abs=1e-3)
            assert 0 < abs(error) < 100
    assert json.loads((in_slab / "study.json").read_text())["why_no_tortuosity"] is None
    assert factors_of(rows["forest", 2500.0]) == ["", "", ""]
    assert rows["forest", 2500.0]["error of interface area pore-YSZ, %"] != ""


def test_networks_that_lose_a_phase_have_no_tortuosity_factor_of_it_and_the_report_says_so(in_slab):
    page = (in_slab / "report.html").read_text()
    assert "Tortuosity factors are of slices 26 to 37, " in page  # 38 and 39 lack neighbours
    cells = [json.loads(path.read_text()) for path in in_slab.glob("cells/*-s0*.json")]
    points = [point for cell in cells for point in cell["curve"] if "tortuosity factor Ni" in point["number_errors"]]
    lacking = {
        (name, point["why_no_number"].get(name)) for point in points for name, error in point["number_errors"].items()
        if name.startswith("tortuosity") and error is None
    }  # fmt: skip
    assert lacking  # after three steps
    assert all("is absent, as predicted" in why or "does not percolate" in why for _, why in lacking)
    shown = {name: why for name, why in lacking if why in page}
    assert shown and "No tortuosity factor: " in page
    assert "nan" not in (in_slab / "curve.csv").read_text()


def test_where_the_test_is_too_few_neighbours_the_column_is_empty_and_the_report_says_why(done):
    assert all(factors_of(row) == ["", "", ""] for row in curve(done).values())
    page = (done / "report.html").read_text()
    assert "No tortuosity factors: they take 8 neighbouring test slices or more" in page
    why = json.loads((done / "study.json").read_text())["why_no_tortuosity"]
    assert why.endswith("sections that lie apart do not tell tortuosity") and why in page


def test_cells_that_were_recorded_without_tortuosity_factors_are_still_read(fine, in_slab, tmp_path):
    out = tmp_path / "study"
    shutil.copytree(in_slab, out)
    for path in out.glob("cells/*-s0*.json"):
        cell = json.loads(path.read_text())
        for point in cell["curve"]:
            del point["why_no_number"]
            kept = {k: v for k, v in point["number_errors"].items() if not k.startswith("tortuosity")}
            point["number_errors"] = kept
        path.write_text(json.dumps(cell))
    kept = {path: path.stat().st_mtime_ns for path in out.glob("cells/*-s0*.json")}
    assert run(words(fine, out, *SLAB)) == 0
    assert {path: path.stat().st_mtime_ns for path in kept} == kept
    for key, row in curve(out).items():
        assert factors_of(row) == ["", "", ""]
        assert row["error of phase fraction Ni, points"] == curve(in_slab)[key]["error of phase fraction Ni, points"]
    assert (
        "No tortuosity factor: not recorded by the version that ran these cells." in (out / "report.html").read_text()
    )


def test_a_slab_takes_eight_neighbours_whose_own_neighbours_are_there(fine_layout):
    scan = fine_layout.scan
    assert [one.z for one in slab_slices(scan, range(30, 40), context=2)] == list(range(30, 38))
    assert [one.z for one in slab_slices(scan, range(30, 40), context=0)] == list(range(30, 40))
    assert slab_slices(scan, range(31, 40), context=2) == []
    assert slab_slices(scan, range(0, 40, 2), context=0) == []
    # the thickest run, whatever lies beside it
    assert [one.z for one in slab_slices(scan, [*range(2, 10), *range(12, 22)], context=2)] == list(range(12, 22))


def test_a_slabs_errors_are_those_of_the_diffusion_solved_in_labels_and_segmentation(fine_layout):
    scan = fine_layout.scan
    slab = open_slab(scan, range(26, 40), context=2)
    errors, reasons = slab.errors(lambda one: scan.read_label(one.z))
    assert errors == dict.fromkeys(["tortuosity factor pore", "tortuosity factor YSZ", "tortuosity factor Ni"], 0.0)
    assert reasons == {}

    def grown(one):
        """Nickel one voxel thicker."""
        label = scan.read_label(one.z)
        return np.where(ndimage.binary_dilation(label == 2), 2, label).astype(np.uint8)

    errors, reasons = slab.errors(grown)
    assert errors["tortuosity factor Ni"] < -10
    ways = [np.stack([read(one) for one in slab.slices]) for read in (lambda one: scan.read_label(one.z), grown)]
    taus = []
    for axis in (1, 2):
        for way in ways:
            found = [tortuosity(way[part.slices] == 2, axis=axis, voxel_size=(1, 1, 1)) for part in slab.parts]
            sizes = [way[part.slices].size for part in slab.parts]
            taus.append(np.dot(sizes, [f.fraction for f in found]) / np.dot(sizes, [f.diffusivity for f in found]))
    assert errors["tortuosity factor Ni"] == pytest.approx(50 * (taus[1] / taus[0] + taus[3] / taus[2] - 2), abs=1e-3)


def test_the_labels_of_a_test_are_solved_once(fine_layout):
    study_slab._labelled.cache_clear()
    first, second = (open_slab(fine_layout.scan, range(26, 40), context=2) for _ in range(2))
    assert first.labelled is second.labelled
    other = open_slab(fine_layout.scan, range(10, 24), context=2)
    assert other.labelled != first.labelled


def test_a_slab_without_a_whole_part_has_no_factors_and_says_so(fine, tmp_path):
    (tmp_path / "labels").mkdir()
    for page in sorted(Path(fine[1]).iterdir()):
        label = tifffile.imread(page)
        label[32, 32] = 7
        tifffile.imwrite(tmp_path / "labels" / page.name, label)
    settings = StudySettings(
        what="noise", images=fine[0], labels=tmp_path / "labels", out=tmp_path / "o", gap=4, unlabelled="7"
    )
    scan = open_study(settings, Console(quiet=True)).scan
    slab = open_slab(scan, range(14, 40), context=2)  # of 24 slices: one part of 64 x 64 pixels
    errors, reasons = slab.errors(lambda one: pytest.fail("nothing has to be segmented"))
    assert set(errors.values()) == {None}
    assert set(reasons.values()) == {"no part of the slab of test slices is wholly labelled"}


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--tolerance", "accuracy=2"), "accuracy=0.98"),
        (("--split", "random", "--test", "30:40"), "are drawn"),
        (("--roi", "50:60,:,:"), "the volume has 40"),
        (("--to-the-end", "always"), "baseline"),
        (("--shares", "1.5"), "between 0 and 1"),
        (("--epochs", "2"), "one of them"),
        (("--patch", "100"), "multiple of 16"),
        (("--levels", "nan"), "0 or more"),
        (("--test", "none"), "no labelled slice"),
        (("--kind", "beam-hardening", "--levels", "60"), "from 0 to 50"),
    ],
)
def test_wrong_settings_get_one_line_and_leave_nothing(scan, tmp_path, capsys, given, said):
    out = tmp_path / "study"
    assert run(words(scan, out, *given)) == 2
    complaint = capsys.readouterr().err.strip()
    assert said in complaint
    assert "\n" not in complaint
    assert "error," not in complaint  # the words of the library that found it
    assert not out.exists()
