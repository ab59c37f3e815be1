"""Small but real .tflite models for all tests, made once with TensorFlow and kept in the user's cache.

`tiny_models`, `tiny_model` and `tiny_bundle` are fixtures; `python tests/models.py FOLDER` writes the model files.
"""

from __future__ import annotations

import hashlib
import inspect
import os
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest

TINY_SIZE = (32, 32)
TINY_DIMENSION = 16
COLOURS = ("red", "green", "blue")
CACHE = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "edgetl-tests"


@pytest.fixture(scope="session")
def tiny_models() -> dict[str, bytes]:
    """Models of two convolutions and a mean, with random weights, by name.

    "int8": input (1, 32, 32, 3) uint8, output (1, 16) int8, as in a build; "float32": with float32 output.
    "float-input", "two-outputs" and "map-output" are models that the engine must refuse.
    """
    folder = CACHE / f"tiny-{_recipe_digest()}"
    if not folder.exists():
        pytest.importorskip("tensorflow", reason="tiny models are made with TensorFlow, once")
        _build_in_subprocess(folder)
    return {path.stem: path.read_bytes() for path in sorted(folder.glob("*.tflite"))}


@pytest.fixture(scope="session")
def tiny_model(tiny_models: dict[str, bytes]) -> bytes:
    """The "int8" model of `tiny_models`: maps 32 x 32 pixels to 16 numbers that depend on colours and edges."""
    return tiny_models["int8"]


@pytest.fixture(scope="session")
def tiny_bundle(tiny_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle of `tiny_model` that classifies "red", "green" and "blue" images; tests must not write to it."""
    return pack_tiny_bundle(tmp_path_factory.mktemp("bundle") / "colours.edgetl", tiny_model)


def pack_tiny_bundle(path: Path, model: bytes) -> Path:
    """Packs a bundle as a build does: embeds generated colours and solves the last layer."""
    from edgetl.bundle import Manifest, pack
    from edgetl.learners import choose, to_grid
    from edgetl.runtime.inference.bundle_entries import last_layer_entries
    from edgetl.runtime.inference.embedder import Embedder
    from edgetl.runtime.inference.preprocess import Preprocess

    preprocess = Preprocess(*TINY_SIZE)
    embedder = Embedder(model, preprocess)
    labels = [label for label in COLOURS for _ in range(20)]
    raw = np.stack([embedder.embed(colour_frame(label, seed)) for seed, label in enumerate(labels)])
    selection = choose(to_grid(raw, embedder.zero_point), labels, np.arange(len(labels)) % 4)
    described, entries = last_layer_entries(selection.last_layer, selection.parameters)
    manifest = Manifest(
        name="colours",
        edgetl_version="0.1.0",
        backbone={"name": "tiny"},
        preprocess=preprocess.to_dict(),
        target="generic",
        quantize="int8",
        labels=list(selection.last_layer.labels),
        embedding={
            "size": embedder.dimension,
            "dtype": embedder.dtype.name,
            "scale": embedder.scale,
            "zero_point": embedder.zero_point,
        },
        last_layer=described,
        accuracy={},
    )
    return pack(path, manifest, {**entries, "model.tflite": model})


def colour_frame(label: str, seed: int) -> np.ndarray:
    """A noisy frame, (32, 32, 3) uint8, in which one of COLOURS dominates."""
    noise = np.random.default_rng(seed).integers(0, 90, (*TINY_SIZE, 3))
    noise[..., COLOURS.index(label)] += 150
    return noise.astype(np.uint8)


def _recipe_digest() -> str:
    recipe = inspect.getsource(_build_all) + inspect.getsource(_convert)
    versions = _version("tensorflow") + _version("tf_keras")
    return hashlib.sha256((recipe + versions).encode()).hexdigest()[:16]


def _version(package: str) -> str:
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return "none"


def _build_in_subprocess(folder: Path) -> None:
    """Builds the models without importing TensorFlow here; the folder appears complete or not at all."""
    beside = folder.with_name(f"{folder.name}.{os.getpid()}")
    beside.mkdir(parents=True)
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2"}
    subprocess.run(
        [sys.executable, __file__, str(beside)], check=True, env=environment, capture_output=True, timeout=300
    )
    try:
        beside.rename(folder)
    except OSError:
        assert folder.exists(), "expected another process to have made the models meanwhile"


def _build_all(folder: Path) -> None:
    import tf_keras

    tf_keras.utils.set_random_seed(7)
    height, width = TINY_SIZE
    image = tf_keras.Input((height, width, 3))
    features = tf_keras.layers.Conv2D(16, 3, strides=2, activation="relu6")(image)
    features = tf_keras.layers.Conv2D(TINY_DIMENSION, 3, strides=2, activation="relu6")(features)
    embedding = tf_keras.layers.GlobalAveragePooling2D()(features)
    backbone = tf_keras.Model(image, embedding)
    both = tf_keras.Model(image, [embedding, tf_keras.layers.Dense(3)(embedding)])
    models = {
        "int8": _convert(backbone, int8=True),
        "float32": _convert(backbone, uint8_input=True),
        "float-input": _convert(backbone),
        "two-outputs": _convert(both, uint8_input=True),
        "map-output": _convert(tf_keras.Model(image, features), uint8_input=True),
    }
    for name, model in models.items():
        (folder / f"{name}.tflite").write_bytes(model)


def _convert(model, int8: bool = False, uint8_input: bool = False) -> bytes:  # type: ignore[no-untyped-def]
    import tensorflow as tf

    shape = (1, *TINY_SIZE, 3)
    dtype = tf.uint8 if uint8_input else tf.float32

    @tf.function(input_signature=[tf.TensorSpec(shape, dtype)])
    def forward(frame):  # type: ignore[no-untyped-def]
        return model((tf.cast(frame, tf.float32) - 127.0) / 128.0)

    converter = tf.lite.TFLiteConverter.from_concrete_functions([forward.get_concrete_function()], model)
    converter.experimental_lower_to_saved_model = False
    if int8:
        random = np.random.default_rng(7)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: (
            [random.integers(0, 256, shape).astype(np.float32)] for _ in range(20)
        )
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.uint8
        converter.inference_output_type = tf.int8
    return converter.convert()


if __name__ == "__main__":
    _build_all(Path(sys.argv[1]))
