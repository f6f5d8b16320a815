"""Phases seen as solid bodies: the surface of a coarse copy, drawn from one side."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain
from typing import Any

import numpy as np
from jaxtyping import Float, Float32, Float64, Int, Shaped
from scipy import ndimage

from tomoseg.quantify.meshes import contour, crossings
from tomoseg.report.figures import finish, new_figure, rgb
from tomoseg.report.page import Picture

_PIXELS = 560
"""Across a picture."""
_FINER = 2
"""Pixels are drawn so many times finer, and averaged."""
_APART = 0.75
"""Of such a pixel, from one place on a surface to the next: none is left out."""
_MOST_PLACES = 1_000_000  # at a time, for the memory that they take
_SMOOTHING = 0.7  # of the shares, in cells
_MOST_COLUMNS = 3
_TURN, _TILT = 32.0, 24.0  # degrees around z and above the plane of the slices
_DARKEST, _BRIGHTEST = 0.30, 0.80  # of a colour: black and white have no shades
_LIGHT = (-0.35, 0.6, 0.7)  # from where: right, up, towards the eye

Points = Float[np.ndarray, "_ 3"]
Sampled = tuple[Float32[np.ndarray, "place 3"], Float32[np.ndarray, "normal 3"]]


def solids_picture(
    shares: Float32[np.ndarray, "class z y x"],
    *,
    cell: tuple[float, float, float],
    lengths: tuple[float, float, float],
    colours: Sequence[str],
    names: Sequence[str],
    unit: str,
) -> Picture | None:
    """Draw each phase as a solid body, beside each other; None if there is none that could be drawn.

    Parameters
    ----------
    shares
        Each phase's share of the cells of a coarse copy, 0 to 1, float32 (class, z, y, x).
    cell, lengths
        Edges of a cell and of the volume along (z, y, x).
    colours, names
        Of the phases.
    unit
        Of the lengths.
    """
    chosen = [order for order, share in enumerate(shares) if can_be_drawn(share)]
    if not chosen:
        return None
    columns = min(_MOST_COLUMNS, len(chosen))
    rows = -(-len(chosen) // columns)
    figure, all_axes = new_figure(4.1 * columns, 4.15 * rows, rows, columns)
    flat = np.atleast_1d(all_axes).ravel()
    view, corners = _view(), _corners(lengths)
    box = _ends(corners @ view.T)
    for axes in flat:
        axes.axis("off")
    for axes, order in zip(flat, chosen, strict=False):
        image = drawn(shares[order], cell=cell, lengths=lengths, view=view, box=box, colour=rgb(colours[order]))
        _draw_box(axes, corners @ view.T, lengths, unit)
        axes.imshow(image, extent=(box[0, 0], box[1, 0], box[0, 1], box[1, 1]), interpolation="antialiased", zorder=2)
        axes.set_title(names[order], fontsize=11, loc="left")
    caption = (
        "Each phase as a solid body, cut at the volume's border: x runs right, y to the front, z (the slices) down."
    )
    return finish(figure, "solids", caption)


def can_be_drawn(share: Float32[np.ndarray, "z y x"]) -> bool:
    """Return whether a phase, smoothed, has more than half of any cell."""
    return bool(_excess(share).max() > 0)


def _excess(share: Float32[np.ndarray, "z y x"]) -> Float32[np.ndarray, "z y x"]:
    """Return by how much the smoothed share exceeds a half, nowhere 0."""
    smooth = ndimage.gaussian_filter(share, _SMOOTHING, mode="nearest") - np.float32(0.5)
    smooth[np.abs(smooth) < 1e-3] = -1e-3
    return np.asarray(smooth)


def surface(
    share: Float32[np.ndarray, "z y x"], *, cell: tuple[float, float, float]
) -> tuple[Float64[np.ndarray, "vertex 3"], Int[np.ndarray, "triangle 3"]]:
    """Return the surface of where a phase has more than half of a cell, and somewhat beyond the volume's border.

    Returns
    -------
    vertices
        Places (x, y, z), float64 (vertex, 3); the volume begins at 0.
    triangles
        Indices of vertices, (triangle, 3); normals point outwards.
    """
    field = np.pad(_excess(share), 1, mode="edge")
    lower, axes, triangles = contour(field, np.ones([size - 1 for size in field.shape], bool))
    places = np.stack(np.unravel_index(lower, field.shape), axis=1) - 0.5  # the first cell's centre is at a half
    places[np.arange(len(lower)), axes] += crossings(field, lower, axes)
    return (places * np.array(cell))[:, ::-1], triangles


def drawn(
    share: Float32[np.ndarray, "z y x"],
    *,
    cell: tuple[float, float, float],
    lengths: tuple[float, float, float],
    view: Float64[np.ndarray, "3 3"],
    box: Float64[np.ndarray, "2 2"],
    colour: Shaped[np.ndarray, " 3"],
) -> Float[np.ndarray, "row column 4"]:
    """Return a picture of a phase with shading: red, green, blue and alpha, 0 to 1 (row, column, 4).

    Parameters
    ----------
    share
        Of the phase in the cells of a coarse copy, 0 to 1.
    cell, lengths
        Edges of a cell and of the volume along (z, y, x).
    view
        Rows are the directions right, up and towards the eye, which is far away, in places (x, y, z).
    box
        Lowest and highest place right and up that the picture shows.
    colour
        Red, green and blue from 0 to 1.
    """
    scale = _FINER * _PIXELS / np.ptp(box, axis=0).max()
    width, height = (int(np.ceil(size * scale / _FINER)) * _FINER for size in np.ptp(box, axis=0))
    depth, facing = np.full(height * width, -np.inf, np.float32), np.zeros((height * width, 3), np.float32)
    towards, start = view.T.astype(np.float32), np.array([box[0, 0], box[1, 1], 0], np.float32)
    ends, apart = np.array(lengths[::-1], np.float32), _APART / scale
    for places, normals in chain(
        _samples(*surface(share, cell=cell), ends=ends, eye=view[2], apart=apart),
        _cuts(share, cell=cell, ends=ends, eye=view[2], apart=apart),
    ):
        seen = (places @ towards - start) * np.array([scale, -scale, scale], np.float32)
        column, row = seen[:, 0].astype(np.int64).clip(0, width - 1), seen[:, 1].astype(np.int64).clip(0, height - 1)
        pixel = row * width + column
        np.maximum.at(depth, pixel, seen[:, 2])
        nearest = seen[:, 2] == depth[pixel]
        facing[pixel[nearest]] = np.broadcast_to(normals @ towards, places.shape)[nearest]
    shaded = _shaded(depth.reshape(height, width), facing.reshape(height, width, 3), colour)
    return np.asarray(shaded.reshape(height // _FINER, _FINER, width // _FINER, _FINER, 4).mean(axis=(1, 3)))


def _view() -> Float64[np.ndarray, "3 3"]:
    """Return the directions right, up and towards the eye in places (x, y, z): z runs down, y towards the eye."""
    turn, tilt = np.radians(_TURN), np.radians(_TILT)
    to_eye = np.array([np.sin(turn) * np.cos(tilt), np.cos(turn) * np.cos(tilt), -np.sin(tilt)])
    up = np.array([0.0, 0.0, -1.0])
    up -= (up @ to_eye) * to_eye
    up /= np.linalg.norm(up)
    return np.stack([np.cross(up, to_eye), up, to_eye])


def _corners(lengths: tuple[float, float, float]) -> Float64[np.ndarray, "8 3"]:
    """Return the volume's corners; corner 4 a + 2 b + c is at the end along x, y, z where a, b, c are 1."""
    return np.asarray(np.indices((2, 2, 2)).reshape(3, -1).T * np.array(lengths[::-1]))


