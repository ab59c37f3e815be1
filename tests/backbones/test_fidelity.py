"""Every family computes the same embeddings as the original implementation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgetl import backbones
from edgetl.backbones.torch_pickle import read_checkpoint
from edgetl.backbones.weights import find_weights
from tests.backbones.pattern import pattern, random_weights

LOGITS = Path(__file__).parent / "reference" / "efficientnet_lite_logits.npz"

MOBILENETS = [spec for spec in backbones.list_backbones() if spec.family.startswith("mobilenet")]
QUICK = {"mobilenet-v1-0.5", "mobilenet-v2-1.3", "mobilenet-v3-large", "mobilenet-v3-small-minimalistic"}


def normalized(spec: backbones.Spec, size: int) -> np.ndarray:
    offset, scale = spec.normalization
    return (pattern(size)[None].astype(np.float32) - offset) / scale


@pytest.mark.parametrize("level", [0, pytest.param(1, marks=pytest.mark.slow), 2])
def test_efficientnet_lite_gives_the_logits_of_the_publishers_model(level):
    spec = backbones.get_backbone(f"efficientnet-lite{level}")
    size = spec.input_sizes[0]
    classifier = read_checkpoint(find_weights(spec, size))
    embedding = backbones.build(spec)(normalized(spec, size)).numpy()
    logits = embedding @ classifier["_fc.weight"].T + classifier["_fc.bias"]
    np.testing.assert_allclose(logits[0], np.load(LOGITS)[spec.name], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "spec",
    [pytest.param(spec, id=spec.name, marks=[] if spec.name in QUICK else pytest.mark.slow) for spec in MOBILENETS],
)
def test_a_mobilenet_with_the_same_weights_gives_the_embedding_of_keras_applications(spec):
    theirs = keras_application(spec, 64, None)
    theirs.set_weights(random_weights(theirs))
    ours = backbones.build(spec, 64, pretrained=False)
    ours.set_weights(theirs.get_weights())
    image = normalized(spec, 64)
    expected = theirs(image).numpy()
    assert expected.std() > 0.01
    np.testing.assert_allclose(ours(image).numpy(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("name", "file"),
    [
        ("mobilenet-v1-0.25", "mobilenet_2_5_224_tf_no_top.h5"),
        ("mobilenet-v2-0.35", "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"),
    ],
)
def test_published_weights_give_the_embedding_of_keras_applications(shared, monkeypatch, name, file):
    path = shared(f"weights/{file}")
    monkeypatch.setenv("EDGETL_WEIGHTS", str(path.parent))
    spec = backbones.get_backbone(name)
    image = normalized(spec, 224)
    expected = keras_application(spec, 224, path)(image).numpy()
    np.testing.assert_allclose(backbones.build(spec)(image).numpy(), expected, rtol=0, atol=1e-5)


def keras_application(spec: backbones.Spec, size: int, weights: Path | None):
    """The model of Keras Applications that the backbone reproduces."""
    import tf_keras

    _, family, *rest = spec.name.split("-")
    width = next((float(part) for part in rest if part[0].isdigit()), 1.0)
    options = {"minimalistic": "minimalistic" in rest, "include_preprocessing": False} if family == "v3" else {}
    builders = {
        "v1": tf_keras.applications.MobileNet,
        "v2": tf_keras.applications.MobileNetV2,
        "v3": getattr(tf_keras.applications, f"MobileNetV3{rest[0].capitalize()}", None),
    }
    return builders[family](
        input_shape=(size, size, 3), alpha=width, include_top=False, pooling="avg", weights=weights, **options
    )
