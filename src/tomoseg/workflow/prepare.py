"""From scans to all that training needs: roles, window, patches, validation data, what the model remembers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from tomoseg.checks import Check, make_checks
from tomoseg.crossing import crossing, held_apart, smallest_crossing_gap
from tomoseg.degrade import GreyScale, find_kind, noise_std_grey
from tomoseg.ends import FITTED, beyond, inward
from tomoseg.errors import LabelError, PairingError, SettingError
from tomoseg.intervals import mean_chord_length
from tomoseg.labels import UNLABELLED, class_shares
from tomoseg.model_file import MOST_SAMPLES, MOST_SURROUNDED, SAMPLE_EDGE, Samples, ScanRecord, SliceRecord
from tomoseg.patch_noise import FreshNoise, PatchNoise, SomeArtefacts
from tomoseg.patches import (
    DEFAULT_NOISE,
    PatchSettings,
    PatchSource,
    TrainingSlice,
    patch_source,
    rare_classes,
    training_slices,
)
from tomoseg.provenance import content_hash
from tomoseg.recipe import Recipe
from tomoseg.slices import Scan, SliceCache, context_slices, labelled_numbers
from tomoseg.splits import Kind, Role, Split, choose_block, smallest_gap, split_slices
from tomoseg.unet_config import UNetConfig
from tomoseg.volume import Volume, read_slice
from tomoseg.volume.turned import TurnedVolume
from tomoseg.window import Window, fit_window
from tomoseg.workflow.console import Console
from tomoseg.workflow.sparse_labels import filled_up, guessing_context

_CHORD_SLICES = 16
_WINDOW_SLICES = 64
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True)
class Prepared:
    """All that training needs, and all that the model remembers of its data.

    `source` is of the labels that there are; patches are drawn from `learnt`, which is the same, or with guesses for
    the pixels that nobody labelled. `checks` have the least noise of the training, `noisy_checks` are halfway to the
    most.
    """

    scans: tuple[Scan, ...]
    splits: tuple[Split, ...]
    gap: int
    network: UNetConfig
    window: Window
    noise_grey: tuple[float, float]
    source: PatchSource
    learnt: PatchSource
    checks: tuple[Check, ...]
    noisy_checks: tuple[Check, ...]
    scan_records: tuple[ScanRecord, ...]
    slice_records: tuple[SliceRecord, ...]

    @property
    def guessed(self) -> bool:
        """Whether patches come with guesses."""
        return self.learnt is not self.source


def choose_gap(scans: Sequence[Scan], *, context: int, reach: int) -> int:
    """Return the slices that must lie between training and test: from the context and the labels' mean chord.

    Chords are measured in the slices and carried over to z by the voxel size where it is known. Where slices of one
    tomogram cross, it is at least what keeps apart the pixels that the network, which looks `reach` far, sees for them.
    """
    chords = []
    for scan in scans:
        zs = [pair.z for pair in scan.pairs]
        chosen = [zs[i] for i in np.unique(np.linspace(0, len(zs) - 1, _CHORD_SLICES).astype(int))]
        chords.append(_chord_in_slices(scan, (scan.read_label(z) for z in chosen)))
    gap = smallest_gap(context=context, mean_chord_px=max(chords))
    return max(gap, smallest_crossing_gap(context=context, reach=reach)) if crossing(scans) else gap


def split_scans(
    scans: tuple[Scan, ...],
    *,
    kind: Kind,
    gap: int,
    test: Sequence[frozenset[int]],
    rng: np.random.Generator,
    n_classes: int,
    halo: int,
) -> tuple[Split, ...]:
    """Give each labelled slice of each scan its role, with an in-plane validation block where slices are too few."""
    splits = tuple(
        split_slices(sorted(labelled_numbers(scan)), kind=kind, gap=gap, test=tested, rng=rng)
        for scan, tested in zip(scans, test, strict=True)
    )
    return tuple(
        split if split.of("validation") else _with_block(scan, split, n_classes, halo)
        for scan, split in zip(held_apart(scans, splits, gap=gap, reach=halo, roles=["test"]), splits, strict=True)
    )


def _with_block(scan: Scan, split: Split, n_classes: int, halo: int) -> Split:
    zs = labelled_numbers(scan)
    block = choose_block([scan.read_label(zs[n]) for n in split.of("train")], n_classes=n_classes, halo=halo)
    notes = split.notes
    if block is None:
        notes += ("the slices are too small to spare a validation block; the last weights are kept, unvalidated",)
    return Split(split.roles, block, notes)


def prepare(
    scans: tuple[Scan, ...],
    recipe: Recipe,
    *,
    context: int,
    splits: tuple[Split, ...],
    gap: int,
    noise_std: tuple[float, float] | None,
    seed: int,
    console: Console,
    reach: int | None = None,
) -> Prepared:
    """Fit the window, cut the validation data and set up the patches.

    `reach` is how far pixels that train stay away from a validation block, the network's own without it.

    Raises
    ------
    InputError
        If scans differ in type, or nothing is left to learn from.
    """
    dtype = _same_type(scans)
    n_classes = len(scans[0].classes)
    network = network_for(recipe, scans, context=context)
    reach = reach or network.reach
    _read_ahead(scans, guessing_context(context) if recipe.pseudo_labels else context, console)
    learning = held_apart(scans, splits, gap=gap, reach=reach, roles=["test", "validation"])
    judging = held_apart(scans, splits, gap=gap, reach=reach, roles=["test"])
    _tell_withheld(scans, learning, splits, console)
    window = fit_window(_training_grey(learning, splits))
    low, high = _noise_range(noise_std or recipe.patches.noise_std, window, dtype)
    drawn = _training_slices(learning, splits, context=context, n_classes=n_classes, reach=reach, console=console)
    noise = _patch_noise(recipe.patches, (low, high), GreyScale(dtype, window))
    source = patch_source(drawn, recipe.patches, window=window, noise=noise, rng=np.random.default_rng([seed, 1]))
    checking = {"context": context, "window": window, "halo": network.halo, "grid": network.grid, "seed": seed}
    learnt = filled_up(source, classes=n_classes, seed=seed, console=console) if recipe.pseudo_labels else source
    scan_records, slice_records = _records(scans, splits, console)
    return Prepared(
        scans=scans,
        splits=splits,
        gap=gap,
        network=network,
        window=window,
        noise_grey=(low, high),
        source=source,
        learnt=learnt,
        checks=_checks(judging, splits, noise_grey=low, **checking),
        noisy_checks=_checks(judging, splits, noise_grey=(low + high) / 2, **checking) if high > low else (),
        scan_records=scan_records,
        slice_records=slice_records,
    )


def _checks(scans: Sequence[Scan], splits: Sequence[Split], **how: Any) -> tuple[Check, ...]:
    """Return the validation data of all scans, made as `make_checks` is told to."""
    return tuple(
        check
        for scan, split in zip(scans, splits, strict=True)
        for check in make_checks(
            scan, _zs(scan, split, "train" if split.block else "validation"), block=split.block, **how
        )
    )


def gap_of_guesses(prepared: Prepared) -> int:
    """Return the slices that must lie between training and test by the structures that guesses show.

    Strokes are too short to tell how far a structure reaches; without guesses it is the gap that there was.
    """
    if not prepared.guessed:
        return prepared.gap
    labels: dict[int, list[np.ndarray]] = {}
    for item in prepared.learnt.slices:
        labels.setdefault(id(item.scan), []).append(item.label)
    scans = {id(item.scan): item.scan for item in prepared.learnt.slices}
    chord = max(_chord_in_slices(scans[which], its) for which, its in labels.items())
    return max(prepared.gap, smallest_gap(context=prepared.network.context, mean_chord_px=chord))


def _chord_in_slices(scan: Scan, labels: Iterable[np.ndarray]) -> float:
    """Return the median of the labels' mean chords in the scan's slices; 0 where no label shows a structure's ends."""
    found = [chord for chord in map(mean_chord_length, labels) if np.isfinite(chord)]
    size = scan.volume.voxel_size_um
    return float(np.median(found or [0.0])) * (size[1] / size[0] if size else 1.0)


