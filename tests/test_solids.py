"""Pictures of phases as solid bodies."""

import io

import numpy as np
import pytest
from PIL import Image

from bodies import ball, places
from tomoseg.report.figures import rgb
from tomoseg.report.solids import can_be_drawn, drawn, solids_picture

N = 24
VIEWED = {  # right, up and towards the eye in places (x, y, z)
    "x": np.array([[0.0, 1, 0], [0, 0, 1], [1, 0, 0]]),
    "y": np.array([[0.0, 0, 1], [1, 0, 0], [0, 1, 0]]),
    "-z": np.array([[1.0, 0, 0], [0, -1, 0], [0, 0, -1]]),
}


@pytest.fixture(autouse=True)
def _in_all_pixels(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("tomoseg.report.solids._PIXELS", 560)  # other tests draw in fewer


def seen(share, view, *, colour="#0072b2", edges=(1.0, 1.0, 1.0)):
    lengths = tuple(size * edge for size, edge in zip(share.shape, edges, strict=True))
    corners = np.indices((2, 2, 2)).reshape(3, -1).T * lengths[::-1] @ view.T
    box = np.stack([corners[:, :2].min(axis=0), corners[:, :2].max(axis=0)])
    picture = drawn(share.astype(np.float32), cell=edges, lengths=lengths, view=view, box=box, colour=rgb(colour))
    return picture, picture[..., 3].mean() * np.prod(np.ptp(box, axis=0))


@pytest.mark.parametrize("view", VIEWED)
def test_a_ball_shows_its_cross_section_without_holes(view):
    picture, area = seen(ball(places((N, N, N), (11.5,) * 3), 8), VIEWED[view])
    assert area == pytest.approx(np.pi * 64, rel=0.03)  # a tenth of a cell in the radius
    middle = slice(picture.shape[0] // 2 - 100, picture.shape[0] // 2 + 100)
    assert picture[middle, middle, 3].min() == 1


def test_a_phase_that_reaches_the_border_is_cut_there():
    """Half of a volume, and the picture: the body ends where the volume does, seen from its side and from its cut."""
    share = np.zeros((N, N, N))
    share[:, :, N // 2 :] = 1
    assert seen(share, VIEWED["x"])[1] == pytest.approx(N * N, rel=1e-3)
    assert seen(share, VIEWED["-z"])[1] == pytest.approx(N * N / 2, rel=0.01)
    picture, _ = seen(share, VIEWED["-z"])
    assert picture[:, -200:, 3].min() == 1 and picture[:, :200, 3].max() == 0  # x to the right


def test_flat_cells_are_drawn_in_their_proportions():
    share = ball(places((12, 24, 24), (5.5, 11.5, 11.5), (2.0, 1.0, 1.0)), 8)
    assert seen(share, VIEWED["y"], edges=(2.0, 1.0, 1.0))[1] == pytest.approx(np.pi * 64, rel=0.05)


@pytest.mark.parametrize("colour", ["#000000", "#ffffff", "#f0e442"])
def test_black_and_white_bodies_have_shades(colour):
    picture, _ = seen(ball(places((N, N, N), (11.5,) * 3), 9), VIEWED["x"], colour=colour)
    tones = picture[picture[..., 3] == 1][:, :3].mean(axis=1)
    assert np.ptp(np.quantile(tones, [0.02, 0.98])) > 0.15
    assert np.quantile(tones, 0.02) < 0.85


def test_a_phase_without_a_cell_of_its_own_has_no_picture():
    shares = np.full((1, 8, 8, 8), 0.4, np.float32)
    assert not can_be_drawn(shares[0])
    style = {"cell": (1.0,) * 3, "lengths": (8.0,) * 3, "colours": ["#000000"], "names": ["a"], "unit": "µm"}
    assert solids_picture(shares, **style) is None


def test_phases_stand_beside_each_other_in_one_picture():
    share = ball(places((N, N, N), (11.5,) * 3), 8).astype(np.float32)
    shares = np.stack([share, 1 - share, 0 * share])
    style = {"colours": ["#000000", "#e69f00", "#0072b2"], "names": ["a", "b", "c"], "unit": "µm"}
    picture = solids_picture(shares, cell=(1.0,) * 3, lengths=(24.0,) * 3, **style)
    assert picture is not None and picture.name == "solids"
    pixels = np.asarray(Image.open(io.BytesIO(picture.png)).convert("RGB")).astype(int)
    orange = (pixels[..., 0] - pixels[..., 2] > 60).any(axis=0)
    assert not orange[: pixels.shape[1] // 2 - 20].any() and orange[pixels.shape[1] // 2 + 20 :].any()
