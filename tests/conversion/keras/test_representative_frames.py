"""Generated calibration frames."""

from __future__ import annotations

import numpy as np

from edgetl.conversion import recipe_frames


def test_the_same_arguments_give_the_same_frames():
    for first, second in zip(recipe_frames(40, 30, 8), recipe_frames(40, 30, 8)):
        np.testing.assert_array_equal(first, second)


def test_a_larger_count_starts_with_the_same_frames():
    np.testing.assert_array_equal(recipe_frames(24, 24, 5), recipe_frames(24, 24, 9)[:5])


def test_frames_are_rgb_of_the_requested_size_and_all_different():
    frames = recipe_frames(40, 30, 12)
    assert {(frame.shape, frame.dtype) for frame in frames} == {((40, 30, 3), np.dtype(np.uint8))}
    assert len({frame.tobytes() for frame in frames}) == 12


def test_frames_range_from_dark_to_light_and_from_plain_to_textured():
    frames = recipe_frames(64, 64)
    means = [frame.mean() for frame in frames]
    contrasts = [frame.std() for frame in frames]
    assert min(means) < 80
    assert max(means) > 170
    assert min(contrasts) < 35
    assert max(contrasts) > 70


def test_another_seed_gives_different_frames():
    assert (recipe_frames(24, 24, 1, seed=1)[0] != recipe_frames(24, 24, 1, seed=2)[0]).any()
