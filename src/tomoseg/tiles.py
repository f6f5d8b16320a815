"""Tiles and halos: pure arithmetic on sizes, so that a slice run in tiles equals the slice run at once.

The reference is the slice, reflect-padded by one halo and up to the pooling grid, run once and cropped. Tiles
start on the pooling grid and overlap by the halo, beyond which no layer looks, so each of their pixels sees what
it sees in the reference.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Int64, Shaped


@dataclass(frozen=True)
class Tile:
    """A part of a slice and what to feed to the network for it, in pixels of the slice.

    Attributes
    ----------
    y0, y1, x0, x1
        The part that this tile gives.
    halo
        The input reaches from `y0 - halo`, `x0 - halo`, beyond the slice by reflection.
    height, width
        Size of the input, whole pooling cells.
    """

    y0: int
    y1: int
    x0: int
    x1: int
    halo: int
    height: int
    width: int

    @property
    def core(self) -> tuple[slice, slice]:
        """Where the tile's part lies in the slice."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where the tile's part lies in the network's output."""
        return (
            slice(self.halo, self.halo + self.y1 - self.y0),
            slice(self.halo, self.halo + self.x1 - self.x0),
        )


def tiles(
    shape: tuple[int, int],
    *,
    tile: int,
    halo: int,
    grid: int,
    box: tuple[slice, slice] | None = None,
) -> Iterator[Tile]:
    """Yield tiles that cover a slice, or a box of it, once.

    Parameters
    ----------
    shape
        Pixels along (y, x).
    tile
        Largest edge of a tile's part, rounded down to the grid but at least one cell.
    halo
        Pixels around it that the network sees, a multiple of `grid`.
    grid
        Edge of the pooling cells in pixels.
    box
        The part (y, x) to be covered; the tiles start at the pooling cells that hold its first pixels.

    Raises
    ------
    ValueError
        If the halo is no multiple of the grid: tiles would see other pooling cells than the reference.

    Examples
    --------
    >>> [(part.y0, part.y1, part.height) for part in tiles((10, 4), tile=8, halo=4, grid=4)]
    [(0, 8, 16), (8, 10, 12)]
    """
    if halo % grid:
        raise ValueError(f"a halo of {halo} pixels is no multiple of the pooling grid of {grid}")
    step = max(grid, tile // grid * grid)
    rows, columns = box or (slice(0, shape[0]), slice(0, shape[1]))
    for y0 in range(rows.start // grid * grid, rows.stop, step):
        for x0 in range(columns.start // grid * grid, columns.stop, step):
            y1, x1 = min(y0 + step, rows.stop), min(x0 + step, columns.stop)
            yield Tile(y0, y1, x0, x1, halo, _fed(y1 - y0, halo, grid), _fed(x1 - x0, halo, grid))


def _fed(size: int, halo: int, grid: int) -> int:
    return -(-size // grid) * grid + 2 * halo


def cut(
    values: Shaped[np.ndarray, "*lead y x"],
    part: Tile,
    *,
    shape: tuple[int, int] | None = None,
    origin: tuple[int, int] = (0, 0),
) -> Shaped[np.ndarray, "*lead height width"]:
    """Return the input of a tile: the slice, continued by reflection about its first and last pixels.

    Parameters
    ----------
    values
        The slice, or as much of it as the tile `needed`.
    part
        The tile.
    shape
        Pixels of the whole slice along (y, x); those of `values` without it.
    origin
        Where in the slice `values` begins.

    Examples
    --------
    >>> cut(np.arange(4)[None], Tile(0, 1, 0, 4, 1, 1 + 2, 4 + 2))[0]
    array([1, 0, 1, 2, 3, 2])
    """
    height, width = shape or (values.shape[-2], values.shape[-1])
    rows = reflected(part.y0 - part.halo, part.height, height) - origin[0]
    columns = reflected(part.x0 - part.halo, part.width, width) - origin[1]
    across = values[..., _run(rows), :] if _is_run(rows) else values.take(rows, axis=-2)
    return across[..., _run(columns)] if _is_run(columns) else across.take(columns, axis=-1)


def _is_run(index: Int64[np.ndarray, " n"]) -> bool:
    return bool((np.diff(index) == 1).all())


def _run(index: Int64[np.ndarray, " n"]) -> slice:
    return slice(int(index[0]), int(index[-1]) + 1)


def needed(shape: tuple[int, int], *, halo: int, grid: int, box: tuple[slice, slice]) -> tuple[slice, slice]:
    """Return the part (y, x) of a slice of `shape` that the tiles of a box look at.

    Examples
    --------
    >>> needed((100, 100), halo=8, grid=4, box=(slice(0, 10), slice(50, 60)))
    (slice(0, 20, None), slice(40, 68, None))
    """
    found = []
    for size, wanted in zip(shape, box, strict=True):
        first = wanted.start // grid * grid
        index = reflected(first - halo, _fed(wanted.stop - first, halo, grid), size)
        found.append(slice(int(index.min()), int(index.max()) + 1))
    return found[0], found[1]


def reflected(start: int, length: int, size: int) -> Int64[np.ndarray, " n"]:
    """Return which of `size` pixels lie at `start` and the `length` - 1 places after it, by reflection at the ends.

    Examples
    --------
    >>> reflected(-2, 7, 3)
    array([2, 1, 0, 1, 2, 1, 0])
    """
    if size == 1:
        return np.zeros(length, np.int64)
    place = np.arange(start, start + length) % (2 * size - 2)
    return np.minimum(place, 2 * size - 2 - place)


def tile_for_memory(memory_bytes: int, *, bytes_per_pixel: int, halo: int, grid: int) -> int:
    """Return the largest edge of a tile whose input, halo included, fits into `memory_bytes`; at least one cell.

    Examples
    --------
    >>> tile_for_memory(1000 * 200**2, bytes_per_pixel=1000, halo=48, grid=8)
    104
    """
    edge = int((memory_bytes / bytes_per_pixel) ** 0.5) - 2 * halo
    return max(grid, edge // grid * grid)
