"""A difference between statistics restores them exactly, and is small if few pictures differ."""

from __future__ import annotations

import hashlib
import io

import numpy as np
import pytest

from edgetl.errors import IntegrityError
from edgetl.learners import Statistics, to_grid
from edgetl.learners.difference import apply_difference, encode_difference

DIMENSION = 160


def statistics(raw: np.ndarray) -> Statistics:
    known = Statistics(DIMENSION)
    known.add(to_grid(raw, -128), [f"class {row % 3}" for row in range(len(raw))])
    return known


def digest(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


@pytest.fixture(scope="module")
def raw() -> np.ndarray:
    drawn = np.random.default_rng(0).normal(size=(400, DIMENSION))
    return np.clip(np.rint(np.maximum(drawn, 0) * 80) - 128, -128, 127).astype(np.int8)


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (slice(0, 300), slice(0, 300)),
        (slice(0, 300), slice(0, 301)),
        (slice(0, 300), slice(0, 330)),
        (slice(0, 300), slice(0, 270)),
        (slice(0, 300), slice(10, 310)),
        (slice(0, 0), slice(0, 20)),
    ],
    ids=["none", "one more", "more", "fewer", "others", "from nothing"],
)
def test_statistics_are_restored_exactly(raw: np.ndarray, before: slice, after: slice) -> None:
    old, new = statistics(raw[before]).to_bytes(), statistics(raw[after]).to_bytes()
    packed = encode_difference(old, new)
    assert packed is not None
    assert apply_difference({digest(old): old, "other": b""}, packed) == {digest(new): new}


def test_a_difference_of_few_pictures_is_small(raw: np.ndarray) -> None:
    old, new = statistics(raw[:300]).to_bytes(), statistics(raw[:305]).to_bytes()
    packed = encode_difference(old, new)
    assert packed is not None
    assert len(packed) < 0.2 * len(new)


def test_a_difference_of_too_many_pictures_is_not_encoded(raw: np.ndarray) -> None:
    assert encode_difference(statistics(raw[:200]).to_bytes(), statistics(raw[200:]).to_bytes()) is None


def test_statistics_of_another_dimension_are_not_encoded(raw: np.ndarray) -> None:
    other = Statistics(4)
    other.add(np.ones((2, 4), np.int16), "one")
    assert encode_difference(other.to_bytes(), statistics(raw).to_bytes()) is None


def test_the_statistics_it_starts_from_must_be_available(raw: np.ndarray) -> None:
    old, new = statistics(raw[:30]).to_bytes(), statistics(raw[:31]).to_bytes()
    packed = encode_difference(old, new)
    assert packed is not None
    with pytest.raises(IntegrityError, match="starts from statistics that are not here"):
        apply_difference({}, packed)
    other = Statistics(4)
    other.add(np.ones((2, 4), np.int16), "one")
    with pytest.raises(IntegrityError, match="of another dimension"):
        apply_difference({digest(old): other.to_bytes()}, packed)


@pytest.mark.parametrize(
    "change",
    [
        {"columns": np.zeros((DIMENSION, 1), np.int32)},
        {"columns": np.ones((DIMENSION, 1), np.int32)},
        {"columns": np.ones((3, 1), np.int32)},
        {"columns": np.ones((DIMENSION, 1))},
        {"pivots": np.array([DIMENSION], np.int32)},
        {"pivots": np.array([-1], np.int32)},
        {"dtype": np.array("<f8")},
        {"digests": np.array(["one"])},
        {"head": np.zeros(3, np.uint8)},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_forged_difference_is_refused(raw: np.ndarray, change: dict[str, np.ndarray]) -> None:
    old, new = statistics(raw[:30]).to_bytes(), statistics(raw[:31]).to_bytes()
    packed = encode_difference(old, new)
    assert packed is not None
    stream = io.BytesIO()
    np.savez_compressed(stream, **{**np.load(io.BytesIO(packed)), **change})
    with pytest.raises(IntegrityError):
        apply_difference({digest(old): old}, stream.getvalue())


@pytest.mark.parametrize("content", [b"", b"none", b"PK\x05\x06" + bytes(18)])
def test_a_file_that_is_not_a_difference_is_refused(content: bytes) -> None:
    with pytest.raises(IntegrityError, match="this is not a difference"):
        apply_difference({}, content)
