"""A backbone that trains in a second, and generated images of three classes that it can learn."""

from __future__ import annotations

from typing import NamedTuple, Optional

import numpy as np
import tf_keras

SIZE = 32
NORMALIZATION = (127.5, 127.5)


class SolvedLastLayer(NamedTuple):
    """A last layer to start training from."""

    weights: np.ndarray
    bias: np.ndarray
    temperature: float


class Photos:
    """Frames in memory that record the largest batch requested."""

    def __init__(self, frames: np.ndarray) -> None:
        self.frames = frames
        self.largest_batch = 0

    def batch(self, indices: np.ndarray) -> np.ndarray:
        self.largest_batch = max(self.largest_batch, len(indices))
        return self.frames[indices]


class Task(NamedTuple):
    """The positional arguments of fine_tune."""

    model: tf_keras.Model
    normalization: tuple[float, float]
    frames: Photos
    labels: np.ndarray
    training: np.ndarray
    validation: np.ndarray
    start: SolvedLastLayer


def small_backbone(seed: int = 0) -> tf_keras.Model:
    """Convolution, depthwise convolution, shortcut and BatchNorms with statistics, as in real backbones."""
    tf_keras.utils.set_random_seed(seed)
    layers = tf_keras.layers
    image = x = layers.Input((SIZE, SIZE, 3))
    x = layers.Conv2D(8, 3, 2, padding="same", use_bias=False)(x)
    x = shortcut = layers.ReLU(6.0)(layers.BatchNormalization()(x))
    x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
    x = layers.ReLU(6.0)(layers.BatchNormalization(scale=False)(x))
    x = layers.BatchNormalization(center=False)(layers.Conv2D(8, 1)(x))
    x = layers.Add()([shortcut, x])
    x = layers.ReLU(6.0)(layers.BatchNormalization()(layers.Conv2D(16, 1)(x)))
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D()(x), name="small")
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        if isinstance(layer, layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, w.shape) for w in layer.get_weights()])
    return model


def stripes(count: int, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Vertical, horizontal and diagonal stripes with noise: frames (count, 32, 32, 3) uint8 and labels (count,)."""
    labels = np.arange(count) % 3
    y, x = np.mgrid[:SIZE, :SIZE]
    along = np.stack([x, y, x + y])[labels] + rng.integers(0, 8, (count, 1, 1))
    pattern = 127 + 60 * np.sin(along * 1.5)[..., None]
    return np.clip(pattern + rng.normal(0, 60, (count, SIZE, SIZE, 3)), 0, 255).astype(np.uint8), labels


def embed(model: tf_keras.Model, frames: np.ndarray) -> np.ndarray:
    """L2-normalised embeddings (n, d)."""
    offset, scale = NORMALIZATION
    raw = model.predict((frames.astype(np.float32) - offset) / scale, verbose=0)
    return raw / np.linalg.norm(raw, axis=1, keepdims=True)


def nearest_mean(embeddings: np.ndarray, labels: np.ndarray) -> SolvedLastLayer:
    """A nearest-mean last layer."""
    means = np.stack([embeddings[labels == label].mean(0) for label in range(labels.max() + 1)], axis=1)
    return SolvedLastLayer(means, -np.square(means).sum(0) / 2, 0.05)


def make_task(frames: np.ndarray, labels: np.ndarray, model: Optional[tf_keras.Model] = None) -> Task:
    """Three quarters of the frames for training, the rest for validation."""
    model = model or small_backbone()
    held_out = np.arange(len(labels)) // 3 % 4 == 0
    start = nearest_mean(embed(model, frames[~held_out]), labels[~held_out])
    split = np.flatnonzero(~held_out), np.flatnonzero(held_out)
    return Task(model, NORMALIZATION, Photos(frames), labels, *split, start)
