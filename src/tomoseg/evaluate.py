"""Scores of a model on labelled slices, streamed: one slice in memory at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
from jaxtyping import Int64, Shaped, UInt8

from tomoseg.degrade import add_gaussian_noise
from tomoseg.ends import beyond, continued
from tomoseg.intervals import Intervals, bootstrap, correlation_length, even_parts, group_by_z, tile_confusions
from tomoseg.metrics import (
    CalibrationSums,
    Confusion,
    accuracy,
    agreement,
    class_scores,
    confusion,
    interior,
    mean_iou,
)
from tomoseg.predict import Runner, read_stack
from tomoseg.quantify.sampling import FEWEST_BLOCKS
from tomoseg.quantify.sections import SHORTEST_TILE, Effect, Places, Tiles, effects, section_tiles
from tomoseg.quantify.slabs import THICKNESS, THINNEST, slab_tiles, slabs_of
from tomoseg.slices import Scan, context_slices

Slice = Shaped[np.ndarray, "y x"]
Index = UInt8[np.ndarray, "y x"]

_SAMPLED = 16
_MOST_PAIRS = 64
_NEAR = 2 * THICKNESS  # slices from one slab's last to the next one's, at most


@dataclass(frozen=True)
class TestSlice:
    """A slice that tests: slice `z` of scan number `scan`."""

    __test__ = False  # no test class for pytest

    scan: int
    z: int


@dataclass(frozen=True)
class Noise:
    """Noise that is added to a test: its std in grey values, its seed, and whether values are clipped and rounded."""

    std_grey: float
    seed: int
    clip: bool = False

    def on(self, scan: Scan, which: int) -> Callable[[int], Slice]:
        """Return a reader of the scan's slices with this noise, the same for a slice whoever asks."""

        def read(z: int) -> Slice:
            rng = np.random.default_rng([self.seed, which, z])
            clip_to = scan.volume.dtype if self.clip else None
            return add_gaussian_noise(scan.read_grey(z), self.std_grey, rng=rng, clip_to=clip_to)

        return read if self.std_grey > 0 else scan.read_grey


@dataclass(frozen=True)
class SliceScores:
    """What one test slice gave; all that is kept of it.

    `slab` has the numbers of the slab of neighbouring test slices that ends with it, if one does. The tiles of
    `sections` and `slab` lie in rows of `columns`.
    """

    of: TestSlice
    name: str
    number: int
    blocks: Int64[np.ndarray, "block truth predicted"]
    inside: Confusion
    calibration: CalibrationSums
    boundary: CalibrationSums
    sections: Tiles
    slab: Tiles | None = None
    columns: int = 1

    @property
    def confusion(self) -> Confusion:
        """Confusion matrix of the whole slice."""
        return np.asarray(self.blocks.sum(axis=0))

    @property
    def accuracy(self) -> float:
        """Share of its labelled pixels that are right."""
        return accuracy(self.confusion)


def stack_of(scan: Scan, z: int, *, context: int, read: Callable[[int], Slice]) -> list[Slice]:
    """Return a slice and its context, rising in z; those beyond the scan's ends are foretold from what is read."""
    channels = context_slices(z, numbers=scan.numbers, context=context)
    return read_stack(continued(read, len(scan.numbers)), channels)


def score_slices(
    runner: Runner, scan: Scan, chosen: Sequence[TestSlice], *, noise: Noise, edge: int
) -> Iterator[SliceScores]:
    """Segment slices of a scan, by rising z, and compare them with their labels; hold one slab of them at a time."""
    context = runner.network.context
    for part in slabs_of([scan.numbers[one.z] for one in chosen]):
        slab = chosen[part]
        held: dict[int, Index] = {}
        for one in slab:
            scores, found = score_slice(runner, scan, one, noise=noise, edge=edge)
            if has_context(one.z, numbers=scan.numbers, context=context):
                held[one.z] = found
            last = one == slab[-1]
            yield replace(scores, slab=_slab_tiles(runner, scan, held, edge=edge)) if last else scores


def has_context(z: int, *, numbers: Sequence[int], context: int) -> bool:
    """Return whether all of a slice's neighbours are there.

    A scan's first and last slices are segmented worse, though those beyond are foretold. They are many of a few test
    slices and hardly any of a volume, and would tell too large an error of it.

    Examples
    --------
    >>> [has_context(z, numbers=range(20), context=2) for z in (0, 1, 2, 17, 18)]
    [False, False, True, True, False]
    """
    seen = {i for i in context_slices(z, numbers=numbers, context=context) if not beyond(i, len(numbers))}
    return len(seen) == 2 * context + 1


