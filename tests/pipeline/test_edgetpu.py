"""Keras files of the user for an Edge TPU: converted so that all operators map, or refused with a reason."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl.conversion import BackboneSource, find_backbone_source
from edgetl.conversion.edgetpu import analyse
from edgetl.errors import ConversionError
from edgetl.pipeline import BuildOptions, build
from edgetl.pipeline.edgetpu import require_mappable
from edgetl.targets import load_target
from tests.conversion.edgetpu.graphs import one_operator
from tests.pipeline.test_build import edgetl

pytestmark = pytest.mark.slow

CORAL = load_target("coral")


def keras_file(folder: Path, odd=lambda x: x) -> Path:
    """A typical classifier, for any number of float images, with `odd` after its first layer."""
    import tf_keras

    layers = tf_keras.layers
    image = layers.Input((None, None, 3))
    x = layers.Rescaling(1 / 127.5, offset=-1)(image)
    x = odd(layers.Conv2D(8, 3, strides=2, padding="same")(x))
    for filters in (8, 16):
        x = layers.DepthwiseConv2D(3, padding="same", use_bias=False)(x)
        x = layers.ReLU(6.0)(layers.BatchNormalization()(x))
        x = layers.ReLU(6.0)(layers.Conv2D(filters, 1)(x))
    x = layers.Dropout(0.2)(layers.GlobalAveragePooling2D()(x))
    path = folder / "mine.keras"
    tf_keras.Model(image, layers.Dense(5, activation="softmax")(x)).save(path)
    return path


def source_of(path: Path) -> BackboneSource:
    return find_backbone_source(str(path), input_size=32)


def hard_swish(x):
    import tf_keras

    return x * tf_keras.layers.ReLU(6.0)(x + 3.0) * (1 / 6)


def leaky_relu(x):
    import tf_keras

    return tf_keras.layers.ReLU(negative_slope=0.1)(x)


def softmax_over_a_map(x):
    import tf_keras

    return tf_keras.layers.Softmax(axis=-1)(x)


def swish(x):
    import tf_keras

    return tf_keras.layers.Activation("swish")(x)


def test_any_batch_any_size_and_float_pixels_are_converted(tmp_path):
    analysis = analyse(source_of(keras_file(tmp_path)).compile("int8").model)
    assert analysis.refused is None
    assert analysis.cpu_ops == ()
    assert analysis.notes == ()


def test_an_activation_that_maps_to_several_operators_is_accepted(tmp_path):
    assert analyse(source_of(keras_file(tmp_path, swish)).compile("int8").model).cpu_ops == ()


@pytest.mark.parametrize(
    ("odd", "reason"),
    [
        (hard_swish, "HARD_SWISH.*minimalistic"),
        (leaky_relu, "LEAKY_RELU.*PReLU"),
        (softmax_over_a_map, "SOFTMAX.*flatten the input"),
    ],
)
def test_an_operator_that_the_edge_tpu_lacks_is_refused_with_a_reason_and_a_workaround(tmp_path, odd, reason):
    model = source_of(keras_file(tmp_path, odd)).compile("int8").model
    with pytest.raises(ConversionError, match=reason):
        require_mappable(model, CORAL)


def test_an_unsuitable_backbone_is_refused_before_its_weights_are_fetched(tmp_path, digits):
    options = BuildOptions(backbone="mobilenet-v3-small", weights=tmp_path / "nowhere.h5")
    with pytest.raises(ConversionError, match="use mobilenet-v3-small-minimalistic instead"):
        build(digits, "coral", options, output=tmp_path)


def test_a_board_without_an_edge_tpu_accepts_such_operators(tmp_path):
    model = source_of(keras_file(tmp_path, leaky_relu)).compile("int8").model
    assert require_mappable(model, load_target("rpi4")) is None


def test_a_build_is_refused_before_a_photo_is_read(tmp_path, digits):
    path = keras_file(tmp_path, leaky_relu)
    done = edgetl("build", "--data", digits, "--target", "coral", "--backbone", path, "--output", tmp_path / "output")
    assert done.returncode == 2
    assert len(done.stderr.strip().splitlines()) == 1
    assert "LEAKY_RELU" in done.stderr
    assert not (tmp_path / "output").exists()


def test_a_compiled_backbone_for_float_pixels_is_refused(tmp_path):
    path = tmp_path / "mine.tflite"
    image = {"shape": (1, 32, 32, 3), "kind": "FLOAT32"}
    path.write_bytes(one_operator("RELU", [image], [image]))
    with pytest.raises(ConversionError, match=r"input must be uint8 \[1, 32, 32, 3\], received float32"):
        find_backbone_source(str(path))
