"""Labels of bodies whose surfaces and lines are known in closed form, and volumes cut into blocks."""

from functools import reduce
from operator import add

import numpy as np
from hypothesis import strategies as st

from tomoseg.labels import UNLABELLED
from tomoseg.phantom import PhantomSpec, make_phantom
from tomoseg.volume import Region


def directions(count, seed):
    return list(np.random.default_rng(seed).standard_normal((count, 3)))


def unit(vector):
    return np.asarray(vector, float) / np.linalg.norm(vector)


def frame(direction, rng):
    """Return the unit vector along `direction` and two across, turned at random."""
    first = unit(direction)
    second = unit(np.cross(first, rng.standard_normal(3)))
    return first, second, np.cross(first, second)


def places(shape, centre, voxel_size=(1, 1, 1)):
    """Return each voxel's place relative to `centre` (in voxels) in units of `voxel_size`, (axis, z, y, x)."""
    steps = np.indices(shape) - np.reshape(centre, (3, 1, 1, 1))
    return steps * np.reshape(voxel_size, (3, 1, 1, 1))


def random_centre(shape, rng):
    return (np.array(shape) - 1) / 2 + rng.uniform(-1, 1, 3)


def sectors(at, frame, angles):
    """Return classes 0, 1, 2 in sectors of `angles` degrees around the first vector of a frame."""
    _, across, up = frame
    degrees = np.degrees(np.arctan2(np.tensordot(up, at, 1), np.tensordot(across, at, 1))) % 360
    return np.digitize(degrees, np.cumsum(angles)[:2]).astype(np.uint8)


def ball(at, radius, centre=(0, 0, 0)):
    return ((at - np.reshape(centre, (3, 1, 1, 1))) ** 2).sum(axis=0) < radius**2


def phantom(seed, shape=(48, 96, 96)):
    slices = list(make_phantom(PhantomSpec(shape=shape, seed=seed, noise_std=0)))
    return np.stack([one.label for one in slices]), reduce(add, [one.truth for one in slices])


@st.composite
def volumes(draw, n_classes, longest=24):
    """Draw a small volume of coarse grains, some of it outside a mask."""
    shape = draw(st.tuples(*[st.integers(1, longest)] * 3))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    grain = draw(st.integers(1, 5))
    coarse = rng.integers(0, n_classes, [-(-size // grain) for size in shape], dtype=np.uint8)
    for axis in range(3):
        coarse = np.repeat(coarse, grain, axis)
    labels = coarse[tuple(slice(size) for size in shape)].copy()
    labels[rng.random(shape) < draw(st.sampled_from([0, 0, 0.02]))] = UNLABELLED
    return labels


@st.composite
def cuts(draw, shape, guard):
    """Draw blocks that make up a volume: for each its box with guard, and its own voxels within that box."""
    ends = [sorted({0, size, *draw(st.lists(st.integers(0, size), max_size=2))}) for size in shape]
    return [
        with_guard(shape, lows, highs, guard)
        for lows, highs in zip(
            np.stack(np.meshgrid(*(end[:-1] for end in ends)), -1).reshape(-1, 3),
            np.stack(np.meshgrid(*(end[1:] for end in ends)), -1).reshape(-1, 3),
            strict=True,
        )
    ]


def with_guard(shape, lows, highs, guard):
    starts, stops = np.maximum(0, lows - np.array(guard)), np.minimum(shape, highs + np.array(guard))
    own = np.stack([lows - starts, highs - starts], axis=1)
    return tuple(slice(*ends) for ends in np.stack([starts, stops], axis=1).tolist()), Region(*own.ravel().tolist())
