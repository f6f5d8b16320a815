"""Training on labels of planes across z, y and x of one phantom, by the command line's own door."""

import json
import shutil

import numpy as np
import pytest
import tifffile

from tomoseg.cli import run
from tomoseg.model_file import load_model, load_tensors, save_tensors

TINY = "widths = [8, 16]\nbottleneck = 32\nlearning_rate = 1e-2\n[patches]\nsize = 64\nbatch = 8\n"
SHAPE = (48, 80, 96)
TESTED = range(36, 48)
Z, Y, X = (4, 16), (14, 70), (30, 80)
SOME = (4, 10, 24, 35, 36, 47)
CLASSES = ("--classes", "pore=0", "YSZ=128", "Ni=255")


def tomoseg(*words):
    return run([str(word) for word in words])


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    folder = tmp_path_factory.mktemp("axes")
    assert tomoseg("phantom", "-o", folder / "phantom", "--shape", *SHAPE, "--quiet") == 0
    truth = np.stack([tifffile.imread(file) for file in sorted((folder / "phantom/labels").iterdir())])
    for name, planes, values in (
        ("z", (*Z, *TESTED), truth),
        ("some", SOME, truth),
        ("y", Y, truth.transpose(1, 0, 2)),
        ("x", X, truth.transpose(2, 0, 1)),
    ):
        (folder / f"labels_{name}").mkdir()
        for i in planes:
            tifffile.imwrite(folder / f"labels_{name}/{'plane' if name in 'yx' else 'slice'}_{i:04d}.tif", values[i])
    (folder / "tiny.toml").write_text(TINY)
    return folder


def scans(place, *tables):
    text = "".join(f'[[scan]]\nimages = "phantom/images"\n{table}\n' for table in tables)
    (place / "scans.toml").write_text(text)
    return place / "scans.toml"


def train(place, name, *tables, steps=40):
    given = ("--recipe", place / "tiny.toml", "--threads", 1, "--context", 1, "--gap", 8, "--noise-std", 0, 1000)
    file = scans(place, *tables)
    return tomoseg("train", "--scans", file, "-o", place / name, *given, "--steps", steps, "--force", *CLASSES)


def evaluate(place, model, out, *words, images="phantom/images", labels="labels_some"):
    code = tomoseg("evaluate", place / model, place / images, place / labels, "-o", place / out, "--quiet", *words)
    return code, json.loads((place / out / "scores.json").read_text()) if code == 0 else None


@pytest.fixture(scope="module")
def model(place):
    tables = 'labels = "labels_z"\ntest = "36:48"', 'labels = "labels_y"\naxis = "y"', 'labels = "labels_x"\naxis = "x"'
    assert train(place, "all.tomoseg", *tables) == 0
    return place / "all.tomoseg"


@pytest.fixture(scope="module")
def across_y(place):
    assert train(place, "y.tomoseg", 'labels = "labels_y"\naxis = "y"', steps=2) == 0
    return place / "y.tomoseg"


def test_planes_of_all_axes_train_one_network(place, model):
    code, scores = evaluate(place, model, "test", labels="labels_z")
    assert code == 0
    assert scores["accuracy"] >= 0.9
    assert scores["baselines"]["majority"]["accuracy"] < scores["accuracy"]
    assert scores["slices"] == [f"slice_{z:04d}.tif" for z in TESTED]


def test_the_model_remembers_axis_number_and_role_of_each_plane(model):
    record = load_model(model).record
    assert [scan.axis for scan in record.scans] == ["z", "y", "x"]
    assert len({scan.source for scan in record.scans}) == 1
    trained = {(record.scans[item.scan].axis, item.number) for item in record.slices if item.role == "train"}
    assert trained == {("z", z) for z in Z} | {("y", y) for y in Y} | {("x", x) for x in X}
    assert len({item.content for item in record.slices}) == len(record.slices)


def test_no_tile_of_a_plane_holds_a_label_near_the_test(place, model):
    kept = load_model(model)
    assert kept.samples is not None and kept.samples.slices is not None
    planes = [tile for tile, of in zip(kept.samples.labels, kept.samples.slices, strict=True) if of >= len(Z)]
    assert planes[0].shape == (48, 80)
    for tile in planes:
        assert (tile[29:] == 255).all()  # slice 36 less the gap of 8, and one
        assert (tile[:29] != 255).any()


def test_slices_kept_for_the_test_are_tested_whole_and_others_without_rows_near_planes(place, model):
    code, scores = evaluate(place, model, "most")
    assert code == 0
    near = scores["left_out_near_planes"]
    assert near["planes"] == {"y": list(Y), "x": list(X)}
    assert near["whole_slices"] == ["slice_0036.tif", "slice_0047.tif"]
    # 4 was trained on and 10 is near it; 24 and 35 are apart from the slices 4 and 16, but not kept for the test
    assert scores["slices"] == [f"slice_00{z}.tif" for z in (24, 35, 36, 47)]
    rows, columns = np.indices(SHAPE[1:])
    counts = np.all([abs(rows - y) >= 8 for y in Y] + [abs(columns - x) >= 8 for x in X], axis=0)
    assert near["pixels"] == 2 * (~counts).sum()
    assert np.sum(scores["confusion"]) == 2 * rows.size + 2 * counts.sum()
    page = (place / "most/report.html").read_text()
    assert f"{near['pixels']} pixels, {100 * near['share']:.1f} % of the test slices" in page


