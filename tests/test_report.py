import io
import json
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from tomoseg.errors import OutputError
from tomoseg.report import Headline, Note, Report, Section, Table, figures, render, write_json, write_report


def picture():
    label = np.zeros((40, 60), np.uint8)
    label[:, 30:] = 1
    found = label.copy()
    found[10:20, 5:25] = 1
    image = np.linspace(0, 1, 2400, dtype=np.float32).reshape(40, 60)
    colours = ("#0072b2", "#e69f00")
    return figures.comparison(
        image, label, found, colours=colours, names=("pore", "<Ni>"), name="worst", title="worst", pixel_um=0.5
    )


def report():
    table = Table(["class", "IoU"], [["<script>alert(1)</script>", "0.9"]])
    sections = [Section("Scores", [table, Note("careful", "leaky"), picture()])]
    return Report("a & b", "sub", [Headline("Accuracy", "0.99")], sections)


def pixels(part):
    return np.asarray(Image.open(io.BytesIO(part.png)).convert("RGB"))


def test_text_is_escaped_and_nothing_is_loaded_from_outside():
    page = render(report())
    assert "<script>" not in page
    assert "&lt;script&gt;" in page
    assert "//" not in page.replace(
        page[page.index("base64,") : page.index("base64,") + len(report().pictures[0].data) + 7], ""
    )


def test_a_report_is_not_replaced_without_being_asked(tmp_path):
    write_report(tmp_path, report())
    before = (tmp_path / "report.html").read_text()
    with pytest.raises(OutputError, match="--force"):
        write_report(tmp_path, report())
    assert (tmp_path / "report.html").read_text() == before
    write_report(tmp_path, report(), force=True)
    assert (tmp_path / "figures/worst.png").read_bytes() == report().pictures[0].png


def test_figures_that_the_new_report_does_not_have_go_and_nothing_else_does(tmp_path):
    first = report()
    more = [replace(picture(), name=name) for name in ("sizes", "touched", "gone")]
    write_report(tmp_path, replace(first, sections=[*first.sections, Section("More", more)]))
    figures_folder = tmp_path / "figures"
    (figures_folder / "touched.png").write_bytes(b"mine")
    (figures_folder / "gone.png").unlink()
    (figures_folder / "copy.png").write_bytes(more[0].png)
    (tmp_path / "sizes.png").write_bytes(more[0].png)
    write_report(tmp_path, first, force=True)
    assert sorted(path.name for path in figures_folder.iterdir()) == ["copy.png", "touched.png", "worst.png"]
    assert (tmp_path / "sizes.png").exists()
    (tmp_path / "report.html").write_text("a page of somebody else, figures/copy.png in it")
    write_report(tmp_path, first, force=True)
    assert (figures_folder / "copy.png").exists()


def test_numbers_that_are_not_finite_become_null(tmp_path):
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": np.float64(2), "c": [np.inf, np.int64(1)]})
    assert json.loads((tmp_path / "a.json").read_text()) == {"a": None, "b": 2.0, "c": [None, 1]}


def test_the_share_of_differing_pixels_has_the_colour_of_differences():
    shown = pixels(picture())
    wrong = (np.abs(shown.astype(int) - [0xD6, 0x00, 0x6C]).max(axis=2) < 12).sum()
    panel = shown.shape[1] / 4.1
    assert wrong == pytest.approx(200 / 2400 * panel**2 * 40 / 60, rel=0.15)


def test_no_differing_pixel_is_lost_in_a_large_slice():
    label = np.zeros((1700, 1700), np.uint8)
    found = label.copy()
    found[801, 801] = 1
    shown = figures._any(label != found, 3)
    assert shown.sum() == 1


@pytest.mark.parametrize("n", [2, 8])
def test_figures_are_drawn_for_few_and_many_classes(n):
    names = [f"class {i}" for i in range(n)]
    assert pixels(figures.confusion_picture(np.eye(n, dtype=int) * 1000 + 3, names)).std() > 10


@pytest.mark.parametrize("low", [0.2, 0.93, 0.9995])
def test_curves_are_drawn_by_the_size_of_their_errors_each_method_in_its_colour(low):
    curve = {"accuracy": [[1 - 0.001 * (1 - low), low]], "largest fraction error (points)": [[0.0, 30.0]]}
    both = pixels(figures.noise_curves([0, 1], {"a": curve, "b": curve}, unit="grey", order=["a", "b"])).astype(int)
    second = pixels(figures.noise_curves([0, 1], {"b": curve}, unit="grey", order=["a", "b"])).astype(int)
    orange = np.array([0xD5, 0x5E, 0x00])
    assert (np.abs(both - orange).sum(axis=-1) < 30).sum() > 100
    assert (np.abs(second - orange).sum(axis=-1) < 30).sum() > 100


def test_the_models_dot_lies_left_of_a_worse_baselines():
    rows = {"model": {"accuracy": 0.99, "mean_iou": 0.98}, "otsu": {"accuracy": 0.9, "mean_iou": 0.8}}
    shown = pixels(figures.score_dots(rows, {"accuracy": (0.985, 0.995)})).astype(int)
    left = shown[:, : shown.shape[1] // 2]
    model = np.argwhere(np.abs(left - [0x00, 0x72, 0xB2]).max(axis=2) < 8)[:, 1].mean()
    otsu = np.argwhere(np.abs(left - [0x8A, 0x94, 0xA1]).max(axis=2) < 8)[:, 1].mean()
    assert model < otsu
