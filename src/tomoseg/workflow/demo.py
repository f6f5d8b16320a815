"""`tomoseg demo`: every verb, one after the other, on a phantom."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from tomoseg.errors import OutputError
from tomoseg.workflow import check, evaluate, inspect, phantom, predict, quantify, suggest, train
from tomoseg.workflow.common import Common, Target
from tomoseg.workflow.console import Console

TRAINING_MINUTES = 1.0
TEST = "52:64"
_LOOKED_AT = 8


class DemoSettings(Common):
    """The tour: make a phantom, inspect it, train, evaluate, predict, quantify, check, suggest; in three minutes."""

    out: Annotated[Target, Field(description="folder for all that the tour makes; report.html is the one to open")]
    force: Annotated[bool, Field(description="replace what an earlier tour made")] = False


def run(settings: DemoSettings, console: Console) -> None:
    """Go through all verbs with their defaults."""
    out, shared = settings.out, settings.model_dump(include={"seed", "threads", "quiet", "force"})
    if out.exists() and not (out.is_dir() and (settings.force or not any(out.iterdir()))):
        raise OutputError(f"{out}: exists; choose another folder, or replace an earlier tour with --force")
    images, labels, model = out / "phantom/images", out / "phantom/labels", out / "model.tomoseg"
    phantom.run(phantom.PhantomSettings(out=out / "phantom", **shared), console)
    inspect.run(inspect.InspectSettings(source=images, out=out / "inspect", **shared), console)
    train.run(
        train.TrainSettings(
            images=images,
            labels=labels,
            out=model,
            minutes=TRAINING_MINUTES,
            test=TEST,
            classes=("pore=0", "YSZ=128", "Ni=255"),
            **shared,
        ),
        console,
    )
    evaluate.run(evaluate.EvaluateSettings(model=model, images=images, labels=labels, out=out, **shared), console)
    predict.run(predict.PredictSettings(model=model, source=images, out=out / "segmented", **shared), console)
    quantify.run(
        quantify.QuantifySettings(
            segmentation=out / "segmented", out=out / "numbers", scores=out / "scores.json", **shared
        ),
        console,
    )
    check.run(check.CheckSettings(model=model, source=images, out=out / "check", slices=_LOOKED_AT, **shared), console)
    suggest.run(
        suggest.SuggestSettings(model=model, source=images, out=out / "suggest", slices=_LOOKED_AT, **shared), console
    )
    console.result(f"open {out / 'report.html'}; the scores are in {out / 'scores.json'}")
