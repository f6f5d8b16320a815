"""Tortuosity factors of bodies whose answer is known, and of small ones solved densely."""

import math
from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from tomoseg.quantify.subvolumes import spread_out
from tomoseg.quantify.transport import tortuosity

CUBES = (1.0, 1.0, 1.0)


def porous() -> np.ndarray:
    return ndimage.gaussian_filter(np.random.default_rng(0).standard_normal((24, 28, 32)), 2) > 0


def dense(phase, axis, voxel_size):
    """Return D_eff / D with the equations written down voxel by voxel and solved at once."""
    shape, area = phase.shape, np.prod(voxel_size) / np.array(voxel_size)
    equations, right = np.zeros((phase.size, phase.size)), np.zeros(phase.size)
    ends = 2 * area[axis] / voxel_size[axis]
    for at in product(*map(range, shape)):
        row = np.ravel_multi_index(at, shape)
        if not phase[at]:
            equations[row, row] = 1
            continue
        for along in range(3):
            for step in (-1, 1):
                there = (*at[:along], at[along] + step, *at[along + 1 :])
                if 0 <= there[along] < shape[along]:
                    if phase[there]:
                        equations[row, row] += area[along] / voxel_size[along]
                        equations[row, np.ravel_multi_index(there, shape)] -= area[along] / voxel_size[along]
                elif along == axis:
                    equations[row, row] += ends
                    right[row] += ends if step < 0 else 0
    found = np.linalg.lstsq(equations, right)[0].reshape(shape)
    flow = ends * (1 - np.take(found, 0, axis))[np.take(phase, 0, axis)].sum()
    length, face = shape[axis] * voxel_size[axis], area[axis] * phase.size / shape[axis]
    return flow * length / face


def serpentine(width, wall, legs, leg):
    """Return a channel along z that winds in `legs` legs along y of `leg` voxels, `wall` voxels from each other."""
    pitch = width + wall
    body = np.zeros((wall + legs * pitch, leg, 2), bool)
    for order in range(legs):
        body[wall + order * pitch : wall + order * pitch + width] = True
    for order in range(legs + 1):  # the ways in, from leg to leg, and out
        turn = slice(width) if order % 2 == 0 else slice(leg - width, leg)
        body[order * pitch : order * pitch + wall, turn] = True
    return body


@pytest.mark.parametrize("axis", range(3))
@pytest.mark.parametrize("voxel_size", [CUBES, (2.0, 0.5, 3.0)])
def test_a_straight_channel_has_tau_1(axis, voxel_size):
    channel = np.zeros((9, 10, 11), bool)
    channel[tuple(slice(None) if along == axis else slice(2, 6) for along in range(3))] = True
    found = tortuosity(channel, axis=axis, voxel_size=voxel_size)
    assert found.tau == pytest.approx(1, abs=1e-9)
    assert found.diffusivity == pytest.approx(channel.mean(), abs=1e-9)


def test_plates_conduct_along_themselves_and_not_across():
    plates = np.zeros((12, 12, 12), bool)
    plates[:, ::3] = True
    for axis in (0, 2):
        assert tortuosity(plates, axis=axis, voxel_size=CUBES).tau == pytest.approx(1, abs=1e-9)
    across = tortuosity(plates, axis=1, voxel_size=CUBES)
    assert (across.tau, across.diffusivity, across.percolating) == (None, None, 0)
    assert across.why_not == "does not percolate along y"


def test_a_winding_of_one_voxel_has_the_square_of_its_length_for_tau():
    """The voxels are resistors in a row: of the path's length over the straight one, tau is the square."""
    body = serpentine(width=1, wall=2, legs=5, leg=7)
    path = body[:, :, 0].sum()
    assert path == 5 * 7 + 6 * 2
    assert tortuosity(body, axis=0, voxel_size=CUBES).tau == pytest.approx((path / len(body)) ** 2, rel=1e-6)


def test_a_winding_of_anisotropic_voxels_counts_each_step_by_its_length():
    body, edges = serpentine(width=1, wall=2, legs=5, leg=7), (2.0, 0.5, 1.0)
    # steps along z are 2 long and 0.5 wide, those along y 0.5 long and 2 wide; half a step at each end is along z
    resistance = len(body) * (2 / 0.5) + 5 * 6 * (0.5 / 2)
    straight = len(body) * 2 / (7 * 0.5)
    expected = body.mean() * resistance / straight
    assert tortuosity(body, axis=0, voxel_size=edges).tau == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("width", [6, 12, 24])
