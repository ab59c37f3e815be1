"""Frames to calibrate on, made by recipe."""

from __future__ import annotations

import numpy as np

from edgetl.conversion import recipe_frames


def test_the_same_arguments_give_the_same_frames():
    for first, second in zip(recipe_frames(40, 30, 8), recipe_frames(40, 30, 8)):
        np.testing.assert_array_equal(first, second)


def test_more_frames_begin_with_the_same_ones():
    np.testing.assert_array_equal(recipe_frames(24, 24, 5), recipe_frames(24, 24, 9)[:5])


def test_frames_are_rgb_of_the_size_asked_for_and_all_different():
    frames = recipe_frames(40, 30, 12)
    assert {(frame.shape, frame.dtype) for frame in frames} == {((40, 30, 3), np.dtype(np.uint8))}
    assert len({frame.tobytes() for frame in frames}) == 12


def test_frames_span_dark_to_light_and_plain_to_busy():
    frames = recipe_frames(64, 64)
    means = [frame.mean() for frame in frames]
    contrasts = [frame.std() for frame in frames]
    assert min(means) < 80
    assert max(means) > 170
    assert min(contrasts) < 35
    assert max(contrasts) > 70


def test_another_seed_gives_other_frames():
    assert (recipe_frames(24, 24, 1, seed=1)[0] != recipe_frames(24, 24, 1, seed=2)[0]).any()
