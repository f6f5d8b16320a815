"""The verb `quantify --compare`, and the arithmetic of differences."""

import csv
import json
import math
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tomoseg.cli import run
from tomoseg.phantom import PhantomSpec, make_phantom
from tomoseg.quantify import Measurement
from tomoseg.quantify.comparison import difference, differences, square_and_add
from tomoseg.workflow.quantify_compare import sample_names

AREA = "interface area class_0-class_1 per volume"


def compare(*words: object) -> int:
    return run(["quantify", *map(str, words), "--compare", "--quiet"])


def one(value: float | None, interval: tuple[float, float] | None = None, **more: object) -> Measurement:
    return Measurement(
        **{"name": "a", "value": value, "unit": "um", "interval": interval, "method": "", "source": "", **more}
    )


def wilson(successes: int, n: int) -> tuple[float, float]:
    z, p = 1.959964, successes / n
    half = z * math.sqrt(z**2 + 4 * n * p * (1 - p))
    return (2 * n * p + z**2 - half) / (2 * (n + z**2)), (2 * n * p + z**2 + half) / (2 * (n + z**2))


# Newcombe 1998, table II, method 10
@pytest.mark.parametrize(
    ("a", "m", "b", "n", "low", "high"), [(56, 70, 48, 80, 0.0524, 0.3339), (9, 10, 3, 10, 0.1705, 0.8090)]
)
def test_two_proportions_differ_by_what_newcombe_says(a, m, b, n, low, high):
    found = square_and_add(a / m, wilson(a, m), reference=b / n, of_reference=wilson(b, n))
    assert found == pytest.approx((low, high), abs=6e-5)


def test_each_end_takes_the_half_widths_of_the_sides_that_push_it_there():
    found = difference(one(10, (7, 16)), one(5, (-3, 9)), sample="B", of="A")
    assert (found.value, found.interval) == (5, (5 - 5, 5 + 10))  # 3 and 4 below, 6 and 8 above
    assert "independent" in found.interval_contains
    assert (found.sample, found.reference, found.unit) == ("B", "A", "um")


def test_an_interval_around_a_corrected_value_is_one_around_the_corrected_difference():
    sample, reference = one(10, (17, 23), settings={"corrected": 20}), one(5, (6, 14), settings={"corrected": 10})
    found = difference(sample, reference, sample="B", of="A")
    assert (found.value, found.interval) == (5, (10 - 5, 10 + 5))


@pytest.mark.parametrize(
    ("sample", "marked"),
    [(one(9, (8, 10)), True), (one(5, (4, 6)), False), (one(1, (0, 2)), True), (one(9), False), (one(None), False)],
)
def test_only_an_interval_without_zero_is_marked(sample, marked):
    found = difference(sample, one(5, (4, 6)), sample="B", of="A")
    assert found.excludes_zero is marked
    assert (found.interval is None) is (sample.interval is None)
    assert (found.value is None) is (sample.value is None)


def test_a_number_that_one_sample_lacks_has_no_difference_and_units_are_not_mixed():
    numbers = {"A": [one(1), one(2, name="b")], "B": [one(4, name="b")], "C": [one(3), one(2.5, name="b")]}
    assert [(its.name, its.sample, its.value) for its in differences(numbers)] == [
        ("a", "C", 2), ("b", "B", 2), ("b", "C", 0.5),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="a in voxel and a in um are not the same quantity in one unit"):
        difference(one(1, unit="voxel"), one(1), sample="B", of="A")


def test_names_are_stems_that_no_two_samples_and_no_figures_share():
    assert sample_names([Path("x/A.tif"), Path("y/a.zarr"), Path("x/A.tif")]) == ["x-A", "y-a", "x-A-2"]
    assert sample_names([Path("figures"), Path("b.ome.zarr")]) == ["figures-2", "b.ome"]


def cubes(path: Path, shares: list[float], *, seed: int = 0, metadata: dict | None = None) -> Path:
    """Write cubes of random classes, each of 4 voxels: 8 independent blocks of 16 voxels."""
    coarse = np.random.default_rng(seed).choice(len(shares), size=(8, 8, 8), p=shares).astype(np.uint8)
    more = {"imagej": True, "resolution": (2, 2), "metadata": metadata} if metadata else {}
    tifffile.imwrite(path, np.kron(coarse, np.ones((4, 4, 4), np.uint8)), **more)
    return path


