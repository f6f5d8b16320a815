import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tomoseg.tiles import cut, tiles

edges = st.integers(1, 40)


@given(height=edges, width=edges, tile=st.integers(1, 50), halo=st.integers(0, 6), power=st.integers(0, 3))
@settings(deadline=None)
def test_cut_and_reassemble_is_the_identity(height, width, tile, halo, power):
    grid = 2**power
    image = np.random.default_rng(0).random((2, height, width))
    out = np.full_like(image, np.nan)
    for part in tiles((height, width), tile=tile, halo=halo * grid, grid=grid):
        given = cut(image, part)
        assert given.shape[1] % grid == given.shape[2] % grid == 0
        out[(slice(None), *part.core)] = given[(slice(None), *part.inner)]
    np.testing.assert_array_equal(out, image)


@given(height=edges, width=edges, tile=st.integers(1, 50))
@settings(deadline=None)
def test_tiles_cover_each_pixel_once(height, width, tile):
    times = np.zeros((height, width), int)
    for part in tiles((height, width), tile=tile, halo=8, grid=4):
        times[part.core] += 1
    assert (times == 1).all()


def test_a_halo_off_the_pooling_grid_is_refused():
    with pytest.raises(ValueError, match="multiple"):
        list(tiles((8, 8), tile=8, halo=3, grid=4))
