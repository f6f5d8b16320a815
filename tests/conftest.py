"""What all tests share."""

import pytest

collect_ignore = ["oracle"]  # run in environments of their own


@pytest.fixture(autouse=True, scope="session")
def _small_forest():
    """Let the forest beside every score stand on few pixels: its training is most of an evaluation's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomoseg.baselines.FOREST_PIXELS", 10_000)
        yield
