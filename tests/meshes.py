"""Meshes put together from blocks, what they enclose, and readers of their files."""

import numpy as np

from tomoseg.quantify.grid import cut
from tomoseg.quantify.meshes import Joiner, mesh_block


def meshed(labels, **how):
    """Return vertices (x, y, z) and triangles of the surface of class 1, put together from blocks."""
    return all_meshed(labels, **how)[1]


def all_meshed(labels, *, edge=1000, voxel_size=(1.0, 1.0, 1.0), n_classes=2, origin=(0, 0, 0)):
    """Return vertices and triangles of every class."""
    grid = cut(labels.shape, edge=edge)
    joiners, found = [Joiner(grid) for _ in range(n_classes)], [[] for _ in range(n_classes)]
    for number, region in enumerate(grid):
        several = mesh_block(
            lambda region: labels[region.slices],
            region,
            shape=grid.shape,
            n_classes=n_classes,
            voxel_size=voxel_size,
            origin=origin,
        )
        for joiner, its, one in zip(joiners, found, several, strict=True):
            its.append(joiner.add(number, one))
    return [tuple(np.concatenate(parts) for parts in zip(*its, strict=True)) for its in found]


def area_and_volume(vertices, triangles):
    """Return a mesh's area, and the volume that it encloses, above 0 where normals point outwards."""
    a, b, c = (vertices[triangles[:, k]].astype(float) for k in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2, (a * np.cross(b, c)).sum() / 6


def sides(triangles):
    """Return each side's two vertices, as the triangles go round them."""
    return np.concatenate([triangles[:, [0, 1]], triangles[:, [1, 2]], triangles[:, [2, 0]]])


def is_closed(triangles):
    """Return whether each side has two triangles, which go round it in opposite senses."""
    its = sides(triangles)
    there, back = (np.unique(one, axis=0, return_counts=True) for one in (its, its[:, ::-1]))
    return np.array_equal(there[0], back[0]) and (there[1] == 1).all()


def euler_number(vertices, triangles):
    n_sides = len(np.unique(np.sort(sides(triangles), axis=1), axis=0))
    return len(vertices) - n_sides + len(triangles)


def triangle_set(vertices, triangles):
    return sorted(map(bytes, vertices[triangles].reshape(-1, 9)))


def read_stl(path):
    """Return the normals and the corners (triangle, 3, 3) of a binary STL file."""
    content = path.read_bytes()
    count = int(np.frombuffer(content, "<u4", 1, 80)[0])
    assert len(content) == 84 + 50 * count
    rows = np.frombuffer(content, np.dtype([("n", "<f4", 3), ("c", "<f4", (3, 3)), ("a", "<u2")]), count, 84)
    return rows["n"], rows["c"]


def read_ply(path):
    """Return comments, vertices and triangles of a PLY file as tomoseg writes it."""
    head, _, body = path.read_bytes().partition(b"end_header\n")
    lines = head.decode("ascii").splitlines()
    assert lines[:2] == ["ply", "format binary_little_endian 1.0"]
    n, m = (int(line.split()[2]) for line in lines if line.startswith("element"))
    assert len(body) == 12 * n + 13 * m
    faces = np.frombuffer(body, np.dtype([("n", "u1"), ("v", "<i4", 3)]), m, 12 * n)
    assert (faces["n"] == 3).all()
    comments = [line.removeprefix("comment").strip() for line in lines if line.startswith("comment")]
    return comments, np.frombuffer(body, "<f4", 3 * n).reshape(n, 3), faces["v"]