def _slab_tiles(runner: Runner, scan: Scan, held: Mapping[int, Index], *, edge: int) -> Tiles | None:
    """Return the numbers of a slab by what was found in its slices; None where these are too few."""
    if len(held) < THINNEST:
        return None
    return slab_tiles(
        np.stack([scan.read_label(z) for z in held]),
        np.stack(list(held.values())),
        n_classes=runner.network.classes,
        edge=max(edge, SHORTEST_TILE),
        voxel_size=scan.volume.voxel_size_um or (1.0, 1.0, 1.0),
    )


def score_slice(runner: Runner, scan: Scan, of: TestSlice, *, noise: Noise, edge: int) -> tuple[SliceScores, Index]:
    """Segment a slice and compare it with its label; return its scores and its segmentation.

    Parameters
    ----------
    runner
        The model.
    scan, of
        Where the slice is.
    noise
        Added to it and its context.
    edge
        Smallest edge in pixels of the blocks whose confusion matrices are kept.
    """
    n = runner.network.classes
    label = scan.read_label(of.z)
    found = np.zeros(label.shape, np.uint8)
    deep = interior(label)
    sums = near = CalibrationSums.of(np.zeros((n, 0, 0), np.float32), np.zeros((0, 0), np.uint8))
    stack = stack_of(scan, of.z, context=runner.network.context, read=noise.on(scan, of.scan))
    for core, probabilities in runner.parts(stack):
        found[core] = probabilities.argmax(axis=0)
        sums += CalibrationSums.of(probabilities, label[core])
        near += CalibrationSums.of(probabilities, label[core], ~deep[core])
    scores = SliceScores(
        of,
        scan.volume.names[of.z],
        scan.numbers[of.z],
        tile_confusions(label, found, n, edge=edge),
        confusion(label[deep], found[deep], n),
        sums,
        near,
        section_tiles(label, found, n_classes=n, edge=max(edge, SHORTEST_TILE)),
        columns=len(even_parts(label.shape[1], max(edge, SHORTEST_TILE))),
    )
    return scores, found


def block_edge(scans: Sequence[Scan], slices: Sequence[TestSlice]) -> int:
    """Return the labels' correlation length in pixels: the median over at most 16 evenly spaced test slices."""
    chosen = [slices[i] for i in np.unique(np.linspace(0, len(slices) - 1, _SAMPLED).astype(int))]
    return int(np.ceil(np.median([correlation_length(scans[one.scan].read_label(one.z)) for one in chosen])))


def independent_blocks(
    results: Sequence[SliceScores],
    *,
    edge: int,
    along_z: Mapping[int, float],
    of: Callable[[SliceScores], Shaped[np.ndarray, "block ..."]] = lambda result: result.blocks,
) -> Shaped[np.ndarray, "block ..."]:
    """Return the sums, else confusion matrices, of blocks at least as long as the correlation length along z, y and x.

    Parameters
    ----------
    results
        Of all test slices, their blocks `edge` pixels or more along y and x.
    edge
        Correlation length in pixels.
    along_z
        Scan -> slices that a pixel's length spans along z.
    of
        Gives the sums of a slice's blocks.
    """
    found: list[Any] = [sum(of(one) for one in its) for its in _groups(results, edge=edge, along_z=along_z)]
    return np.concatenate(found)


def _groups(results: Sequence[SliceScores], *, edge: int, along_z: Mapping[int, float]) -> list[list[SliceScores]]:
    """Return the slices that make a block along z together, scan by scan and by rising z."""
    found = []
    for scan in sorted({result.of.scan for result in results}):
        its = [result for result in results if result.of.scan == scan]
        groups = group_by_z([result.number for result in its], edge * along_z[scan])
        found += [[r for r, g in zip(its, groups, strict=True) if g == group] for group in sorted(set(groups))]
    return found


def _places(results: Sequence[SliceScores], *, edge: int, along_z: Mapping[int, float]) -> Places:
    """Return the place (z, y, x) of each tile of `independent_blocks`; blocks of two scans are no neighbours.

    Along z they are, where no more than `_NEAR` slices, or a block's length, lie between them.
    """
    found, z, before = [], 0, None
    for its in _groups(results, edge=edge, along_z=along_z):
        first, last = its[0], its[-1]
        if before is not None:
            near = max(_NEAR, edge * along_z[first.of.scan])
            z += 1 if before.of.scan == first.of.scan and first.number - before.number <= near else 2
        before, n = last, len(first.sections)
        found.append(np.stack([np.full(n, z), *np.divmod(np.arange(n), first.columns)], axis=1))
    return np.concatenate(found).astype(np.int64)


