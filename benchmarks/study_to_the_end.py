"""The noise study's baseline and 50 % cell (large), trained until validation stops improving, side by side.

The settings are those of docs/studies/noise-phantom. Validated after each pass over the crops, ended after five
without a better mean IoU; one thread each. Keep the machine quiet: it takes an hour or more.
"""

import json

from common import PHANTOM_CLASSES, make_phantom, parse_out, record
from tomoseg.workflow.console import Console
from tomoseg.workflow.study import StudySettings, claim_folder, plan, read_cells
from tomoseg.workflow.study_data import open_study
from tomoseg.workflow.study_run import only_one, run_all

NO_BLOCKS = ("blocks",)


def main() -> None:
    out = parse_out(__doc__ or "")
    phantom = make_phantom(out, (160, 501, 501))
    settings = StudySettings(
        what="noise",
        images=(phantom / "images").resolve(),
        labels=(phantom / "labels").resolve(),
        out=(out / "to_the_end").resolve(),
        width=16,
        test="136:160",
        levels=(0.0, 2500.0, 5000.0, 7500.0, 10_000.0),
        to_the_end=("baseline", "0.5"),
        patience=5,
        most_minutes=90.0,
        classes=PHANTOM_CLASSES,
        noise_like="white",
        workers=2,
    )
    layout = open_study(settings, Console())
    cells = [cell for cell in plan(settings, layout) if cell.to_the_end]
    with only_one(settings.out):
        claim_folder(settings, layout)
        missing = [cell for cell in cells if cell.key not in read_cells(settings, cells)]
        failed = run_all(missing, settings, Console())
    for cell in read_cells(settings, cells).values():
        curve = [{name: value for name, value in point.items() if name not in NO_BLOCKS} for point in cell["curve"]]
        record(out, "to_the_end", **{**cell, "curve": curve})
    if failed:
        raise SystemExit(json.dumps(failed))


if __name__ == "__main__":
    main()