@pytest.fixture(scope="module")
def samples(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("samples")
    return {name: cubes(folder / f"{name}.tif", [0.3, 0.3, 0.4], seed=i) for i, name in enumerate(("fresh", "aged"))}


@pytest.fixture(scope="module")
def compared(samples: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder where one sample is beside another, and beside itself."""
    out = tmp_path_factory.mktemp("compared") / "out"
    fresh, aged = samples["fresh"], samples["aged"]
    assert compare(fresh, aged, fresh, "-o", out, "--voxel-size", 0.5, "--block", 16) == 0
    return out


def loaded(folder: Path) -> dict:
    return json.loads((folder / "quantities.json").read_text())


def test_differences_are_those_of_the_samples_own_reports(samples: dict[str, Path], compared: Path, tmp_path: Path):
    found = loaded(compared)
    first, aged, again = found["samples"]
    assert aged == "aged" and first.endswith("-fresh") and again == f"{first}-2"
    for name in found["samples"]:
        assert loaded(compared / name)["measurements"] == found["measurements"][name]
        assert (compared / name / "report.html").exists()
    values = {name: {its["name"]: its for its in found["measurements"][name]} for name in found["samples"]}
    steps = {(its["name"], its["sample"]): its for its in found["differences"]}
    assert set(steps) == {(name, sample) for name in values[first] for sample in (aged, again)}
    for (name, sample), its in steps.items():
        ours, theirs = values[sample][name], values[first][name]
        assert its["value"] == (None if ours["value"] is None else ours["value"] - theirs["value"])
        assert (its["interval"] is None) == (ours["interval"] is None or theirs["interval"] is None)
        assert its["reference"] == first
    alone = ["quantify", str(samples["aged"]), "-o", str(tmp_path / "q"), "--voxel-size", "0.5", "--quiet"]
    assert run([*alone, "--block", "16"]) == 0
    assert loaded(tmp_path / "q")["measurements"] == found["measurements"]["aged"]


def test_a_sample_does_not_differ_from_itself_and_does_from_another(compared: Path):
    found = loaded(compared)
    again = [its for its in found["differences"] if its["sample"] == found["samples"][2]]
    assert {its["value"] for its in again} <= {0, None}
    with_interval = [its for its in again if its["interval"]]
    assert len(with_interval) == 16  # three fractions, six areas, six curvatures, one triple line
    assert all(low < 0 < high for low, high in (its["interval"] for its in with_interval))
    assert any(its["value"] for its in found["differences"] if its["sample"] == "aged")


def test_page_and_table_hold_the_differences(compared: Path):
    page = (compared / "report.html").read_text()
    assert "1 in 20 where the samples are alike" in " ".join(page.split()) and AREA in " ".join(page.split())
    assert (compared / "figures" / "samples.png").exists()
    rows = {(row["name"], row["sample"]): row for row in csv.DictReader((compared / "quantities.csv").open())}
    steps = {(its["name"], its["sample"]): its for its in loaded(compared)["differences"]}
    for key, its in steps.items():
        assert rows[key]["difference"] == ("" if its["value"] is None else str(its["value"]))
        assert rows[key]["difference low"] == ("" if its["interval"] is None else str(its["interval"][0]))
    marked = sum(row["excludes 0"] == "yes" for row in rows.values())
    assert f"<b>{marked} of {sum(its['interval'] is not None for its in steps.values())}</b>" in page


def test_two_phantoms_differ_by_the_voxels_that_they_hold(tmp_path: Path):
    fractions = []
    for seed in (3, 4):
        labels = np.stack([its.label for its in make_phantom(PhantomSpec(shape=(24, 48, 48), seed=seed))])
        tifffile.imwrite(tmp_path / f"{seed}.tif", np.array([0, 128, 255], np.uint8)[labels])
        fractions.append(np.bincount(labels.ravel(), minlength=3) / labels.size)
    words = ("--classes", "pore=0", "YSZ=128", "Ni=255", "--block", 32)
    assert compare(tmp_path / "3.tif", tmp_path / "4.tif", "-o", tmp_path / "q", *words) == 0
    found = loaded(tmp_path / "q")
    steps = {its["name"]: its for its in found["differences"]}
    for name, expected in zip(("pore", "YSZ", "Ni"), fractions[1] - fractions[0], strict=True):
        assert steps[f"phase fraction {name}"]["value"] == pytest.approx(expected, abs=1e-12)
        assert steps[f"phase fraction {name}"]["interval"] is None  # too small for 8 independent blocks
    assert found["samples"] == ["3", "4"]


def test_a_clear_difference_is_marked_and_printed(tmp_path: Path, capsys):
    few, many = cubes(tmp_path / "few.tif", [0.7, 0.3]), cubes(tmp_path / "many.tif", [0.3, 0.7])
    assert compare(few, many, "-o", tmp_path / "q", "--classes", "b=0", "a=1", "--block", 16) == 0
    steps = {its["name"]: its for its in loaded(tmp_path / "q")["differences"]}
    low, high = steps["phase fraction a"]["interval"]
    assert 0 < low < steps["phase fraction a"]["value"] < high
    printed = capsys.readouterr().out
    assert "* the 95 % interval of the difference excludes 0" in printed
    assert any(line.startswith("phase fraction a") and " * (" in line for line in printed.splitlines())


def test_scores_put_the_interval_around_the_corrected_difference(samples: dict[str, Path], tmp_path: Path):
    effect = {"labelled": 0.02, "predicted": 0.01, "correction": 1.25, "interval": [1.2, 1.3], "n_blocks": 30}
    (tmp_path / "scores.json").write_text(json.dumps({"leaky": False, "numbers": {AREA: effect}}))
    (tmp_path / "leaky.json").write_text(json.dumps({"leaky": True, "numbers": {AREA: effect}}))
    words = (*samples.values(), "-o", tmp_path / "q", "--block", 16, "--scores")
    assert compare(*words, tmp_path / "leaky.json") == 2 and not (tmp_path / "q").exists()
    assert compare(*words, tmp_path / "scores.json") == 0
    found = loaded(tmp_path / "q")
    (step,) = [its for its in found["differences"] if its["name"] == AREA]
    low, high = step["interval"]
    assert (low + high) / 2 == pytest.approx(1.25 * step["value"])
    assert "The segmentation's error on the same" in (tmp_path / "q" / "report.html").read_text().replace("&#39;", "'")


def test_classes_of_each_sample_come_in_the_order_of_the_first(tmp_path: Path):
    from tomoseg.volume import Region
    from tomoseg.workflow.common import Reading
    from tomoseg.workflow.quantify_compare import alike
    from tomoseg.workflow.segmentation import open_segmentation

    path = cubes(tmp_path / "one.tif", [0.5, 0.5])
    how = {"exclude": (), "voxel_size": None}
    first, other = (open_segmentation(Reading(), path, stated=its, **how) for its in (("a=0", "b=1"), ("b=0", "a=1")))
    first, other = alike([first, other], ["first", "other"])
    assert [(its.name, its.value) for its in other.classes] == [("a", 1), ("b", 0)]
    assert [its.colour for its in other.classes] == [its.colour for its in first.classes]
    whole = Region.whole(first.shape)
    assert np.array_equal(other.read(whole), 1 - first.read(whole))


def test_what_cannot_be_compared_is_one_clear_line_before_anything_is_measured(tmp_path: Path, capsys):
    two, three = cubes(tmp_path / "two.tif", [0.5, 0.5]), cubes(tmp_path / "three.tif", [0.3, 0.3, 0.4])
    sized = cubes(tmp_path / "sized.tif", [0.5, 0.5], metadata={"unit": "um", "spacing": 0.5})
    out = tmp_path / "q"
    for words, says in (
        ((two, three), "two has class_0, class_1; three has class_0, class_1, class_2"),
        ((two, sized), "no voxel size is known of two, but of the others"),
        ((two,), "--compare takes two segmentations or more"),
        ((two, tmp_path / "missing.tif"), "missing.tif"),
    ):
        assert compare(*words, "-o", out) == 2
        (complaint,) = capsys.readouterr().err.strip().splitlines()
        assert says in complaint
    assert run(["quantify", str(two), str(sized), "-o", str(out)]) == 2
    assert "set beside each other with --compare" in capsys.readouterr().err
    assert not out.exists()


def test_a_value_that_is_no_class_in_the_last_sample_leaves_nothing_of_the_first(tmp_path: Path, capsys):
    two, three = cubes(tmp_path / "two.tif", [0.5, 0.5]), cubes(tmp_path / "three.tif", [0.3, 0.3, 0.4])
    assert compare(two, three, "-o", tmp_path / "q", "--classes", "a=0", "b=1") == 2
    assert "three.tif, slices" in capsys.readouterr().err
    assert not (tmp_path / "q").exists()


def test_an_existing_report_of_any_folder_is_refused_and_sources_are_no_targets(tmp_path: Path, capsys):
    two, other = cubes(tmp_path / "two.tif", [0.5, 0.5]), cubes(tmp_path / "other.tif", [0.4, 0.6])
    for place in (tmp_path / "a", tmp_path / "b" / "other"):
        place.mkdir(parents=True)
        (place / "report.html").write_text("mine")
        out = tmp_path / place.relative_to(tmp_path).parts[0]
        assert compare(two, other, "-o", out) == 2
        assert f"{place / 'report.html'}: exists" in capsys.readouterr().err
        assert (place / "report.html").read_text() == "mine" and not (out / "two").exists()
    (tmp_path / "slices").mkdir()
    cubes(tmp_path / "slices" / "0.tif", [0.5, 0.5])
    assert compare(tmp_path / "slices", two, "-o", tmp_path) == 2
    assert "is given as the source and as the output" in capsys.readouterr().err
    assert compare(two, other, "-o", tmp_path / "b", "--force") == 0
    assert (tmp_path / "b" / "other" / "report.html").read_text() != "mine"
