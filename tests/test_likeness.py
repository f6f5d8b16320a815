"""Whether a scan looks like the training data, and a model fitted to one that does not."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import tifffile
from scipy.ndimage import gaussian_filter

from tomoseg import adapt, likeness
from tomoseg.cli import run
from tomoseg.label_gain import change_by_one, fractions_by_forests
from tomoseg.labels import UNLABELLED
from tomoseg.model_file import Samples, load_model, save_model
from tomoseg.volume import read_slice
from tomoseg.volume.source import open_volume
from tomoseg.window import Window
from tomoseg.workflow.check import CheckSettings
from tomoseg.workflow.console import Console
from tomoseg.workflow.looking import label_next, look_at


@pytest.fixture(scope="session")
def scan(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a small phantom, its model in model.tomoseg, trained for a few steps without noise."""
    folder = tmp_path_factory.mktemp("alike")
    assert run(["phantom", "-o", str(folder / "p"), "--shape", "16", "192", "192", "--quiet"]) == 0
    words = ["train", folder / "p/images", folder / "p/labels", "-o", folder / "model.tomoseg", "--steps", 60,
             "--quiet", "--noise-std", 0, 0, "--test", "14:16", "--gap", 1, "--context", 1,
             "--classes", "pore=0", "YSZ=128", "Ni=255"]  # fmt: skip
    assert run([str(word) for word in words]) == 0
    return folder


def grey(scan: Path) -> np.ndarray:
    volume = open_volume(scan / "p/images")
    return np.stack([read_slice(volume, z) for z in range(volume.shape[0])]).astype(np.float64)


def written(path: Path, values: np.ndarray) -> Path:
    tifffile.imwrite(path, np.clip(np.rint(values), 0, 65535).astype(np.uint16), photometric="minisblack")
    return path


def checked(scan: Path, source: Path, out: Path) -> dict:
    words = ["check", scan / "model.tomoseg", source, "-o", out, "--slices", 3, "--quiet"]
    assert run([str(word) for word in words]) == 0
    assert (out / "report.html").exists()
    found: dict = json.loads((out / "check.json").read_text())
    return found


CHANGES = {
    "as it is": (lambda v: v, "green", ""),
    "noisier than training": (lambda v: v + np.random.default_rng(0).normal(0, 6000, v.shape), "red", "noise"),
    "brighter": (lambda v: 1.3 * v, "red", "grey values"),
    "shifted": (lambda v: v + 4000, "red", "grey values"),
    "shaded": (lambda v: v + np.linspace(-8000, 8000, v.shape[1])[:, None], "red", "grey values"),
    "blurred": (
        lambda v: gaussian_filter(v, (0, 3, 3)) + np.random.default_rng(0).normal(0, 700, v.shape), "red", "blur",
    ),
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES)
def test_a_scan_gets_the_light_that_it_deserves(scan: Path, tmp_path: Path, change: str) -> None:
    of, light, kind = CHANGES[change]
    found = checked(scan, written(tmp_path / "scan.tif", of(grey(scan))), tmp_path / "out")
    assert found["light"] == light
    assert any(why.startswith(kind) for why in found["why"]) == bool(kind)
    assert (found["expected_accuracy"] is None) == (light == "red")


def test_one_odd_slice_makes_a_scan_amber_and_is_the_first_to_label(scan: Path, tmp_path: Path) -> None:
    values = grey(scan)
    values[6] *= 1.4
    words = ["check", scan / "model.tomoseg", written(tmp_path / "scan.tif", values), "-o", tmp_path / "out", "--quiet"]
    assert run([str(word) for word in words]) == 0
    found = json.loads((tmp_path / "out/check.json").read_text())
    assert found["light"] == "amber"
    red = {row["slice"] for row in found["slices"] if row["light"] == "red"}
    assert {"scan.tif[6]"} <= red <= {"scan.tif[5]", "scan.tif[6]", "scan.tif[7]"}  # its neighbours see it as context
    assert found["label_next"][0] == "scan.tif[6]"


