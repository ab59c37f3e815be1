"""A user's own Keras model becomes a backbone, and cannot run code of its own."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgetl import backbones
from edgetl.errors import OptionError, WeightsError
from tests.backbones.pattern import pattern, random_weights

SIZE = 64
LIBRARIES = ("tf_keras", "keras")


def classifier(keras, layers_in_front=(), base=None, head=()):
    """A model as in the Keras guides: augmentation and scaling, a nested base, pooling, dropout, softmax."""
    image = x = keras.layers.Input((SIZE, SIZE, 3))
    for layer in layers_in_front:
        x = layer(x)
    if base is None:
        base = keras.applications.MobileNetV2(input_shape=(SIZE, SIZE, 3), alpha=0.35, include_top=False, weights=None)
    x = base(x)
    for layer in head or (keras.layers.GlobalAveragePooling2D(name="pool"), keras.layers.Dropout(0.2)):
        x = layer(x)
    model = keras.Model(image, keras.layers.Dense(5, activation="softmax")(x))
    model.set_weights(random_weights(model))
    return model


def small_base(keras, **convolution):
    """A base that builds quickly."""
    layers = keras.layers
    return keras.Sequential(
        [
            layers.Input((SIZE, SIZE, 3)),
            layers.Conv2D(8, 3, strides=2, padding="same", **(convolution or {"activation": "relu"})),
        ],
        name="base",
    )


def embedding_of(keras, model, layer="pool"):
    extractor = keras.Model(model.input, model.get_layer(layer).output)
    return np.asarray(extractor(pattern(SIZE)[None].astype(np.float32), training=False))


def embedding_by_edgetl(path: Path, normalization=None) -> tuple[backbones.Spec, np.ndarray]:
    spec = backbones.get_backbone(str(path), normalization)
    offset, scale = spec.normalization
    model = backbones.build(spec)
    assert not any(hasattr(layer, "layers") for layer in model.layers)
    assert model.count_params() == spec.parameters
    assert model.output_shape == (None, spec.embedding_size)
    return spec, model((pattern(SIZE)[None].astype(np.float32) - offset) / scale).numpy()


@pytest.mark.parametrize(
    ("library", "suffix"),
    [
        pytest.param("tf_keras", "keras", marks=pytest.mark.slow),
        pytest.param("tf_keras", "h5", marks=pytest.mark.slow),
        ("keras", "keras"),
    ],
)
def test_a_model_as_in_the_keras_guides_becomes_its_base(tmp_path, library, suffix):
    keras = pytest.importorskip(library)
    augmentation = keras.Sequential([keras.layers.RandomFlip(), keras.layers.RandomRotation(0.1)])
    model = classifier(keras, [augmentation, keras.applications.mobilenet_v2.preprocess_input])
    path = tmp_path / f"mine.{suffix}"
    model.save(path)
    spec, embedding = embedding_by_edgetl(path)
    assert (spec.name, spec.input_sizes, spec.embedding_size) == ("mine", (SIZE,), 1280)
    assert spec.normalization == (127.5, 127.5)
    assert spec.coral
    expected = embedding_of(keras, model)
    assert expected.std() > 0.01
    np.testing.assert_allclose(embedding, expected, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("library", LIBRARIES)
def test_hard_swish_and_squeeze_and_excitation_are_rebuilt(tmp_path, library):
    keras = pytest.importorskip(library)
    base = keras.applications.MobileNetV3Small(input_shape=(SIZE, SIZE, 3), include_top=False, weights=None)
    model = classifier(keras, base=base)
    model.save(tmp_path / "mine.keras")
    spec, embedding = embedding_by_edgetl(tmp_path / "mine.keras")
    assert spec.normalization == (127.5, 127.5)
    assert not spec.coral
    np.testing.assert_allclose(embedding, embedding_of(keras, model), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("library", LIBRARIES)
def test_a_normalisation_per_channel_stays_in_the_model(tmp_path, library):
    keras = pytest.importorskip(library)
    front = [
        keras.layers.Rescaling(1 / 255),
        keras.layers.Normalization(mean=[0.485, 0.456, 0.406], variance=[0.05, 0.051, 0.052]),
    ]
    model = classifier(keras, front, small_base(keras))
    model.save(tmp_path / "mine.keras")
    spec, embedding = embedding_by_edgetl(tmp_path / "mine.keras")
    assert spec.normalization == pytest.approx((0, 255))
    np.testing.assert_allclose(embedding, embedding_of(keras, model), rtol=1e-4, atol=1e-4)


def test_a_convolutional_classifier_is_left_out(tmp_path):
    import tf_keras

    model = tf_keras.applications.MobileNet(input_shape=(SIZE, SIZE, 3), alpha=0.25, weights=None)
    model.set_weights(random_weights(model))
    model.save(tmp_path / "mine.keras")
    _, embedding = embedding_by_edgetl(tmp_path / "mine.keras", normalization=(0.0, 1.0))
    pool = next(layer.name for layer in model.layers if "pooling" in layer.name)
    expected = embedding_of(tf_keras, model, pool)
    np.testing.assert_allclose(embedding, expected.reshape(1, -1), rtol=1e-4, atol=1e-3)


def test_flattened_positions_are_averaged_instead(tmp_path):
    import tf_keras

    rescaling = tf_keras.layers.Rescaling(1 / 255)
    model = classifier(tf_keras, [rescaling], small_base(tf_keras), [tf_keras.layers.Flatten(name="pool")])
    model.save(tmp_path / "mine.keras")
    _, embedding = embedding_by_edgetl(tmp_path / "mine.keras")
    positions = embedding_of(tf_keras, model).reshape(1, SIZE * SIZE // 4, 8)
    np.testing.assert_allclose(embedding, positions.mean(axis=1), rtol=1e-4, atol=1e-4)


@pytest.fixture
def plain_file(tmp_path):
    """A small model without normalisation."""
    import tf_keras

    path = tmp_path / "plain.keras"
    classifier(tf_keras, base=small_base(tf_keras)).save(path)
    return path


def test_a_model_without_normalisation_needs_one(plain_file):
    with pytest.raises(OptionError, match="does not specify the normalization of its input"):
        backbones.get_backbone(str(plain_file))
    assert backbones.get_backbone(str(plain_file), (127.5, 127.5)).normalization == (127.5, 127.5)


def test_a_model_file_builds_at_another_size_and_with_random_weights(plain_file):
    spec = backbones.get_backbone(str(plain_file), (0.0, 255.0))
    assert backbones.build(spec, 96).input_shape == (None, 96, 96, 3)
    trained, fresh = backbones.build(spec), backbones.build(spec, pretrained=False)
    assert not np.array_equal(trained.get_weights()[0], fresh.get_weights()[0])


def test_a_file_that_changed_since_it_was_described_is_refused(plain_file):
    spec = backbones.get_backbone(str(plain_file), (0.0, 255.0))
    assert backbones.weights_digest(spec) == spec.weights.sha256
    plain_file.write_bytes(plain_file.read_bytes() + b" ")
    with pytest.raises(WeightsError, match="is not the published file"):
        backbones.build(spec)


@pytest.mark.parametrize("library", LIBRARIES)
@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_code_in_a_model_is_refused_before_it_runs(tmp_path, library, suffix):
    keras = pytest.importorskip(library)
    witness = tmp_path / "witness"
    name = str(witness)
    code = keras.layers.Lambda(lambda x: (open(name, "w"), x)[1], output_shape=(SIZE, SIZE, 3))  # noqa: SIM115
    path = tmp_path / f"hostile.{suffix}"
    classifier(keras, [code], small_base(keras)).save(path)
    witness.unlink(missing_ok=True)
    with pytest.raises(WeightsError, match="contains Lambda, which edgetl does not support"):
        backbones.get_backbone(str(path))
    assert not witness.exists()


@pytest.mark.parametrize(
    "described",
    [
        {"class_name": "Conv2D", "module": "os", "config": {}},
        {"class_name": "function", "module": "builtins", "config": "exec"},
        {"class_name": "TFSMLayer", "module": "keras.layers", "config": {"filepath": "/tmp/any"}},
        {"class_name": "TFOpLambda", "module": "keras.layers", "config": {"function": "io.write_file"}},
    ],
)
def test_a_forged_configuration_is_refused(tmp_path, plain_file, described):
    forged = tmp_path / "forged.keras"
    with zipfile.ZipFile(plain_file) as source, zipfile.ZipFile(forged, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "config.json":
                content = json.dumps({**json.loads(content), "extra": [described]}).encode()
            target.writestr(name, content)
    with pytest.raises(WeightsError, match="which edgetl does not support"):
        backbones.get_backbone(str(forged))


def test_a_saved_model_is_refused_with_the_remedy(tmp_path):
    (tmp_path / "saved_model.pb").touch()
    with pytest.raises(WeightsError, match=r"is a SavedModel.*model\.save"):
        backbones.get_backbone(str(tmp_path))


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(WeightsError, match="no such model file"):
        backbones.get_backbone(str(tmp_path / "gone.keras"))


@pytest.mark.parametrize("name", ["broken.keras", "broken.h5"])
@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n"])
def test_a_broken_file_is_reported_in_one_line(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(WeightsError, match="is not a complete Keras model") as caught:
        backbones.get_backbone(str(tmp_path / name))
    assert "\n" not in str(caught.value)


def test_a_weights_file_without_a_model_is_refused(tmp_path):
    backbones.build(backbones.get_backbone("mobilenet-v1-0.25"), 32, pretrained=False).save_weights(
        tmp_path / "only.h5"
    )
    with pytest.raises(WeightsError, match="contains weights without a model"):
        backbones.get_backbone(str(tmp_path / "only.h5"))
