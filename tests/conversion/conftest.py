"""A backbone small enough to convert in a blink, frames for it, and the oldest interpreter that edgetl supports."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import numpy as np
import pytest

from edgetl.conversion import Artifact, ConversionOptions, convert, recipe_frames
from edgetl.runtime.inference.preprocess import Preprocess

SIZE = 32
NORMALIZATION = (127.0, 128.0)
PREPROCESS = Preprocess(SIZE, SIZE)

Converter = Callable[[str], Artifact]


@pytest.fixture(scope="session")
def frames() -> list[np.ndarray]:
    return recipe_frames(SIZE, SIZE, 12)


@pytest.fixture(scope="session")
def backbone():
    return build_backbone()


def build_backbone():
    """Two convolutions, one of them depthwise, and the mean: a MobileNet in small; always the same weights."""
    import tf_keras

    layers = tf_keras.layers
    image = layers.Input((SIZE, SIZE, 3), name="image")
    features = layers.Conv2D(8, 3, strides=2, padding="same", name="stem")(image)
    features = layers.ReLU(6.0)(features)
    features = layers.DepthwiseConv2D(3, padding="same", name="depthwise")(features)
    features = layers.Conv2D(16, 1, name="head")(features)
    features = layers.ReLU(6.0)(features)
    model = tf_keras.Model(image, layers.GlobalAveragePooling2D()(features), name="tiny")
    rng = np.random.default_rng(7)
    model.set_weights([rng.normal(0, 0.4, weights.shape) for weights in model.get_weights()])
    return model


@pytest.fixture(scope="session")
def converted(backbone, frames) -> Converter:
    """The tiny backbone's artifact of any quantization, converted once."""
    made: dict[str, Artifact] = {}

    def get(quantize: str) -> Artifact:
        if quantize not in made:
            options = ConversionOptions(quantize)
            made[quantize] = convert(backbone, NORMALIZATION, PREPROCESS, options, frames)
        return made[quantize]

    return get


@pytest.fixture
def run_in_tflite_runtime(tflite_runtime, tmp_path) -> Callable[[bytes, np.ndarray], np.ndarray]:
    """Runs a model there on one frame after the other; gives the outputs, (n, d)."""

    def run(model: bytes, images: np.ndarray) -> np.ndarray:
        (tmp_path / "model.tflite").write_bytes(model)
        np.save(tmp_path / "images.npy", images)
        subprocess.run([tflite_runtime, "-c", _RUN, tmp_path], check=True, capture_output=True, timeout=120)
        return np.load(tmp_path / "outputs.npy")

    return run


_RUN = """
import sys
import numpy as np
from tflite_runtime.interpreter import Interpreter
interpreter = Interpreter(sys.argv[1] + "/model.tflite")
interpreter.allocate_tensors()
outputs = []
for image in np.load(sys.argv[1] + "/images.npy"):
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[None])
    interpreter.invoke()
    outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"])[0])
np.save(sys.argv[1] + "/outputs.npy", outputs)
"""