def number_effects(
    results: Sequence[SliceScores], names: Sequence[str], *, edge: int, along_z: Mapping[int, float], length: str
) -> dict[str, Effect]:
    """Return what segmenting does to the numbers: in slabs, where there are enough for intervals, else in sections.

    `length` is the slabs' unit, um or voxel.
    """
    slabs = [result for result in results if result.slab is not None]
    if slabs:
        blocks = independent_blocks(slabs, edge=edge, along_z=along_z, of=_slab)
        if (blocks[:, 0, : len(names)].sum(axis=1) > 0).sum() >= FEWEST_BLOCKS:
            return effects(blocks, names, places=_places(slabs, edge=edge, along_z=along_z), slabs_in=length)
    blocks = independent_blocks(results, edge=edge, along_z=along_z, of=lambda result: result.sections)
    return effects(blocks, names, places=_places(results, edge=edge, along_z=along_z))


def _slab(result: SliceScores) -> Tiles:
    assert result.slab is not None
    return result.slab


def adjacent_agreement(scans: Sequence[Scan]) -> float | None:
    """Return the mean agreement of labelled slices with the next one, over at most 64 pairs; None without any."""
    pairs = []
    for scan in scans:
        at = {scan.numbers[pair.z]: pair.z for pair in scan.pairs}
        pairs += [(scan, at[number], at[number + 1]) for number in at if number + 1 in at]
    if not pairs:
        return None
    chosen = [pairs[i] for i in np.unique(np.linspace(0, len(pairs) - 1, _MOST_PAIRS).astype(int))]
    return float(np.nanmean([agreement(scan.read_label(a), scan.read_label(b)) for scan, a, b in chosen]))


@dataclass(frozen=True)
class Scores:
    """All scores of a test, under the names of `scores.json`."""

    confusion: Confusion
    accuracy: float
    mean_iou: float
    classes: dict[str, dict[str, float]]
    interior_accuracy: float
    boundary_accuracy: float
    ece_boundary: float
    nll: float
    brier: float
    ece: float
    n_slices: int
    intervals: Intervals
    numbers: dict[str, Effect] = field(default_factory=dict)
    baselines: dict[str, dict[str, float] | None] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """Return the scores as they are written, without the confusion matrix."""
        plain = asdict(replace(self, intervals=Intervals(self.intervals.level, self.intervals.n_blocks), numbers={}))
        del plain["confusion"], plain["intervals"], plain["baselines"]
        return plain | {
            "numbers": {name: effect.model_dump() for name, effect in self.numbers.items()},
            "intervals": {name: list(ends) for name, ends in self.intervals.intervals.items()},
            "interval_level": self.intervals.level,
            "n_blocks": self.intervals.n_blocks,
            "why_no_intervals": self.intervals.why_none,
            "baselines": self.baselines,
        }


def summarise(
    results: Sequence[SliceScores],
    blocks: Int64[np.ndarray, "block truth predicted"],
    *,
    names: Sequence[str],
    numbers: dict[str, Effect],
    rng: np.random.Generator,
) -> Scores:
    """Sum up the test slices, with intervals from independent `blocks`, and with the `numbers`."""
    total: Confusion = np.sum([result.confusion for result in results], axis=0)
    inside: Confusion = np.sum([result.inside for result in results], axis=0)
    calibration, boundary = total_calibration(results)
    return Scores(
        confusion=total,
        accuracy=accuracy(total),
        mean_iou=mean_iou(total),
        classes={name: asdict(score) for name, score in class_scores(total, names).items()},
        interior_accuracy=accuracy(inside),
        boundary_accuracy=accuracy(total - inside),
        ece_boundary=boundary.ece,
        nll=calibration.nll,
        brier=calibration.brier,
        ece=calibration.ece,
        n_slices=len(results),
        intervals=bootstrap(blocks, _statistics(names), rng=rng),
        numbers=numbers,
    )


def total_calibration(results: Sequence[SliceScores]) -> tuple[CalibrationSums, CalibrationSums]:
    """Return the calibration sums of all test slices: everywhere, and at interfaces."""
    everywhere, near = results[0].calibration, results[0].boundary
    for result in results[1:]:
        everywhere, near = everywhere + result.calibration, near + result.boundary
    return everywhere, near


def _statistics(names: Sequence[str]) -> dict[str, Callable[[Confusion], float]]:
    of_class = {f"iou {name}": _iou_of(c) for c, name in enumerate(names)}
    return {"accuracy": accuracy, "mean_iou": mean_iou, **of_class}


def _iou_of(c: int) -> Callable[[Confusion], float]:
    def iou(counts: Confusion) -> float:
        union = int(counts[c].sum() + counts[:, c].sum() - counts[c, c])
        return int(counts[c, c]) / union if union else float("nan")

    return iou
