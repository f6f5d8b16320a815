"""Geodesic tortuosity of windings whose shortest path is known, and of small volumes by another algorithm."""

from itertools import product

import numpy as np
import pytest
from scipy.sparse import coo_array
from scipy.sparse.csgraph import dijkstra

from tomoseg.quantify.geodesic import geodesic_tortuosity


def by_graph(phase, edges):
    """Return the geodesic tortuosity along z from a graph of all voxels, by Dijkstra's algorithm."""
    number = np.cumsum(phase).reshape(phase.shape) - 1
    rows, columns, lengths = [], [], []
    for step in product((-1, 0, 1), repeat=3):
        if not any(step):
            continue
        for at in np.argwhere(phase):
            there = at + step
            if (there >= 0).all() and (there < phase.shape).all() and phase[tuple(there)]:
                rows.append(number[tuple(at)])
                columns.append(number[tuple(there)])
                lengths.append(np.linalg.norm(np.array(step) * edges))
    graph = coo_array((lengths, (rows, columns)), shape=(phase.sum(),) * 2).tocsr()
    found = dijkstra(graph, indices=number[0][phase[0]], min_only=True)[number[-1][phase[-1]]]
    return found[np.isfinite(found)].mean() / ((len(phase) - 1) * edges[0])


@pytest.mark.parametrize("edges", [(1.0, 1.0, 1.0), (2.0, 0.5, 1.0)])
def test_shortest_paths_are_those_of_a_graph(edges):
    phase = np.random.default_rng(1).random((7, 8, 6)) < 0.4
    expected = by_graph(phase, np.array(edges))
    assert expected > 1.02
    assert geodesic_tortuosity(phase, axis=0, voxel_size=edges) == pytest.approx(expected)
    turned, order = np.moveaxis(phase, 0, 2), (edges[1], edges[2], edges[0])
    assert geodesic_tortuosity(turned, axis=2, voxel_size=order) == pytest.approx(expected)


def test_a_staircase_is_walked_across_its_corners():
    stairs = np.zeros((6, 6, 1), bool)
    stairs[np.arange(6), np.arange(6)] = True
    assert geodesic_tortuosity(stairs, axis=0, voxel_size=(1, 1, 1)) == pytest.approx(np.sqrt(2))


def test_nothing_leads_through_a_phase_that_is_absent_or_ends_dead_or_a_single_slice():
    dead = np.zeros((5, 4, 4), bool)
    dead[:3] = dead[4] = True
    for phase in (dead, np.zeros((5, 4, 4), bool), np.ones((1, 4, 4), bool)):
        assert geodesic_tortuosity(phase, axis=0, voxel_size=(1, 1, 1)) is None