def test_what_cannot_be_checked_is_refused(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tifffile.imwrite(tmp_path / "eight.tif", np.zeros((3, 64, 64), np.uint8), photometric="minisblack")
    assert run(["check", str(scan / "model.tomoseg"), str(tmp_path / "eight.tif")]) == 2
    assert "holds uint8 grey values" in capsys.readouterr().err
    assert run(["check", str(scan / "model.tomoseg"), str(tmp_path / "nothing.tif")]) == 2


def test_noise_spreads_a_histogram_and_loses_nothing() -> None:
    counts = np.zeros(likeness.BINS, np.int64)
    counts[[0, 30, likeness.BINS - 1]] = 10, 20, 5
    spread = likeness.with_noise(counts, 0.2)
    assert spread.sum() == pytest.approx(35)
    assert spread[30] < 10
    assert np.array_equal(likeness.with_noise(counts, 0.0), counts)


def tiles_and_scan(gain: float, shift: float, fractions: tuple[float, ...]) -> tuple[Samples, np.ndarray]:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 3, (4, 32, 32)).astype(np.uint8)
    levels = np.array([21_000.0, 35_000.0, 41_000.0])
    images = np.rint(levels[labels] + rng.normal(0, 700, labels.shape)).astype(np.uint16)
    drawn = levels[rng.choice(3, 20_000, p=fractions)] + rng.normal(0, 700, 20_000)
    return Samples(images, labels), np.rint(gain * drawn + shift)


@pytest.mark.parametrize("fractions", [(1 / 3, 1 / 3, 1 / 3), (0.5, 0.2, 0.3)])
def test_a_window_is_matched_whatever_the_phases_fractions(fractions: tuple[float, ...]) -> None:
    window = Window(low=20_000, high=42_000)
    samples, values = tiles_and_scan(1.2, 3000, fractions)
    found = adapt.match_window(samples, window, values, noise_grey=840.0, noise=700 / 22_000)
    assert found.low == pytest.approx(27_000, abs=300)
    assert found.high == pytest.approx(53_400, abs=300)


def test_a_window_that_fits_is_kept() -> None:
    window = Window(low=20_000, high=42_000)
    samples, values = tiles_and_scan(1.0, 0, (0.5, 0.2, 0.3))
    assert adapt.match_window(samples, window, values, noise_grey=700.0, noise=700 / 22_000) == window


def test_outliers_do_not_move_a_matched_window() -> None:
    window = Window(low=20_000, high=42_000)
    samples, values = tiles_and_scan(1.2, 3000, (0.5, 0.2, 0.3))
    values[:10] = 1e7
    found = adapt.match_window(samples, window, values, noise_grey=840.0, noise=700 / 22_000)
    assert (found.low, found.high) == (pytest.approx(27_000, abs=300), pytest.approx(53_400, abs=300))


@pytest.mark.parametrize(("stretch", "shift"), [(1.0, 0.0), (0.7, 0.0), (1.0, 30.0)])
def test_a_window_is_matched_in_eight_bits(stretch: float, shift: float) -> None:
    samples, values = tiles_and_scan(1.0, 0.0, (0.5, 0.2, 0.3))
    eight = replace(samples, images=np.rint(samples.images / 257).astype(np.uint8))
    window = Window(low=20_000 / 257, high=42_000 / 257)
    seen = np.rint(stretch * values / 257 + shift).astype(np.uint8)
    found = adapt.match_window(eight, window, seen, noise_grey=stretch * 700 / 257, noise=700 / 22_000)
    assert found.low == pytest.approx(stretch * window.low + shift, abs=1.5)
    assert found.high == pytest.approx(stretch * window.high + shift, abs=1.5)


def correlated(std: float, shape: tuple[int, ...], seed: int) -> np.ndarray:
    noise = gaussian_filter(np.random.default_rng(seed).normal(0, 1, shape), (*(0,) * (len(shape) - 2), 1, 1))
    return 30_000 + std * noise / noise.std()


