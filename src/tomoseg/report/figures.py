"""The figures of a report, each a PNG."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
from jaxtyping import Float, Float32, Int, Shaped, UInt8

from tomoseg.report.page import Picture

if TYPE_CHECKING:
    from matplotlib.figure import Figure

ACCENT, SECOND, WRONG, GREY = "#0072b2", "#d55e00", "#d6006c", "#8a94a1"
_LINES = ("#8a94a1", "#d55e00", "#0072b2", "#56b4e9", "#009e73", "#e69f00", "#b07030", "#6a51a3")
_MARKERS = "osD^vPX*"
_DPI = 144
_SMALLEST_ERROR = 1e-6  # so that no error has a place on a logarithmic axis
_SCORE_TICKS = (0, 0.2, 0.4, 0.6, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998, 0.999, 0.9995, 0.9999)
_MOST_PANEL_PIXELS = 800
_UNLABELLED = 255


def training_curves(curve: Sequence[Mapping[str, float]], validations: Sequence[Mapping[str, float]]) -> Picture:
    """Draw the loss and the validation scores against the steps."""
    figure, (left, right) = new_figure(10, 3.4, 1, 2)
    left.plot([p["step"] for p in curve], [p["loss"] for p in curve], color=ACCENT)
    left.set(xlabel="step", ylabel="training loss (cross entropy, nats)", yscale="log")
    steps = [v["step"] for v in validations]
    right.plot(steps, [v["mean_iou"] for v in validations], "o-", color=ACCENT, label="mean IoU")
    if all("noisy_mean_iou" in v for v in validations):
        right.plot(steps, [v["noisy_mean_iou"] for v in validations], "o--", color=ACCENT, label="mean IoU, noisy")
    right.plot(steps, [v["accuracy"] for v in validations], "s--", color=SECOND, label="accuracy")
    right.set(xlabel="step", ylabel="validation score", xlim=left.get_xlim())
    right.legend(frameon=False, loc="best")
    return finish(figure, "training", "Training loss, and scores on the validation part, while training.")


def confusion_picture(counts: Int[np.ndarray, "truth predicted"], names: Sequence[str]) -> Picture:
    """Draw a confusion matrix: share of each label's pixels, and how many."""
    n = len(names)
    figure, axes = new_figure(2.6 + 1.15 * n, 1.6 + 0.95 * n, 1, 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for (row, column), share in np.ndenumerate(shares):
        tone = "white" if share > 0.5 else "#1d2530"
        text = f"{100 * share:.2f} %\n{_short(int(counts[row, column]))}"
        axes.text(column, row, text, ha="center", va="center", color=tone, fontsize=9)
    axes.set(xlabel="predicted", ylabel="labelled", xticks=range(n), yticks=range(n))
    axes.set_xticklabels(names, rotation=30 if n > 4 else 0, ha="right" if n > 4 else "center")
    axes.set_yticklabels(names)
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    return finish(figure, "confusion", "Confusion matrix: share of each label's pixels, and their number.")


def score_dots(rows: Mapping[str, Mapping[str, float]], intervals: Mapping[str, Sequence[float]]) -> Picture:
    """Draw errors (1 - accuracy, 1 - mean IoU) of the model and its baselines, the model's with intervals.

    Dots on a logarithmic axis: a baseline at 30 % and a model at 0.3 % can both be read, and no bar has a length
    that would have to start at zero.
    """
    figure, panels = new_figure(10, 1.0 + 0.42 * len(rows), 1, 2)
    for axes, name, title in zip(panels, ("accuracy", "mean_iou"), ("1 - accuracy", "1 - mean IoU"), strict=True):
        errors = np.maximum([1 - of[name] for of in rows.values()], _SMALLEST_ERROR)
        places = range(len(rows))[::-1]
        axes.hlines(places, errors.min() / 3, errors.max() * 3, color="#e6eaee", linewidth=1, zorder=0)
        axes.scatter(errors, places, s=60, color=[ACCENT if row == "model" else GREY for row in rows], zorder=3)
        if name in intervals:
            ends = np.maximum([1 - end for end in intervals[name]], _SMALLEST_ERROR)
            axes.hlines(len(rows) - 1, ends.min(), ends.max(), color=ACCENT, linewidth=3)
        for place, error in zip(places, errors, strict=True):
            axes.annotate(f"{error:.4f}", (error, place), (0, 6), textcoords="offset points", ha="center", fontsize=9)
        axes.set(xlabel=f"{title} (further left is better)", yticks=places, xscale="log")
        axes.set(xlim=(errors.min() / 2, errors.max() * 2), ylim=(-0.5, len(rows) - 0.3))
        axes.set_yticklabels(rows)
    return finish(figure, "scores", "Errors of the model and of what stands beside it, on the same pixels.")


def reliability_curve(curves: Mapping[str, Float[np.ndarray, "3 bin"]]) -> Picture:
    """Draw how often the network is right against how sure it is: pixels, confidence and share right a bin."""
    figure, axes = new_figure(5.2, 4.4, 1, 1)
    least = min((float(curve[1:].min()) for curve in curves.values() if curve.size), default=0.0)
    axes.plot([least, 1], [least, 1], color=GREY, linewidth=1, linestyle="--", label="as sure as right")
    for (name, curve), colour, marker in zip(curves.items(), _LINES[1:], _MARKERS, strict=False):
        axes.plot(curve[1], curve[2], marker + "-", color=colour, label=name, markersize=5)
    axes.set(xlabel="probability of the predicted class", ylabel="share that is right")
    axes.legend(frameon=False, loc="upper left")
    return finish(
        figure,
        "reliability",
        "How often the prediction is right, against how sure it is. Below the dashed line it claims too much. 15 bins "
        "of about as many pixels each.",
    )


def histogram_picture(
    edges: Shaped[np.ndarray, " edge"],
    counts: Shaped[np.ndarray, " bins"],
    *,
    window: tuple[float, float] | None = None,
) -> Picture:
    """Draw the histogram of grey values, with the window if there is one."""
    figure, axes = new_figure(9, 3.2, 1, 1)
    axes.stairs(counts / max(1, counts.sum()), edges, fill=True, color=ACCENT, alpha=0.75)
    if window:
        axes.axvspan(*window, color="#e69f00", alpha=0.15, label="window")
        axes.legend(frameon=False)
    axes.set(xlabel="grey value", ylabel="share of the voxels")
    return finish(figure, "histogram", "Histogram of the grey values.")


def comparison(
    image: Float32[np.ndarray, "y x"],
    label: UInt8[np.ndarray, "y x"],
    prediction: UInt8[np.ndarray, "y x"],
    *,
    colours: Sequence[str],
    names: Sequence[str],
    name: str,
    title: str,
    pixel_um: float | None = None,
) -> Picture:
    """Draw a slice four times: input, label, prediction, and where they differ.

    Parameters
    ----------
    image
        In units of the window: 0 is black, 1 white.
    label, prediction
        Class indices; unlabelled pixels are pale.
    colours, names
        Of the classes.
    name, title
        Of the file, and what the caption begins with.
    pixel_um
        Edge of a pixel in micrometres, for a scale bar.
    """
    known = label != _UNLABELLED
    wrong = known & (label != prediction)
    share = wrong.sum() / max(1, known.sum())
    step = -(-max(image.shape) // _MOST_PANEL_PIXELS)
    table = np.array([rgb(colour) for colour in colours])
    grey = np.clip(image, 0, 1)[::step, ::step]
    pale = np.repeat((0.55 + 0.4 * grey)[..., None], 3, axis=2)
    differ = np.where(_any(wrong, step)[..., None], rgb(WRONG), pale)
    panels = {
        "input": np.repeat(grey[..., None], 3, axis=2),
        "label": painted(label[::step, ::step], table),
        "prediction": painted(np.where(known, prediction, _UNLABELLED)[::step, ::step], table),
        f"differ: {100 * share:.2f} %": differ,
    }
    height = 12 / 4 * image.shape[0] / image.shape[1]
    figure, all_axes = new_figure(12.4, height + 0.9, 1, 4)
    for axes, (heading, picture) in zip(all_axes, panels.items(), strict=True):
        axes.imshow(picture, interpolation="nearest" if step == 1 else "antialiased")
        axes.set_title(heading, fontsize=11, loc="left")
        axes.axis("off")
    if pixel_um:
        _scale_bar(all_axes[0], grey.shape, pixel_um * step)
    class_legend(figure, colours, names)
    return finish(figure, name, f"{title}: input, label, prediction, and where the two differ.")


def patches_picture(
    shown: Sequence[tuple[str, Float32[np.ndarray, "y x"], tuple[int, int, int, int]]],
) -> Picture:
    """Draw slices, each with a patch of it (y0, y1, x0, x1) framed, and the patch below, larger.

    Parameters
    ----------
    shown
        Name, image in units of the window, and patch of each slice.
    """
    figure, axes = new_figure(3.1 * len(shown), 6.4, 2, len(shown))
    for (above, below), (name, image, (y0, y1, x0, x1)) in zip(np.reshape(axes, (2, -1)).T, shown, strict=True):
        step = -(-max(image.shape) // _MOST_PANEL_PIXELS)
        ends = (0, image.shape[1], image.shape[0], 0)
        above.imshow(image[::step, ::step], cmap="gray", vmin=0, vmax=1, extent=ends)
        above.plot([x0, x1, x1, x0, x0], [y0, y0, y1, y1, y0], color=SECOND, linewidth=1.6)
        above.set_title(name, fontsize=10, loc="left")
        below.imshow(image[y0:y1, x0:x1], cmap="gray", vmin=0, vmax=1, extent=(x0, x1, y1, y0))
        for one in (above, below):
            one.axis("off")
    return finish(figure, "patches", "Above the slices to label next, below the part of each that is least certain.")


def _any(wrong: Shaped[np.ndarray, "y x"], step: int) -> Shaped[np.ndarray, "row column"]:
    """Shrink a mask so that no true pixel is lost."""
    height, width = (-(-size // step) * step for size in wrong.shape)
    padded = np.zeros((height, width), np.bool_)
    padded[: wrong.shape[0], : wrong.shape[1]] = wrong
    return np.asarray(padded.reshape(height // step, step, width // step, step).any(axis=(1, 3)))


def painted(index: UInt8[np.ndarray, "y x"], table: Shaped[np.ndarray, "class 3"]) -> Shaped[np.ndarray, "y x 3"]:
    """Return class indices as colours from a table; what counts nowhere is pale."""
    painted = np.full((*index.shape, 3), 0.9)
    known = index < len(table)
    painted[known] = table[index[known]]
    return painted


def _scale_bar(axes: Any, shape: tuple[int, ...], pixel_um: float) -> None:
    wanted = 0.25 * shape[1] * pixel_um
    base = 10.0 ** np.floor(np.log10(wanted))
    length = max(base * factor for factor in (1, 2, 5) if base * factor <= wanted)
    x, y = 0.05 * shape[1], 0.94 * shape[0]
    axes.plot([x, x + length / pixel_um], [y, y], color="white", linewidth=5, solid_capstyle="butt")
    axes.plot([x, x + length / pixel_um], [y, y], color="black", linewidth=3, solid_capstyle="butt")
    box = {"facecolor": "white", "alpha": 0.75, "edgecolor": "none", "pad": 1.5}
    axes.text(x, y - 0.03 * shape[0], f"{length:g} µm", fontsize=9, va="bottom", bbox=box)


def class_legend(figure: Figure, colours: Sequence[str], names: Sequence[str]) -> None:
    """Put the classes and their colours below a figure."""
    from matplotlib.patches import Patch

    handles = [Patch(facecolor=c, edgecolor="#5b6675", label=n) for c, n in zip(colours, names, strict=True)]
    figure.legend(handles=handles, loc="outside lower center", ncols=min(8, len(names)), frameon=False, fontsize=10)


def slice_scores(numbers: Sequence[int], accuracies: Sequence[float]) -> Picture:
    """Draw the accuracy of each test slice against its number."""
    figure, axes = new_figure(9, 2.6, 1, 1)
    axes.plot(numbers, accuracies, "o", color=ACCENT, markersize=5)
    axes.set(xlabel="slice number", ylabel="accuracy")
    return finish(figure, "slices", "Accuracy of each test slice.")


def noise_curves(
    levels: Sequence[float],
    methods: Mapping[str, Mapping[str, Sequence[Sequence[float]]]],
    *,
    unit: str,
    order: Sequence[str],
) -> Picture:
    """Draw scores against the level of a degradation, one line a method.

    Scores up to 1 stand on an axis on which half the errors are the same step everywhere: 0.98 and 0.99 are as far
    apart as 0.90 and 0.95. Errors in points are linear up to 0.1, logarithmic above.

    Parameters
    ----------
    levels
        From mild to severe; where one is infinite they are drawn at equal steps.
    methods
        Method -> name of a score -> a curve for each seed. Seeds make a band between the lowest and the highest.
    unit
        Of the levels.
    order
        All methods that there can be; each keeps its colour whichever are drawn.
    """
    scores = list(next(iter(methods.values())))
    styles = dict(zip(order, zip(cycle(_LINES), cycle(_MARKERS), strict=False), strict=False))
    even = not np.isfinite(levels).all()
    places = np.arange(len(levels)) if even else np.asarray(levels)
    figure, panels = new_figure(13, 4.2, 1, len(scores))
    for axes, score in zip(panels, scores, strict=True):
        for method, curves in methods.items():
            values, (colour, marker) = np.array(curves[score]), styles[method]
            axes.plot(places, values.mean(axis=0), marker=marker, color=colour, label=method, markersize=4)
            axes.fill_between(places, values.min(axis=0), values.max(axis=0), color=colour, alpha=0.2, linewidth=0)
        axes.set(xlabel=f"level, {unit}", title=score)
        if even:
            axes.set_xticks(places, [f"{level:g}" for level in levels])
        axes.grid(axis="y", color="#e6eaee")
        _by_errors(axes, points="points" in score)
    names = dict(zip(*reversed(panels[0].get_legend_handles_labels()), strict=True))
    figure.legend(names.values(), names.keys(), loc="outside lower center", ncols=min(6, len(names)), frameon=False)
    return finish(figure, "curve", "Scores against the level of what was added to the test.")


def _by_errors(axes: Any, *, points: bool) -> None:
    """Scale the vertical axis by the size of the errors: percentage points from 0, or scores up to 1."""
    if points:
        axes.set_yscale("symlog", linthresh=0.1)
        axes.set_yticks([0, 0.1, 1, 10, 100], ["0", "0.1", "1", "10", "100"])
        axes.set_ylim(0, max(1.0, axes.get_ylim()[1]))
        return
    low, high = axes.dataLim.intervaly
    axes.set_yscale(
        "function",
        functions=(
            lambda score: -np.log10(np.maximum(1 - np.asarray(score), _SMALLEST_ERROR)),
            lambda place: 1 - 10.0 ** -np.asarray(place),
        ),
    )
    axes.set_ylim(1 - 1.15 * (1 - low), 1 - max(0.85 * (1 - high), _SMALLEST_ERROR))
    bottom, top = axes.get_ylim()
    ticks = [tick for tick in _SCORE_TICKS if bottom <= tick <= top]
    axes.set_yticks(ticks, [f"{tick:g}" for tick in ticks])


def new_figure(width: float, height: float, rows: int, columns: int, *, apart: float = 0.02) -> tuple[Figure, Any]:
    """Return a figure in inches and its axes, `apart` by a share of their size."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine

    figure = Figure(figsize=(width, height), layout=ConstrainedLayoutEngine(hspace=apart, wspace=apart))
    axes = figure.subplots(rows, columns)
    for one in np.atleast_1d(axes).ravel():
        one.spines[["top", "right"]].set_visible(False)
        one.grid(alpha=0.0)
    return figure, axes


def finish(figure: Figure, name: str, caption: str) -> Picture:
    """Return a figure as a picture."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg

    target = io.BytesIO()
    FigureCanvasAgg(figure)
    figure.savefig(target, format="png", dpi=_DPI, facecolor="white", metadata={"Software": None})
    return Picture(name, target.getvalue(), caption)


def rgb(colour: str) -> Shaped[np.ndarray, " 3"]:
    """Return a colour as red, green and blue from 0 to 1."""
    return np.array([int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)])


def _short(count: int) -> str:
    for limit, unit in ((1_000_000, "M"), (1_000, "k")):
        if count >= limit:
            return f"{count / limit:.3g} {unit}"
    return str(count)
