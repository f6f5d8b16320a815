"""Some slices of a scan as a model sees them, for the verbs that judge a scan without labels."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import tyro
from jaxtyping import Bool, Float32
from pydantic import Field

from tomoseg.ends import continued
from tomoseg.errors import ModelFileError, SettingError
from tomoseg.grey_levels import evenly
from tomoseg.held_out import seen_numbers
from tomoseg.likeness import LIGHTS, Expected, Finding, Light, Look, look, unlike, worst
from tomoseg.provenance import content_hash, record
from tomoseg.slices import context_slices, slice_numbers
from tomoseg.volume import Volume, read_slice
from tomoseg.workflow.common import ModelFile, Reading, Shading, SourcePath
from tomoseg.workflow.console import Console
from tomoseg.workflow.even_reading import read_evenly
from tomoseg.workflow.reading import Source, open_source, refuse_without_parts, source_hash

if TYPE_CHECKING:
    from tomoseg.model_file import Model
    from tomoseg.predict import Runner

PATCH_EDGE = 256
"""Edge in pixels of the patch in which a slice is least certain."""


@dataclass(frozen=True)
class Seen:
    """A slice of a scan as a model sees it.

    Attributes
    ----------
    z, number, name
        The slice, its position along z, its name.
    look
        Its grey values, blur and confidence.
    findings
        In which ways it is unlike the training data.
    patch
        Rows y0 to y1 and columns x0 to x1 of the `PATCH_EDGE` square in which the network is least certain.
    content
        Hash of its grey values.
    """

    z: int
    number: int
    name: str
    look: Look
    findings: tuple[Finding, ...]
    patch: tuple[int, int, int, int]
    content: str

    @property
    def light(self) -> Light:
        """The worst of the findings."""
        return worst([finding.light for finding in self.findings])

    @property
    def doubt(self) -> float:
        """One minus the mean confidence: the errors to expect of a network that is no surer than it should be."""
        return 1 - self.look.confidence


class LookSettings(Reading):
    """Options of the verbs that look at some slices of a scan."""

    model: Annotated[ModelFile, Field(description="model file, NAME.tomoseg")]
    source: Annotated[SourcePath, Field(description="folder of slices, or a volume in any format that is read")]
    out: Annotated[
        Path | None,
        tyro.conf.arg(aliases=["-o"]),
        Field(description="folder for report.html and the same as JSON, if wanted"),
    ] = None
    slices: Annotated[int, Field(ge=1, description="how many evenly spaced slices to look at")] = 16
    shading: Shading = "keep"
    force: Annotated[bool, Field(description="replace an existing report")] = False


@dataclass(frozen=True)
class Looked:
    """A model, a scan, and what was seen of it.

    Attributes
    ----------
    model, source
        Both.
    expected
        What the model's training data look like.
    seen
        At least one slice.
    """

    model: Model
    source: Source
    expected: Expected
    seen: tuple[Seen, ...]

    def provenance(self, verb: str, settings: LookSettings) -> dict[str, Any]:
        """Return where the verb's result comes from."""
        return record(
            verb,
            seed=settings.seed,
            inputs={"model": self.model.content, **{one.name: one.content for one in self.seen}},
            settings=settings.model_dump(mode="json", exclude={"model", "source", "out"}),
        ).model_dump()


def look_at(settings: LookSettings, console: Console) -> Looked:
    """Open what the settings name, and look at some evenly spaced slices.

    Raises
    ------
    InputError
        If the report can't be written, the model carries no tiles to compare with, or the scan can't be read as the
        model needs it.
    """
    from tomoseg.likeness import expect
    from tomoseg.model_file import load_model
    from tomoseg.report import check_folder
    from tomoseg.workflow.predict import make_runner, refuse_other_type

    if settings.out is not None:
        check_folder(settings.out, force=settings.force)
    model = load_model(settings.model)
    source = open_source(settings.source, settings)
    refuse_other_type(model.record, source.volume)
    refuse_without_parts(source, context=model.record.network.context)
    expected = expect(model, blur=True)
    if expected is None:
        raise ModelFileError(
            f"{model.place}: was trained with --no-samples and has nothing to compare a scan with; train without it"
        )
    zs = evenly(source.region.z0, source.region.z1, settings.slices)
    stored, source = source.volume, read_evenly(source, model, settings.shading, console)
    seen = tuple(see(source, zs, stored=stored, runner=make_runner(model), expected=expected, console=console))
    if not seen:
        raise SettingError(f"{source.path}: no slice that was looked at has a pixel that counts; look at --mask")
    return Looked(model, source, expected, seen)