def test_a_copy_is_known_by_its_middle_slice_also_without_labels_along_z(place, across_y):
    shutil.copytree(place / "phantom/images", place / "copy")
    code, scores = evaluate(place, across_y, "copied", images="copy")
    assert code == 0
    assert scores["left_out_near_planes"]["planes"] == {"y": list(Y)}
    assert scores["n_slices"] == len(SOME)
    rows = np.arange(SHAPE[1])
    assert np.sum(scores["confusion"]) == len(SOME) * SHAPE[2] * np.all([abs(rows - y) >= 8 for y in Y], axis=0).sum()


def test_another_scan_is_tested_whole(place, across_y):
    assert tomoseg("phantom", "-o", place / "other", "--shape", *SHAPE, "--seed", 1, "--quiet") == 0
    code, scores = evaluate(place, across_y, "else", images="other/images")
    assert (code, scores["left_out_near_planes"]) == (0, {})
    assert np.sum(scores["confusion"]) == len(SOME) * SHAPE[1] * SHAPE[2]


def test_scoring_all_in_spite_of_seen_planes_says_leaky(place, across_y):
    code, scores = evaluate(place, across_y, "leaky", "--include-training")
    assert (code, scores["leaky"]) == (0, True)
    assert np.sum(scores["confusion"]) == len(SOME) * SHAPE[1] * SHAPE[2]


def test_a_model_is_not_tested_where_only_seen_planes_are(place, across_y, capsys):
    given = ("--roi", ":,10:18,:")
    code, _ = evaluate(place, across_y, "none", *given)
    assert code == 2
    assert "nothing is left to test: 100.0 % of the labelled pixels" in capsys.readouterr().err


def test_planes_that_lie_near_a_test_alone_say_that_nothing_is_left(place, capsys):
    tables = 'labels = "labels_z"\ntest = "16:48"', 'labels = "labels_y"\naxis = "y"\ntest = "0:30"'
    assert train(place, "mixed.tomoseg", *tables, steps=1) == 0
    said = capsys.readouterr().err
    # y[70]: rows z 9 to 47 lie within 8 of the slices 16 and 36 to 47, but for 24 to 28
    assert f"{100 * (48 - 9 - 5) / 48:.0f} % of labels_y (y)" in said
    assert f"{100 * 15 / 80:.0f} % of labels_z (z)" in said


def test_the_verbs_that_use_labelled_tiles_take_such_a_model(place, model):
    source = place / "phantom/images"
    assert tomoseg("check", model, source, "--quiet", "--slices", 2) == 0
    assert tomoseg("adapt", model, source, "-o", place / "adapted.tomoseg", "--steps", 2, "--quiet") == 0
    assert [scan.axis for scan in load_model(place / "adapted.tomoseg").record.scans] == ["z", "y", "x"]


def test_files_of_models_that_do_not_say_an_axis_are_along_z(place, model):
    tensors, record = load_tensors(model)
    for scan in record["scans"]:
        del scan["axis"], scan["middle"]
    save_tensors(place / "before.tomoseg", tensors, record)
    assert {scan.axis for scan in load_model(place / "before.tomoseg").record.scans} == {"z"}


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ('labels = "labels_y"\naxis = "w"', 'axis = "w" is none of z, y and x'),
        ('labels = "labels_y"\naxes = "y"', "a [[scan]] has images, labels and perhaps test and axis"),
        ('labels = "labels_z"\naxis = "y"', "across y have 48 x 96 pixels (rows z, columns x), the labels 80 x 96"),
        ('labels = "labels_y"\naxis = "x"', "across x have 48 x 80 pixels (rows z, columns y), the labels 48 x 96"),
        ('labels = "far"\naxis = "y"', "labels across y have no plane: plane_0080.tif; the last number in a name is"),
        ('labels = "labels_y"\naxis = "y"\ntest = "70:90"', "asks for slices 70:90 of a volume of 80"),
    ],
)  # fmt: skip
def test_wrong_scans_files_end_with_one_line(place, capsys, table, message):
    (place / "far").mkdir(exist_ok=True)
    shutil.copy(place / "labels_y/plane_0014.tif", place / "far/plane_0080.tif")
    assert train(place, "wrong.tomoseg", table, steps=1) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert message in told[-1]
    assert "Traceback" not in "".join(told)


def test_a_region_of_interest_is_in_the_volumes_own_axes(place, capsys):
    file = scans(place, 'labels = "labels_y"\naxis = "y"')
    words = ("train", "--scans", file, "-o", place / "roi.tomoseg", "--steps", 1, "--quiet", *CLASSES)
    assert tomoseg(*words, "--roi", ":,20:60,:") == 2
    assert "none of the 2 labelled slices" in capsys.readouterr().err
    assert tomoseg(*words, "--roi", "0:20,:,10:40", "--patch", 32) == 0
    tiles = load_model(place / "roi.tomoseg").samples
    assert tiles is not None
    shown = (tiles.labels != 255).any(axis=0)
    assert shown[:20, 10:40].all()
    assert shown.sum() == 20 * 30
