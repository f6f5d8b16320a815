"""The triangles that separate a cube's corners above a level from those below, made from one rule.

Marching cubes (W. E. Lorensen, H. E. Cline, 1987, DOI 10.1145/37401.37422) puts a vertex on every edge whose ends lie
on either side. Which vertices are joined across a face is decided here by that face's four corners alone: corners above
that lie diagonally are kept apart, as parts of a phase connected by voxel faces are. Two cubes so agree about the face
between them, and no surface has a hole. Nor does a triangle's side lie within a face unless it is one of those lines,
so that no side has more than two triangles.
"""

from __future__ import annotations

from functools import lru_cache
from itertools import product

import numpy as np
from jaxtyping import Int8, Int64

CORNERS = tuple(product((0, 1), repeat=3))
"""Offsets (z, y, x) of a cube's corners; corner k counts 2 ** k in the number of a case."""

EDGES = tuple((axis, at) for axis in range(3) for at in CORNERS if not at[axis])
"""Axis of each edge of a cube, and the offsets of its lower corner."""

MOST_TRIANGLES = 5
_NO_EDGE = -1

Loop = tuple[int, ...]
Triangle = tuple[int, int, int]


@lru_cache(maxsize=1)
def triangle_table() -> tuple[Int8[np.ndarray, "case triangle 3"], Int64[np.ndarray, " case"]]:
    """Return the triangles of every case as indices into `EDGES`, and how many there are.

    A case is the sum of 2 ** k over the corners k above the level. A triangle's vertices in their order, with places as
    (x, y, z), have a normal that points down the field.

    Returns
    -------
    triangles
        int8 (case, triangle, 3), -1 after the last.
    counts
        int64 (case,).

    Examples
    --------
    >>> triangles, counts = triangle_table()
    >>> counts[[0, 1, 255]].tolist(), sorted(triangles[1, 0].tolist())
    ([0, 1, 0], [0, 4, 8])
    """
    table = np.full((256, MOST_TRIANGLES, 3), _NO_EDGE, np.int8)
    counts = np.zeros(256, np.int64)
    for case in range(256):
        found = [one for loop in _loops(case) for one in _cut(loop) or ()]
        counts[case] = len(found)
        table[case, : len(found)] = np.reshape(found, (-1, 3))
    return table, counts


def _faces() -> list[list[int]]:
    """Return the corners of each face in order, counterclockwise as seen from outside."""
    faces = []
    for axis, side in product(range(3), (0, 1)):
        first, second = (axis + 1) % 3, (axis + 2) % 3
        round_ = [(0, 0), (1, 0), (1, 1), (0, 1)]
        corners = []
        for a, b in round_ if side else round_[::-1]:
            at = [side] * 3
            at[first], at[second] = a, b
            corners.append(CORNERS.index((at[0], at[1], at[2])))
        faces.append(corners)
    return faces


def _edge(one: int, other: int) -> int:
    """Return which edge joins two corners."""
    low, high = sorted((CORNERS[one], CORNERS[other]))
    return EDGES.index(([a != b for a, b in zip(low, high, strict=True)].index(True), low))


def _loops(case: int) -> list[Loop]:
    """Return the closed lines of the surface on the cube's faces, as the edges that they cross."""
    after = {}
    for face in _faces():
        above = [bool(case >> corner & 1) for corner in face]
        for start in range(4):
            if above[start] and not above[start - 1]:  # a row of corners above begins; the line goes round it
                end = next(start + n for n in range(1, 4) if not above[(start + n) % 4])
                after[_edge(face[end % 4], face[(end - 1) % 4])] = _edge(face[start], face[start - 1])
    loops = []
    while after:
        loop = [next(iter(after))]
        while (following := after.pop(loop[-1])) != loop[0]:
            loop.append(following)
        loops.append(tuple(loop))
    return loops


def _cut(loop: Loop) -> list[Triangle] | None:
    """Cut a loop into triangles without a cut within a face of the cube; None where it cannot be."""
    if len(loop) < 3:
        return []
    for place in range(1, len(loop) - 1):
        sides = [(loop[0], loop[place])] * (place > 1) + [(loop[place], loop[-1])] * (place < len(loop) - 2)
        if any(_share_a_face(*side) for side in sides):
            continue
        before, behind = _cut(loop[: place + 1]), _cut(loop[place:])
        if before is not None and behind is not None:
            return [(loop[0], loop[place], loop[-1]), *before, *behind]
    return None


def _share_a_face(one: int, other: int) -> bool:
    return any({one, other} <= {_edge(face[k - 1], face[k]) for k in range(4)} for face in _faces())
