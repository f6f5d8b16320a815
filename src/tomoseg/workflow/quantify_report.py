"""What `quantify` writes: the page, the table as JSON and CSV, and the words for a paper."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from tomoseg.provenance import Provenance
from tomoseg.quantify import Measurement
from tomoseg.quantify.coarse import cell_voxels
from tomoseg.quantify.phases import fractions
from tomoseg.quantify.quantities import ABSENT, WHOLE
from tomoseg.quantify.resolution import AT_HALF, change_at_half, coarse
from tomoseg.quantify.size_intervals import WOODRUFF
from tomoseg.quantify.surfaces import SURFACE_SIGMA
from tomoseg.quantify.triple_lines import LINE_SIGMA
from tomoseg.quantify.watershed import SHARE
from tomoseg.report import Facts, Headline, Note, Part, Report, Section, Table, write_csv, write_json, write_report
from tomoseg.volume import Region
from tomoseg.workflow.quantify_numbers import in_words, number, unit_in_words
from tomoseg.workflow.quantify_run import Sums
from tomoseg.workflow.segmentation import Segmentation

_WARNING = (
    "Intervals contain sampling only: how another piece of the same material would differ. The segmentation's own "
    "error comes on top of that, and pixel accuracy does not tell it."
)

_WITH_SEGMENTATION = (
    "Intervals of fractions, areas and triple lines contain sampling and the segmentation's error as labelled slices "
    "show it, others sampling only. They hold as far as those slices are like this volume."
)

_CURVATURE = (
    "The mean curvature of each phase's surface, above 0 where it bulges outwards: 1/R of a ball, 1/(2R) of a "
    "cylinder, and its integral per volume. Edges, as at triple lines, count with the angle that they turn by. Where "
    "half the resolution changes them much, specks and coarse voxels make them rather than the structure."
)

_TRANSPORT = (
    "How each phase conducts while the others do not: its effective diffusivity over that of its bulk is its fraction "
    "over the tortuosity factor. Geodesic: how much longer the shortest paths are than straight ones. Large volumes "
    "are measured in several parts, whose spread is the interval."
)

_SIZES = (
    " Continuous size distributions are of balls that fit in a phase (Hildebrand, Ruegsegger 1997, DOI "
    "10.1046/j.1365-2818.1997.1340694.x). Particles were split by a watershed on the distance to other phases at necks "
    f"{100 * SHARE:.0f} % and one voxel narrower than the bodies beside them (Muench et al. 2006, DOI "
    "10.1111/j.1551-2916.2006.01121.x); those that lie wholly inside count, each by the inverse probability to do so. "
    "Intervals of median and other diameters are those of the shares up to them, looked up in the distribution "
    f"({WOODRUFF}). Correlation lengths are lags at which the covariance has fallen to 1/e."
)

_DIFFUSION = (
    " Tortuosity factors are those of steady diffusion through a phase, one finite volume a voxel, with fixed "
    "concentrations on two opposite faces (Cooper et al. 2016, DOI 10.1016/j.softx.2016.09.002), geodesic ones mean "
    "lengths of shortest paths over straight ones (Stenzel et al. 2016, DOI 10.1002/aic.15160)."
)

COLUMNS = ("name", "value", "unit", "low", "high", "interval contains", "method", "source", "note", "uncorrected",
           "corrected", "at half the resolution")  # fmt: skip


@dataclass(frozen=True)
class Measured:
    """What was measured, and where that is recorded."""

    segmentation: Segmentation
    sums: Sums
    made: Provenance


def write(folder: Path, found: Sequence[Measurement], seen: Measured, *, axis: str, force: bool) -> None:
    """Write report.html with its figures, quantities.json and quantities.csv."""
    write_report(folder, as_report(found, seen, axis=axis), force=force)
    rows = [(one.name, one.value, one.unit, *(one.interval or ("", "")), one.interval_contains, one.method, one.source,
             one.note, *(one.settings.get(what) for what in ("uncorrected", "corrected", AT_HALF)))
            for one in found]  # fmt: skip
    write_csv(folder / "quantities.csv", COLUMNS, [["" if cell is None else cell for cell in row] for row in rows])
    write_json(
        folder / "quantities.json",
        {"measurements": [one.model_dump() for one in found], "provenance": seen.made.model_dump()},
    )


def as_report(found: Sequence[Measurement], seen: Measured, *, axis: str) -> Report:
    """Return the page."""
    from tomoseg.report.microstructure import planes_picture, profiles_picture

    segmentation, warning = seen.segmentation, coarse(found)
    names = tuple(item.name for item in segmentation.classes)
    style = {"colours": [item.colour for item in segmentation.classes], "names": names}
    by_name = {one.name: one for one in found}
    lines = [one for one in found if one.name == "triple-phase boundary density"]
    sections = [
        Section("The segmentation", [planes_picture(_planes(segmentation), **style)]),
        _solids(seen),
        Section("Phases", [_table(found, ("phase fraction", "volume that tells")),
                           profiles_picture(_profiles(seen.sums), **style)],
                "Share of the voxels that count, and how it changes along the three axes."),
        Section("Interfaces", [_table(found, ("surface area", "interface area"))], _about_half(found)),
    ]  # fmt: skip
    sections.append(Section("Mean curvature", [_curvatures(found, by_name, names)], _CURVATURE))
    if any(one.name.startswith("triple-phase") for one in found):
        intro = f"Active: all phases that meet there percolate. The axis that was asked for is {axis}."
        intro = " ".join([intro, *([about] if (about := _about_half(found)) else [])])
        sections.append(Section("Triple-phase boundaries", [_table(found, ("triple-phase",))], intro))
    intro = (
        "Share of each phase in parts that reach from face to face along an axis, touch one of these faces only, or "
        "touch no face of the volume at all. The rest is cut off at its sides: nobody knows where it leads."
    )
    sections.append(Section("Connectivity", [_shares(by_name, names), _table(found, ("number of", "Euler"))], intro))
    sections.append(Section("Chord lengths", [_chords(by_name, names)]))
    if seen.sums.sizes is not None:
        sections += _sizes(found, by_name, **style)
    if seen.sums.transport is not None:
        sections.append(Section("Transport", [_transport(by_name, names)], _TRANSPORT))
    sections.append(Section("For the paper", [Note(methods(found, segmentation, seen.made))]))
    facts = [("segmentation", str(segmentation.source.path)), ("tomoseg", seen.made.tomoseg)]
    facts += [(str(name), str(value)) for name, value in seen.made.settings.items() if value not in (None, [], False)]
    sections.append(Section("How it was made", [Facts(facts)]))
    return Report(
        title=f"The microstructure of {segmentation.source.path.name}",
        subtitle=_subtitle(segmentation),
        headlines=[Headline(name, _value(by_name[f"phase fraction {name}"]), "of the volume") for name in names]
        + [Headline("Triple-phase boundary", _value(one), f"{unit_in_words(one.unit)}, all of it") for one in lines],
        sections=sections,
        notes=[_about_intervals(found), *([Note(_sentence(warning), "warning")] if warning else [])],
    )


def _sizes(
    found: Sequence[Measurement], by_name: Mapping[str, Measurement], *, colours: Sequence[str], names: Sequence[str]
) -> list[Section]:
    """Return what was measured of sizes: balls that fit and particles beside each other, and correlation."""
    from tomoseg.report.microstructure import correlation_picture, sizes_picture

    unit = unit_in_words(by_name[f"median diameter {names[0]}"].unit)
    balls = [by_name[f"median diameter {name}"].settings for name in names]
    particles = [by_name[f"particle diameter {name} D50 by volume"].settings for name in names]
    curves = {axis: [by_name[f"correlation length {name} along {axis}"].settings for name in names] for axis in "zyx"}
    split = (
        f"Each phase is split at its necks: where the largest ball that fits is {100 * SHARE:.0f} % and one voxel or "
        "more smaller than in both bodies beside it. Diameters are of spheres of the particles' volumes; D10, D50 "
        "and D90 by volume. Particles that the border cuts are left out; the others are weighted so that large ones "
        "are not missed."
    )
    decay = (
        "How far apart two points must be to tell little of each other; along the axes it tells what is not isotropic."
    )
    return [
        Section("Sizes", [_table(found, ("median",)),
                          sizes_picture(balls, particles, colours=colours, names=names, unit=unit)],
                "Diameters of balls that fit; they need no splitting into particles."),
        Section("Particles", [_particles(found, by_name, names, unit)], split),
        Section("Correlation lengths", [_correlations(found, by_name, names, unit),
                                        correlation_picture(curves, colours=colours, names=names, unit=unit)], decay),
    ]  # fmt: skip


def _particles(
    found: Sequence[Measurement], by_name: Mapping[str, Measurement], names: Sequence[str], unit: str
) -> Table:
    """Return one row a phase; D10 to D90 are by volume."""
    columns = {
        "whole ones": "particles {} wholly inside",
        f"per volume, 1/{unit}³": "particles {} per volume",
        **{f"{d}, {unit}": f"particle diameter {{}} {d} by volume" for d in ("D10", "D50", "D90")},
        f"median by number, {unit}": "particle diameter {} median by number",
    }
    rows = [[name, *(_cell(by_name[what.format(name)]) for what in columns.values())] for name in names]
    return Table(("phase", *columns), rows, _remarks(one for one in found if one.name.startswith("particle")))


def _correlations(
    found: Sequence[Measurement], by_name: Mapping[str, Measurement], names: Sequence[str], unit: str
) -> Table:
    """Return one row a phase."""
    rows = []
    for name in names:
        shown = [by_name[f"correlation length {name}{along}"] for along in ("", *(f" along {axis}" for axis in "zyx"))]
        rows.append([name, *(_cell(one) for one in shown)])
    columns = ("phase", f"mean, {unit}", *(f"along {axis}, {unit}" for axis in "zyx"))
    return Table(columns, rows, _remarks(one for one in found if one.name.startswith("correlation")))


def _curvatures(found: Sequence[Measurement], by_name: Mapping[str, Measurement], names: Sequence[str]) -> Table:
    """Return one row a phase."""
    both = ("mean curvature {}", "integral of mean curvature {} per volume")
    units = [unit_in_words(by_name[one.format(names[0])].unit) for one in both]
    rows = []
    for name in names:
        cells = []
        for what, unit in zip(both, units, strict=True):
            one = by_name[what.format(name)]
            half = one.settings.get(AT_HALF)
            cells += ["-" if one.value is None else in_words(one).removesuffix(f" {unit}"),
                      "-" if half is None or one.value is None else number(float(half))]  # fmt: skip
        rows.append([name, *cells])
    half = "at half the resolution"
    columns = ("phase", f"mean curvature, {units[0]}", half, f"integral per volume, {units[1]}", half)
    starts = tuple(one.partition(" {}")[0] for one in both)
    return Table(columns, rows, _remarks(one for one in found if one.name.startswith(starts)))


def _remarks(chosen: Iterable[Measurement]) -> str:
    """Return why there are no values or no intervals, each reason once."""
    return "; ".join(dict.fromkeys(one.note for one in chosen if one.note and one.note != WHOLE))


def _about_intervals(found: Sequence[Measurement]) -> Note:
    """Return what the intervals contain, or that there are none."""
    why = next((one.note for one in found if one.name.startswith("phase fraction") and one.interval is None), None)
    if why is not None:
        return Note(f"There are no intervals: {why}. How far the numbers can be trusted is not known.", "warning")
    return Note(_WITH_SEGMENTATION) if _knows_segmentation(found) else Note(_WARNING, "warning")


def _sentence(warning: str) -> str:
    return f"{warning[0].upper()}{warning[1:]}."


def _knows_segmentation(found: Sequence[Measurement]) -> bool:
    return any("corrected" in one.settings or "uncorrected" in one.settings for one in found)


def _value(one: Measurement) -> str:
    return "-" if one.value is None else number(one.value)


def _subtitle(segmentation: Segmentation) -> str:
    size = segmentation.voxel_size_um
    edges = f" of {' x '.join(f'{edge:g}' for edge in size)} µm" if size else "; voxel size unknown, lengths in voxels"
    return f"{' x '.join(map(str, segmentation.shape))} voxels (z, y, x){edges}"


def _planes(segmentation: Segmentation) -> dict[str, np.ndarray]:
    """Return the middle planes across z, y and x, with what they are called."""
    depth, height, width = segmentation.shape
    z, y, x = depth // 2, height // 2, width // 2
    return {
        f"z = {z}": segmentation.read(Region(z, z + 1, 0, height, 0, width))[0],
        f"y = {y} (z down)": segmentation.read(Region(0, depth, y, y + 1, 0, width))[:, 0],
        f"x = {x} (z down)": segmentation.read(Region(0, depth, 0, height, x, x + 1))[:, :, 0],
    }


def _solids(seen: Measured) -> Section:
    """Return each phase as a solid body, and which have none."""
    from tomoseg.report.solids import can_be_drawn, solids_picture

    classes, counts, size = seen.segmentation.classes, seen.sums.cells, seen.segmentation.voxel_size_um
    edges, shape = size or (1.0, 1.0, 1.0), seen.segmentation.shape
    step = cell_voxels(shape, edges)
    shares = (counts / np.maximum(counts.sum(axis=0), 1)).astype(np.float32)
    picture = solids_picture(
        shares,
        cell=(step[0] * edges[0], step[1] * edges[1], step[2] * edges[2]),
        lengths=(shape[0] * edges[0], shape[1] * edges[1], shape[2] * edges[2]),
        colours=[item.colour for item in classes],
        names=[item.name for item in classes],
        unit="µm" if size else "voxels",
    )
    parts: list[Part] = [] if picture is None else [picture]
    for item, share, count in zip(classes, shares, counts, strict=True):
        if not count.any():
            parts.append(Note(f"{item.name} does not occur in the volume; there is no picture of it."))
        elif not can_be_drawn(share):
            parts.append(Note(f"{item.name} is too fine for a picture: it nowhere fills half a cell."))
    copy = f"a coarse copy of the volume, {' x '.join(map(str, step))} voxels a cell" if max(step) > 1 else "the volume"
    return Section("Three dimensions", parts, f"Drawn from {copy}, smoothed; no number on this page comes from it.")


def _profiles(measured: Sums) -> dict[str, np.ndarray]:
    """Return the share of each class in every plane along z, y and x."""
    return {axis: fractions(counts).T for axis, counts in zip("zyx", measured.counts.profiles, strict=True)}


def _table(found: Sequence[Measurement], starts: tuple[str, ...]) -> Table:
    """Return the numbers whose names begin so; remarks that several share stand below.

    Of what is not there only that is told.
    """
    every = [one for one in found if one.name.startswith(starts)]
    chosen = [one for one in every if one.value is not None or not (one.note or "").endswith(ABSENT)] or every
    rows = [[one.name, "-" if one.value is None else in_words(one)] for one in chosen]
    columns = ["quantity", "value (95 % interval)"]
    if _knows_segmentation(chosen):
        columns.append("corrected" if _kept(chosen) else "uncorrected")
        rows = [[*row, _other(one)] for row, one in zip(rows, chosen, strict=True)]
    changes = [change_at_half(one) for one in chosen]
    if any(change is not None for change in changes):
        columns.append("at half the resolution")
        told = ["" if change is None else _signed(change) for change in changes]
        rows = [[*row, its] for row, its in zip(rows, told, strict=True)]
    return Table(columns, rows, _remarks(every))


def _signed(change: float) -> str:
    """Return a change in per cent.

    Examples
    --------
    >>> _signed(0.0312), _signed(-0.0001)
    ('+3.1 %', '0.0 %')
    """
    told = f"{100 * change:+.1f}"
    return "0.0 %" if float(told) == 0 else f"{told} %".replace("-", "\N{MINUS SIGN}")


def _about_half(found: Sequence[Measurement]) -> str:
    if not any(AT_HALF in one.settings for one in found):
        return ""
    return (
        "At half the resolution: how much a number as segmented changes when every second voxel along each axis is "
        "left out. A third of what it loses may be missing at the full resolution, too."
    )


def _kept(chosen: Sequence[Measurement]) -> bool:
    """Return whether values are as measured, and corrected ones stand beside."""
    return any("corrected" in one.settings for one in chosen)


def _other(one: Measurement) -> str:
    """Return the corrected value of one as measured, else the measured one of one that is corrected."""
    other = one.settings.get("corrected", one.settings.get("uncorrected"))
    return "" if other is None else number(float(other))


def _shares(by_name: Mapping[str, Measurement], names: Sequence[str]) -> Table:
    """Return one row a phase and axis."""
    rows, remarks = [], ["Parts are connected by voxel faces"]
    for name in names:
        for axis in "zyx":
            shown = [by_name[f"{what} {name} along {axis}"] for what in ("percolating fraction", "dead-ended fraction")]
            shown.append(by_name[f"isolated fraction {name}"])
            remarks += [one.note for one in shown if one.note and one.note != WHOLE]
            known = [one.value for one in shown if one.value is not None]
            cut = number(max(0.0, round(1 - sum(known), 12))) if len(known) == len(shown) else "-"
            rows.append([f"{name} along {axis}", *(_or_dash(one) for one in shown), cut])
    columns = ("phase", "percolating", "dead-ended", "isolated", "cut off at the sides")
    return Table(columns, rows, "; ".join(dict.fromkeys(remarks)))


def _chords(by_name: Mapping[str, Measurement], names: Sequence[str]) -> Table:
    unit = unit_in_words(by_name[f"mean chord length {names[0]} along z"].unit)
    rows = [[name, *(_or_dash(by_name[f"mean chord length {name} along {axis}"]) for axis in "zyx")] for name in names]
    return Table(("phase", *(f"along {axis}, {unit}" for axis in "zyx")), rows, "Voxels per interface crossing.")


def _transport(by_name: Mapping[str, Measurement], names: Sequence[str]) -> Table:
    """Return one row a phase and axis."""
    what = ("tortuosity factor", "effective diffusivity", "geodesic tortuosity")
    rows: list[list[str]] = []
    remarks: dict[str, None] = {}
    settings = []
    for name, axis in product(names, "zyx"):
        its = [by_name[f"{one} {name} along {axis}"] for one in what]
        settings.append(its[0].settings)
        rows.append([f"{name} along {axis}", *("-" if one.value is None else in_words(one) for one in its)])
        remarks |= {one.note: None for one in its if one.note and one.note != WHOLE}
    told = {f"measured in {one['parts']} of {one['of']} parts" for one in settings if one and one["of"] > 1}
    return Table(("phase", *what), rows, "; ".join([*remarks, *told]))


def _cell(one: Measurement) -> str:
    """Return a number without its unit, its interval on a second line."""
    if one.value is None:
        return "-"
    its = in_words(one)
    return its.removesuffix(f" {unit_in_words(one.unit)}").replace(" (", "\n(")


def _or_dash(one: Measurement) -> str:
    return "-" if one.value is None else number(one.value)


def methods(found: Sequence[Measurement], segmentation: Segmentation, made: Provenance) -> str:
    """Return a paragraph for a paper: what was done, with what, and where it is described."""
    size = segmentation.voxel_size_um
    by = segmentation.record.get("provenance", {}).get("inputs", {}).get("model")
    edges = f"of {' x '.join(f'{edge:g}' for edge in size)} µm (z, y, x)" if size else "of unknown size"
    how = f" segmented by tomoseg (model {by})" if by else ""
    interval = (
        "; 95 % intervals of fractions, areas, lengths and curvatures by a jackknife over blocks, neighbours' products "
        "included, as if the material were alike only over short distances"
        if any(one.interval for one in found)
        else ""
    )
    if any("uncorrected" in one.settings for one in found):
        interval += (
            "; fractions, interface areas of pairs and triple lines, where the segmentation was near enough, were "
            "corrected by what it did to labelled slices that the model had not seen; all else is as segmented"
        )
    shape = " x ".join(map(str, segmentation.shape))
    sizes = any(one.name.startswith("particle") for one in found)
    transport = any(one.name.startswith("tortuosity") for one in found)
    return (
        f"Microstructural quantities of a volume of {shape} voxels {edges}{how} were measured with tomoseg "
        f"{made.tomoseg} at full resolution. Phase fractions are shares of voxels. Interface areas are sums over the "
        "voxel faces between two phases, each weighted by the component of the local interface normal along the "
        f"face's own (Lenoir, Malgouyres, Revenu 1996), normals smoothed by a Gaussian of {SURFACE_SIGMA:g} voxels; "
        "lengths of triple-phase boundaries are sums over the voxel edges around which three phases meet, weighted by "
        f"the component of the local tangent, smoothed by a Gaussian of {LINE_SIGMA:g} voxels. Mean curvatures are "
        "integrals of mean curvature, edges included, over interface areas, the integrals by Crofton's formula from "
        "Euler numbers of sections by lattice planes in 13 directions (Legland, Kieu, Devaux 2007, DOI "
        "10.5566/ias.v26.p83-92). Connectivity is by "
        "voxel faces; a triple-phase boundary is active where all three phases percolate. Mean chord lengths are "
        f"voxels per interface crossing (Torquato 2002, DOI 10.1007/978-1-4757-6355-3){interval}."
        + (_SIZES if sizes else "")
        + (_DIFFUSION if transport else "")
    )