@pytest.mark.parametrize(
    "of", [correlated, lambda std, shape, seed: np.random.default_rng(seed).normal(3e4, std, shape)]
)
def test_noise_that_is_there_already_is_not_added_again(of: Callable[..., np.ndarray]) -> None:
    pages = [(page, np.ones(page.shape, bool)) for page in of(500.0, (2, 200, 200), 0)]
    scan, tiles, told = adapt.measure_both(pages, of(500.0, (8, 128, 128), 1))
    assert told
    assert scan.std == pytest.approx(500, rel=0.1)
    assert adapt.lacking(scan, tiles).std < 250  # the root of a difference: 10 % of the std are 46 % of it
    noisier = [(2 * (page - 30_000) + 30_000, inside) for page, inside in pages]
    scan, tiles, _ = adapt.measure_both(noisier, of(500.0, (8, 128, 128), 1))
    added = adapt.lacking(scan, tiles)
    assert added.std == pytest.approx(500 * 3**0.5, rel=0.1)
    assert added.white == (of is not correlated)


def test_slices_without_a_pixel_that_counts_say_nothing_of_the_noise() -> None:
    page = np.random.default_rng(0).normal(3e4, 500, (128, 128))
    inside, outside = np.ones(page.shape, bool), np.zeros(page.shape, bool)
    scan, _, _ = adapt.measure_both([(page, inside), (page, outside), (page, outside)], page[None])
    assert scan.std == pytest.approx(500, rel=0.1)


def test_a_model_is_adapted_to_noise_and_scaling_that_it_has_not_seen(scan: Path, tmp_path: Path) -> None:
    noisy = 1.2 * grey(scan) + np.random.default_rng(1).normal(0, 4000, grey(scan).shape)
    source, out = written(tmp_path / "scan.tif", noisy), tmp_path / "new.tomoseg"
    words = ["adapt", scan / "model.tomoseg", source, "-o", out, "--steps", 40, "--quiet"]
    assert run([str(word) for word in words]) == 0
    old, new = load_model(scan / "model.tomoseg"), load_model(out)
    parent = new.record.parent
    assert parent is not None
    assert (parent.model, parent.window, parent.scan.name) == (old.content, old.record.window, "scan.tif")
    assert new.record.window.width == pytest.approx(1.2 * old.record.window.width, rel=0.05)
    assert parent.noise_after * new.record.window.width == pytest.approx(4000, rel=0.15)
    assert new.record.slices == old.record.slices
    assert max(check["mean_iou"] for check in new.record.validations) > 0.7
    found = tmp_path / "found.json"
    assert run(["check", str(out), str(source), "-o", str(found.with_suffix("")), "--slices", "3", "--quiet"]) == 0
    assert json.loads((tmp_path / "found/check.json").read_text())["light"] != "red"
    assert run(["evaluate", str(out), str(source), str(scan / "p/labels"), "-o", str(tmp_path / "e"), "--quiet"]) == 0
    assert run([str(word) for word in words]) == 2  # it is there
    assert run([str(word) for word in [*words, "--force"]]) == 0
    assert load_model(out).content == new.content


