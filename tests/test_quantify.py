"""The verb `quantify`, end to end on small bodies."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile

from predicting import predict
from tomoseg.cli import run
from tomoseg.phantom import PhantomSpec, make_phantom
from tomoseg.workflow.quantify_compare_report import SECTIONS

SHAPE = (48, 96, 96)
CLASSES = ("--classes", "pore=0", "YSZ=128", "Ni=255")


def quantify(*words: object) -> int:
    return run(["quantify", *map(str, words), "--quiet"])


def numbers(folder: Path) -> dict[str, dict]:
    found = json.loads((folder / "quantities.json").read_text())
    return {one["name"]: one for one in found["measurements"]}


@pytest.fixture(scope="module")
def phantom(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return label pictures of a phantom, with the values 0, 128 and 255."""
    path = tmp_path_factory.mktemp("phantom") / "labels.tif"
    slices = make_phantom(PhantomSpec(shape=SHAPE, seed=3))
    tifffile.imwrite(path, np.array([0, 128, 255], np.uint8)[np.stack([one.label for one in slices])])
    return path


@pytest.fixture(scope="module")
def measured(phantom: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("measured") / "out"
    assert quantify(phantom, "-o", out, *CLASSES, "--voxel-size", 0.5, "--block", 32) == 0
    return out


def write(path: Path, labels: np.ndarray) -> Path:
    tifffile.imwrite(path, labels.astype(np.uint8))
    return path


def test_a_slab_has_the_fractions_and_areas_that_geometry_says(tmp_path: Path):
    labels = np.zeros((20, 24, 30), np.uint8)
    labels[:, 8:16], labels[:, 16:] = 1, 2
    source = write(tmp_path / "slab.tif", labels)
    assert quantify(source, "-o", tmp_path / "out", "--voxel-size", 2, "--classes", "a=0", "b=1", "c=2") == 0
    found = numbers(tmp_path / "out")
    assert found["phase fraction b"]["value"] == pytest.approx(1 / 3)
    # one interface in 23 gaps between voxels along y, each 2 um
    assert found["interface area a-b per volume"]["value"] == pytest.approx(1 / 46)
    assert found["interface area a-b per volume"]["unit"] == "1/um"
    assert found["interface area a-c per volume"]["value"] == 0
    assert found["triple-phase boundary density"]["value"] == 0
    assert found["percolating fraction b along z"]["value"] == 1
    assert found["percolating fraction b along y"]["value"] == 0
    assert found["mean chord length b along y"]["value"] == pytest.approx(16)


def test_every_number_says_how_it_was_measured_and_where_that_is_described(tmp_path: Path):
    source = write(tmp_path / "three.tif", np.random.default_rng(0).integers(0, 3, (24, 24, 24)))
    words = ("--voxel-size", 0.5, "--classes", "a=0", "b=1", "c=2", "--sizes")
    assert quantify(source, "-o", tmp_path / "out", *words) == 0
    found = numbers(tmp_path / "out")
    assert [name for name, one in found.items() if not (one["method"] and one["source"])] == []


def test_balls_bend_outwards_and_what_is_around_them_inwards(tmp_path: Path):
    """Balls of 4 um on a grid whose period the volume holds whole; as counts go, blocks are alike."""
    at = np.indices((60, 60, 60)) % 20 - 9.6
    source = write(tmp_path / "balls.tif", (at**2).sum(axis=0) < 8**2)
    words = ("--voxel-size", 0.5, "--block", 16, "--classes", "a=0", "b=1")
    assert quantify(source, "-o", tmp_path / "out", *words) == 0
    found = numbers(tmp_path / "out")
    integral, bend = found["integral of mean curvature b per volume"], found["mean curvature b"]
    assert (integral["unit"], bend["unit"]) == ("1/um2", "1/um")
    # edges of the volume count as the rest does, and are emptier here: 60 voxels for 59 between their centres
    assert integral["value"] == pytest.approx(4 * np.pi * 4 / 10**3 * (60 / 59) ** 3, rel=0.14 / 8)
    assert bend["value"] == pytest.approx(1 / 4, rel=0.02 + 0.14 / 8 + 2 / 59)
    assert found["mean curvature a"]["value"] == pytest.approx(-bend["value"], rel=1e-5)
    assert bend["settings"]["at_half_resolution"] == pytest.approx(1 / 4, rel=0.2)
    assert "Legland" in bend["source"] and "10.5566/ias.v26.p83-92" in (tmp_path / "out/report.html").read_text()
    assert quantify(source, "-o", tmp_path / "whole", "--voxel-size", 0.5, "--classes", "a=0", "b=1") == 0
    assert numbers(tmp_path / "whole")[integral["name"]]["value"] == integral["value"]


def test_the_block_size_changes_no_number(phantom: Path, measured: Path, tmp_path: Path):
    assert quantify(phantom, "-o", tmp_path / "out", *CLASSES, "--voxel-size", 0.5, "--block", 50) == 0
    ours, theirs = numbers(measured), numbers(tmp_path / "out")
    assert list(ours) == list(theirs)
    for name, one in ours.items():
        assert theirs[name]["value"] == pytest.approx(one["value"], rel=2e-6), name


def test_several_processes_give_the_same_numbers(phantom: Path, measured: Path, tmp_path: Path):
    words = (*CLASSES, "--voxel-size", 0.5, "--block", 32, "--workers", 2)
    assert quantify(phantom, "-o", tmp_path / "out", *words) == 0
    assert numbers(tmp_path / "out") == numbers(measured)


def test_a_dask_cluster_gives_the_same_numbers(phantom: Path, measured: Path, tmp_path: Path):
    distributed = pytest.importorskip("distributed")
    quiet = {"dashboard_address": None, "scheduler_kwargs": {"dashboard_address": "127.0.0.1:0"}}
    with distributed.LocalCluster(n_workers=1, threads_per_worker=1, host="127.0.0.1", **quiet) as cluster:
        words = (*CLASSES, "--voxel-size", 0.5, "--block", 32, "--scheduler", cluster.scheduler_address)
        assert quantify(phantom, "-o", tmp_path / "out", *words) == 0
    assert numbers(tmp_path / "out") == numbers(measured)


def test_a_value_that_is_no_class_ends_a_run_on_workers_in_one_line(phantom: Path, tmp_path: Path, capsys):
    given = ("--classes", "pore=0", "YSZ=128", "--block", 32, "--workers", 2)
    assert quantify(phantom, "-o", tmp_path / "q", *given) == 2
    assert "holds values that are no class: 255" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()


def test_sizes_of_a_plate_are_its_thickness(tmp_path: Path):
    labels = np.zeros((40, 40, 40), np.uint8)
    labels[:, 14:24] = 1
    assert quantify(write(tmp_path / "plate.tif", labels), "-o", tmp_path / "q", "--sizes", "--block", 20) == 0
    one = numbers(tmp_path / "q")["median diameter class_1"]
    assert one["value"] == pytest.approx(10, abs=0.8)
    assert "covered" in one["settings"] and (tmp_path / "q" / "figures" / "sizes.png").exists()


def test_plates_conduct_along_themselves_and_what_does_not_is_marked(tmp_path: Path):
    labels = np.zeros((20, 24, 30), np.uint8)
    labels[:, 8:16] = 1
    source = write(tmp_path / "slab.tif", labels)
    words = (source, "--voxel-size", 2, "--classes", "a=0", "b=1", "c=2", "--transport")
    assert quantify(*words, "-o", tmp_path / "out") == 0
    found = numbers(tmp_path / "out")
    for axis in "zx":
        assert found[f"tortuosity factor b along {axis}"]["value"] == pytest.approx(1)
        assert found[f"effective diffusivity b along {axis}"]["value"] == pytest.approx(1 / 3)
        assert found[f"geodesic tortuosity b along {axis}"]["value"] == pytest.approx(1)
    across = found["tortuosity factor b along y"]
    assert (across["value"], across["note"]) == (None, "not defined: b does not percolate along y")
    assert found["geodesic tortuosity c along z"]["note"] == "not defined: c is absent"
    assert quantify(*words, "-o", tmp_path / "both", "--workers", 2) == 0
    assert numbers(tmp_path / "both") == found
    assert "Transport" in (tmp_path / "out/report.html").read_text()


def test_a_large_volume_conducts_as_its_parts_do_and_parts_beyond_the_mask_are_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    from tomoseg.quantify.transport import tortuosity

    monkeypatch.setattr("tomoseg.workflow.quantify_transport.TRANSPORT_EDGE", 48)
    slices = make_phantom(PhantomSpec(shape=SHAPE, seed=3, chord=12))
    labels = np.array([0, 128, 255], np.uint8)[np.stack([one.label for one in slices])]
    fine = write(tmp_path / "fine.tif", labels)
    mask = np.full(labels.shape, 255, np.uint8)
    mask[:, -1, -1] = 0
    tifffile.imwrite(tmp_path / "mask.tif", mask)
    words = (fine, *CLASSES, "--voxel-size", 0.5, "--transport")
    assert quantify(*words, "-o", tmp_path / "out") == 0
    assert quantify(*words, "-o", tmp_path / "masked", "--mask", tmp_path / "mask.tif") == 0
    parts = [labels[:, y : y + 48, x : x + 48] == 255 for y in (0, 48) for x in (0, 48)]
    each = [tortuosity(part, axis=0, voxel_size=(1, 1, 1)) for part in parts]
    for folder, chosen in (("out", each), ("masked", each[:3])):
        found = numbers(tmp_path / folder)["tortuosity factor Ni along z"]
        ratio = sum(one.fraction for one in chosen) / sum(one.diffusivity or 0 for one in chosen)
        assert found["value"] == pytest.approx(ratio, rel=1e-9)
        assert found["settings"]["parts"] == len(chosen)
    low, high = numbers(tmp_path / "out")["tortuosity factor Ni along z"]["interval"]
    assert 1 <= low < numbers(tmp_path / "out")["tortuosity factor Ni along z"]["value"] < high
    assert found["note"] == "the volume holds 3 independent blocks; it takes 4"


def test_parts_that_are_alike_or_of_which_one_percolates_give_no_interval(
    phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("tomoseg.workflow.quantify_transport.TRANSPORT_EDGE", 32)
    assert quantify(phantom, *CLASSES, "--transport", "-o", tmp_path / "coarse") == 0
    coarse = numbers(tmp_path / "coarse")["effective diffusivity YSZ along z"]
    assert coarse["interval"] is None and coarse["note"].startswith("parts of 24 voxels are not independent")
    labels = np.indices((32, 64, 64)).sum(0) % 2
    labels[:, :8, :8] = 1
    assert quantify(write(tmp_path / "one.tif", labels), "--transport", "-o", tmp_path / "one") == 0
    found = numbers(tmp_path / "one")
    factor, flow = (found[f"{what} class_1 along z"] for what in ("tortuosity factor", "effective diffusivity"))
    assert factor["value"] > 1 and factor["interval"] is None and factor["note"] == "one of 4 parts percolates"
    assert flow["interval"][0] == 0 < flow["value"] < flow["interval"][1]


def test_four_classes_have_triple_phase_boundaries_in_the_report(tmp_path: Path):
    labels = np.kron(np.arange(8).reshape(2, 2, 2) % 4, np.ones((9, 9, 9)))
    assert quantify(write(tmp_path / "four.tif", labels), "-o", tmp_path / "q") == 0
    assert "Triple-phase boundaries" in (tmp_path / "q/report.html").read_text()


def test_a_mask_leaves_no_fractions_by_probabilities_of_all_voxels(model: Path, source: Path, tmp_path: Path):
    assert predict(model, source, tmp_path / "out.zarr") == 0
    shape = tifffile.imread(source).shape
    tifffile.imwrite(tmp_path / "mask.tif", np.indices(shape)[2].astype(np.uint8) > 3, photometric="minisblack")
    assert quantify(tmp_path / "out.zarr", "-o", tmp_path / "q", "--mask", tmp_path / "mask.tif") == 0
    assert "phase fraction pore by probabilities" not in numbers(tmp_path / "q")


def test_sizes_bring_particles_and_correlation_for_any_blocks_and_workers(tmp_path: Path):
    labels = np.zeros((24, 32, 32), np.uint8)
    for z, y, x in np.ndindex(2, 3, 3):
        labels[z * 12 + 3 : z * 12 + 8, y * 10 + 3 : y * 10 + 8, x * 10 + 3 : x * 10 + 8] = 1
    source = write(tmp_path / "cubes.tif", labels)
    words = ("--sizes", "--voxel-size", 0.5)
    assert quantify(source, "-o", tmp_path / "a", *words) == 0
    assert quantify(source, "-o", tmp_path / "b", *words, "--block", 17, "--workers", 2) == 0
    found, blocks = numbers(tmp_path / "a"), numbers(tmp_path / "b")
    shown = [name for name in found if name.startswith(("particle", "correlation"))]
    assert {name: found[name]["value"] for name in shown} == {name: blocks[name]["value"] for name in shown}
    assert found["particles class_1 wholly inside"]["value"] == 18
    of_cube = 0.5 * (6 * 125 / np.pi) ** (1 / 3)
    assert found["particle diameter class_1 D50 by volume"]["value"] == pytest.approx(of_cube)
    # Cubes of five voxels in eighteen of them: alike over 1 - r / 5 of their lag, were they far apart.
    assert 0.5 * 2 < found["correlation length class_1"]["value"] < 0.5 * 5 * (1 - np.exp(-1))
    page = (tmp_path / "a" / "report.html").read_text()
    assert "Particles" in page and "whole ones" in page and (tmp_path / "a" / "figures" / "correlation.png").exists()
    starts = tuple(start for section in SECTIONS.values() for start in section)
    assert not [name for name in found if not name.startswith(starts)]


def test_particles_and_balls_have_intervals_in_all_that_is_written(tmp_path: Path):
    cells = np.random.default_rng(0).random((12, 12, 12)) < 0.1
    source = write(tmp_path / "cubes.tif", np.kron(cells, np.ones((3, 3, 3))))
    assert quantify(source, "-o", tmp_path / "q", "--sizes", "--voxel-size", 0.5, "--block", 18) == 0
    found = numbers(tmp_path / "q")
    rows = {row["name"]: row for row in csv.DictReader((tmp_path / "q/quantities.csv").open())}
    page = (tmp_path / "q" / "report.html").read_text()
    names = ["particles class_1 per volume", "particle diameter class_1 median by number", "median diameter class_1",
             "particle diameter class_1 D50 by volume"]  # fmt: skip
    for name in names:
        low, high = found[name]["interval"]
        assert low <= found[name]["value"] <= high, name
        assert found[name]["interval_contains"].startswith("sampling only")
        assert float(rows[name]["low"]) == low and f"{low:#.4g}".rstrip(".") in page
    assert found["particle diameter class_0 D50 by volume"]["interval"] is None
    assert "Woodruff" in page


def test_areas_and_lines_are_those_of_the_phantom_s_fields(measured: Path):
    truth = sum_of_truth()
    found = numbers(measured)
    for pair, area in zip(("pore-YSZ", "pore-Ni", "YSZ-Ni"), truth.areas / truth.volume, strict=True):
        assert found[f"interface area {pair} per volume"]["value"] * 0.5 == pytest.approx(area, rel=0.02)
    line = found["triple-phase boundary density"]
    assert line["value"] * 0.25 == pytest.approx(truth.line / truth.volume, rel=0.03)
    assert line["settings"]["counted_in_full"] > 1.25 * line["value"]


def sum_of_truth():
    from functools import reduce
    from operator import add

    return reduce(add, (one.truth for one in make_phantom(PhantomSpec(shape=SHAPE, seed=3))))


def test_active_inactive_and_unknown_lines_make_up_the_whole(measured: Path):
    found = numbers(measured)
    for axis in "zyx":
        parts = [found[f"triple-phase boundary density, {word} along {axis}"]["value"]
                 for word in ("active", "inactive", "unknown")]  # fmt: skip
        assert sum(parts) == pytest.approx(found["triple-phase boundary density"]["value"], rel=0.01)


def test_intervals_stand_beside_what_blocks_can_tell_and_say_what_they_contain(measured: Path, tmp_path: Path):
    coarse = np.random.default_rng(0).integers(0, 3, (8, 8, 8), dtype=np.uint8)
    source = write(tmp_path / "cubes.tif", np.kron(coarse, np.ones((8, 8, 8), np.uint8)))
    assert quantify(source, "-o", tmp_path / "q", "--block", 16) == 0
    one = numbers(tmp_path / "q")["phase fraction class_1"]
    low, high = one["interval"]
    # 512 cubes, a third of them of the class: a std of 0.021
    assert 0.04 < high - low < 0.13 and low < one["value"] < high
    assert one["interval_contains"].startswith("sampling only")
    assert numbers(measured)["phase fraction pore"]["note"].startswith("the volume holds 1 independent block;")
    assert numbers(measured)["percolating fraction pore along z"]["interval"] is None


def test_report_and_table_hold_the_same_numbers(measured: Path):
    rows = list(csv.DictReader((measured / "quantities.csv").open()))
    found = numbers(measured)
    assert {row["name"]: row["value"] for row in rows} == {
        name: "" if one["value"] is None else str(one["value"]) for name, one in found.items()
    }
    page = (measured / "report.html").read_text()
    assert "interface area pore-Ni per volume" in page and "Torquato" in page


def test_a_prediction_says_its_classes_and_its_probabilities(model: Path, source: Path, tmp_path: Path):
    assert predict(model, source, tmp_path / "out.zarr") == 0
    assert quantify(tmp_path / "out.zarr", "-o", tmp_path / "q") == 0
    found = numbers(tmp_path / "q")
    labels = [found[f"phase fraction {name}"]["value"] for name in ("pore", "YSZ", "Ni")]
    assert all(one["method"] and one["source"] for one in found.values())
    soft = [found[f"phase fraction {name} by probabilities"]["value"] for name in ("pore", "YSZ", "Ni")]
    assert sum(labels) == pytest.approx(1) and sum(soft) == pytest.approx(1, abs=1e-5)
    assert found["mean chord length pore along z"]["unit"] == "um"  # the scan says its voxel size


def test_labels_that_were_converted_have_the_probabilities_of_the_prediction_they_come_from(
    model: Path, source: Path, tmp_path: Path, capsys: pytest.CaptureFixture
):
    assert predict(model, source, tmp_path / "out.zarr") == 0
    assert run(["convert", str(tmp_path / "out.zarr"), str(tmp_path / "labels.tif"), "--quiet"]) == 0
    words = (tmp_path / "labels.tif", "-o", tmp_path / "q", "--probabilities")
    assert quantify(*words, tmp_path / "out.zarr") == 0
    assert quantify(tmp_path / "out.zarr", "-o", tmp_path / "own") == 0
    name = "phase fraction pore by probabilities"
    assert numbers(tmp_path / "q")[name] == numbers(tmp_path / "own")[name]
    capsys.readouterr()
    for wrong, says in ((source, "nothing that tomoseg predict wrote"), (tmp_path / "out.zarr", "do not come from it")):
        other = write(tmp_path / "other.tif", np.zeros((6, 7, 8)) + np.arange(8) % 2)
        assert quantify(other, "-o", tmp_path / "w", "--probabilities", wrong) == 2
        assert says in capsys.readouterr().err
    assert not (tmp_path / "w").exists()


def test_what_a_mask_or_an_excluded_class_hides_counts_nowhere(phantom: Path, tmp_path: Path):
    assert quantify(phantom, "-o", tmp_path / "q", *CLASSES, "--exclude", "Ni") == 0
    found = numbers(tmp_path / "q")
    assert found["phase fraction pore"]["value"] + found["phase fraction YSZ"]["value"] == pytest.approx(1)
    assert not any("Ni" in name or name.startswith("triple") for name in found)
    tifffile.imwrite(tmp_path / "mask.tif", np.tile(np.arange(96) < 40, (96, 1)).astype(np.uint8))
    assert quantify(phantom, "-o", tmp_path / "m", *CLASSES, "--mask", tmp_path / "mask.tif") == 0
    assert quantify(phantom, "-o", tmp_path / "r", *CLASSES, "--roi", ":,:,:40") == 0
    masked, cut = numbers(tmp_path / "m"), numbers(tmp_path / "r")
    for name in ("phase fraction pore", "interface area pore-Ni per volume", "triple-phase boundary density",
                 "mean curvature Ni", "integral of mean curvature Ni per volume"):  # fmt: skip
        assert masked[name]["value"] == pytest.approx(cut[name]["value"], rel=1e-5), name


def test_a_mask_of_a_picture_a_slice_is_decoded_once(phantom: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    from tomoseg import field_of_view

    decoded, found = [], field_of_view._nonzero
    monkeypatch.setattr(field_of_view, "_nonzero", lambda pictures, z: decoded.append(z) or found(pictures, z))
    mask = np.tile(np.arange(96) < 40, (48, 96, 1)).astype(np.uint8)
    tifffile.imwrite(tmp_path / "mask.tif", mask, photometric="minisblack")
    words = (phantom, "-o", tmp_path / "m", *CLASSES, "--mask", tmp_path / "mask.tif", "--block", 24)
    assert quantify(*words) == 0
    # by the one that plans and the one that measures
    assert max(decoded.count(z) for z in range(48)) <= 2


def test_an_absent_phase_and_a_single_slice_are_marked_not_defined(phantom: Path, tmp_path: Path):
    words = ("--classes", "pore=0", "YSZ=128", "Ni=255", "crack=9")
    assert quantify(phantom, "-o", tmp_path / "q", *words) == 0
    found = numbers(tmp_path / "q")
    assert found["phase fraction crack"]["value"] == 0
    assert found["interface area pore-crack per volume"]["value"] is None
    assert found["interface area pore-crack per volume"]["note"] == "not defined: crack is absent"
    assert found["number of parts crack"]["value"] is None
    for name in ("mean curvature crack", "integral of mean curvature crack per volume"):
        assert (found[name]["value"], found[name]["note"]) == (None, "not defined: crack is absent")
    assert quantify(phantom, "-o", tmp_path / "flat", *CLASSES, "--roi", "3:4,:,:") == 0
    flat = numbers(tmp_path / "flat")
    assert flat["triple-phase boundary density"]["note"] == "not defined: the volume is one voxel thick along z"
    assert flat["mean curvature Ni"]["note"] == "not defined: the volume is one voxel thick along z"
    alone = write(tmp_path / "alone.tif", np.zeros((12, 12, 12)))
    assert quantify(alone, "-o", tmp_path / "alone", "--classes", "a=0", "b=1") == 0
    whole = numbers(tmp_path / "alone")
    assert whole["integral of mean curvature a per volume"]["value"] == 0
    assert whole["mean curvature a"]["note"] == "not defined: a has no surface"
    for what in ("percolating fraction YSZ along z", "dead-ended fraction YSZ along z", "isolated fraction YSZ"):
        assert flat[what]["value"] is None
        assert flat[what]["note"] == "not defined: the volume is one voxel thick along z"
    assert flat["percolating fraction YSZ along y"]["value"] is not None
    assert "NaN" not in (tmp_path / "flat" / "quantities.json").read_text()


def test_scores_of_labelled_slices_widen_intervals_and_correct_numbers(tmp_path: Path):
    coarse = np.random.default_rng(0).integers(0, 3, (8, 8, 8), dtype=np.uint8)
    source = write(tmp_path / "cubes.tif", np.kron(coarse, np.ones((8, 8, 8), np.uint8)))
    area = "interface area class_0-class_1 per volume"
    effect = {"labelled": 0.02, "predicted": 0.01, "correction": 2.0, "interval": [1.6, 2.4], "n_blocks": 30}
    line = {**effect, "correction": 1.2, "interval": [1.1, 1.3]}
    told = {area: effect, "triple-phase boundary density": line}
    (tmp_path / "scores.json").write_text(json.dumps({"leaky": False, "numbers": told}))
    (tmp_path / "leaky.json").write_text(json.dumps({"leaky": True, "numbers": {area: effect}}))
    (tmp_path / "odd.json").write_text("[]")
    others = {"leaky": False, "class_names": ["a", "b"], "numbers": {area: effect}}
    (tmp_path / "others.json").write_text(json.dumps(others))
    plain, both = ("-o", tmp_path / "a"), ("-o", tmp_path / "b", "--scores", tmp_path / "scores.json", "--correct")
    assert quantify(source, *plain, "--block", 32) == quantify(source, *both, "--block", 32) == 0
    before, after = numbers(tmp_path / "a")[area], numbers(tmp_path / "b")[area]
    assert after["value"] == pytest.approx(2 * before["value"])
    assert after["settings"]["uncorrected"] == before["value"]
    surface, active = "surface area class_0 per volume", "triple-phase boundary density, active along z"
    plain, corrected = numbers(tmp_path / "a"), numbers(tmp_path / "b")
    other = corrected["interface area class_0-class_2 per volume"]["value"]
    assert corrected[surface]["value"] == pytest.approx(after["value"] + other)
    assert corrected[surface]["settings"]["uncorrected"] == plain[surface]["value"]
    assert corrected[active]["value"] == pytest.approx(1.2 * plain[active]["value"])
    with (tmp_path / "b" / "quantities.csv").open() as file:
        rows = {row["name"]: row for row in csv.DictReader(file)}
    assert float(rows[area]["uncorrected"]) == before["value"]
    low, high = after["interval"]
    assert high - low > 0.75 * before["value"] and "segmentation" in after["interval_contains"]
    for name in ("leaky.json", "odd.json", "others.json", "missing.json"):
        assert quantify(source, "-o", tmp_path / "c", "--scores", tmp_path / name) == 2
    assert quantify(source, "-o", tmp_path / "c", "--correct") == 2
    assert not (tmp_path / "c").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("--voxel-size", 0), "takes one length above 0"),
        (("--voxel-size", "18xm"), "18xm is no voxel size; it takes one length above 0, or three along z, y and x, in"),
        (("--voxel-size", "18nm", 2), "18nm 2 is no voxel size"),
        (("--exclude", "glass"), "--exclude glass: there is no such class; the classes are pore, YSZ, Ni"),
        (("--classes", "pore=0", "YSZ=128"), "holds values that are no class: 255"),
        (("--block", 4), "greater than or equal to 16"),
    ],
)
def test_wrong_input_is_one_clear_line(words, says, phantom: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    given = (*CLASSES, *words) if "--classes" not in words else words
    assert quantify(phantom, "-o", tmp_path / "q", *given) == 2
    complaint = capsys.readouterr().err.strip().splitlines()
    assert says in complaint[-1]
    assert not (tmp_path / "q").exists()


@pytest.mark.parametrize("words", [("20nm",), ("0.02um",), ("0.02 µm",), ("20", "20", "20", "nm"), (0.02,)])
def test_a_voxel_size_is_read_with_its_unit(words, tmp_path: Path):
    source = write(tmp_path / "slab.tif", np.indices((8, 8, 8))[1] // 4)
    assert quantify(source, "-o", tmp_path / "q", "--voxel-size", *words) == 0
    one = numbers(tmp_path / "q")["interface area class_0-class_1 per volume"]
    assert (one["value"], one["unit"]) == (pytest.approx(1 / 7 / 0.02), "1/um")


def test_slices_far_apart_are_no_volume_unless_their_distance_is_stated(tmp_path: Path, capsys):
    (tmp_path / "slices").mkdir()
    for number in (0, 50, 100):
        tifffile.imwrite(tmp_path / f"slices/plug_{number:04d}.tif", np.eye(40, dtype=np.uint8))
    assert quantify(tmp_path / "slices", "-o", tmp_path / "q", "--voxel-size", 2) == 2
    assert "after slice 0 comes 50, they are no neighbours" in capsys.readouterr().err
    assert quantify(tmp_path / "slices", "-o", tmp_path / "q", "--voxel-size", 100, 2, 2) == 0
    assert "longest edge is 50 times its shortest" in capsys.readouterr().err


def test_a_correction_of_too_few_blocks_is_not_made(tmp_path: Path):
    coarse = np.random.default_rng(0).integers(0, 2, (8, 8, 8), dtype=np.uint8)
    source = write(tmp_path / "cubes.tif", np.kron(coarse, np.ones((8, 8, 8), np.uint8)))
    area, why = "interface area class_0-class_1 per volume", "the labelled slices hold 2 independent blocks; it takes 8"
    effect = {"labelled": 0.02, "predicted": 0.01, "correction": 2.0, "n_blocks": 2, "note": why}
    (tmp_path / "scores.json").write_text(json.dumps({"numbers": {area: effect}}))
    assert quantify(source, "-o", tmp_path / "a", "--block", 32) == 0
    assert quantify(source, "-o", tmp_path / "b", "--block", 32, "--scores", tmp_path / "scores.json", "--correct") == 0
    before, after = numbers(tmp_path / "a")[area], numbers(tmp_path / "b")[area]
    assert (after["value"], after["interval"]) == (before["value"], before["interval"])
    assert after["settings"]["segmentation"] == f"not corrected: {why}" and why in after["note"]


def test_the_terminal_tells_corrected_numbers_and_why_there_are_no_intervals(tmp_path: Path, capsys):
    source = write(tmp_path / "a.tif", np.kron(np.indices((4, 4, 4)).sum(0) % 2, np.ones((8, 8, 8))))
    area = "interface area class_0-class_1 per volume"
    effect = {"labelled": 0.02, "predicted": 0.016, "correction": 1.25, "interval": [1.2, 1.3], "n_blocks": 30}
    (tmp_path / "scores.json").write_text(json.dumps({"numbers": {area: effect}}))
    assert quantify(source, "-o", tmp_path / "q", "--scores", tmp_path / "scores.json") == 0
    told = capsys.readouterr().out.splitlines()
    value = numbers(tmp_path / "q")[area]["value"]
    assert any(line.startswith(area) and line.endswith(f"corrected {1.25 * value:.4g}") for line in told)
    assert [line for line in told if line.startswith("no intervals")] == [
        "no intervals: the volume holds 1 independent block; it takes 8"
    ]


def test_a_scan_is_no_segmentation(source: Path, tmp_path: Path, capsys: pytest.CaptureFixture):
    assert quantify(source, "-o", tmp_path / "q") == 2
    assert "segment it first: tomoseg predict" in capsys.readouterr().err
    tifffile.imwrite(tmp_path / "float.tif", np.zeros((6, 20, 20), np.float32), photometric="minisblack")
    assert quantify(tmp_path / "float.tif", "-o", tmp_path / "q") == 2
    assert "holds float32 values; a segmentation holds whole numbers" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()