def _read_ahead(scans: Sequence[Scan], context: int, console: Console) -> None:
    """Read the planes across y and x that are needed, in one pass over each volume."""
    for scan in scans:
        if scan.axis != "z" and isinstance(scan.cache, SliceCache):
            seen = {i for pair in scan.pairs for i in context_slices(pair.z, numbers=scan.numbers, context=context)}
            count = len(scan.numbers)
            foretold = {i for i in seen if beyond(i, count)}
            needed = (seen - foretold).union(*(inward(i, count, slices=FITTED) for i in foretold))
            with console.progress(f"reading planes across {scan.axis}", 1.0) as bar:
                for share in scan.cache.fetch(needed):
                    bar.update(share)


def _tell_withheld(scans: Sequence[Scan], learning: Sequence[Scan], splits: Sequence[Split], console: Console) -> None:
    """Say how much of the training labels is left out near slices that cross them and test or validate."""
    told = []
    for scan, kept, split in zip(scans, learning, splits, strict=True):
        if kept.withheld:
            zs = _zs(scan, split, "train")
            before, after = (sum(int((one.read_label(z) != UNLABELLED).sum()) for z in zs) for one in (scan, kept))
            told.append(f"{100 * (1 - after / max(1, before)):.0f} % of {scan.pictures.path.name} ({scan.axis})")
    if told:
        console.say(f"training labels left out near slices that cross them and test or validate: {', '.join(told)}")


