"""The record of where a result comes from: complete, frozen, and the same after it was saved."""

import hashlib
import json
import sys
from importlib.metadata import version

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from pydantic import ValidationError

from tomoseg import __version__
from tomoseg.provenance import Provenance, content_hash, record

SETTINGS = {"steps": 100, "noise_std": [0.0, 5000.0], "split": "blocks", "roi": None, "resume": False}


def test_a_record_names_the_versions_that_made_it() -> None:
    made = record("train", seed=3, inputs={"images": "abc"}, settings=SETTINGS, timing={"seconds": 1.5})
    assert (made.verb, made.tomoseg, made.seed) == ("train", __version__, 3)
    assert made.libraries["numpy"] == np.__version__
    assert made.libraries["torch"] == version("torch")
    assert made.python == ".".join(map(str, sys.version_info[:3]))
    assert (made.inputs, made.settings, made.timing) == ({"images": "abc"}, SETTINGS, {"seconds": 1.5})


def test_a_record_does_not_change() -> None:
    made = record("train", seed=3)
    with pytest.raises(ValidationError, match="frozen"):
        made.seed = 4  # type: ignore[misc]
    assert made.seed == 3


def test_a_record_holds_nothing_unknown() -> None:
    with pytest.raises(ValidationError, match="extra"):
        Provenance.model_validate(record("train").model_dump() | {"user": "me"})


def test_a_record_survives_its_json() -> None:
    made = record("train", seed=3, inputs={"images": "abc"}, settings=SETTINGS, timing={"seconds": 0.1})
    assert Provenance.model_validate_json(made.model_dump_json()) == made
    assert Provenance.model_validate(json.loads(json.dumps(made.model_dump()))) == made


def test_the_hash_is_that_of_shape_type_and_bytes() -> None:
    content = hashlib.sha256(b"(2, 2)|u1" + bytes([1, 2, 3, 4])).hexdigest()
    assert content_hash(np.array([[1, 2], [3, 4]], np.uint8)) == content[:16]


def test_the_hash_of_known_content_stays_the_same_between_versions() -> None:
    # model files know slices by it: when this changes, no old model recognises its training slices
    assert content_hash(np.arange(6, dtype=np.uint16).reshape(2, 3)) == "f8fbe221b7f8bc44"
    assert content_hash() == "e3b0c44298fc1c14"  # SHA-256 of nothing


def test_shape_type_and_order_count() -> None:
    values = np.zeros((2, 3), np.uint8)
    other = [values.T, values.ravel(), values.astype(np.int8), values.astype(np.uint16), values[:1]]
    assert len({content_hash(v) for v in [values, *other]}) == 6
    one = np.ones(3)
    assert content_hash(values, one) != content_hash(one, values)


@given(arrays(np.uint16, (4, 6)))
@settings(deadline=None)
def test_the_hash_does_not_depend_on_how_the_values_lie_in_memory(values: np.ndarray) -> None:
    assert content_hash(np.asfortranarray(values)) == content_hash(values)
    assert content_hash(np.repeat(values, 2, axis=1)[:, ::2]) == content_hash(values)


@given(arrays(np.uint8, (3, 3)), st.integers(0, 8), st.integers(1, 255))
@settings(deadline=None)
def test_one_other_value_gives_another_hash(values: np.ndarray, place: int, change: int) -> None:
    other = values.copy()
    other.flat[place] ^= change
    assert content_hash(other) != content_hash(values)


def test_empty_arrays_have_a_hash_of_their_shape() -> None:
    assert content_hash(np.empty((0, 3))) != content_hash(np.empty((3, 0)))
