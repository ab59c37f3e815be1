"""Raw embeddings become fixed-point embeddings with the same bits on every platform."""

from __future__ import annotations

import hashlib

import numpy as np
import pytest

from edgetl.errors import LearningError
from edgetl.learners import GRID, to_grid


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.float32])
def test_an_embedding_keeps_its_direction_and_gets_length_one(dtype):
    raw = np.array([[3, 4, 0], [0, 0, 7]], dtype=dtype)
    assert to_grid(raw).tolist() == [[round(0.6 * GRID), round(0.8 * GRID), 0], [0, 0, GRID]]


def test_the_zero_point_is_subtracted_without_overflow():
    assert to_grid(np.array([-128, 127], np.int8), zero_point=-128).tolist() == [0, GRID]


def test_an_embedding_is_converted_the_same_alone_and_in_a_batch():
    raw = np.random.default_rng(0).integers(-128, 128, (5, 64)).astype(np.int8)
    assert np.array_equal(to_grid(raw, -128)[3], to_grid(raw[3], -128))


def test_a_zero_embedding_stays_zero():
    assert not to_grid(np.zeros((2, 8), np.int8)).any()
    assert not to_grid(np.zeros(8, np.float32)).any()


@pytest.mark.parametrize("dtype", [np.int8, np.float32])
def test_the_bits_are_the_same_on_every_platform(dtype):
    raw = ((np.arange(1280) * 7919) % 255 - 127).astype(dtype)
    digest = hashlib.sha256(to_grid(raw).astype("<i2").tobytes()).hexdigest()
    assert digest == "fce965c9d9e5515a59f4ca29bbead9b6fc1b03f4bf3273b11e734e26d24c2b87"


@pytest.mark.parametrize("scale", [1e-30, 1.0, 1e30])
def test_floats_of_any_scale_give_the_same_embedding(scale):
    raw = np.random.default_rng(1).normal(size=256).astype(np.float32)
    near = to_grid((raw * np.float32(scale)).astype(np.float32)).astype(int) - to_grid(raw)
    assert np.abs(near).max() <= 1


def test_the_input_does_not_change():
    raw = np.arange(-4, 4, dtype=np.int8)
    to_grid(raw, -128)
    assert raw.tolist() == list(range(-4, 4))


@pytest.mark.parametrize(
    "raw",
    [
        np.array([1, np.nan], np.float32),
        np.array([1, np.inf], np.float32),
        np.zeros((2, 2, 2), np.int8),
        np.int8(3),
        np.array(["a"]),
        np.array([1], np.int64),
    ],
)
def test_an_invalid_embedding_is_refused_in_one_line(raw):
    with pytest.raises(LearningError) as refused:
        to_grid(raw)
    assert "\n" not in str(refused.value)
