"""Flips and right-angle turns of patches: the eight symmetries of the pixel grid, and of the stack along z."""

from __future__ import annotations

import numpy as np
from jaxtyping import Shaped, UInt8

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
