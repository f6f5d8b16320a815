"""Slow changes of grey values: found where they stand out, left alone where nothing does, the same for any block."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from predicting import SHAPE, content, interrupt, labels, make_model, predict, write
from tomoseg.cli import run
from tomoseg.degrade import add_beam_hardening, add_drift
from tomoseg.model_file import Samples, load_model, save_model
from tomoseg.shading import _TERMS, CorrectedVolume, Page, Shading, _Density, _Seen, fit_shading
from tomoseg.volume import ArrayVolume, Region, open_volume
from tomoseg.window import Window
from tomoseg.workflow.console import Console
from tomoseg.workflow.evaluate import EvaluateSettings, evaluate

WINDOW = Window(low=8_000, high=32_000)
GREY = np.array([8_000, 24_000, 32_000])
BETWEEN = np.array([16_000, 28_000])
SIZE = (4, 128, 128)
EVERYWHERE = Region.whole(SIZE)


def phases(seed: int, shape: tuple[int, ...] = SIZE) -> np.ndarray:
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 4)
    return np.digitize(field, np.quantile(field, [0.3, 0.65])).astype(np.uint8)


def scan(truth: np.ndarray, *, noise: float = 1_200, seed: int = 9) -> np.ndarray:
    found = GREY[truth] + np.random.default_rng(seed).normal(0, noise, truth.shape)
    return np.clip(np.rint(found), 0, 65_535).astype(np.uint16)


def whole(values: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(values), 0, 65_535).astype(np.uint16)


@pytest.fixture(scope="module")
def samples() -> Samples:
    truth = phases(1)
    return Samples(scan(truth), truth)


def fit(samples: Samples, values: np.ndarray, inside: np.ndarray | None = None) -> Shading | None:
    counts = np.ones(values.shape[1:], np.bool_) if inside is None else inside
    pages = [Page(z, page, counts) for z, page in enumerate(values)]
    return fit_shading(samples, WINDOW, pages, region=Region.whole(values.shape))


def wrong(values: np.ndarray, truth: np.ndarray) -> float:
    return float((np.digitize(values, BETWEEN) != truth).mean())


@pytest.mark.parametrize("kind", ["gain and offset", "drift along z", "beam hardening"])
def test_a_slow_change_is_found_and_taken_away(samples: Samples, kind: str) -> None:
    truth = phases(2)
    clean = scan(truth)
    changed = {
        "gain and offset": lambda: add_drift(0.75 * clean + 3e3, 60, window=WINDOW, direction=(0, 1, 2), gain_share=1),
        "drift along z": lambda: add_drift(clean, 50, window=WINDOW, direction=(1, 0, 0), gain_share=0.5),
        "beam hardening": lambda: np.stack([add_beam_hardening(one, 25, window=WINDOW) for one in clean]),
    }[kind]()  # fmt: skip
    found = fit(samples, whole(changed))
    assert found is not None
    before, usual = wrong(whole(changed), truth), wrong(clean, truth)
    after = wrong(found.correct(whole(changed), EVERYWHERE), truth)
    assert before > 0.05
    assert after < usual + 0.1 * (before - usual)


@pytest.mark.parametrize("kind", ["clean", "noisier", "layers", "another composition", "too noisy"])
def test_where_nothing_slow_stands_out_nothing_is_corrected(samples: Samples, kind: str) -> None:
    truth = phases(3)
    layers, mixed = truth.copy(), truth.copy()
    layers[:, :, :64] = np.where(truth[:, :, :64] == 2, 1, truth[:, :, :64])  # no nickel on one side
    mixed[truth == 0] = 1  # another composition
    values = {
        "clean": scan(truth),
        "noisier": scan(truth, noise=5_000),
        "layers": scan(layers),
        "another composition": scan(mixed),
        "too noisy": scan(truth, noise=20_000),
    }[kind]
    assert fit(samples, values) is None


def test_what_lies_outside_the_field_of_view_does_not_count(samples: Samples) -> None:
    truth = phases(4)
    drifted = whole(add_drift(scan(truth), 60, window=WINDOW, direction=(0, 0, 1), gain_share=1.0))
    y, x = np.ogrid[:128, :128]
    inside = np.hypot(y - 63.5, x - 63.5) < 60
    filled = np.where(inside, drifted, 60_000).astype(np.uint16)
    found, same = fit(samples, drifted, inside), fit(samples, filled, inside)
    assert found is not None and same is not None
    corrected = found.correct(drifted, EVERYWHERE)
    assert wrong(corrected[:, inside], truth[:, inside]) < 0.2 * wrong(drifted[:, inside], truth[:, inside])
    assert wrong(same.correct(filled, EVERYWHERE)[:, inside], truth[:, inside]) < 0.02
    assert fit(samples, drifted, np.zeros_like(inside)[None][0] | (inside & (y < 8))) is None  # too few to tell


def test_strokes_are_compared_by_all_that_the_tiles_show(samples: Samples) -> None:
    few = np.full_like(samples.labels, 255)
    few[0, 10, :60], few[1, 20, :60] = samples.labels[0, 10, :60], samples.labels[1, 20, :60]
    drifted = whole(add_drift(scan(phases(5)), 60, window=WINDOW, direction=(0, 0, 1), gain_share=1.0))
    found, known = fit(replace(samples, labels=few), drifted), fit(samples, drifted)
    assert found is not None and known is not None
    assert found.gain == pytest.approx(known.gain)


def made(seed: int = 0, dtype: str = "uint16") -> tuple[Shading, np.ndarray]:
    rng = np.random.default_rng(seed)
    contrast, brightness = 0.05 * rng.standard_normal((2, len(_TERMS)))
    contrast[0] += 1
    shading = Shading(window=WINDOW, region=(2, 7, 10, 90, 20, 100), contrast=tuple(contrast),
                      brightness=tuple(brightness), gain=0.1)  # fmt: skip
    return shading, rng.integers(0, 60_000, (9, 100, 120)).astype(dtype)


@pytest.mark.parametrize("dtype", ["uint16", "float32"])
def test_any_block_is_corrected_as_the_whole_is(dtype: str) -> None:
    shading, values = made(dtype=dtype)
    volume = CorrectedVolume(ArrayVolume(values), shading)
    every = volume.read(Region.whole(volume.shape))
    assert every.dtype == values.dtype and (every != values).any()
    for box in (Region(0, 1, 0, 100, 0, 120), Region(3, 9, 40, 41, 7, 99), Region(8, 9, 95, 100, 110, 120)):
        np.testing.assert_array_equal(volume.read(box), every[box.slices])
    rim = shading.fields((np.array([2]), np.array([10]), np.array([20])))
    around = shading.fields((np.array([0]), np.array([0]), np.array([0])))
    np.testing.assert_array_equal(rim, around)  # polynomials are not continued
    again = Shading.model_validate_json(shading.model_dump_json())
    np.testing.assert_array_equal(again.correct(values, Region.whole(values.shape)), every)


def test_the_gradient_is_that_of_the_likelihood(samples: Samples) -> None:
    values = scan(phases(6))
    pages = [Page(z, page, np.ones(page.shape, np.bool_)) for z, page in enumerate(values)]
    seen = _Seen.of(pages, WINDOW, EVERYWHERE)
    counts, _ = np.histogram(WINDOW.apply(samples.images), 600, (-1, 2))
    density, rng = _Density.of(counts, 0.2), np.random.default_rng(0)
    place = 0.02 * rng.standard_normal(2 * len(_TERMS))
    place[0] += 1
    _, gradient = seen.likelihood(place, density)
    for i in (0, 1, 7, len(_TERMS), len(_TERMS) + 5):
        step = np.zeros_like(place)
        step[i] = 1e-4
        slope = (seen.likelihood(place + step, density)[0] - seen.likelihood(place - step, density)[0]) / 2e-4
        assert gradient[i] == pytest.approx(slope, rel=0.02, abs=2e-3)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_model(tmp_path_factory.mktemp("shading") / "m.tomoseg")


@pytest.fixture(scope="module")
def drifted(tmp_path_factory: pytest.TempPathFactory) -> Path:
    values = np.random.default_rng(7).integers(0, 40_000, SHAPE).astype(np.float32)
    path = tmp_path_factory.mktemp("scan") / "drifted.tif"
    window = Window(low=0, high=40_000)
    write(path, whole(add_drift(values, 50, window=window, direction=(1, 1, 1), gain_share=1.0)))
    return path


def test_predict_reads_a_scan_as_it_would_be_without_slow_changes(
    tmp_path: Path, model: Path, drifted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out.zarr"
    assert predict(model, drifted, out, "--shading", "fit") == 0
    plan = json.loads((out / "tomoseg/provenance.json").read_text())["plan"]
    shading = Shading.model_validate(plan["correction"])
    assert plan["shading"] == "fit" and shading.gain > 0.04
    volume = open_volume(drifted)
    write(tmp_path / "even.tif", CorrectedVolume(volume, shading).read(Region.whole(SHAPE)))
    assert predict(model, tmp_path / "even.tif", tmp_path / "even.zarr") == 0
    np.testing.assert_array_equal(labels(out), labels(tmp_path / "even.zarr"))
    assert predict(model, drifted, tmp_path / "kept.zarr", "--window", "keep") == 0
    assert (labels(out) != labels(tmp_path / "kept.zarr")).mean() > 0.01


def test_a_correction_is_kept_when_a_prediction_goes_on(tmp_path: Path, model: Path, drifted: Path) -> None:
    assert predict(model, drifted, tmp_path / "whole.zarr", "--shading", "fit") == 0
    interrupt(model, drifted, tmp_path / "out.zarr", "--shading", "fit")
    assert predict(model, drifted, tmp_path / "out.zarr", "--shading", "fit") == 0
    assert content(tmp_path / "out.zarr") == content(tmp_path / "whole.zarr")


def test_what_does_not_go_with_it_is_refused(
    tmp_path: Path, model: Path, drifted: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert predict(model, drifted, tmp_path / "a.zarr", "--shading", "fit", "--window", "refit") == 2
    assert "leave out --window refit" in capsys.readouterr().err
    save_model(tmp_path / "bare.tomoseg", replace(load_model(model), samples=None))
    assert predict(tmp_path / "bare.tomoseg", drifted, tmp_path / "a.zarr", "--shading", "fit") == 2
    assert "--no-samples" in capsys.readouterr().err
    assert not (tmp_path / "a.zarr").exists()
    interrupt(model, drifted, tmp_path / "b.zarr", "--shading", "fit")
    assert predict(model, drifted, tmp_path / "b.zarr", "--window", "keep") == 2
    assert "shading fit, now keep" in capsys.readouterr().err


def test_check_and_evaluate_read_it_so_too(
    tmp_path: Path, model: Path, drifted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    nothing = {"baselines": {}, "baseline_pixels": None}
    monkeypatch.setattr("tomoseg.workflow.evaluate._baselines", lambda *_, **__: nothing)  # they take their time
    assert predict(model, drifted, tmp_path / "out.zarr", "--shading", "fit") == 0
    plan = json.loads((tmp_path / "out.zarr/tomoseg/provenance.json").read_text())["plan"]
    even = CorrectedVolume(open_volume(drifted), Shading.model_validate(plan["correction"])).read(Region.whole(SHAPE))
    write(tmp_path / "even.tif", even)
    write(tmp_path / "labels.tif", np.array([0, 128, 255], np.uint8)[phases(8, SHAPE)])
    found = {}
    for name, images, words in (
        ("fit", drifted, ["--shading", "fit"]), ("even", tmp_path / "even.tif", []), ("kept", drifted, [])
    ):  # fmt: skip
        how = EvaluateSettings(model=model, images=images, labels=tmp_path / "labels.tif", out=tmp_path / name,
                               shading="fit" if words else "keep")  # fmt: skip
        found[name] = evaluate(how, Console(quiet=True)).json
        check = [model, images, "-o", tmp_path / f"check_{name}", "--slices", 3, *words]
        assert run(["check", *map(str, check), "--quiet"]) == 0
        found[f"check {name}"] = json.loads((tmp_path / f"check_{name}" / "check.json").read_text())
    assert found["fit"]["confusion"] == found["even"]["confusion"] != found["kept"]["confusion"]
    assert found["fit"]["provenance"]["inputs"] == found["kept"]["provenance"]["inputs"]
    sure = {name: [one["confidence"] for one in found[f"check {name}"]["slices"]] for name in ("fit", "even", "kept")}
    assert sure["fit"] == sure["even"] != sure["kept"]


def test_check_tells_of_it_where_grey_values_are_elsewhere(
    tmp_path: Path, model: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = np.random.default_rng(7).integers(0, 40_000, (6, 96, 96)).astype(np.float32)
    write(tmp_path / "dim.tif", whole(0.5 * values))
    words = ["check", str(model), str(tmp_path / "dim.tif"), "--slices", "2", "--quiet"]
    assert run(words) == 0
    assert "look again with --shading fit" in capsys.readouterr().out
    assert run([*words, "--shading", "fit"]) == 0
    assert "look again" not in capsys.readouterr().out
