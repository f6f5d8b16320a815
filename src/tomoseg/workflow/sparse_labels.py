"""Labels of few pixels: the others are guessed before training, and said to be."""

from __future__ import annotations

import math
from dataclasses import replace

from tomoseg.patches import SPARSE, PatchSource, labelled_share
from tomoseg.workflow.console import Console

LEAST_RIGHT = 0.8
"""Mean over classes, on slices left out: with fewer, guesses teach more that is wrong than labels can make up for."""


def guessing_context(context: int) -> int:
    """Return how many slices on either side are read where the network that is trained sees `context`."""
    return max(context, 2) if context else 0


def filled_up(source: PatchSource, *, classes: int, seed: int, console: Console) -> PatchSource:
    """Return what training learns from: the labels, and where these are sparse, guesses for all other pixels.

    Parameters
    ----------
    source
        Of the labelled slices, fresh patches.
    classes
        Number of classes.
    seed
        Draws pixels where more than enough are labelled.
    console
        Says what is done.
    """
    share = labelled_share(source.slices)
    if source.crops is not None or share >= SPARSE:
        return source
    from tomoseg.pseudo_labels import Guesser, with_pseudo_labels

    with console.progress("looking at the labels", 1.0):
        guesser = Guesser.fit(source.slices, source.window, seed=seed)
    if guesser is None:
        return source
    told = f"{100 * share:.2g} % of the pixels of these slices are labelled"
    right = guesser.right_on_others
    if right < LEAST_RIGHT:
        console.warn(
            f"{told}; fitted to all slices but one, guesses for the others are right for {100 * right:.0f} % of that "
            "one's labels: too few, so training learns from the labels alone; label more, or look whether classes are "
            "drawn alike everywhere"
        )
        return source
    tested = "" if math.isnan(right) else (
        f"; fitted to all slices but one, guesses are right for {100 * right:.1f} % of that one's labels")  # fmt: skip
    console.say(f"{told}; the others are guessed before training{tested}")
    found = console.track(source.slices, "guessing what is not labelled", len(source.slices))
    guesses = [guesser.guess(item) for item in found]
    return replace(source, slices=with_pseudo_labels(source.slices, guesses, classes=classes))
