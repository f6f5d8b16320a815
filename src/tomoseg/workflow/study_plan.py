"""How much noise the next scan may have: what a tolerance allows, and what it means for the exposure."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from tomoseg.degrade import noise_std_grey, noise_std_units
from tomoseg.errors import SettingError
from tomoseg.metrics import accuracy, mean_iou
from tomoseg.report import Note, Part, Table
from tomoseg.study import bracket, exposure_fraction, fraction_errors, seed_means, tolerated, tolerated_interval
from tomoseg.workflow.study import NOISES
from tomoseg.workflow.study_data import beside_correlation, measured_noise
from tomoseg.workflow.study_results import Study

Statistic = Callable[[np.ndarray], float]

_STATISTICS: dict[str, tuple[Statistic, bool]] = {
    "accuracy": (accuracy, True),
    "mean_iou": (mean_iou, True),
    "fraction": (lambda counts: float(np.abs(fraction_errors(counts)).max()) / 100, False),
}
"""What a tolerance can be of: its name -> its value from a confusion matrix, whether more is better."""

_FILTERED = 0.7
"""Correlation of neighbouring pixels' noise above which a scan counts as filtered: after a Gaussian of 1 pixel it is
0.78, after a median of 5 x 5 pixels 0.73, as a laboratory scanner reconstructs it 0.6."""

_WORDS = {"accuracy": "accuracy at least", "mean_iou": "mean IoU at least", "fraction": "phase fractions within"}


def parse_tolerances(texts: Sequence[str]) -> dict[str, float]:
    """Read tolerances.

    Raises
    ------
    SettingError
        If one has another form or is of something unknown.

    Examples
    --------
    >>> parse_tolerances(["accuracy=0.98", "fraction=0.005"])
    {'accuracy': 0.98, 'fraction': 0.005}
    """
    found = {}
    for text in texts:
        name, _, value = text.partition("=")
        try:
            found[name] = float(value)
        except ValueError:
            found[name] = float("nan")
        if name not in _STATISTICS or not 0 < found[name] < 1:
            raise SettingError(f"--tolerance {text!r} is none; write accuracy=0.98, mean_iou=0.95 or fraction=0.005")
    return found


def make_plan(study: Study) -> tuple[list[dict[str, Any]], str | None]:
    """Return, for each method and tolerance, the largest noise and the exposure that it means; or why there is none."""
    settings = study.settings
    if settings.kind not in NOISES:
        return [], f"a plan is about noise; {settings.kind} has no exposure"
    own, why = scan_noise_std(study)
    plan = []
    for name, tolerance in parse_tolerances(settings.tolerance).items():
        statistic, at_least = _STATISTICS[name]
        for method in study.methods:
            curves = study.curves(method, like_scan=settings.plans_like_scan)
            blocks = np.array([[point["blocks"] for point in curve] for curve in curves])
            values = seed_means(blocks.sum(axis=2), statistic)
            level = tolerated(settings.all_levels, values, tolerance, at_least=at_least)
            interval = tolerated_interval(
                settings.all_levels,
                blocks,
                tolerance,
                statistic=statistic,
                at_least=at_least,
                rng=np.random.default_rng([settings.seed, 6]),
            )
            most = settings.all_levels[-1]
            row = {
                "method": method,
                "tolerance": f"{_WORDS[name]} {tolerance:g}",
                "noise_std": None if level is None else min(level, most),
                "between": None if level is None else bracket(settings.all_levels, level),
                "interval": interval and [end if end < most else None for end in interval],
                "curve_ends_at": most,
            }
            if level is not None and own is not None:
                row["exposure_fraction"] = exposure_fraction(own, min(level, most))
            plan.append({**row, "beyond_the_curve": level is not None and level > most, "scan_noise_std": own})
    return plan, why


def scan_noise_std(study: Study) -> tuple[float | None, str | None]:
    """Return the scan's own noise in units of `noise_std`; or None, and why it cannot be estimated."""
    scan = study.layout.scan
    try:
        found = measured_noise(scan)
    except SettingError as error:  # quantised too coarsely, or too little of it is flat
        return None, f"the scan's own noise cannot be measured: {error}"
    beside = beside_correlation(found)
    if beside > _FILTERED:
        return None, (
            f"the scan was filtered: the noise of neighbouring pixels is correlated by {beside:.2f}, so that its std "
            "says nothing of the exposure; give the scan as it was reconstructed"
        )
    grey = found.std_grey
    return noise_std_units(grey, dtype=scan.volume.dtype, window=study.window()), None


def plan_lines(plan: Sequence[dict[str, Any]], why: str | None) -> list[str]:
    """Return the plan as lines for a terminal."""
    lines = [
        " ".join(filter(None, (f"{row['method']}, {row['tolerance']}: added noise", *_plan_words(row)))) for row in plan
    ]
    return lines + ([f"no exposure: {why}"] if why else [])


def _plan_words(row: dict[str, Any]) -> tuple[str, str, str, str]:
    """Return the noise, the measured levels that it lies between, its interval, and the exposure."""
    if row["noise_std"] is None:
        return "none", "", "", ""
    ends = row["interval"]
    beyond = row["beyond_the_curve"]
    level = "more than the curve has" if beyond else f"std {row['noise_std']:.0f}"
    between = row["between"]
    measured = "" if between is None else f"between {between[0]:g} and {between[1]:g}"
    interval = "" if ends is None else f"[{', '.join('beyond' if end is None else f'{end:.0f}' for end in ends)}]"
    share = row.get("exposure_fraction")
    exposure = "" if share is None else f"1/{1 / share:.3g}{' or less' if beyond else ''} of the exposure"
    return level, measured, interval, exposure


def plan_parts(study: Study, plan: Sequence[dict[str, Any]], why: str | None) -> list[Part]:
    """Return the plan as parts of a report, with what it assumes."""
    parts: list[Part] = []
    if plan:
        rows = [[row["method"], row["tolerance"], *(word or "-" for word in _plan_words(row))] for row in plan]
        columns = ["method", "tolerance", "added noise", "interpolated", "95 % interval", "exposure"]
        if why:  # there is none
            columns, rows = columns[:-1], [row[:-1] for row in rows]
        caption = "The largest std of added noise within each tolerance, in 1/65535 of the full range."
        parts.append(Table(columns, rows, caption=caption))
        own = plan[0]["scan_noise_std"]
        if own is not None:
            parts.append(Note(_plan_assumptions(study, own)))
    return parts + ([Note(f"No exposure: {why}.", "warning")] if why else [])


def _plan_assumptions(study: Study, own: float) -> str:
    like = any("curve_like_scan" in one for one in study.done.values())
    noise = "has the autocorrelation measured in flat regions of the scan" if like else "is white"
    if study.settings.kind == "correlated":
        noise = "is correlated over a pixel"
    dtype = study.layout.scan.volume.dtype
    grey = noise_std_grey(own, dtype=dtype, window=study.window())
    return (
        f"Assumed: the scan's own noise has a std of {own:.0f} ({grey:.4g} grey values), measured in flat regions; it "
        "comes from the photons alone, so that its variance falls as one over the exposure, which is s0² / (s0² + "
        f"s_added²); the added noise {noise}, and that of one slice is independent of the next one's; sample, dose "
        "damage, blur and artefacts stay the same. The interval is from independent blocks of the test and the seeds; "
        "between two measured levels the curve is taken as straight, which says little where it falls off a cliff."
    )
