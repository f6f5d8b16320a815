import math

import numpy as np
import pytest

from tomoseg.augment import edge_before, resize


def disc(edge: int, *, radius: float, y: float = 0.0, x: float = 0.0) -> np.ndarray:
    """A disc whose centre is y, x pixels away from the middle."""
    places = np.arange(edge) - (edge - 1) / 2
    return (np.hypot(places[:, None] - y, places - x) < radius).astype(np.uint8)


@pytest.mark.parametrize("magnification", [0.7, 1.0, 1.6])
@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 4])
def test_areas_grow_with_the_square_of_the_magnification_at_any_angle(magnification, angle):
    edge = edge_before(64, magnification=magnification, angle=angle)
    label = disc(edge, radius=15)
    image, found = resize(100.0 * label[None], label, size=64, magnification=magnification, angle=angle)
    assert image.shape == (1, 64, 64) and found.shape == (64, 64)
    area, around = math.pi * (15 * magnification) ** 2, 2 * math.pi * 15 * magnification
    assert image.sum() / 100 == pytest.approx(area, rel=0.03)
    assert found.sum() == pytest.approx(area, abs=around / 4)  # a quarter of the pixels along the edge
    assert ((image[0] > 50) == found).mean() > 0.99


def test_a_quarter_turn_moves_what_lies_along_x_to_y():
    label = disc(66, radius=4, x=20)
    _, found = resize(label[None], label, size=64, magnification=1.0, angle=math.pi / 2)
    centre = np.argwhere(found).mean(axis=0) - 31.5
    assert abs(centre[0]) == pytest.approx(20, abs=0.1) and abs(centre[1]) < 0.1


@pytest.mark.parametrize("angle", [0.0, 0.4, math.pi / 4, 1.2])
def test_all_of_the_patch_is_filled(angle):
    edge = edge_before(64, magnification=1.3, angle=angle)
    label = np.ones((edge, edge), np.uint8)
    _, found = resize(label[None], label, size=64, magnification=1.3, angle=angle)
    assert (found == 1).all()
