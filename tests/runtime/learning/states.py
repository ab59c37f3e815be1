"""Shared by the tests of learning: a bundle with statistics and a guard set, and embeddings to teach."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgetl.bundle import Manifest, open_bundle, pack
from edgetl.learners import Statistics, choose, to_grid
from edgetl.runtime import Embedder, Preprocess
from edgetl.runtime.inference.bundle_entries import last_layer_entries
from edgetl.runtime.inference.canaries import canary_entries
from tests.models import COLOURS, TINY_DIMENSION, TINY_SIZE, colour_frame

MIXTURES = {"red": (1, 0, 0), "green": (0, 1, 0), "blue": (0, 0, 1), "yellow": (1, 1, 0), "grey": (0.6, 0.6, 0.6)}
TRAINED, GUARDED = 20, 6


@pytest.fixture(scope="session")
def teachable(tiny_model: bytes, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle as a build packs it: "red", "green" and "blue", with statistics, guard set and canaries."""
    return pack_teachable(tmp_path_factory.mktemp("teachable") / "colours.edgetl", tiny_model)


def pack_teachable(
    path: Path, model: bytes, seed: int = 0, canaries: Sequence[str] = ("red",), target: str = "generic"
) -> Path:
    """Another `seed` is another set of pictures; a canary is one of `canaries` each."""
    preprocess = Preprocess(*TINY_SIZE)
    embedder = Embedder(model, preprocess)
    labels = [label for label in COLOURS for _ in range(TRAINED)]
    raw = np.stack([embedder.embed(colour_frame(label, number)) for number, label in enumerate(labels, seed)])
    rows = to_grid(raw, embedder.zero_point)
    selection = choose(rows, labels, np.arange(len(labels)) % 4)
    described, entries = last_layer_entries(selection.last_layer, selection.parameters)
    guarded = [start + offset for start in range(0, len(labels), TRAINED) for offset in range(GUARDED)]
    embeddings = io.BytesIO()
    np.save(embeddings, raw[guarded], allow_pickle=False)
    entries |= {
        "model.tflite": model,
        "statistics.bin": selection.statistics.to_bytes(),
        "guard/embeddings.npy": embeddings.getvalue(),
        "guard/labels.json": json.dumps([labels[index] for index in guarded]).encode(),
        **canary_entries([jpeg(frame(colour, 500)) for colour in canaries], embedder, selection.last_layer),
        "report.json": b"{}",
    }
    manifest = Manifest(
        name="colours",
        edgetl_version="0.1.0",
        backbone={"name": "tiny"},
        preprocess=preprocess.to_dict(),
        target=target,
        quantize="int8",
        labels=list(selection.last_layer.labels),
        embedding={
            "size": TINY_DIMENSION,
            "dtype": embedder.dtype.name,
            "scale": embedder.scale,
            "zero_point": embedder.zero_point,
        },
        last_layer=described,
        accuracy={"int8": 1.0},
    )
    return pack(path, manifest, entries)


def frame(colour: str, seed: int = 0) -> np.ndarray:
    """A noisy frame, uint8 (32, 32, 3), of one of MIXTURES."""
    noise = np.random.default_rng(seed).integers(0, 90, (*TINY_SIZE, 3))
    return (noise + 150 * np.array(MIXTURES[colour])).astype(np.uint8)


def jpeg(image: np.ndarray) -> bytes:
    """A frame as the bytes of a file."""
    stream = io.BytesIO()
    Image.fromarray(image).save(stream, "JPEG", quality=90)
    return stream.getvalue()


def embeddings(count: int, seed: int = 0) -> np.ndarray:
    """Raw embeddings (count, d) int8 that no two pictures share."""
    return np.random.default_rng(seed).integers(-128, 128, (count, TINY_DIMENSION)).astype(np.int8)


def shipped_statistics(bundle: Path) -> Statistics:
    return Statistics.from_bytes(open_bundle(bundle).read("statistics.bin"))


def trained_once(bundle: Path, taught: dict[str, np.ndarray]) -> Statistics:
    """The shipped statistics and embeddings (n, d) by label, added at once."""
    statistics = shipped_statistics(bundle)
    zero_point = open_bundle(bundle).manifest.embedding["zero_point"]
    for label, raw in taught.items():
        statistics.add(to_grid(raw, zero_point), label)
    return statistics
