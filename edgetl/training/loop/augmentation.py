"""Augments training images: NumPy draws the parameters at random, TensorFlow applies them.

An image gets two affine maps: one of positions, applied in a single resampling from the stored frame to the training
size, and one of colours. They are drawn from an explicit generator outside the TensorFlow graph, so that a seed gives
the same images on every machine.
"""

from __future__ import annotations

import numpy as np
import tensorflow as tf

from edgetl.training.options import AugmentationOptions

_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def draw_positions(
    rng: np.random.Generator,
    count: int,
    source: tuple[int, int],
    target: tuple[int, int],
    options: AugmentationOptions,
    flip: bool,
) -> np.ndarray:
    """Random maps from target to source pixels, (count, 8) float32, for tf.raw_ops.ImageProjectiveTransformV3.

    Each is a crop of `smallest_area` to all of the source (height, width), stretched, rotated and, with `flip`,
    mirrored with probability 0.5. Without rotation the crop is inside the source.
    """
    area = rng.uniform(options.smallest_area, 1.0, count)
    stretch = np.exp(rng.uniform(-1, 1, count) * np.log1p(options.stretch) / 2)
    width, height = np.minimum(np.sqrt(area) * stretch, 1.0), np.minimum(np.sqrt(area) / stretch, 1.0)
    centre_x = 0.5 + rng.uniform(-0.5, 0.5, count) * (1 - width)
    centre_y = 0.5 + rng.uniform(-0.5, 0.5, count) * (1 - height)
    angle = np.deg2rad(rng.uniform(-1, 1, count) * options.rotation_degrees)
    mirror = np.where(rng.random(count) < 0.5, -1.0, 1.0) if flip else np.ones(count)
    return _affine(source, target, (centre_x, centre_y), (width * mirror, height), angle)


def plain_positions(count: int, source: tuple[int, int], target: tuple[int, int], mirrored: bool = False) -> np.ndarray:
    """Maps that only resize, and optionally mirror, every image, (count, 8) float32."""
    half, one, zero = np.full(count, 0.5), np.ones(count), np.zeros(count)
    return _affine(source, target, (half, half), (-one if mirrored else one, one), zero)


def draw_colours(rng: np.random.Generator, count: int, options: AugmentationOptions) -> np.ndarray:
    """Random maps of RGB 0..255, (count, 4, 3) float32: a 3 x 3 matrix to multiply by and a row to add."""

    def factor(largest: float, *shape: int) -> np.ndarray:
        return 1 + rng.uniform(-largest, largest, (count, *shape))

    contrast, brightness = factor(options.contrast, 1, 1), factor(options.brightness, 1, 1)
    saturation, tint = factor(options.saturation, 1, 1), factor(options.tint, 1, 3)
    grey = np.repeat(_LUMA[:, None], 3, axis=1)
    matrix = (saturation * np.eye(3) + (1 - saturation) * grey) * contrast * brightness * tint
    offset = np.broadcast_to((1 - contrast) * 127.5, (count, 1, 3))
    return np.concatenate([matrix, offset], axis=1).astype(np.float32)


def draw_shares(rng: np.random.Generator, count: int, options: AugmentationOptions) -> np.ndarray:
    """The share of itself that each image keeps when it is blended with another, (count,) float32, 0.5..1."""
    if not options.mixup:
        return np.ones(count, np.float32)
    shares = rng.beta(options.mixup, options.mixup, count)
    return np.maximum(shares, 1 - shares).astype(np.float32)


def blend(values: tf.Tensor, shares: tf.Tensor) -> tf.Tensor:
    """Blends values (m, ...) in pairs, the first with the last and so on; each keeps its share (m,) of itself."""
    shares = tf.reshape(shares, (-1, *[1] * (len(values.shape) - 1)))
    return shares * values + (1 - shares) * tf.reverse(values, [0])


def apply(frames: tf.Tensor, positions: tf.Tensor, colours: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Applies both maps to frames (m, h, w, 3) uint8; returns (m, *size, 3) float32, 0..255."""
    moved = move(frames, positions, size)
    pixels = tf.reshape(moved, (-1, size[0] * size[1], 3))
    recoloured = pixels @ colours[:, :3] + colours[:, 3:]
    return tf.clip_by_value(tf.reshape(recoloured, tf.shape(moved)), 0.0, 255.0)


def move(frames: tf.Tensor, positions: tf.Tensor, size: tuple[int, int]) -> tf.Tensor:
    """Resamples frames (m, h, w, 3) uint8 bilinearly, reflected at the edges; returns (m, *size, 3) float32."""
    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(frames, tf.float32),
        transforms=positions,
        output_shape=size,
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _affine(
    source: tuple[int, int],
    target: tuple[int, int],
    centre: tuple[np.ndarray, np.ndarray],
    extent: tuple[np.ndarray, np.ndarray],
    angle: np.ndarray,
) -> np.ndarray:
    """Maps target to source pixels, (count, 8) float32; centre and extent of the crop are fractions of the source.

    Pixel centres are at +0.5.
    """
    source_height, source_width = source
    target_height, target_width = target
    step_x = extent[0] * source_width / target_width
    step_y = extent[1] * source_height / target_height
    cosine, sine = np.cos(angle), np.sin(angle)
    rows = np.zeros((len(angle), 8))
    rows[:, 0], rows[:, 1] = cosine * step_x, -sine * step_y
    rows[:, 3], rows[:, 4] = sine * step_x, cosine * step_y
    middle_x, middle_y = (target_width - 1) / 2, (target_height - 1) / 2
    rows[:, 2] = centre[0] * source_width - 0.5 - rows[:, 0] * middle_x - rows[:, 1] * middle_y
    rows[:, 5] = centre[1] * source_height - 0.5 - rows[:, 3] * middle_x - rows[:, 4] * middle_y
    return rows.astype(np.float32)
