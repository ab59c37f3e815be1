"""A backbone learns to give the embeddings of its float version in int8."""

from __future__ import annotations

import numpy as np
import pytest
import tf_keras

from edgetl.backbones import build, get_backbone
from edgetl.errors import OptionError
from edgetl.training import QuantizationAwareOptions, fold, train_quantization_aware
from edgetl.training.quantization_aware.fake_quantization import with_fake_quantization
from tests.training.tasks import NORMALIZATION, SIZE, embed

layers = tf_keras.layers
OPTIONS = QuantizationAwareOptions(steps=40, batch_size=16, learning_rate=1e-3)


def normalised(frames: np.ndarray) -> np.ndarray:
    offset, scale = NORMALIZATION
    return ((frames - offset) / scale).astype(np.float32)


def uneven(model: tf_keras.Model) -> tf_keras.Model:
    """The folded model with one weight of each convolution so large that int8 rounds the others away."""
    folded = fold(model)
    for layer in folded.layers:
        if isinstance(layer, (layers.Conv2D, layers.DepthwiseConv2D)):
            kernel, *bias = layer.get_weights()
            kernel[0, 0] *= 60
            layer.set_weights([kernel, *bias])
    return folded


def noise(model: tf_keras.Model, teacher: tf_keras.Model, frames: np.ndarray) -> float:
    """The mean distance of the emulated model's embeddings from the teacher's."""
    emulated = with_fake_quantization(model, [normalised(frames)])
    return float(np.linalg.norm(embed(emulated, frames) - embed(teacher, frames), axis=1).mean())


def test_the_emulated_model_gives_nearly_the_embeddings_of_the_float_model(task):
    model = fold(task.model)
    assert 0 < noise(model, model, task.frames.frames[:32]) < 0.1


def test_each_channel_of_a_kernel_has_at_most_255_values(task):
    model = fold(task.model)
    emulated = with_fake_quantization(model, [normalised(task.frames.frames[:8])])
    depthwise = next(layer for layer in emulated.layers if isinstance(layer, layers.DepthwiseConv2D))
    impulse = np.zeros((1, 16, 16, 8), np.float32)
    impulse[0, 8, 8] = 1.0
    seen = depthwise(impulse).numpy() - depthwise.bias.numpy()
    kernel = depthwise.depthwise_kernel.numpy()
    steps = np.abs(kernel).max(axis=(0, 1, 3)) / 127
    multiples = seen[0, 7:10, 7:10] / steps
    np.testing.assert_allclose(multiples, np.rint(multiples), atol=2e-2)


def test_training_brings_the_emulated_model_closer_to_the_float_model(task):
    model = uneven(task.model)
    trained = train_quantization_aware(model, NORMALIZATION, task.frames, task.training, OPTIONS)
    frames = task.frames.frames[task.validation]
    assert noise(trained, model, frames) < 0.9 * noise(model, model, frames)


def test_the_result_is_a_plain_model_with_the_same_input_and_output(task):
    trained = train_quantization_aware(
        task.model, NORMALIZATION, task.frames, task.training, QuantizationAwareOptions(steps=2, batch_size=8)
    )
    assert (trained.input_shape, trained.output_shape) == (task.model.input_shape, task.model.output_shape)
    assert {type(layer).__module__.split(".")[0] for layer in trained.layers} == {"tf_keras"}
    assert not [layer for layer in trained.layers if isinstance(layer, layers.BatchNormalization)]


def test_the_same_seed_gives_the_same_weights(task):
    options = QuantizationAwareOptions(steps=3, batch_size=8, seed=4)
    one, other = (
        train_quantization_aware(task.model, NORMALIZATION, task.frames, task.training, options) for _ in range(2)
    )
    for weights, others in zip(one.get_weights(), other.get_weights()):
        np.testing.assert_array_equal(weights, others)


def test_the_given_model_is_not_changed(task):
    before = task.model.get_weights()
    train_quantization_aware(
        task.model, NORMALIZATION, task.frames, task.training, QuantizationAwareOptions(steps=2, batch_size=8)
    )
    for weights, now in zip(before, task.model.get_weights()):
        np.testing.assert_array_equal(weights, now)


def quantized_kernels(model: tf_keras.Model) -> list[np.ndarray]:
    """The int8 kernels, (h, w, inputs, outputs), of all convolutions."""
    kernels = [layer.kernel.numpy() for layer in model.layers if type(layer).__name__ == "Conv2D"]
    return [np.rint(127 * kernel / np.maximum(np.abs(kernel).max(axis=(0, 1, 2)), 1e-9)) for kernel in kernels]


def with_kernels(model: tf_keras.Model, change) -> tf_keras.Model:
    folded = fold(model)
    for layer in folded.layers:
        if type(layer).__name__ == "Conv2D":
            kernel, *bias = layer.get_weights()
            layer.set_weights([change(kernel), *bias])
    return folded


def test_zeros_stay_zero_and_other_weights_learn(task):
    sparse = with_kernels(task.model, lambda kernel: kernel * (np.abs(kernel) > np.median(np.abs(kernel))))
    trained = train_quantization_aware(sparse, NORMALIZATION, task.frames, task.training, OPTIONS)
    for before, after in zip(quantized_kernels(sparse), quantized_kernels(trained)):
        assert not after[before == 0].any()
        assert (after != before).any()


def test_weights_that_shared_a_value_share_one_after_training(task):
    def share(kernel):
        scale = np.abs(kernel).max(axis=(0, 1, 2))
        return np.rint(127 * np.rint(3 * kernel / scale) / 3) / 127 * scale

    shared = with_kernels(task.model, share)
    trained = train_quantization_aware(shared, NORMALIZATION, task.frames, task.training, OPTIONS)
    moved = False
    for before, after in zip(quantized_kernels(shared), quantized_kernels(trained)):
        for value in np.unique(before):
            assert len(np.unique(after[before == value])) == 1
            moved |= after[before == value].flat[0] != value
        np.testing.assert_array_equal(np.abs(after).max(axis=(0, 1, 2)), 127)
    assert moved


def test_progress_reaches_the_last_step(task):
    reported = []
    options = QuantizationAwareOptions(steps=3, batch_size=8)
    train_quantization_aware(
        task.model, NORMALIZATION, task.frames, task.training, options, progress=lambda *step: reported.append(step)
    )
    assert reported[-1] == ("quantization-aware training", 3, 3)


def test_steps_out_of_range_are_refused():
    with pytest.raises(OptionError, match="steps"):
        QuantizationAwareOptions(steps=0)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mobilenet-v2-0.35", "mobilenet-v3-small"])
def test_every_family_can_be_trained(name, task):
    spec = get_backbone(name)
    model = build(spec, SIZE, pretrained=False)
    options = QuantizationAwareOptions(steps=1, batch_size=2, calibration_images=2)
    trained = train_quantization_aware(model, spec.normalization, task.frames, task.training, options)
    assert trained.output_shape == model.output_shape
    assert any(not np.array_equal(one, other) for one, other in zip(trained.get_weights(), fold(model).get_weights()))
