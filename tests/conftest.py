"""What all tests share."""

from pathlib import Path

import numpy as np
import pytest

collect_ignore = ["oracle"]  # run in environments of their own


@pytest.fixture(autouse=True, scope="session")
def _small_forest():
    """Let the forest beside every score stand on few pixels: its training is most of an evaluation's time."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomoseg.baselines.FOREST_PIXELS", 10_000)
        yield


@pytest.fixture(autouse=True, scope="session")
def _small_solids():
    """Draw phases as solid bodies in few pixels: it would be most of the time of measuring a small volume."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tomoseg.report.solids._PIXELS", 120)
        yield


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the file of a tiny model of three classes with one context slice."""
    from predicting import make_model

    return make_model(tmp_path_factory.mktemp("model") / "m.tomoseg")


@pytest.fixture(scope="session")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a volume of random grey values for it."""
    from predicting import SHAPE, write

    path = tmp_path_factory.mktemp("source") / "scan.tif"
    write(path, np.random.default_rng(1).integers(0, 40_000, SHAPE, dtype=np.uint16))
    return path


@pytest.fixture(scope="session")
def undisturbed(tmp_path_factory: pytest.TempPathFactory, model: Path, source: Path) -> Path:
    """Return the output of a prediction that nothing disturbed."""
    from predicting import predict

    out = tmp_path_factory.mktemp("undisturbed") / "out.zarr"
    assert predict(model, source, out) == 0
    return out