def test_corners_of_a_wide_winding_resist_as_conformal_mapping_says(width):
    """A corner is worth 1 - (2 / pi) ln 2 squares of the channel, a straight piece its length over its width.

    At an inner corner of 270 degrees concentrations go with the distance to the power of 2/3. Finite volumes miss twice
    that power of a voxel there: 0.35 width^(-4/3) squares a corner, always too many, 0.9 to 0.1 % of tau here.
    """
    wall, leg, legs = 2 * width, 5 * width, 2
    body = serpentine(width, wall, legs, leg)
    resistance = len(body) / leg / tortuosity(body, axis=0, voxel_size=CUBES).diffusivity
    straight = (legs + 1) * wall / width + legs * (leg - 2 * width) / width
    corner = (resistance - straight) / (2 * legs)
    exact = 1 - 2 / math.pi * math.log(2)
    assert exact < corner < exact + 0.37 * width ** (-4 / 3)


@pytest.mark.parametrize(
    ("axis", "voxel_size", "tau"),
    [
        (0, CUBES, 1.61682038),
        (1, CUBES, 2.13698273),
        (2, CUBES, 1.55916182),
        (1, (2.0, 1.0, 1.5), 2.72976288),
    ],
)
def test_a_porous_body_has_taufactor_s_tau(axis, voxel_size, tau):
    """taufactor 1.2.1 with torch 2.13.0 in float64, `conv_crit=1e-6`; for the last its AnisotropicSolver."""
    phase = porous()
    assert phase.sum() == 11928
    assert tortuosity(phase, axis=axis, voxel_size=voxel_size).tau == pytest.approx(tau, rel=2e-6)


@settings(deadline=None, max_examples=40)
@given(
    shape=st.tuples(*[st.integers(1, 7)] * 3),
    voxel_size=st.tuples(*[st.floats(0.3, 3)] * 3),
    axis=st.integers(0, 2),
    share=st.sampled_from([0.4, 0.6, 0.8, 1.0]),
    seed=st.integers(0, 2**16),
)
def test_it_is_what_the_equations_give_at_once(shape, voxel_size, axis, share, seed):
    phase = np.random.default_rng(seed).random(shape) < share
    found = tortuosity(phase, axis=axis, voxel_size=voxel_size)
    expected = dense(phase, axis, voxel_size)
    if found.diffusivity is None:
        assert expected == pytest.approx(0, abs=1e-9)
    else:
        assert found.diffusivity == pytest.approx(expected, rel=1e-5)
        assert found.tau == pytest.approx(phase.mean() / expected, rel=1e-5)
        assert found.tau > 1 - 1e-6


def test_dead_ends_and_islands_count_in_the_fraction_alone():
    channel = np.zeros((12, 9, 9), bool)
    channel[:, 1, 1] = True
    alone = tortuosity(channel, axis=0, voxel_size=CUBES)
    channel[5, 5:8, 5:8] = True
    channel[4, 2:4, 1] = True
    more = tortuosity(channel, axis=0, voxel_size=CUBES)
    assert more.diffusivity == pytest.approx(alone.diffusivity, rel=1e-6)
    assert more.tau == pytest.approx(alone.tau * (12 + 9 + 2) / 12, rel=1e-6)
    assert more.percolating == pytest.approx((12 + 2) / channel.size)


def test_what_touches_at_edges_only_does_not_percolate_and_an_absent_phase_says_so():
    stairs = np.zeros((4, 4, 1), bool)
    stairs[range(4), range(4)] = True
    assert tortuosity(stairs, axis=0, voxel_size=CUBES).why_not == "does not percolate along z"
    assert tortuosity(np.zeros((4, 4, 4), bool), axis=0, voxel_size=CUBES).why_not == "is absent"


def test_a_channel_that_narrows_to_a_voxel_over_a_long_way_is_solved():
    body = np.ones((200, 5, 5), bool)
    body[3:197] = False
    body[3:197, 2, 2] = True
    found = tortuosity(body, axis=0, voxel_size=CUBES)
    # 194 voxels in a row, and what spreads on both sides of them
    assert found.diffusivity == pytest.approx(200 / 25 / (194 + 1.5), rel=3e-3)
    assert found.steps < 100


def test_subvolumes_are_the_middle_one_and_then_those_farthest_from_all_before():
    places = np.stack(np.unravel_index(np.arange(27), (3, 3, 3)), axis=1)
    chosen = places[spread_out(places, n=8)]
    assert chosen[0].tolist() == [1, 1, 1]
    assert all(set(place.tolist()) <= {0, 2} for place in chosen[1:])
    assert sorted(spread_out(places[:8], n=8)) == list(range(8))
    assert spread_out(places[:2], n=8) == [0, 1]