def _ends(points: Points) -> Float64[np.ndarray, "2 2"]:
    return np.stack([points[:, :2].min(axis=0), points[:, :2].max(axis=0)])


def _samples(
    vertices: Points,
    triangles: Int[np.ndarray, "triangle 3"],
    *,
    ends: Float32[np.ndarray, " 3"],
    eye: Float64[np.ndarray, " 3"],
    apart: float,
) -> Iterator[Sampled]:
    """Yield places within the volume on the triangles that the eye sees from outside, and their normals."""
    a, b, c = (vertices[triangles[:, k]] for k in range(3))
    across = np.cross(b - a, c - a)
    normals, front = _vertex_normals(across, triangles, len(vertices)), triangles[across @ eye > 0]
    corners, around = vertices[front].astype(np.float32), normals[front].astype(np.float32)
    longest = np.linalg.norm(corners - np.roll(corners, 1, axis=1), axis=2).max(axis=1)
    steps = np.ceil(longest / apart).astype(np.int64).clip(min=1)
    for n in np.unique(steps):
        shares = [(i / n, j / n, (n - i - j) / n) for i in range(n + 1) for j in range(n + 1 - i)]
        weights, chosen = np.array(shares, np.float32), np.flatnonzero(steps == n)
        for some in np.array_split(chosen, -(-len(chosen) * len(weights) // _MOST_PLACES)):
            places, its = ((weights @ of[some]).reshape(-1, 3) for of in (corners, around))
            inside = ((places >= 0) & (places <= ends)).all(axis=1)
            yield places[inside], its[inside]


def _vertex_normals(across: Points, triangles: Int[np.ndarray, "triangle 3"], vertices: int) -> Points:
    """Return the mean normal around each vertex, larger triangles counting more."""
    total = [sum(np.bincount(triangles[:, k], part, vertices) for k in range(3)) for part in across.T]
    sums = np.stack(total, axis=1)
    return np.asarray(sums / np.maximum(np.linalg.norm(sums, axis=1, keepdims=True), 1e-30))


def _cuts(
    share: Float32[np.ndarray, "z y x"],
    *,
    cell: tuple[float, float, float],
    ends: Float32[np.ndarray, " 3"],
    eye: Float64[np.ndarray, " 3"],
    apart: float,
) -> Iterator[Sampled]:
    """Yield places in the phase on the volume's three sides that the eye sees, and the normal of each side."""
    excess, sizes = _excess(share).transpose(2, 1, 0), cell[::-1]
    for axis in range(3):
        upper, others = eye[axis] > 0, [one for one in range(3) if one != axis]
        spans = [np.linspace(0, ends[one], int(ends[one] / apart) + 2, dtype=np.float32) for one in others]
        side = np.take(excess, -1 if upper else 0, axis=axis)
        first, second = (
            _between(span / sizes[one], excess.shape[one]) for span, one in zip(spans, others, strict=True)
        )
        filled = np.nonzero(first @ side @ second.T > 0)
        places, normal = np.zeros((len(filled[0]), 3), np.float32), np.zeros((1, 3), np.float32)
        places[:, axis], normal[0, axis] = (ends[axis], 1) if upper else (0, -1)
        for one, span, at in zip(others, spans, filled, strict=True):
            places[:, one] = span[at]
        yield places, normal


def _between(places: Float[np.ndarray, " place"], cells: int) -> Float32[np.ndarray, "place cell"]:
    """Return the weights that interpolate linearly between the centres of cells at places in cells."""
    at = (places - 0.5).clip(0, cells - 1)
    return np.asarray(np.clip(1 - np.abs(at[:, None] - np.arange(cells)), 0, 1), np.float32)


def _shaded(
    depth: Float32[np.ndarray, "row column"],
    facing: Float32[np.ndarray, "row column 3"],
    colour: Shaped[np.ndarray, " 3"],
) -> Float[np.ndarray, "row column 4"]:
    """Return the colour under a light and the sky; what lies deeper than what is around it gets less of both."""
    there = np.isfinite(depth)
    norm = np.maximum(np.linalg.norm(facing, axis=2, keepdims=True), 1e-6)
    facing = facing / norm
    light = np.array(_LIGHT) / np.linalg.norm(_LIGHT)
    bright = 0.60 * np.clip(facing @ light, 0, None) + 0.33 + 0.12 * facing[..., 1]
    bright *= _open_sky(depth[::_FINER, ::_FINER]).repeat(_FINER, axis=0).repeat(_FINER, axis=1)
    gleam = 0.10 * np.clip(facing @ _half(light), 0, None) ** 30
    painted = _visible(colour) * np.clip(1.12 * bright, 0, 1)[..., None] + gleam[..., None]
    return np.concatenate([np.where(there[..., None], painted, 1).clip(0, 1), there[..., None]], axis=2)


def _open_sky(depth: Float32[np.ndarray, "row column"]) -> Float[np.ndarray, "row column"]:
    """Return by how much each place is darkened by what rises around it, near and far, 0.4 to 1."""
    known = np.isfinite(depth)
    filled, left = np.where(known, depth, 0), np.ones(depth.shape, np.float32)
    for spread, strength in ((0.008, 0.30), (0.03, 0.35)):
        sigma = spread * max(depth.shape)
        weights = np.maximum(ndimage.gaussian_filter(known.astype(np.float32), sigma, truncate=2.5), 1e-6)
        rises = ndimage.gaussian_filter(filled, sigma, truncate=2.5) / weights - filled
        left *= 1 - strength * np.clip(rises / (2.5 * _FINER * sigma), 0, 1)
    return left


def _half(light: Shaped[np.ndarray, " 3"]) -> Shaped[np.ndarray, " 3"]:
    """Return the direction between the light and the eye."""
    between = light + np.array([0.0, 0.0, 1.0])
    return np.asarray(between / np.linalg.norm(between))


def _visible(colour: Shaped[np.ndarray, " 3"]) -> Shaped[np.ndarray, " 3"]:
    """Return a colour that has shades: black becomes a dark grey, white a pale one."""
    grey = float(colour @ np.array([0.2126, 0.7152, 0.0722]))
    if grey < _DARKEST:
        return np.asarray(colour + (1 - colour) * (_DARKEST - grey) / (1 - grey))
    return np.asarray(colour * min(1.0, _BRIGHTEST / grey))


def _draw_box(axes: Any, seen: Points, lengths: tuple[float, float, float], unit: str) -> None:
    """Draw the volume's edges, those behind dashed and below the body, and name the axes at three of them."""
    far = int(np.argmin(seen[:, 2]))
    for one in range(8):
        for bit in (1, 2, 4):
            other = one | bit
            if other == one:
                continue
            hidden = far in (one, other)
            (x0, y0), (x1, y1) = seen[one, :2], seen[other, :2]
            axes.plot([x0, x1], [y0, y1], color="#8a94a1", linewidth=0.8, linestyle=":" if hidden else "-",
                      alpha=0.9 if hidden else 0.7, zorder=1 if hidden else 3)  # fmt: skip
    middle = seen[:, :2].mean(axis=0)
    # the edges at the picture's rim: x in front below, y at the right below, z at the left
    for name, ends, length in (("x", (3, 7), lengths[2]), ("y", (5, 7), lengths[1]), ("z", (2, 3), lengths[0])):
        (x0, y0), (x1, y1) = seen[ends[0], :2], seen[ends[1], :2]
        place, along = np.array([(x0 + x1) / 2, (y0 + y1) / 2]), np.array([x1 - x0, y1 - y0])
        out = np.array([along[1], -along[0]]) / max(float(np.linalg.norm(along)), 1e-30)
        out *= np.sign(out @ (place - middle))
        turn = np.degrees(np.arctan2(along[1], along[0]))
        axes.annotate(f"{name}  {length:.3g} {unit}", place, tuple(11 * out), textcoords="offset points", ha="center",
                      va="center", fontsize=9, rotation=(turn + 90) % 180 - 90, rotation_mode="anchor",
                      color="#5b6675")  # fmt: skip
    axes.set_aspect("equal")
    axes.margins(0.05)