def test_tiles_with_few_labels_are_filled_up_by_the_model_itself(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = load_model(scan / "model.tomoseg")
    assert made.samples is not None
    truth = made.samples.labels
    few = np.where(np.random.default_rng(2).random(truth.shape) < 0.01, (truth + 1) % 3, np.uint8(UNLABELLED))
    samples = replace(made.samples, labels=few)
    learnt: list[np.ndarray] = []

    def noted(stacks: np.ndarray, labels: np.ndarray, *others: object) -> object:
        learnt.append(labels)
        return source_of(stacks, labels, *others)

    source_of = adapt.TileSource
    monkeypatch.setattr(adapt, "TileSource", noted)
    for guessed in (False, True):
        record = made.record.model_copy(update={"guessed": guessed})
        save_model(tmp_path / f"{guessed}.tomoseg", replace(made, record=record, samples=samples))
        words = ["adapt", tmp_path / f"{guessed}.tomoseg", scan / "p/images", "-o", tmp_path / f"new_{guessed}.tomoseg"]
        assert run([*map(str, words), "--steps", "1", "--quiet"]) == 0
    chosen = np.arange(len(made.samples.stacks)) % 4 != 3
    (as_it_was, found), given = learnt, few[: len(chosen)][chosen]
    known = given != UNLABELLED
    np.testing.assert_array_equal(as_it_was, given)
    np.testing.assert_array_equal(found[known], given[known])
    assert (found == truth[: len(chosen)][chosen])[~known].mean() > 0.8


def test_what_cannot_be_adapted_is_refused(scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model, new, good = str(scan / "model.tomoseg"), str(tmp_path / "new.tomoseg"), str(scan / "p/images")
    flat = str(written(tmp_path / "flat.tif", np.full((4, 64, 64), 30_000.0)))
    blank = str(written(tmp_path / "blank.tif", np.zeros((16, 192, 192))))
    made = load_model(scan / "model.tomoseg")
    assert made.samples is not None
    save_model(tmp_path / "old.tomoseg", replace(made, samples=replace(made.samples, around=None)))
    save_model(tmp_path / "bare.tomoseg", replace(made, samples=None))
    for words, told in {
        (model, flat, "-o", new): "one grey value only",
        (model, good, "-o", new, "--minutes", "1"): "--minutes and --steps",
        (model, good, "-o", model, "--force"): "is the model that is adapted",
        (model, good, "-o", new, "--mask", blank): "where it counts",
        (str(tmp_path / "old.tomoseg"), good, "-o", new): "lack the neighbouring slices",
        (str(tmp_path / "bare.tomoseg"), good, "-o", new): "--no-samples",
    }.items():
        assert run(["adapt", *words, "--steps", "1", "--quiet"]) == 2
        assert told in capsys.readouterr().err
    assert not (tmp_path / "new.tomoseg").exists()


def test_a_scan_of_another_type_is_adapted_to(scan: Path, tmp_path: Path) -> None:
    source, out = tmp_path / "scan.tif", tmp_path / "new.tomoseg"
    tifffile.imwrite(source, (grey(scan) / 1000 - 7).astype(np.float32), photometric="minisblack")
    assert run(["adapt", str(scan / "model.tomoseg"), str(source), "-o", str(out), "--steps", "1", "--quiet"]) == 0
    old, new = load_model(scan / "model.tomoseg"), load_model(out)
    assert new.record.grey_type == "float32"
    assert new.record.window.low == pytest.approx(old.record.window.low / 1000 - 7, abs=0.3)
    assert new.record.window.high == pytest.approx(old.record.window.high / 1000 - 7, abs=0.3)
    assert new.samples is not None
    assert new.samples.images.dtype == np.float32


def test_an_adaptation_that_is_stopped_keeps_its_best(
    scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped(self: object, share: float, note: str = "") -> None:
        if share >= 0.5:
            raise KeyboardInterrupt

    monkeypatch.setattr("tomoseg.workflow.console._Silent.update", stopped)
    out = tmp_path / "new.tomoseg"
    words = ["adapt", str(scan / "model.tomoseg"), str(scan / "p/images"), "-o", str(out), "--steps", "16", "--quiet"]
    assert run(words) == 0
    assert "stopped after" in capsys.readouterr().err
    assert load_model(out).record.provenance.timing["steps"] < 16


def test_a_model_of_strokes_knows_its_own_scan(scan: Path, tmp_path: Path) -> None:
    made = load_model(scan / "model.tomoseg")
    assert made.samples is not None
    rows = np.zeros(made.samples.labels.shape, bool)
    rows[:, ::20] = True
    strokes = np.where(rows, made.samples.labels, np.uint8(255))
    save_model(tmp_path / "strokes.tomoseg", replace(made, samples=replace(made.samples, labels=strokes)))
    words = ["check", tmp_path / "strokes.tomoseg", scan / "p/images", "-o", tmp_path / "out", "--slices", 3, "--quiet"]
    assert run([str(word) for word in words]) == 0
    found = json.loads((tmp_path / "out/check.json").read_text())
    assert found["light"] == "green"
    assert found["training"]["noise_windows"] > 0


def test_slices_beside_labelled_ones_are_not_suggested(scan: Path) -> None:
    settings = CheckSettings(model=scan / "model.tomoseg", source=scan / "p/images", slices=16)
    looked = look_at(settings, Console(quiet=True))
    assert label_next(looked, most=16) == []  # all are labelled
    only = [item for item in looked.model.record.slices if item.number == 4]
    record = looked.model.record.model_copy(update={"slices": tuple(only), "gap": 3})
    few = tuple(one for one in looked.seen if one.number >= 5)  # the labelled one is not looked at
    found = label_next(replace(looked, model=replace(looked.model, record=record), seen=few), most=16)
    numbers = sorted(one.number for one in found)
    assert numbers and numbers[0] >= 7
    assert min(np.diff(numbers)) >= 3


def test_background_that_nobody_labelled_is_no_reason_to_refuse(
    scan: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.pad(grey(scan)[:4], ((0, 0), (0, 160), (0, 160)))
    words = ["predict", scan / "model.tomoseg", written(tmp_path / "scan.tif", values), "-o", tmp_path / "out.zarr",
             "--engine", "torch", "--quiet"]  # fmt: skip
    assert run([str(word) for word in words]) == 0
    words[2] = written(tmp_path / "bright.tif", 1.6 * values)
    words[4] = tmp_path / "bright.zarr"
    assert run([str(word) for word in words]) == 2
    assert "lie far outside" in capsys.readouterr().err


def test_slices_and_patches_are_suggested(scan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomoseg.label_gain._PIXELS", 2000)
    values = grey(scan)
    values[15, 64:128, 64:128] = values[15, 64:128, 64:128].mean()  # what no network can tell
    words = ["suggest", scan / "model.tomoseg", written(tmp_path / "scan.tif", values), "-o", tmp_path / "out",
             "--slices", 16, "--count", 1, "--quiet"]  # fmt: skip
    monkeypatch.setattr("tomoseg.workflow.looking.PATCH_EDGE", 96)
    assert run([str(word) for word in words]) == 0
    found = json.loads((tmp_path / "out/suggest.json").read_text())
    assert [one["slice"] for one in found["suggestions"]] == ["scan.tif[15]"]
    y0, y1, x0, x1 = found["suggestions"][0]["patch"]
    assert (y1 - y0, x1 - x0) == (96, 96)
    assert y0 < 128 and y1 > 64 and x0 < 128 and x1 > 64
    assert set(found["change_points"]) == {"pore", "YSZ", "Ni"}
    assert "scan.tif[15]" in found["provenance"]["inputs"]
    assert (tmp_path / "out/figures/patches.png").exists()


def test_a_slice_unlike_the_others_changes_the_fractions_more(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tomoseg.label_gain._PIXELS", 3000)
    rng = np.random.default_rng(0)

    def tile(threshold: float) -> tuple[np.ndarray, np.ndarray]:
        image = gaussian_filter(rng.random((64, 64), np.float32), 2)
        image = ((image - image.min()) / np.ptp(image)).astype(np.float32)
        return image, (image > threshold).astype(np.uint8)

    shown = (tile(0.5)[0], np.ones((64, 64), bool))

    def change(*thresholds: float) -> float:
        tiles, groups = [tile(one) for one in thresholds], list(range(len(thresholds)))
        found = change_by_one(list(fractions_by_forests(tiles, groups, [shown], classes=2, seed=0, threads=1)))
        assert found is not None
        return float(found.max())

    assert change(0.5, 0.5, 0.5) < change(0.3, 0.5, 0.7)
    assert change_by_one([np.ones(2)]) is None
