"""Labels of few pixels: the others are guessed before training, and said to be."""

from __future__ import annotations

from dataclasses import replace

from tomoseg.labels import UNLABELLED
from tomoseg.patches import PatchSource, are_sparse
from tomoseg.workflow.console import Console


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
    from tomoseg.pseudo_labels import Guesser, with_pseudo_labels

    slices = source.slices
    if source.crops is not None or not are_sparse(slices):
        return source
    guesser = Guesser.fit(slices, source.window, seed=seed)
    if guesser is None:
        return source
    share = sum(int((item.label != UNLABELLED).sum()) for item in slices) / sum(item.label.size for item in slices)
    console.say(
        f"{100 * share:.2g} % of the pixels of these slices are labelled: training learns from guesses for the others, "
        "too, which a network for structures of any kind makes after it has seen the labels"
    )
    guesses = [guesser.guess(item) for item in console.track(slices, "guessing what is not labelled", len(slices))]
    return replace(source, slices=with_pseudo_labels(slices, guesses, classes=classes))
