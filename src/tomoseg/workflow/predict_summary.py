"""What a segmented volume holds, and which of its slices look unlike what the model was trained on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float64, Int64

from tomoseg.blocks import BINS, GreyStatistics
from tomoseg.likeness import expect, unlike_grey
from tomoseg.model_file import Model
from tomoseg.workflow.predict_plan import Task

_LEAST_DROP = 0.02
_MADS = 6.0


@dataclass(frozen=True)
class SliceTotals:
    """Sums over a slice's blocks.

    Attributes
    ----------
    voxels, sums
        Voxels, and the sum of the probability, of each class (z, class).
    confidence
        Sum of the largest probability (z,).
    histograms
        Counts of grey values in bins of the window (z, bin); zeros where they were not measured.
    noise
        Std of the noise in window widths (z,); nan where it can't be told.
    """

    voxels: Int64[np.ndarray, "z class"]
    sums: Float64[np.ndarray, "z class"]
    confidence: Float64[np.ndarray, " z"]
    histograms: Int64[np.ndarray, "z bin"]
    noise: Float64[np.ndarray, " z"]


def add_up(records: Sequence[tuple[Task, Mapping[str, Any]]], *, depth: int, classes: int) -> SliceTotals:
    """Add up the sums that the tasks recorded, in the tasks' order."""
    totals = SliceTotals(
        np.zeros((depth, classes), np.int64),
        np.zeros((depth, classes)),
        np.zeros(depth),
        np.zeros((depth, BINS), np.int64),
        np.full(depth, np.nan),
    )
    noise: list[list[float]] = [[] for _ in range(depth)]
    for task, found in records:
        zs = slice(task.region.z0, task.region.z1)
        totals.voxels[zs] += np.asarray(found["voxels"], np.int64)
        totals.sums[zs] += np.asarray(found["probability_sums"])
        totals.confidence[zs] += np.asarray(found["confidence_sums"])
        for z, counts in enumerate(found["histograms"], start=task.region.z0):
            totals.histograms[z] += np.asarray(counts, np.int64)
        for z, std in enumerate(found["noise"], start=task.region.z0):
            noise[z] += [] if std is None else [std]
    for z, several in enumerate(noise):
        if several:
            totals.noise[z] = np.median(several)
    return totals


def summarise(totals: SliceTotals, model: Model, names: Sequence[str]) -> dict[str, Any]:
    """Return voxels, shares and probability sums of each class, confidence, and the slices that look unlike.

    Parameters
    ----------
    totals
        Sums of each slice.
    model
        Its samples say what the training data looked like.
    names
        One name a slice.
    """
    classes = [item.name for item in model.record.classes]
    voxels, sums = totals.voxels.sum(axis=0), totals.sums.sum(axis=0)
    counted = max(1, int(voxels.sum()))
    return {
        "voxels": dict(zip(classes, voxels.tolist(), strict=True)),
        "share": dict(zip(classes, (voxels / counted).tolist(), strict=True)),
        "probability_sum": dict(zip(classes, sums.tolist(), strict=True)),
        "mean_probability": dict(zip(classes, (sums / counted).tolist(), strict=True)),
        "mean_confidence": float(totals.confidence.sum() / counted),
        "unlike_training": [
            {"slice": names[z], "why": "; ".join(why)} for z, why in sorted(_unlike(totals, model).items())
        ],
    }


def _unlike(totals: SliceTotals, model: Model) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    for z, why in (*_odd_grey(totals, model), *_unsure(totals)):
        found.setdefault(z, []).append(why)
    return found


def _odd_grey(totals: SliceTotals, model: Model) -> list[tuple[int, str]]:
    """Compare noise and histogram of each slice with those of the labelled tiles that the model carries."""
    expected = expect(model)
    if expected is None:
        return []
    return [
        (z, finding.text)
        for z, (counts, noise, voxels) in enumerate(zip(totals.histograms, totals.noise, totals.voxels, strict=True))
        for finding in unlike_grey(
            GreyStatistics(counts, None if np.isnan(noise) else float(noise)), expected, pixels=int(voxels.sum())
        )
    ]


def _unsure(totals: SliceTotals) -> list[tuple[int, str]]:
    """Find slices whose mean confidence lies far below the volume's median."""
    counted = totals.voxels.sum(axis=1)
    there = np.flatnonzero(counted)
    if there.size == 0:
        return []
    mean = totals.confidence[there] / counted[there]
    middle = float(np.median(mean))
    limit = middle - max(_LEAST_DROP, _MADS * 1.4826 * float(np.median(np.abs(mean - middle))))
    return [
        (int(z), f"its mean confidence is {value:.3f}, the volume's median {middle:.3f}")
        for z, value in zip(there, mean, strict=True)
        if value < limit
    ]
