"""The figures of a microstructure: planes through it, and how phases change along its axes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, UInt8

from tomoseg.report.figures import class_legend, finish, new_figure, painted, rgb
from tomoseg.report.page import Picture

_MOST_PIXELS = 600


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
    curves: Sequence[Mapping[str, Sequence[float]]], *, colours: Sequence[str], names: Sequence[str], unit: str
) -> Picture:
    """Draw which share of each phase is covered by balls of each diameter that fit in it.

    Parameters
    ----------
    curves
        For each phase `diameters` and the share `covered`; empty for a phase that is absent.
    colours, names
        Of the phases.
    unit
        Of the diameters.
    """
    figure, axes = new_figure(7, 3.2, 1, 1)
    for curve, colour in zip(curves, colours, strict=True):
        if curve:
            axes.plot(curve["diameters"], curve["covered"], "o-", color=colour, markersize=4)
    axes.set(xlabel=f"diameter, {unit}", ylabel="share of the phase", ylim=(0, 1.02), xlim=(0, None))
    class_legend(figure, colours, names)
    return finish(figure, "sizes", "Share of each phase that balls of at least this diameter cover.")
