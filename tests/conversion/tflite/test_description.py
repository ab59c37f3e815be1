"""The description of a .tflite file."""

from __future__ import annotations

import contextlib
import json

import numpy as np
import pytest

from edgetl.conversion import describe
from edgetl.errors import ConversionError


def test_it_counts_operators_weights_and_work(converted):
    description = describe(converted("int8").model)
    counts = {operator["name"]: operator["count"] for operator in description["operators"]}
    assert counts["CONV_2D"] == 2
    assert counts["DEPTHWISE_CONV_2D"] == 1
    stem, depthwise, head = 16 * 16 * 8 * 27, 16 * 16 * 8 * 9, 16 * 16 * 16 * 8
    assert description["macs"] == stem + depthwise + head
    weights, biases = 8 * 27 + 8 * 9 + 16 * 8, 4 * (8 + 8 + 16)
    assert weights + biases <= description["parameter_bytes"] <= weights + biases + 16
    assert description["bytes"] == len(converted("int8").model)


def test_it_lists_the_tensors_with_their_quantization(converted):
    description = describe(converted("int8").model)
    (image,), (embedding,) = description["inputs"], description["outputs"]
    assert (image["dtype"], image["shape"], image["zero_point"]) == ("uint8", [1, 32, 32, 3], 127)
    assert image["scale"] == pytest.approx(1 / 128)
    assert (embedding["dtype"], embedding["shape"]) == ("int8", [1, 16])
    (plain,) = describe(converted("float32").model)["outputs"]
    assert (plain["dtype"], plain["scale"], plain["zero_point"]) == ("float32", None, None)


def test_the_description_is_json(converted):
    for quantize in ("int8", "float16"):
        json.dumps(describe(converted(quantize).model))


def test_a_plain_backbone_has_neither_labels_nor_metadata(converted):
    description = describe(converted("int8").model)
    assert (description["labels"], description["metadata"], description["edgetpu"]) == (None, None, False)


def test_a_published_edge_tpu_model_is_read_with_labels_and_metadata(shared):
    path = shared("coral/pairs/mobilenet_v2_1.0_224_quant_edgetpu.tflite")
    description = describe(path.read_bytes())
    assert (description["edgetpu"], description["macs"]) == (True, None)
    assert description["labels"][:2] == ["background", "tench, Tinca tinca"]
    assert description["metadata"]["normalization"] == [127.5, 127.5]


def test_damaged_files_raise_an_error_and_do_not_crash(converted):
    whole = converted("int8").model
    rng = np.random.default_rng(0)
    for _ in range(150):
        spoiled = bytearray(whole)
        for position in rng.integers(0, len(whole), 8):
            spoiled[position] = rng.integers(0, 256)
        with contextlib.suppress(ConversionError):
            describe(bytes(spoiled))
    for length in range(0, len(whole), 97):
        with contextlib.suppress(ConversionError):
            describe(whole[:length])
