"""What training with artefacts does against artefacts of other kinds.

`python benchmarks/robustness.py [--out results] [--minutes 5] [--share 0.25] [--resized 0.3]` trains the default recipe
without artefacts, then four times as `robust` does, but with two of the kinds left out of its artefacts, and scores
each on the phantom's test slices with every kind at five strengths: as they are, and read as `predict --shading fit`
does (`even`). A line of JSON in OUT/robustness.jsonl for each model, kind and strength. On a machine that others use as
well `--steps N` ends the trainings instead, with as many steps as a quiet machine makes.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from zlib import crc32

import numpy as np

from common import PHANTOM_CLASSES, facts, fit, make_phantom, record
from tomoseg.degrade import KINDS, GreyScale, find_kind
from tomoseg.metrics import confusion
from tomoseg.model_file import Model, load_model
from tomoseg.recipe import ROBUST
from tomoseg.shading import Page, fit_shading
from tomoseg.volume import Region, Volume, open_volume, read_slice
from tomoseg.workflow.predict import make_runner

# What is like each other is left out together, so that no near relative takes its place.
LEFT_OUT = (("gaussian", "correlated"), ("poisson", "streaks"), ("blur", "rings"), ("beam-hardening", "drift"))
SHAPE, TEST, GAP, CONTEXT = (160, 501, 501), "136:160", 24, 2
SLICES = (139, 147, 155)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("results"))
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--steps", type=int)
    parser.add_argument("--share", type=float, default=ROBUST.patches.artefact_share)
    parser.add_argument("--resized", type=float, default=ROBUST.patches.resized_share)
    parser.add_argument("--only", nargs="*", type=int, default=[-1, *range(len(LEFT_OUT))], help="-1: none")
    parser.add_argument("--strengths", nargs="*", type=int, default=[1, 2, 3, 4, 5])
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    folder = make_phantom(given.out, SHAPE)
    for which in given.only:
        left_out = LEFT_OUT[which] if which >= 0 else tuple(KINDS)
        model = trained(given.out, folder, left_out, given)
        scored(given.out, model, folder, which=which, left_out=left_out, strengths=given.strengths)


def trained(out: Path, folder: Path, left_out: tuple[str, ...], given: argparse.Namespace) -> Path:
    """Train with artefacts of all kinds but those left out; return the model's file."""
    kinds = [name for name in KINDS if name not in left_out]
    recipe = out / f"but_{'_'.join(left_out) if kinds else 'all'}.toml"
    shares = [f"artefact_share = {given.share}", f"resized_share = {given.resized}", f"artefacts = {kinds}"]
    recipe.write_text("\n".join(["[patches]", *(shares if kinds else []), ""]), encoding="utf-8")
    model = recipe.with_suffix(".tomoseg")
    if not model.exists():
        budget = {"minutes": given.minutes} if given.steps is None else {"steps": given.steps}
        fit(folder / "images", folder / "labels", model, recipe=str(recipe), test=TEST, gap=GAP, context=CONTEXT,
            classes=PHANTOM_CLASSES, **budget)  # fmt: skip
    return model


def scored(out: Path, path: Path, folder: Path, *, which: int, left_out: tuple[str, ...], strengths: list[int]) -> None:
    """Score a model clean, and with every kind at some strengths."""
    model = load_model(path)
    images, labels = open_volume(folder / "images"), open_volume(folder / "labels")
    says = {"model": which, "left_out": left_out if which >= 0 else "all", **facts(path)}
    for kind, strength in (("none", 0), *((kind, strength) for kind in KINDS for strength in strengths)):
        wrong, even = errors(model, images, labels, kind, strength - 1)
        record(out, "robustness", **says, kind=kind, strength=strength, errors=wrong, even=even)


def errors(model: Model, images: Volume, labels: Volume, kind: str, strength: int) -> tuple[float, float]:
    """Return the share of wrong pixels on the test slices, degraded as whole slices, their context too.

    The second is that of the same slices and their context read without slow changes of the grey values.
    """
    runner, totals = make_runner(model), np.zeros((2, 3, 3), np.int64)
    values = [item.value for item in model.record.classes]
    for z in SLICES:
        stack = np.stack([degraded(images, i, kind, strength, model) for i in range(z - CONTEXT, z + CONTEXT + 1)])
        label = np.searchsorted(values, read_slice(labels, z)).astype(np.uint8)
        for total, grey in zip(totals, (stack, even_of(stack, model)), strict=True):
            total += confusion(label, runner.segment(list(grey)), 3)
    as_it_is, even = (float(1 - np.trace(total) / total.sum()) for total in totals)
    return as_it_is, even


def even_of(stack: np.ndarray, model: Model) -> np.ndarray:
    """Return slices (z, y, x) as `predict --shading fit` reads them."""
    assert model.samples is not None
    region = Region.whole(stack.shape)
    pages = [Page(z, page, np.ones(page.shape, np.bool_)) for z, page in enumerate(stack)]
    found = fit_shading(model.samples, model.record.window, pages, region=region)
    return stack if found is None else found.correct(stack, region)


def degraded(images: Volume, z: int, kind: str, strength: int, model: Model) -> np.ndarray:
    """Return a slice with an artefact, the same for all models; kept, for projections take seconds."""
    grey = read_slice(images, z).astype(np.float32)
    if strength < 0:
        return grey
    kept = Path(images.path).parent / "degraded" / f"{kind}_{strength}_{z}.npy"
    if not kept.exists():
        kept.parent.mkdir(exist_ok=True)
        rng = np.random.default_rng([crc32(kind.encode()), strength, z])
        if kind == "drift":  # one direction for the whole scan
            rng = np.random.default_rng([crc32(kind.encode()), strength])
        scale = GreyScale(images.dtype, model.record.window)
        np.save(kept, find_kind(kind).apply(grey, find_kind(kind).levels[strength], scale=scale, rng=rng))
    return np.load(kept)


if __name__ == "__main__":
    main()
