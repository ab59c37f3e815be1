"""Makes a bundle of generated embeddings, without photos or a model, for the benchmarks of learning."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np

from edgetl.bundle import Manifest, pack
from edgetl.learners import choose, to_grid
from edgetl.runtime.inference.bundle_entries import last_layer_entries

ZERO_POINT = -128


def draw(classes: int, per_class: int, dimension: int, seed: int) -> tuple[np.ndarray, list[str]]:
    """Raw embeddings, (n, d) int8, sparse and positive like those of a ReLU backbone, and n labels."""
    centres = np.random.default_rng(0).normal(size=(classes, dimension)) * 0.5
    noise = np.random.default_rng(seed).normal(size=(classes, per_class, dimension))
    values = np.maximum(centres[:, None] + noise, 0).reshape(-1, dimension)
    raw = np.clip(np.rint(values * 60) + ZERO_POINT, -128, 127).astype(np.int8)
    return raw, [f"class {slot}" for slot in range(classes) for _ in range(per_class)]


def pack_synthetic(path: Path, classes: int, per_class: int, dimension: int) -> Path:
    """A bundle of generated embeddings with a guard set; it has no valid model, so it only learns embeddings."""
    raw, labels = draw(classes, per_class, dimension, seed=1)
    folds = np.arange(len(labels)) % 4
    selection = choose(to_grid(raw, ZERO_POINT), labels, folds)
    described, entries = last_layer_entries(selection.last_layer, selection.parameters)
    guard = io.BytesIO()
    np.save(guard, raw[folds == 0], allow_pickle=False)
    truths = [label for label, fold in zip(labels, folds) if fold == 0]
    entries |= {
        "model.tflite": b"none",
        "statistics.bin": selection.statistics.to_bytes(),
        "guard/embeddings.npy": guard.getvalue(),
        "guard/labels.json": json.dumps(truths).encode(),
    }
    manifest = Manifest(
        name="synthetic",
        edgetl_version="0.1.0",
        backbone={"name": "none"},
        preprocess={},
        target="generic",
        quantize="int8",
        labels=list(selection.last_layer.labels),
        embedding={"size": dimension, "dtype": "int8", "scale": 0.02, "zero_point": ZERO_POINT},
        last_layer=described,
        accuracy={},
    )
    return pack(path, manifest, entries)
