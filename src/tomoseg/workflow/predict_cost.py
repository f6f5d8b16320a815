"""What a prediction will take: seconds by a short trial of the network, and room on the disk."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor

import numpy as np

from tomoseg.predict import Runner
from tomoseg.tiles import tiles
from tomoseg.volume.turned import turn_shape
from tomoseg.workflow.predict_memory import TRIED_EDGE
from tomoseg.workflow.predict_plan import Pass, Plan, Task, axis_of, region_of

_PYRAMID = 8 / 7


def expected_seconds(runner: Runner, plan: Plan, todo: Mapping[Pass, Sequence[Task]]) -> float:
    """Return the seconds that the network will run for the tasks, from running it once here in all lanes."""
    edge = min(TRIED_EDGE, plan.tile + 2 * runner.network.halo) // runner.network.grid * runner.network.grid
    stack = np.zeros((runner.network.channels, edge, edge), np.float32)
    lanes = plan.lanes.computing
    with ThreadPoolExecutor(lanes) as pool:
        for _ in range(2):  # the first time warms up
            began = time.perf_counter()
            list(pool.map(runner.engine.run, [stack] * lanes))
    a_pixel = (time.perf_counter() - began) / (lanes * edge**2)
    tasks = [task for some in todo.values() for task in some if plan.axes == "z" or task.which != "labels"]
    return a_pixel * sum(_fed_pixels(runner, plan, task) * task.planes for task in tasks)


def _fed_pixels(runner: Runner, plan: Plan, task: Task) -> int:
    """Return the pixels that are fed to the network for a slice of a block, halos included."""
    region = region_of(task, plan)
    shape = turn_shape(plan.shape, axis_of(task.which))
    box = (slice(region.y0, region.y1), slice(region.x0, region.x1))
    network = runner.network
    parts = tiles(shape[1:], tile=plan.tile, halo=network.halo, grid=network.grid, box=box)
    return sum(part.height * part.width for part in parts)


def expected_bytes(plan: Plan, *, copied: bool) -> float:
    """Return the room on the disk that the outputs take at most, while they are made.

    Parameters
    ----------
    plan
        What is done.
    copied
        Whether another format is written from the store, which goes only then.
    """
    classes = len(plan.label_values)
    final = np.dtype(plan.label_type).itemsize + plan.probabilities * classes + plan.uncertainty
    along_axes = 3 * 2 * classes if plan.axes == "zyx" else 0
    kept = 2 * final if copied else final * _PYRAMID
    return float(np.prod(plan.box.shape, dtype=np.float64) * (kept + along_axes))
