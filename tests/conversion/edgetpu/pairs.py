"""Pairs of models with the compiler's published output."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import pytest

PAIRS = (
    "deeplabv3_mnv2_dm05_pascal_quant",
    "keras_lstm_mnist_ptq",
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_1.0_224_quant_embedding_extractor",
    "mobilenet_v2_1.0_224_quant",
    "posenet_mobilenet_v1_075_353_481_16_quant_decoder",
    "split_concat",
)


@dataclass(frozen=True)
class Pair:
    source: bytes
    compiled: bytes
    facts: dict[str, Any]


@pytest.fixture(scope="session")
def pair(shared):
    """Look up a pair by name; the test is skipped if the models are not available."""
    folder = shared("coral/pairs")
    listed = json.loads(shared("coral/pairs.json").read_text())["pairs"]
    facts = {entry["model"].removesuffix(".tflite"): entry for entry in listed}

    def find(name: str) -> Pair:
        entry = facts[name]
        return Pair((folder / entry["model"]).read_bytes(), (folder / entry["compiled"]).read_bytes(), entry)

    return find
