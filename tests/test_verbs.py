"""The verbs, end to end, on a small phantom, by the command line's own door."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
import tifffile

from tomoseg.cli import VERBS, main, run
from tomoseg.model_file import load_model
from tomoseg.volume import open_volume

pytestmark = pytest.mark.skipif(os.name == "nt", reason="paths in messages are POSIX")

TINY = "widths = [8, 16]\nbottleneck = 32\nlearning_rate = 1e-2\n[patches]\nsize = 64\nbatch = 8\n"
KEYS = {
    "accuracy", "mean_iou", "classes", "interior_accuracy", "boundary_accuracy", "ece_boundary", "nll", "brier", "ece",
    "n_slices", "intervals", "interval_level", "n_blocks", "baselines", "adjacent_agreement", "provenance",
}  # fmt: skip


def tomoseg(*words):
    return run([str(word) for word in words])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("verbs")
    assert tomoseg("phantom", "-o", folder / "phantom", "--shape", 40, 96, 96, "--quiet") == 0
    (folder / "tiny.toml").write_text(TINY)
    return folder


@pytest.fixture(scope="module")
def scan(place):
    return place / "phantom/images", place / "phantom/labels"


def train(place, scan, name, *words):
    target = place / name
    given = ("--recipe", place / "tiny.toml", "--threads", 1, "--quiet", "--context", 1, "--gap", 8)
    assert tomoseg("train", *scan, "-o", target, *given, *words) == 0
    return target


@pytest.fixture(scope="module")
def model(place, scan):
    classes = ("--classes", "pore=0", "YSZ=128", "Ni=255")
    return train(place, scan, "model.tomoseg", "--steps", 80, "--test", "32:40", "--noise-std", 0, 1000, *classes)


@pytest.fixture(scope="module")
def scores(place, scan, model):
    assert tomoseg("evaluate", model, *scan, "-o", place / "test", "--quiet") == 0
    return json.loads((place / "test/scores.json").read_text())


def test_a_short_training_beats_copying_a_neighbour(scores):
    assert scores["accuracy"] >= 0.95
    assert scores["baselines"]["majority"]["accuracy"] < scores["accuracy"]


def test_scores_have_all_agreed_keys(scores):
    assert scores.keys() >= KEYS
    assert set(scores["baselines"]) == {"majority", "otsu", "forest", "copy_training"}
    assert set(scores["classes"]["Ni"]) == {"iou", "dice", "precision", "recall", "support"}


def test_scores_tell_what_segmenting_does_to_the_numbers(scores):
    line = scores["numbers"]["triple-phase boundary density"]
    assert line["labelled"] > 0
    assert line["correction"] is not None or line["note"]
    shares = [scores["numbers"][f"phase fraction {name}"] for name in ("pore", "YSZ", "Ni")]
    assert sum(one["labelled"] for one in shares) == pytest.approx(1)
    counts = np.array(scores["confusion"])
    assert [one["predicted"] for one in shares] == pytest.approx(counts.sum(axis=0) / counts.sum())


def test_only_slices_kept_for_the_test_are_scored(scores):
    assert scores["n_slices"] == 8
    assert len(scores["left_out"]) == 32
    assert scores["slices"][0] == "slice_0032.tif"


def test_the_confusion_matrix_counts_all_test_pixels_and_gives_the_accuracy(scores):
    counts = np.array(scores["confusion"])
    assert counts.sum() == 8 * 96 * 96
    assert scores["accuracy"] == pytest.approx(np.trace(counts) / counts.sum())


def test_the_report_is_one_file_without_outside_links(place, scores):
    page = (place / "test/report.html").read_text()
    assert "http://" not in page.replace("http-equiv", "")
    assert "https://" not in page
    assert page.count("data:image/png;base64,") >= 5
    assert len(list((place / "test/figures").glob("*.png"))) == page.count("data:image/png;base64,")


def test_a_model_is_not_tested_on_what_it_was_trained_on(place, scan, capsys):
    model = train(place, scan, "all.tomoseg", "--steps", 2)
    assert tomoseg("evaluate", model, *scan, "-o", place / "none") == 2
    assert "nothing is left to test" in capsys.readouterr().err
    assert not (place / "none").exists()


def test_copied_training_slices_are_recognised_by_content_in_another_folder(place, scan, model, capsys):
    copy = place / "renamed"
    for part, source in zip(("images", "labels"), scan, strict=True):
        (copy / part).mkdir(parents=True)
        for z in range(4):
            shutil.copy(source / f"slice_{z:04d}.tif", copy / part / f"other_{z + 500}.tif")
    assert tomoseg("evaluate", model, copy / "images", copy / "labels", "-o", place / "none") == 2
    assert "other_500.tif" in capsys.readouterr().err


def test_scoring_seen_slices_says_leaky(place, scan, model):
    assert tomoseg("evaluate", model, *scan, "-o", place / "leaky", "--include-training", "--quiet") == 0
    assert json.loads((place / "leaky/scores.json").read_text())["leaky"] is True
    assert "LEAKY" in (place / "leaky/report.html").read_text()


def test_scoring_only_neighbours_of_training_slices_says_leaky(place, scan, model, scores):
    near = [name for name, why in scores["left_out"].items() if why not in ("trained on", "validated on")]
    labels = place / "near_labels"
    labels.mkdir()
    for name in near:
        shutil.copy(scan[1] / name, labels / name)
    words = ("evaluate", model, scan[0], labels, "-o", place / "near", "--include-training", "--quiet")
    assert tomoseg(*words) == 0
    assert json.loads((place / "near/scores.json").read_text())["leaky"] is True


def test_noise_lowers_the_score_and_is_told_in_both_units(place, scan, model, scores):
    assert tomoseg("evaluate", model, *scan, "-o", place / "noisy", "--noise-std", 8000, "--quiet") == 0
    noisy = json.loads((place / "noisy/scores.json").read_text())
    assert noisy["accuracy"] < scores["accuracy"]
    assert (noisy["noise_std"], noisy["noise_std_grey"]) == (8000, 8000)


def test_prediction_has_the_users_values_and_agrees_with_the_evaluation(place, scan, model, scores):
    assert tomoseg("predict", "--engine", "torch", model, scan[0], "-o", place / "out", "--quiet") == 0
    found = np.stack([tifffile.imread(place / f"out/slice_{z:04d}.tif") for z in range(32, 40)])
    truth = np.stack([tifffile.imread(scan[1] / f"slice_{z:04d}.tif") for z in range(32, 40)])
    assert set(np.unique(found)) <= {0, 128, 255}
    assert (found == truth).mean() == pytest.approx(scores["accuracy"], abs=1e-4)


def test_a_region_equals_that_part_of_the_whole(place, scan, model):
    given = ("--roi", "3:6,10:70,5:64", "--quiet")
    assert tomoseg("predict", "--engine", "torch", model, scan[0], "-o", place / "part.tif", *given) == 0
    assert tomoseg("predict", "--engine", "torch", model, scan[0], "-o", place / "whole.tif", "--quiet") == 0
    whole, part = tifffile.imread(place / "whole.tif"), tifffile.imread(place / "part.tif")
    assert part.shape == (3, 60, 59)
    assert (part == whole[3:6, 10:70, 5:64]).mean() > 0.9999


def test_outside_the_mask_counts_nowhere_and_comes_out_reserved(place, scan, model):
    mask = np.zeros((96, 96), np.uint8)
    mask[:48] = 1
    tifffile.imwrite(place / "mask.tif", mask)
    given = ("--mask", place / "mask.tif", "--quiet")
    assert (
        tomoseg("predict", "--engine", "torch", model, scan[0], "-o", place / "masked", "--roi", "0:1,:,:", *given) == 0
    )
    found = tifffile.imread(place / "masked/slice_0000.tif")
    assert (found[48:] == 254).all()
    assert not (found[:48] == 254).any()
    assert json.loads((place / "masked/provenance.json").read_text())["outside_value"] == 254
    assert tomoseg("evaluate", model, *scan, "-o", place / "half", *given) == 0
    assert np.sum(json.loads((place / "half/scores.json").read_text())["confusion"]) == 8 * 48 * 96


def test_probabilities_sum_to_255(place, scan, model):
    given = ("--probabilities", "--roi", "0:2,:,:", "--quiet")
    assert tomoseg("predict", "--engine", "torch", model, scan[0], "-o", place / "p.tif", *given) == 0
    parts = [tifffile.imread(place / f"p_{name}.tif").astype(int) for name in ("pore", "YSZ", "Ni")]
    assert np.abs(sum(parts) - 255).max() <= 2


def test_an_output_is_never_replaced_without_being_asked(place, scan, model, capsys):
    before = (place / "model.tomoseg").read_bytes()
    assert tomoseg("train", *scan, "-o", place / "model.tomoseg", "--steps", 1) == 2
    assert "--force" in capsys.readouterr().err
    assert (place / "model.tomoseg").read_bytes() == before


def test_same_seed_steps_and_one_thread_give_the_same_weights(place, scan):
    first, second = (load_model(train(place, scan, f"{name}.tomoseg", "--steps", 6)) for name in "ab")
    assert first.content == second.content


def test_five_labelled_slices_train_with_their_unlabelled_neighbours(place, scan):
    few = place / "few"
    few.mkdir()
    for z in (2, 8, 14, 20, 26):
        shutil.copy(scan[1] / f"slice_{z:04d}.tif", few)
    model = train(place, (scan[0], few), "few.tomoseg", "--steps", 2)
    assert [item.number for item in load_model(model).record.slices] == [2, 8, 14, 20, 26]
    assert load_model(model).record.network.context == 1


def test_a_recipe_may_ask_for_mirrored_views_and_the_report_says_so(place, scan):
    (place / "views.toml").write_text("mirrored = 4\n" + TINY)
    model = train(place, scan, "views.tomoseg", "--steps", 2, "--test", "32:40", "--recipe", place / "views.toml")
    assert load_model(model).record.network.mirrored == 4
    assert tomoseg("evaluate", model, *scan, "-o", place / "by_views", "--quiet") == 0
    assert "the mean over 4 mirrored views" in (place / "by_views/report.html").read_text()


def test_without_a_recipe_a_short_training_is_a_brief_one(place, scan):
    for words, name, widths in (((), "brief", (12, 24)), (("--recipe", "fast"), "fast", (16, 32))):
        model = place / f"{name}.tomoseg"
        given = ("--steps", 1, "--context", 0, "--gap", 8, "--threads", 1, "--patch", 32, "--quiet")
        assert tomoseg("train", *scan, "-o", model, *given, *words) == 0
        record = load_model(model).record
        assert (record.network.widths, record.provenance.settings["recipe"]) == (widths, name)


def test_strokes_are_filled_up_and_the_report_says_so(place, scan, capsys):
    few = place / "strokes"
    few.mkdir()
    for z in (4, 12):
        label = tifffile.imread(scan[1] / f"slice_{z:04d}.tif")
        drawn = np.random.default_rng(z).random(label.shape) < 0.03
        tifffile.imwrite(few / f"slice_{z:04d}.tif", np.where(drawn, label, 7).astype(np.uint8))
    model = place / "strokes.tomoseg"
    words = ("train", scan[0], few, "-o", model, "--recipe", place / "tiny.toml", "--steps", 2, "--unlabelled", 7,
             "--classes", "pore=0", "YSZ=128", "Ni=255")  # fmt: skip
    assert tomoseg(*words) == 0
    told = " ".join(capsys.readouterr().err.split())
    assert "the others are guessed before training" in told
    assert "near them they claim too much" in told
    record = load_model(model).record
    assert record.labelled_share < 0.04
    assert record.guessed
    assert record.provenance.timing["passes"] < 100  # over what was learnt from, not over the strokes
    assert tomoseg("evaluate", model, scan[0], scan[1], "-o", place / "by_strokes", "--quiet") == 0
    assert "the others were guessed" in (place / "by_strokes/report.html").read_text()


def test_several_scans_train_one_model(place, scan):
    text = '[[scan]]\nimages = "phantom/images"\nlabels = "phantom/labels"\ntest = "10:40"\n'
    (place / "scans.toml").write_text(text + '[[scan]]\nimages = "phantom/images"\nlabels = "few"\n')
    given = ("--recipe", place / "tiny.toml", "--context", 0, "--gap", 2, "--quiet", "--steps", 1)
    assert tomoseg("train", "--scans", place / "scans.toml", "-o", place / "two.tomoseg", *given) == 0
    record = load_model(place / "two.tomoseg").record
    assert len(record.scans) == 2
    assert {item.scan for item in record.slices} == {0, 1}


def test_inspect_tells_which_part_counts(scan, capsys):
    assert tomoseg("inspect", scan[0], "--roi", "0:4,:,8:40", "--quiet") == 0
    assert "40 x 96 x 96, of which 4 x 96 x 32 count" in capsys.readouterr().out


def test_inspect_tells_the_phantoms_noise_within_five_per_cent(place, scan):
    assert tomoseg("inspect", scan[0], "-o", place / "look", "--quiet") == 0
    found = json.loads((place / "look/inspect.json").read_text())
    assert found["shape"] == found["roi_shape"] == [40, 96, 96]
    assert found["noise_std"] == pytest.approx(740, rel=0.05)


def test_truth_json_has_the_phantoms_figures(place):
    truth = json.loads((place / "phantom/truth.json").read_text())
    names = [item["name"] for item in truth["measurements"]]
    assert "interface area pore-YSZ per volume" in names
    assert "triple-phase boundary density" in names
    fractions = [item["value"] for item in truth["measurements"][:3]]
    assert sum(fractions) == pytest.approx(1)


def test_an_interrupted_training_keeps_the_best_and_goes_on(place, scan, monkeypatch, capsys):
    from tomoseg.workflow import train as verb

    shown = verb._show
    calls = []

    def interrupt(bar, step, training):
        calls.append(step.step)
        if len(calls) == 3:
            raise KeyboardInterrupt
        shown(bar, step, training)

    monkeypatch.setattr(verb, "_show", interrupt)
    stopped = train(place, scan, "stopped.tomoseg", "--steps", 6)
    monkeypatch.setattr(verb, "_show", shown)
    assert "--resume" in capsys.readouterr().err
    assert stopped.exists()
    resumed = train(place, scan, "stopped.tomoseg", "--steps", 6, "--resume")
    straight = train(place, scan, "straight.tomoseg", "--steps", 6)
    assert load_model(resumed).content == load_model(straight).content
    assert not list(place.glob("*.checkpoint"))


@pytest.mark.parametrize("verb", VERBS)
def test_every_verbs_help_ends_with_its_example(verb, capsys):
    assert tomoseg(verb, "--help") == 0
    assert capsys.readouterr().out.rstrip().endswith(VERBS[verb].example)


def test_threads_that_wait_give_their_core_away_soon(monkeypatch):
    monkeypatch.setattr(os, "environ", {})
    with pytest.raises(SystemExit):
        main(["--version"])
    assert 0 < int(os.environ["GOMP_SPINCOUNT"]) < 30_000


def test_the_overview_does_not_load_torch():
    import subprocess
    import sys

    code = "import sys; from tomoseg.cli import run; run(['--help']); sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, check=False).returncode == 0


def bad(place, scan, *, images=None, labels=None, words=()):
    return tomoseg("train", images or scan[0], labels or scan[1], "-o", place / "bad.tomoseg", "--steps", 1, *words)


def write(folder, name, values, **more):
    folder.mkdir(parents=True, exist_ok=True)
    tifffile.imwrite(folder / name, values, **more)
    return folder


def _one_label_too_many(place, scan):
    shutil.copytree(scan[1], place / "extra")
    shutil.copy(scan[1] / "slice_0001.tif", place / "extra/slice_0777.tif")
    return {"labels": place / "extra"}, "slice_0777.tif"


def _empty(place, scan):
    (place / "empty").mkdir()
    return {"images": place / "empty"}, "empty"


def _nan(place, scan):
    values = np.full((96, 96), np.nan, np.float32)
    write(place / "nan", "a_1.tif", values)
    write(place / "nan_labels", "a_1.tif", np.eye(96, dtype=np.uint8).repeat(3, 0).repeat(3, 1)[:96, :96])
    return {"images": place / "nan", "labels": place / "nan_labels"}, "a_1.tif"


def _truncated(place, scan):
    shutil.copytree(scan[0], place / "cut")
    file = place / "cut/slice_0003.tif"
    file.write_bytes(file.read_bytes()[:-400])
    return {"images": place / "cut"}, "slice_0003.tif"


def _one_class(place, scan):
    write(place / "flat", "slice_0001.tif", np.full((96, 96), 7, np.uint8))
    return {"labels": place / "flat"}, "one class"


def _three_channels(place, scan):
    write(place / "rgb", "slice_0001.tif", np.zeros((96, 96, 3), np.uint8), photometric="rgb")
    return {"images": place / "rgb"}, "slice_0001.tif"


def _missing(place, scan):
    return {"images": place / "nowhere"}, "nowhere"


def _swapped(place, scan):
    return {"images": scan[1], "labels": scan[0]}, "values"


def _same_twice(place, scan):
    return {"labels": scan[0]}, "images and as the labels"


def _both_budgets(place, scan):
    return {"words": ("--minutes", 1)}, "--minutes and --steps"


def _no_context(place, scan):
    for z in (1, 20):
        (place / "far").mkdir(exist_ok=True)
        shutil.copy(scan[0] / f"slice_{z:04d}.tif", place / "far")
        (place / "far_labels").mkdir(exist_ok=True)
        shutil.copy(scan[1] / f"slice_{z:04d}.tif", place / "far_labels")
    return {"images": place / "far", "labels": place / "far_labels", "words": ("--context", 2)}, "--context 2"


BAD = [
    _one_label_too_many, _empty, _nan, _truncated, _one_class, _three_channels, _missing, _swapped, _same_twice,
    _both_budgets, _no_context,
]  # fmt: skip


@pytest.mark.parametrize("make", BAD)
def test_bad_input_gets_one_line_and_exit_code_2_and_leaves_nothing(make, place, scan, capsys, tmp_path):
    given, says = make(tmp_path, scan)
    assert bad(place, scan, **given) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("tomoseg: ")]
    assert len(lines) == 1
    assert says in lines[0]
    assert not (place / "bad.tomoseg").exists()
    assert not list(place.glob("*.partial"))


@pytest.mark.parametrize(
    ("given", "says"),
    [
        (["train", "images", "labels", "-o", "x.tomoseg", "--stepz", "3"], "--stepz"),
        (
            ["train", "images", "labels", "-o", "x.tomoseg", "--minutes", "-3"],
            "--minutes -3.0: input should be greater",
        ),
        (["train", "images", "labels"], "-o PATH"),
        (["evaluate", "m", "images", "labels", "-o", "x", "--noise-std", "much"], "'much'"),
        (["segment"], "'segment'"),
    ],
)
def test_a_wrong_option_gets_one_line_and_exit_code_2(given, says, capsys):
    assert tomoseg(*given) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith("tomoseg: ")
    assert says in line


def test_swapped_model_and_images_are_told_apart(place, scan, model, capsys):
    assert tomoseg("predict", scan[0], model, "-o", place / "swapped") == 2
    assert capsys.readouterr().err.startswith("tomoseg: ")


def test_predictions_on_another_grey_type_are_refused(place, model, capsys, tmp_path):
    write(tmp_path / "eight", "a_1.tif", np.arange(96 * 96, dtype=np.uint32).reshape(96, 96).astype(np.uint8))
    assert tomoseg("predict", "--engine", "torch", model, tmp_path / "eight", "-o", tmp_path / "out") == 2
    assert "uint8" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_prediction_can_be_opened_as_a_volume(place, scan, model):
    assert (
        tomoseg("predict", "--engine", "torch", model, scan[0], "-o", place / "again", "--roi", "0:3,:,:", "--quiet")
        == 0
    )
    assert open_volume(Path(place / "again")).shape == (3, 96, 96)
