"""Flips and right-angle turns of patches: the eight symmetries of the pixel grid, and of the stack along z.

And patches of another size and direction, as another voxel size or a turned sample would show them.
"""

from __future__ import annotations

import math

import numpy as np
from jaxtyping import Float32, Shaped, UInt8
from scipy.ndimage import affine_transform

from tomoseg.labels import UNLABELLED

Patch = Shaped[np.ndarray, "channel y x"]
Label = UInt8[np.ndarray, "y x"]


def turn(image: Patch, label: Label, *, rng: np.random.Generator) -> tuple[Patch, Label]:
    """Return a square patch and its label turned by a right angle and flipped, each at random; views, no copies.

    The context slices are put in reverse order half of the time: a scan has no preferred end.

    Parameters
    ----------
    image
        Grey values (channel, y, x), channels rising in z.
    label
        Class indices (y, x).
    rng
        Draws the turn.

    Examples
    --------
    >>> patch = np.arange(4).reshape(1, 2, 2)
    >>> image, label = turn(patch, patch[0].astype(np.uint8), rng=np.random.default_rng(0))
    >>> bool((image[0] == label).all())
    True
    """
    quarter_turns, flip, reverse = int(rng.integers(4)), bool(rng.integers(2)), bool(rng.integers(2))
    image, label = np.rot90(image, quarter_turns, axes=(1, 2)), np.rot90(label, quarter_turns)
    if flip:
        image, label = image[:, :, ::-1], label[:, ::-1]
    return (image[::-1] if reverse else image), label


def edge_before(size: int, *, magnification: float, angle: float) -> int:
    """Return the edge in pixels of what holds a patch of `size` before `resize` enlarges and turns it.

    Examples
    --------
    >>> edge_before(128, magnification=2.0, angle=0.0)
    66
    """
    return math.ceil(size / magnification * (abs(math.cos(angle)) + abs(math.sin(angle)))) + 2


def resize(
    image: Patch, label: Label, *, size: int, magnification: float, angle: float
) -> tuple[Float32[np.ndarray, "channel row column"], UInt8[np.ndarray, "row column"]]:
    """Return the middle of a patch, `size` pixels wide, enlarged and turned about its centre.

    Grey values are interpolated linearly, which smooths them as a resampled volume is; of classes the nearest is taken.
    The distance of the slices stays.

    Parameters
    ----------
    image
        Grey values (channel, y, x), square.
    label
        Class indices (y, x).
    size
        Edge of the result in pixels; what `edge_before` says is enough to fill it, the rest would be unlabelled.
    magnification
        Above 1 enlarges.
    angle
        In radians, from y towards x.

    Examples
    --------
    >>> patch = np.arange(6.0)[None, None] + np.zeros((1, 6, 1))
    >>> image, label = resize(patch, np.uint8(patch[0] > 2), size=4, magnification=2.0, angle=0.0)
    >>> image[0, 0].tolist(), label[0].tolist()
    ([1.75, 2.25, 2.75, 3.25], [0, 0, 1, 1])
    """
    turned = np.array([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]]) / magnification
    middle_before, middle = (label.shape[0] - 1) / 2, (size - 1) / 2
    offset = middle_before - turned @ np.array([middle, middle])
    planes = [
        affine_transform(plane.astype(np.float32), turned, offset, (size, size), order=1, mode="nearest")
        for plane in image
    ]
    nearest = affine_transform(label, turned, offset, (size, size), order=0, mode="constant", cval=UNLABELLED)
    return np.stack(planes), nearest
