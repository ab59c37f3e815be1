"""A bundle runs only where its answers match those of the host that built it."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgetl.bundle import CANARIES, open_bundle
from edgetl.errors import BundleError, CanaryError, EdgetlError, IntegrityError
from edgetl.runtime.inference import Engine, replay
from tests.runtime.device.installing import Releases, renormalised, repacked


@pytest.fixture
def proven(releases: Releases) -> Path:
    return releases.first


def with_canaries(bundle: Path, path: Path, change: Any) -> Path:
    document = json.loads(open_bundle(bundle).read(CANARIES))
    change(document)
    return repacked(bundle, path, {CANARIES: json.dumps(document).encode()})


def test_a_bundle_answers_where_it_was_built(proven: Path) -> None:
    found = replay(open_bundle(proven), threads=1)
    assert found.canaries == 3
    assert found.cosine == 1.0
    assert found.probability_gap < 1e-3
    assert found.latency_ms > 0
    assert found.to_dict()["accelerator"] == "cpu"


def test_the_model_runs_once_for_each_canary(proven: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    runs, invoke = [], Engine.invoke
    monkeypatch.setattr(Engine, "invoke", lambda engine, frame: runs.append(frame) or invoke(engine, frame))
    assert replay(open_bundle(proven), threads=1).canaries == 3
    assert len(runs) == 1 + 3  # the first run warms the interpreter up


def test_swapped_labels_are_refused(proven: Path, tmp_path: Path) -> None:
    swapped = repacked(proven, tmp_path / "swapped.edgetl", labels=["green", "blue", "red"])
    with pytest.raises(CanaryError, match="answered with another labels"):
        replay(open_bundle(swapped))


def test_labels_swapped_in_the_canaries_too_show_in_the_answers(proven: Path, tmp_path: Path) -> None:
    labels = ["green", "blue", "red"]
    document = json.loads(open_bundle(proven).read(CANARIES))
    document["of"]["labels"] = labels
    entries = {CANARIES: json.dumps(document).encode()}
    with pytest.raises(CanaryError, match="difference of probabilities"):
        replay(open_bundle(repacked(proven, tmp_path / "swapped.edgetl", entries, labels=labels)))


def test_another_preprocessing_is_refused(proven: Path, tmp_path: Path) -> None:
    preprocess = {**open_bundle(proven).manifest.preprocess, "fit": "crop"}
    with pytest.raises(CanaryError, match="another preprocess"):
        replay(open_bundle(repacked(proven, tmp_path / "crop.edgetl", preprocess=preprocess)))


def test_every_flipped_byte_of_the_model_is_refused(proven: Path, tmp_path: Path) -> None:
    """Also one that hardly changes an answer: the canaries know the model they were answered by."""
    model = open_bundle(proven).read("model.tflite")
    for position in np.random.default_rng(0).integers(0, len(model), 20):
        flipped = bytearray(model)
        flipped[position] ^= 1
        bundle = repacked(proven, tmp_path / "flipped.edgetl", {"model.tflite": bytes(flipped)})
        with pytest.raises(CanaryError, match="another model"):
            replay(open_bundle(bundle))


def test_a_model_with_another_normalisation_shows_in_the_answers(proven: Path, tmp_path: Path) -> None:
    model = renormalised(open_bundle(proven).read("model.tflite"))
    document = json.loads(open_bundle(proven).read(CANARIES))
    document["of"]["model"] = hashlib.sha256(model).hexdigest()
    entries = {CANARIES: json.dumps(document).encode(), "model.tflite": model}
    with pytest.raises(CanaryError, match="cosine similarity of embeddings"):
        replay(open_bundle(repacked(proven, tmp_path / "other.edgetl", entries)))


def test_a_bundle_that_is_too_slow_here_is_refused(proven: Path, tmp_path: Path) -> None:
    def hurry(document: dict[str, Any]) -> None:
        document["tolerance"]["latency_ms"] = 1e-6

    with pytest.raises(CanaryError, match="latency in ms"):
        replay(open_bundle(with_canaries(proven, tmp_path / "slow.edgetl", hurry)))


def test_a_bundle_without_canaries_is_refused(proven: Path, tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="no canaries to prove itself with"):
        replay(open_bundle(repacked(proven, tmp_path / "mute.edgetl", {CANARIES: None})))


@pytest.mark.parametrize(
    "change",
    [
        lambda document: document.clear(),
        lambda document: document["expected"].clear(),
        lambda document: document["of"].pop("model"),
        lambda document: document["tolerance"].pop("cosine"),
        lambda document: document["tolerance"].update(cosine="none"),
        lambda document: document["expected"][0].update(image="model.tflite"),
        lambda document: document["expected"][0].update(image=["canaries/00.jpg"]),
        lambda document: document["expected"][0].update(embedding=[1]),
        lambda document: document["expected"][0].update(embedding=3),
        lambda document: document["expected"][0].update(label=None),
        lambda document: document["expected"][0].pop("probability"),
    ],
)
def test_malformed_canaries_are_refused(proven: Path, tmp_path: Path, change: Any) -> None:
    with pytest.raises(BundleError, match="build it again"):
        replay(open_bundle(with_canaries(proven, tmp_path / "odd.edgetl", change)))


@pytest.mark.parametrize("content", [b"", b"[]", b"null", b"\xff", b"[" * 100_000, b'"text"'])
def test_a_canary_file_that_is_not_as_expected_is_refused(proven: Path, tmp_path: Path, content: bytes) -> None:
    with pytest.raises(IntegrityError, match="not as edgetl writes it"):
        replay(open_bundle(repacked(proven, tmp_path / "odd.edgetl", {CANARIES: content})))


def test_a_tolerance_of_nan_refuses_the_bundle(proven: Path, tmp_path: Path) -> None:
    def lose(document: dict[str, Any]) -> None:
        document["tolerance"]["cosine"] = float("nan")

    with pytest.raises(EdgetlError):
        replay(open_bundle(with_canaries(proven, tmp_path / "nan.edgetl", lose)))