def _patch_noise(settings: PatchSettings, std_grey: tuple[float, float], scale: GreyScale) -> PatchNoise:
    noise = FreshNoise(*std_grey, settings.noise_power)
    if not settings.artefact_share:
        return noise
    return SomeArtefacts(settings.artefact_share, [find_kind(name) for name in settings.artefacts], scale, noise)


def network_for(recipe: Recipe, scans: Sequence[Scan], *, context: int) -> UNetConfig:
    """Return the config of the network that a recipe asks for on these scans."""
    return recipe.network(classes=len(scans[0].classes), context=context)


def _same_type(scans: Sequence[Scan]) -> np.dtype[np.generic]:
    types = {scan.volume.dtype for scan in scans}
    if len(types) > 1:
        raise PairingError(f"the scans have different grey types ({', '.join(map(str, types))}); convert them to one")
    return types.pop()


def _zs(scan: Scan, split: Split, role: Role) -> list[int]:
    zs = labelled_numbers(scan)
    return [zs[number] for number in split.of(role)]


def _training_grey(scans: Sequence[Scan], splits: Sequence[Split]) -> list[np.ndarray]:
    places = [(scan, z) for scan, split in zip(scans, splits, strict=True) for z in _zs(scan, split, "train")]
    chosen = [places[i] for i in np.unique(np.linspace(0, len(places) - 1, _WINDOW_SLICES).astype(int))]
    grey = [scan.read_grey(z)[scan.read_label(z) != UNLABELLED] for scan, z in chosen]
    if not any(part.size for part in grey):
        raise LabelError("no training slice has a labelled pixel; look at --unlabelled, --roi and --mask")
    return grey


def _noise_range(asked: tuple[float, float] | None, window: Window, dtype: np.dtype[np.generic]) -> tuple[float, float]:
    if asked is None:
        return 0.0, DEFAULT_NOISE * window.width
    low, high = (noise_std_grey(std, dtype=dtype, window=window) for std in asked)
    if not 0 <= low <= high:
        raise SettingError(f"--noise-std {asked[0]:g} {asked[1]:g} is no range; give the smaller std first, 0 or more")
    return low, high


