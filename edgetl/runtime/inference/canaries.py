"""Packs canaries into a bundle, and replays them on the device to prove that the bundle works there.

Canaries are pictures with the answers that the host computed. They name the model, labels and preprocessing of these
answers, so that none of the three can be exchanged without new canaries.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from dataclasses import asdict, dataclass, fields
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from edgetl.bundle import CANARIES, CANARY_FOLDER, MODEL, Bundle
from edgetl.errors import CanaryError, ImageError, IntegrityError
from edgetl.learners import LastLayer, to_grid
from edgetl.runtime.inference.classifier import Classifier, Prediction
from edgetl.runtime.inference.embedder import Embedder

TOLERANCE = {"cosine": 0.98, "probability": 0.1}
"""How far a device may differ from the host: interpreters round differently, by a few of 255 steps per element."""


@dataclass(frozen=True)
class Replay:
    """The result of replaying the canaries of a bundle on this machine."""

    canaries: int
    """The number of canaries."""
    cosine: float
    """The lowest cosine similarity between an embedding here and that of the host."""
    probability_gap: float
    """The largest difference, 0..1, between the probabilities of the host's label here and on the host."""
    latency_ms: float
    """The median time of one canary, from the decoded picture to the probabilities."""
    interpreter: str
    accelerator: str

    def to_dict(self) -> Dict[str, Any]:
        """The result as a JSON object."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Replay:
        """The inverse of `to_dict`; other keys are ignored."""
        return cls(**{field.name: values[field.name] for field in fields(cls)})


def canary_entries(
    pictures: Sequence[bytes], embedder: Embedder, last_layer: LastLayer, latency_ms: Optional[float] = None
) -> Dict[str, bytes]:
    """The entries of a bundle's canaries {name: bytes}, with the answers of this machine.

    `pictures` are the bytes of JPEG files. `latency_ms` is the time limit of one answer on the device; None for no
    limit.
    """
    entries = {f"{CANARY_FOLDER}{number:02d}.jpg": picture for number, picture in enumerate(pictures)}
    expected = []
    for name, picture in entries.items():
        raw = embedder.embed(embedder.preprocess.frame(picture))
        answer = _answer(raw, last_layer, embedder.zero_point)
        expected.append({"image": name, **answer, "embedding": raw.tolist()})
    document = {
        "tolerance": TOLERANCE if latency_ms is None else {**TOLERANCE, "latency_ms": latency_ms},
        "of": {
            "model": embedder.digest,
            "labels": list(last_layer.labels),
            "preprocess": embedder.preprocess.to_dict(),
        },
        "expected": expected,
    }
    return {CANARIES: _to_bytes(document), **entries}


def updated_canaries(bundle: Bundle, last_layer: LastLayer) -> bytes:
    """The `canaries.json` of a bundle with the answers of another last layer on the same backbone."""
    document, embedding = _read(bundle), bundle.manifest.embedding
    document["of"]["labels"] = list(last_layer.labels)
    for expected in document["expected"]:
        raw = np.array(expected["embedding"], dtype=embedding["dtype"])
        expected.update(_answer(raw, last_layer, embedding["zero_point"]))
    return _to_bytes(document)


def replay(bundle: Bundle, threads: Optional[int] = None, ignore_latency: bool = False) -> Replay:
    """Predicts every canary with the interpreter of this device and compares; `threads` is as for the Classifier.

    A bundle can ask for more agreement than TOLERANCE, not for less. `ignore_latency` leaves out its time limit.

    Raises:
        CanaryError: an answer differs by more than the bundle's tolerance, or the canaries belong to another model,
            other labels or other preprocessing.
        BundleError: the bundle has no valid canaries, or is damaged.
        EngineError: the model cannot run here.
    """
    document = _read(bundle)
    _check_claims(bundle, document["of"])
    classifier = Classifier(bundle, threads)
    cosines, gaps, times = [], [], []
    for expected in document["expected"]:
        picture = bundle.read(expected["image"])
        try:
            prediction, raw = classifier.predict_and_embed(picture)
        except ImageError as error:
            raise IntegrityError(f"the canary {expected['image']} is not a picture; build it again") from error
        cosines.append(_cosine(raw, expected["embedding"], bundle.manifest.embedding["zero_point"]))
        gaps.append(abs(prediction.probabilities.get(expected["label"], 0.0) - expected["probability"]))
        times.append(_latency_ms(prediction))
    result = Replay(
        canaries=len(cosines),
        cosine=round(min(cosines), 5),
        probability_gap=round(max(gaps), 5),
        latency_ms=round(statistics.median(times), 3),
        interpreter=classifier.interpreter,
        accelerator=classifier.accelerator,
    )
    _check_answers(bundle, result, _limits(document["tolerance"], ignore_latency))
    return result


def _check_claims(bundle: Bundle, claims: Mapping[str, Any]) -> None:
    actual = {
        "model": hashlib.sha256(bundle.read(MODEL)).hexdigest(),
        "labels": bundle.manifest.labels,
        "preprocess": bundle.manifest.preprocess,
    }
    for name, value in actual.items():
        if claims[name] != value:
            raise CanaryError(
                f"'{bundle.manifest.name}' was changed: its canaries were answered with another {name}; build it again"
            )


def _limits(tolerance: Mapping[str, float], ignore_latency: bool) -> Dict[str, float]:
    """The tolerance of a bundle, at most as wide as TOLERANCE. NaN stays NaN."""
    limits = {
        **tolerance,
        "cosine": max(tolerance["cosine"], TOLERANCE["cosine"]),
        "probability": min(tolerance["probability"], TOLERANCE["probability"]),
    }
    return {name: limit for name, limit in limits.items() if name != "latency_ms" or not ignore_latency}


def _check_answers(bundle: Bundle, result: Replay, tolerance: Mapping[str, Any]) -> None:
    """A tolerance of NaN fails every comparison, and so refuses the bundle."""
    limits = {
        "cosine similarity of embeddings": (result.cosine >= tolerance["cosine"], result.cosine, tolerance["cosine"]),
        "difference of probabilities": (
            result.probability_gap <= tolerance["probability"],
            result.probability_gap,
            tolerance["probability"],
        ),
    }
    if "latency_ms" in tolerance:
        within = result.latency_ms <= tolerance["latency_ms"]
        limits["latency in ms"] = (within, result.latency_ms, tolerance["latency_ms"])
    for name, (is_within, value, limit) in limits.items():
        if not is_within:
            raise CanaryError(
                f"'{bundle.manifest.name}' does not answer here as on the host that built it: {name} {value:g}, "
                f"the limit is {limit:g} ({result.interpreter}); build it for this device"
            )


def _read(bundle: Bundle) -> Dict[str, Any]:
    """The checked content of `canaries.json`. Raises IntegrityError."""
    if CANARIES not in bundle:
        raise IntegrityError(f"'{bundle.manifest.name}' has no canaries to prove itself with; build it again")
    try:
        document = json.loads(bundle.read(CANARIES))
        of, tolerance, expected = document["of"], document["tolerance"], document["expected"]
        well_formed = (
            {"model", "labels", "preprocess"} == set(of)
            and {"cosine", "probability"} <= set(tolerance) <= {"cosine", "probability", "latency_ms"}
            and all(isinstance(limit, (int, float)) for limit in tolerance.values())
            and bool(expected)
            and all(_is_expectation(entry, bundle) for entry in expected)
        )
    except (ValueError, KeyError, TypeError, RecursionError):
        well_formed = False
    if not well_formed:
        raise IntegrityError(f"the '{CANARIES}' of '{bundle.manifest.name}' is not as edgetl writes it; build it again")
    return dict(document)


def _is_expectation(entry: Mapping[str, Any], bundle: Bundle) -> bool:
    embedding: List[Any] = entry["embedding"]
    return (
        entry["image"] in bundle
        and isinstance(entry["label"], str)
        and isinstance(entry["probability"], (int, float))
        and len(embedding) == bundle.manifest.embedding["size"]
        and all(isinstance(value, (int, float)) for value in embedding)
    )


def _answer(raw: np.ndarray, last_layer: LastLayer, zero_point: int) -> Dict[str, Any]:
    row = last_layer.probabilities(to_grid(raw, zero_point))[0]
    best = int(row.argmax())
    return {"label": last_layer.labels[best], "probability": round(float(row[best]), 4)}


def _cosine(raw: np.ndarray, expected: Sequence[float], zero_point: int) -> float:
    """Cosine similarity of two raw embeddings (d,), after subtracting their common zero point."""
    here, there = raw.astype(np.float64) - zero_point, np.array(expected, np.float64) - zero_point
    if np.array_equal(here, there):
        return 1.0
    lengths = float(np.linalg.norm(here) * np.linalg.norm(there))
    return float(here @ there) / lengths if lengths else 0.0


def _latency_ms(prediction: Prediction) -> float:
    return prediction.milliseconds["total"] - prediction.milliseconds["decode"]


def _to_bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
