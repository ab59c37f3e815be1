"""A quantized model is compared with its float twin, and the layers that lose the signal are found."""

from __future__ import annotations

import pytest
import tf_keras

from edgetl.conversion import ConversionOptions, convert, recipe_frames
from edgetl.conversion.quantization import compare_layers, guilty_layers
from edgetl.errors import ConversionError
from edgetl.training import fold
from tests.conversion.bottlenecks import build_bottlenecks, plant
from tests.conversion.conftest import NORMALIZATION, PREPROCESS, SIZE

layers = tf_keras.layers


@pytest.fixture(scope="module")
def compared(frames):
    """The errors of the sound and of the planted model."""
    return [compare(model, frames) for model in (build_bottlenecks(), plant(build_bottlenecks()))]


def compare(model, frames):
    int8, reference = (
        convert(model, NORMALIZATION, PREPROCESS, ConversionOptions(quantize), frames)
        for quantize in ("int8", "float32")
    )
    return compare_layers(int8.model, reference.model, frames)


def test_every_layer_of_the_network_is_compared_in_order(compared):
    names = [error.layer for error in compared[0]]
    assert names == [
        "stem", "block1_expand", "block1_depthwise", "block1_project", "block2_expand", "block2_depthwise",
        "block2_project", "block2_add", "head", "embedding",
    ]  # fmt: skip


def test_a_healthy_model_has_little_noise_in_every_layer(compared):
    assert all(error.sqnr_db > 15 for error in compared[0])


def test_layers_whose_channels_collapse_are_found(compared):
    guilty = guilty_layers(compared[1], 2)
    assert {error.layer for error in guilty} <= {"block1_project", "block2_project", "block2_add", "block2_expand"}
    assert guilty[0].layer == "block1_project"
    assert guilty[0].sqnr_db < 10


def test_a_layer_that_only_passes_noise_on_is_not_guilty(compared):
    by_name = {error.layer: error for error in compared[1]}
    assert by_name["head"].noise > 0.05
    assert by_name["head"].added < by_name["block1_project"].added


def test_the_same_model_twice_has_no_noise(converted, frames):
    model = converted("float32").model
    assert all(error.noise == 0 for error in compare_layers(model, model, frames[:2]))


def test_models_of_different_networks_are_refused(converted, frames):
    image = layers.Input((SIZE, SIZE, 3))
    network = tf_keras.Model(image, layers.GlobalAveragePooling2D()(layers.Conv2D(5, 3, name="other")(image)))
    other = convert(network, NORMALIZATION, PREPROCESS, ConversionOptions("float32"))
    with pytest.raises(ConversionError, match="no layer in common"):
        compare_layers(converted("int8").model, other.model, frames[:1])


def test_layers_have_the_same_names_with_and_without_folded_batch_normalization():
    from edgetl.backbones import build, get_backbone

    spec = get_backbone("mobilenet-v2-0.35")
    model, preprocess = build(spec, SIZE, pretrained=False), spec.preprocess(SIZE)
    images = recipe_frames(SIZE, SIZE, 2)
    names = []
    for network in (model, fold(model)):
        int8, reference = (
            convert(network, spec.normalization, preprocess, ConversionOptions(quantize), images)
            for quantize in ("int8", "float32")
        )
        names.append([error.layer for error in compare_layers(int8.model, reference.model, images)])
    assert names[0] == names[1]
    assert {"stem", "block2a_expand", "block3b_depthwise", "block3b_add", "head", "embedding"} <= set(names[0])
