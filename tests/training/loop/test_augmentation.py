"""Augmentation stays within the options, depends on the seed alone, and blends images and targets alike."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.training import AugmentationOptions
from edgetl.training.loop import augmentation

STILL = AugmentationOptions(
    smallest_area=1.0, stretch=0, rotation_degrees=0, brightness=0, contrast=0, saturation=0, tint=0
)


@pytest.fixture
def frames() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (4, 16, 24, 3), dtype=np.uint8)


def drawn(frames: np.ndarray, options: AugmentationOptions, flip: bool = False, seed: int = 0) -> np.ndarray:
    rng, size = np.random.default_rng(seed), frames.shape[1:3]
    positions = augmentation.draw_positions(rng, len(frames), size, size, options, flip)
    colours = augmentation.draw_colours(rng, len(frames), options)
    return augmentation.apply(frames, positions, colours, size).numpy()


def test_with_all_changes_off_an_image_is_unchanged(frames):
    np.testing.assert_allclose(drawn(frames, STILL), frames, atol=0.01)


def test_flip_mirrors_some_images_and_changes_nothing_else(frames):
    many = np.repeat(frames[:1], 64, axis=0)
    images = drawn(many, STILL, flip=True).round().astype(np.uint8)
    mirrored = [np.array_equal(image, frames[0][:, ::-1]) for image in images]
    as_they_were = [np.array_equal(image, frames[0]) for image in images]
    assert 16 < sum(mirrored) < 48
    assert sum(mirrored) + sum(as_they_were) == 64


def test_crops_lie_within_the_image():
    options = AugmentationOptions(rotation_degrees=0, smallest_area=0.1, stretch=0.5)
    source, target = (40, 60), (16, 16)
    maps = augmentation.draw_positions(np.random.default_rng(0), 500, source, target, options, flip=True)
    for x, y in [(0, 0), (0, 15), (15, 0), (15, 15)]:
        at = maps[:, 0] * x + maps[:, 1] * y + maps[:, 2], maps[:, 3] * x + maps[:, 4] * y + maps[:, 5]
        assert at[0].min() >= -0.5
        assert at[0].max() <= 59.5
        assert at[1].min() >= -0.5
        assert at[1].max() <= 39.5


def test_a_smaller_target_shows_the_whole_image():
    ramp = np.repeat(np.arange(0, 256, 8, dtype=np.uint8)[None, None, :, None], 32, axis=1).repeat(3, axis=3)
    positions = augmentation.draw_positions(np.random.default_rng(0), 1, (32, 32), (16, 16), STILL, False)
    colours = augmentation.draw_colours(np.random.default_rng(0), 1, STILL)
    row = augmentation.apply(ramp, positions, colours, (16, 16)).numpy()[0, 0, :, 0]
    np.testing.assert_allclose(row, np.arange(16) * 16 + 4, atol=0.01)


def test_the_seed_determines_the_images(frames):
    options = AugmentationOptions()
    np.testing.assert_array_equal(drawn(frames, options, seed=1), drawn(frames, options, seed=1))
    assert np.abs(drawn(frames, options, seed=1) - drawn(frames, options, seed=2)).mean() > 1


def test_colours_change_within_the_range_of_pixels(frames):
    strong = AugmentationOptions(brightness=0.9, contrast=0.9, saturation=0.9, tint=0.9)
    images = drawn(frames, strong)
    assert images.min() >= 0
    assert images.max() <= 255
    assert np.isfinite(images).all()


def test_blended_images_keep_at_least_half_of_themselves():
    shares = augmentation.draw_shares(np.random.default_rng(0), 1000, AugmentationOptions(mixup=0.4))
    assert shares.min() >= 0.5
    assert shares.max() <= 1.0
    assert shares.std() > 0.1
    assert (augmentation.draw_shares(np.random.default_rng(0), 5, AugmentationOptions(mixup=0)) == 1).all()


def test_images_and_targets_are_blended_alike(frames):
    shares = np.array([1.0, 0.5, 0.75, 0.6], np.float32)
    images, targets = frames.astype(np.float32), np.eye(4, dtype=np.float32)
    np.testing.assert_allclose(augmentation.blend(images, shares)[2], 0.75 * images[2] + 0.25 * images[1], rtol=1e-5)
    np.testing.assert_allclose(augmentation.blend(targets, shares)[2], [0, 0.25, 0.75, 0])