def _training_slices(
    scans: Sequence[Scan], splits: Sequence[Split], *, context: int, n_classes: int, reach: int, console: Console
) -> tuple[TrainingSlice, ...]:
    places = [(scan, split, z) for scan, split in zip(scans, splits, strict=True) for z in _zs(scan, split, "train")]
    shares = np.mean([class_shares(scan.read_label(z), n_classes) for scan, _, z in places], axis=0)
    missing = [scans[0].classes[c].name for c in np.flatnonzero(shares == 0)]
    if missing:
        console.warn(f"no training slice shows the class {', '.join(missing)}; the model will not find it")
    found: list[TrainingSlice] = []
    for scan, split, z in console.track(places, "reading slices", len(places)):
        found += training_slices(scan, [z], context=context, block=split.block, halo=reach, rare=rare_classes(shares))
    return tuple(found)


def _records(
    scans: Sequence[Scan], splits: Sequence[Split], console: Console
) -> tuple[tuple[ScanRecord, ...], tuple[SliceRecord, ...]]:
    scan_records = tuple(
        ScanRecord(
            name=scan.volume.path.name,
            source=scan.source,
            voxel_size_um=scan.volume.voxel_size_um,
            axis=scan.axis,
            middle=middle_hash(scan.volume.volume) if isinstance(scan.volume, TurnedVolume) else None,
        )
        for scan in scans
    )
    places = [(i, scan, z) for i, scan in enumerate(scans) for z in labelled_numbers(scan).values()]
    slice_records = tuple(
        SliceRecord(
            scan=i,
            name=scan.volume.names[z],
            number=scan.numbers[z],
            role=splits[i].roles[scan.numbers[z]],
            content=content_hash(scan.read_grey(z)),
        )
        for i, scan, z in console.track(places, "remembering slices", len(places))
    )
    return scan_records, slice_records


def middle_hash(volume: Volume) -> str:
    """Return the content hash of a volume's middle slice along z, by which a copy of the volume is known."""
    return content_hash(read_slice(volume, volume.shape[0] // 2))


def cut_samples(source: PatchSource, *, rng: np.random.Generator) -> Samples:
    """Cut up to 64 labelled tiles of 160 x 160 pixels from the training slices, spread over them evenly.

    Tiles lie around random labelled pixels, every second one around a rare class where there is one; grey values
    are the scan's own. The first 24 keep their context.
    """
    images, labels, around = [], [], []
    # by the golden ratio, so that the first ones are spread over the scan, too
    order = np.argsort(np.arange(len(source.slices)) * _GOLDEN % 1, kind="stable")
    of = np.resize(order, MOST_SAMPLES).astype(np.int32)
    for i, which in enumerate(of):
        item = source.slices[which]
        rare = [places for places in item.rare if len(places)]
        places = rare[(i // 2) % len(rare)] if rare and i % 2 else item.labelled
        centre = divmod(int(places[rng.integers(len(places))]), item.label.shape[1])
        box = tuple(_around(c, size) for c, size in zip(centre, item.label.shape, strict=True))
        images.append(item.scan.read_grey(item.z)[box])
        labels.append(item.label[box])
        if len(item.channels) > 1 and i < MOST_SURROUNDED:
            around.append(np.stack([item.scan.read_grey(z)[box] for z in item.channels]))
    whole = np.stack(_same_size(images))
    _, height, width = whole.shape
    kept = np.stack([stack[:, :height, :width] for stack in around]) if around else None
    return Samples(whole, np.stack(_same_size(labels)), kept, of)


def _around(centre: int, size: int) -> slice:
    start = max(0, min(centre - SAMPLE_EDGE // 2, size - SAMPLE_EDGE))
    return slice(start, min(size, start + SAMPLE_EDGE))


def _same_size(parts: Sequence[np.ndarray]) -> list[np.ndarray]:
    height, width = (min(part.shape[axis] for part in parts) for axis in (0, 1))
    return [part[:height, :width] for part in parts]


def fingerprint(prepared: Prepared, settings: Mapping[str, object]) -> str:
    """Return a hash of the data and settings that a training depends on, so that only the same one is resumed."""
    text = repr(sorted(settings.items())) + "".join(r.model_dump_json() for r in prepared.slice_records)
    text += content_hash(*(item.label for item in prepared.source.slices))
    return content_hash(np.frombuffer(text.encode(), np.uint8))
