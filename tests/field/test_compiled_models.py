"""Compiled models and checkpoints from elsewhere: their embedding is used, or they are refused in one line."""

from __future__ import annotations

import pickle
import zipfile
from pathlib import Path

import pytest

from edgetl.backbones.torch_pickle import read_checkpoint
from edgetl.conversion import find_backbone_source
from edgetl.errors import ConversionError, WeightsError
from tests.conversion.edgetpu.graphs import GraphBuilder, options


def classifier(folder: Path, dense: bool) -> str:
    """A .tflite file of pooling to 3 numbers, a dense layer to 5 classes if `dense`, and a softmax."""
    builder = GraphBuilder()
    image, last = builder.tensor((1, 8, 8, 3), "UINT8"), builder.tensor((1, 3), "UINT8")
    pooling = options("Pool2DOptions", padding=1, filterHeight=8, filterWidth=8)
    builder.operator("AVERAGE_POOL_2D", [image], [last], pooling)
    if dense:
        weights, scores = builder.tensor((5, 3), "UINT8"), builder.tensor((1, 5), "UINT8")
        builder.operator("FULLY_CONNECTED", [last, weights], [scores], options("FullyConnectedOptions"))
        last = scores
    probabilities = builder.tensor((1, 5 if dense else 3), "UINT8")
    builder.operator("SOFTMAX", [last], [probabilities], options("SoftmaxOptions", beta=1.0))
    path = folder / "mine.tflite"
    path.write_bytes(builder.build([image], [probabilities]))
    return str(path)


def test_the_classifier_of_a_compiled_model_is_cut(tmp_path):
    artifact = find_backbone_source(classifier(tmp_path, dense=True)).compile("int8")
    assert artifact.embedding["size"] == 3
    assert [operator.name for operator in artifact.operators] == ["AVERAGE_POOL_2D"]


def test_probabilities_without_a_dense_layer_below_are_refused(tmp_path):
    with pytest.raises(ConversionError, match="ends in probabilities, and no embedding was found"):
        find_backbone_source(classifier(tmp_path, dense=False))


def test_an_edge_tpu_file_beside_a_classifier_is_refused(tmp_path):
    path = classifier(tmp_path, dense=True)
    with pytest.raises(ConversionError, match="compile the model for the Edge TPU without its classifier"):
        find_backbone_source(path, edgetpu_backbone=Path(path))


def test_a_checkpoint_with_nested_tuples_as_keys_is_refused(tmp_path):
    program = pickle.PROTO + b"\x02" + b"})" + b"\x85" * 500_000 + b"K\x01s."
    with zipfile.ZipFile(tmp_path / "deep.pth", "w") as archive:
        archive.writestr("archive/data.pkl", program)
    with pytest.raises(WeightsError, match="a tuple in place of a str or int"):
        read_checkpoint(tmp_path / "deep.pth")
