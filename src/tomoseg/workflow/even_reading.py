"""A scan read without the slow changes of its grey values, where that is asked for: `--shading fit`."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Literal

from tomoseg.errors import ModelFileError, SettingError
from tomoseg.grey_levels import evenly
from tomoseg.volume import read_slice
from tomoseg.workflow.console import Console
from tomoseg.workflow.reading import Source

if TYPE_CHECKING:
    from tomoseg.model_file import Model
    from tomoseg.shading import Shading

_SLICES, _FEWEST = 8, 2
_MOST_BYTES = 100_000_000


def read_evenly(source: Source, model: Model, shading: Literal["keep", "fit"], console: Console) -> Source:
    """Return a source as it is read with `--shading`; raises as `find_shading` does."""
    return source if shading == "keep" else corrected(source, find_shading(source, model, console))


def find_shading(source: Source, model: Model, console: Console) -> Shading | None:
    """Return the slow changes of a scan's grey values, if they stand out; say what was found.

    Raises
    ------
    ModelFileError
        If the model carries no tiles to compare with.
    SettingError
        If no slice that is looked at has a pixel that counts.
    """
    from tomoseg.shading import Page, fit_shading

    if model.samples is None:
        raise ModelFileError(
            f"{model.place}: was trained with --no-samples and has nothing to compare a scan with; leave out --shading "
            "fit, or train without it"
        )
    region = source.region
    _, rows, columns = region.slices
    zs = evenly(region.z0, region.z1, how_many(region.shape[1] * region.shape[2], source.volume.dtype.itemsize))
    pages = [
        Page(z, read_slice(source.volume, z)[rows, columns], source.view.inside(z)[rows, columns])
        for z in console.track(zs, "reading slices", len(zs))
    ]
    if not any(page.inside.any() for page in pages):
        raise SettingError(f"{source.path}: no slice that was looked at has a pixel that counts; look at --mask")
    with console.progress("looking for slow changes of the grey values", 1.0) as bar:
        found = fit_shading(model.samples, model.record.window, pages, region=region, tell=bar.update)
    console.say(
        "no slow changes of the grey values stand out; they are read as they are"
        if found is None
        else f"corrected: slow changes of the grey values, {found}"
    )
    return found


def how_many(pixels: int, itemsize: int) -> int:
    """Return how many slices are looked at: eight, or fewer where slices are so large that these took much memory.

    Examples
    --------
    >>> how_many(2000 * 2000, 2), how_many(6000 * 6000, 2)
    (8, 2)
    """
    return max(_FEWEST, min(_SLICES, _MOST_BYTES // (pixels * (itemsize + 1))))


def corrected(source: Source, shading: Shading | None) -> Source:
    """Return a source whose grey values are read without these changes."""
    if shading is None:
        return source
    from tomoseg.shading import CorrectedVolume

    return replace(source, volume=CorrectedVolume(source.volume, shading))
