"""The figures of a microstructure: planes through it, how phases change along its axes, and samples side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, UInt8

from tomoseg.quantify.correlation import DECAYED, covariance
from tomoseg.report.figures import ACCENT, GREY, SECOND, class_legend, finish, new_figure, painted, rgb
from tomoseg.report.page import Picture

_MOST_PIXELS = 600
_MOST_LETTERS = 24


@dataclass(frozen=True)
class Dot:
    """A number of a sample with its interval, if it has them; `differs` stands out from the first sample's."""

    value: float | None
    interval: tuple[float, float] | None = None
    differs: bool = False


@dataclass(frozen=True)
class Panel:
    """A quantity with its unit, and a dot for each sample; the first sample is the reference."""

    title: str
    dots: Sequence[Dot]


def planes_picture(
    planes: Mapping[str, UInt8[np.ndarray, "row column"]], *, colours: Sequence[str], names: Sequence[str]
) -> Picture:
    """Draw planes of class indices beside each other, each under its heading.

    Parameters
    ----------
    planes
        Heading -> class indices; what counts nowhere is pale.
    colours, names
        Of the classes.
    """
    table = np.array([rgb(colour) for colour in colours])
    figure, all_axes = new_figure(12.4, 4.9, 1, len(planes))
    for axes, (heading, plane) in zip(np.atleast_1d(all_axes), planes.items(), strict=True):
        step = -(-max(plane.shape) // _MOST_PIXELS)
        axes.imshow(painted(plane[::step, ::step], table), interpolation="nearest")
        axes.set_title(heading, fontsize=11, loc="left")
        axes.axis("off")
    class_legend(figure, colours, names)
    return finish(figure, "planes", "The middle planes of the segmentation. Pale: what counts nowhere.")


def profiles_picture(
    profiles: Mapping[str, Float[np.ndarray, "plane class"]], *, colours: Sequence[str], names: Sequence[str]
) -> Picture:
    """Draw the share of each class in every plane along each axis.

    Parameters
    ----------
    profiles
        Axis -> shares by plane, nan where a plane holds no voxel that counts.
    colours, names
        Of the classes.
    """
    figure, all_axes = new_figure(12.4, 3.2, 1, len(profiles))
    for axes, (axis, shares) in zip(np.atleast_1d(all_axes), profiles.items(), strict=True):
        for share, colour, name in zip(shares.T, colours, names, strict=True):
            axes.plot(share, color=colour, label=name, linewidth=1.6)
        axes.set(xlabel=f"plane along {axis}", ylim=(0, None))
    np.atleast_1d(all_axes)[0].set_ylabel("share of the plane")
    class_legend(figure, colours, names)
    return finish(figure, "profiles", "Share of each phase in every plane across z, y and x.")


def sizes_picture(
    balls: Sequence[Mapping[str, Any]], particles: Sequence[Mapping[str, Any]], *, colours: Sequence[str],
    names: Sequence[str], unit: str,
) -> Picture:  # fmt: skip
    """Draw which share of each phase is covered by balls of each diameter, and which is in particles of that size.

    Parameters
    ----------
    balls
        For each phase `diameters` and the share `covered`; empty for a phase that is absent.
    particles
        For each phase `diameters` and the `share_of_volume`; empty where its particles have no sizes.
    colours, names
        Of the phases.
    unit
        Of the diameters.
    """
    figure, (left, right) = new_figure(12.4, 3.4, 1, 2, apart=0.04)
    for ball, particle, colour in zip(balls, particles, colours, strict=True):
        if ball:
            left.plot(ball["diameters"], ball["covered"], "o-", color=colour, markersize=4)
        if particle:
            diameters, shares = particle["diameters"], particle["share_of_volume"]
            right.step([*diameters, diameters[-1]], [*shares, 0], where="pre", color=colour, linewidth=1.8)
    left.set_title("balls that fit", fontsize=11, loc="left")
    right.set_title("particles", fontsize=11, loc="left")
    for axes, what in ((left, "share of the phase"), (right, "share of the particles' volume")):
        axes.set(xlabel=f"diameter, {unit}", ylabel=what, ylim=(0, 1.02), xlim=(0, None))
    if not any(particles):
        right.text(0.5, 0.5, "not defined, see below", transform=right.transAxes, ha="center", color=GREY)
    class_legend(figure, colours, names)
    caption = (
        "Left: share of each phase that balls of at least this diameter cover. Right: share of the volume of its "
        "particles in those of at least this diameter, of a sphere of the particle's volume."
    )
    return finish(figure, "sizes", caption)


def correlation_picture(
    curves: Mapping[str, Sequence[Mapping[str, Any]]], *, colours: Sequence[str], names: Sequence[str], unit: str
) -> Picture:
    """Draw the normalised covariance of each phase against the lag, an axis a panel.

    Parameters
    ----------
    curves
        Axis -> for each phase `lags` and `s2`, the probability that both points are in it; empty for an absent one.
    colours, names
        Of the phases.
    unit
        Of the lags.
    """
    figure, panels = new_figure(12.4, 3.2, 1, len(curves))
    for axes, (axis, phases) in zip(np.atleast_1d(panels), curves.items(), strict=True):
        axes.axhline(DECAYED, color=GREY, linewidth=1, linestyle="--")
        axes.axhline(0, color=GREY, linewidth=0.8)
        for phase, colour in zip(phases, colours, strict=True):
            if phase:
                axes.plot(phase["lags"], covariance(np.array(phase["s2"])), color=colour, linewidth=1.6)
        axes.set(xlabel=f"lag along {axis}, {unit}", ylim=(None, 1.02), xlim=(0, None))
    np.atleast_1d(panels)[0].set_ylabel("normalised covariance")
    class_legend(figure, colours, names)
    caption = (
        "How alike two points of each phase are, against their distance along z, y and x: 1 at 0, 0 where they tell "
        "nothing of each other. Dashed: 1/e, which the covariance crosses at the correlation length."
    )
    return finish(figure, "correlation", caption)


def samples_picture(rows: Sequence[Sequence[Panel]], *, names: Sequence[str]) -> Picture:
    """Draw numbers of several samples under each other, a panel a quantity; each panel has its own scale.

    Parameters
    ----------
    rows
        Panels that stand beside each other.
    names
        Of the samples.
    """
    columns = max(len(row) for row in rows)
    figure, grid = new_figure(12.4, (1.15 + 0.27 * len(names)) * len(rows), len(rows), columns, apart=0.06)
    for row, its_axes in zip(rows, np.reshape(grid, (len(rows), columns)), strict=True):
        for place, axes in enumerate(its_axes):
            if place < len(row):
                _draw_panel(axes, row[place], names if place == 0 else [""] * len(names))
            else:
                axes.axis("off")
    caption = (
        "Each sample's value with its 95 % interval, where it has one. Grey, dashed: the first sample. Orange "
        "diamonds: the interval of the difference to the first excludes 0. Scales differ and need not start at 0."
    )
    return finish(figure, "samples", caption)


def _draw_panel(axes: Any, panel: Panel, names: Sequence[str]) -> None:
    axes.set_title(panel.title, fontsize=10, loc="left")
    axes.set(yticks=range(len(names)), ylim=(len(names) - 0.5, -0.5))
    axes.set_yticklabels([_shortened(name) for name in names])
    axes.spines["left"].set_visible(False)
    axes.tick_params(axis="y", length=0)
    axes.margins(x=0.1)
    axes.locator_params(axis="x", nbins=4)
    if panel.dots[0].value is not None:
        axes.axvline(panel.dots[0].value, color=GREY, linewidth=1, linestyle="--", zorder=0)
    for place, dot in enumerate(panel.dots):
        colour = GREY if place == 0 else SECOND if dot.differs else ACCENT
        if dot.value is None:
            axes.annotate("not defined", (0.02, place), xycoords=("axes fraction", "data"), va="center", fontsize=9)
            continue
        if dot.interval:
            axes.hlines(place, *dot.interval, color=colour, linewidth=2)
        axes.plot(dot.value, place, "D" if dot.differs else "o", color=colour, markersize=7, zorder=3)


def _shortened(name: str) -> str:
    return name if len(name) <= _MOST_LETTERS else f"{name[: _MOST_LETTERS - 3]}..."