def inside_of(source: Source, z: int) -> Bool[np.ndarray, "y x"]:
    """Return which pixels of a whole slice count."""
    _, rows, columns = source.region.slices
    inside = np.zeros(source.volume.shape[1:], np.bool_)
    inside[rows, columns] = source.view.inside(z)[rows, columns]
    return inside


def see(
    source: Source, zs: Sequence[int], *, stored: Volume, runner: Runner, expected: Expected, console: Console
) -> Iterator[Seen]:
    """Segment slices `zs` of a scan one after the other, and compare each with the training data.

    Slices are known by their grey values as they are `stored`, before any correction. Slices without a pixel that
    counts are left out.

    Raises
    ------
    VolumeError
        If a slice cannot be read.
    """
    names = source.volume.names
    numbers = slice_numbers(names)
    whole = continued(partial(read_slice, source.volume), len(numbers))
    for z in console.track(zs, "looking at slices", len(zs)):
        inside = inside_of(source, z)
        if not inside.any():
            continue
        around = context_slices(z, numbers=numbers, context=runner.network.context)
        read = {i: whole(i) for i in set(around)}
        found = np.zeros((runner.network.classes, *inside.shape), np.float32)
        for core, probabilities in runner.parts([read[i] for i in around]):
            found[(slice(None), *core)] = probabilities
        confidence = found.max(axis=0)
        seen = look(read[z], window=runner.window, inside=inside, confidence=float(confidence[inside].mean()))
        yield Seen(
            z=z,
            number=numbers[z],
            name=names[z],
            look=seen,
            findings=tuple(unlike(seen, expected)),
            patch=least_certain(np.where(inside, 1 - confidence, np.float32(0)), edge=PATCH_EDGE),
            content=content_hash(read_slice(stored, z)),
        )


def least_certain(doubt: Float32[np.ndarray, "y x"], *, edge: int) -> tuple[int, int, int, int]:
    """Return rows y0 to y1 and columns x0 to x1 of the square of `edge` pixels in a slice that holds most doubt.

    Examples
    --------
    >>> least_certain(np.eye(1, 9, 8, dtype=np.float32).repeat(9, axis=0), edge=3)
    (0, 3, 6, 9)
    """
    height, width = (min(edge, size) for size in doubt.shape)
    total = np.pad(doubt.cumsum(axis=0, dtype=np.float64).cumsum(axis=1), ((1, 0), (1, 0)))
    sums = total[height:, width:] - total[:-height, width:] - total[height:, :-width] + total[:-height, :-width]
    y, x = np.unravel_index(int(sums.round(6).argmax()), sums.shape)
    return int(y), int(y) + height, int(x), int(x) + width


def label_next(looked: Looked, *, most: int) -> list[Seen]:
    """Return the slices most worth labelling: of the worst light, then with the most doubt.

    None is labelled already or lies nearer than the model's gap to another; nor, unless it is red, to one that the
    model has seen, which would look alike.
    """
    own = looked.model.record
    labelled = {item.content for item in own.slices}
    contents = {one.number: one.content for one in looked.seen}
    trained = seen_numbers(contents, source_hash(looked.source.path), own)
    chosen: list[Seen] = []
    for one in sorted(looked.seen, key=lambda one: (-LIGHTS.index(one.light), -one.doubt)):
        near = {other.number for other in chosen} | (set() if one.light == "red" else trained)
        apart = all(abs(one.number - number) >= max(1, own.gap) for number in near)
        if len(chosen) < most and apart and one.content not in labelled:
            chosen.append(one)
    return chosen
