"""Hides how a bundle proves itself where it is to run: a build packs canaries, an install replays them.

Canaries are pictures with the answers that the host got for them. They say of which model, labels and
preprocessing they are the answers, so that none of these can be exchanged without them.
"""

from __future__ import annotations

import hashlib
import json
import statistics
from dataclasses import asdict, dataclass
from typing import Any, Dict, List, Mapping, Optional, Sequence

import numpy as np

from edgetl.bundle import CANARIES, CANARY_FOLDER, MODEL, Bundle
from edgetl.errors import CanaryError, ImageError, IntegrityError
from edgetl.learners import LastLayer, to_grid
from edgetl.runtime.inference.classifier import Classifier, Prediction
from edgetl.runtime.inference.embedder import Embedder
from edgetl.runtime.inference.preprocess import decode

TOLERANCE = {"cosine": 0.98, "probability": 0.1}
"""How far a device may be off: interpreters round differently, by a few of 255 steps an element."""


@dataclass(frozen=True)
class Replay:
    """How the canaries of a bundle went here."""

    canaries: int
    cosine: float
    """The lowest cosine similarity between an embedding here and the host's."""
    probability_gap: float
    """The largest difference, 0..1, between the probability of the host's label here and there."""
    latency_ms: float
    """The median time of a canary, from decoded picture to probabilities."""
    interpreter: str
    accelerator: str

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def canary_entries(
    pictures: Sequence[bytes], embedder: Embedder, last_layer: LastLayer, latency_ms: Optional[float] = None
) -> Dict[str, bytes]:
    """Entries of a bundle: these pictures, as files' bytes, with what this machine answers for them.

    `latency_ms` is what an answer may take on the device; unless it is given, that is not checked.
    """
    entries = {f"{CANARY_FOLDER}{number:02d}.jpg": picture for number, picture in enumerate(pictures)}
    expected = []
    for name, picture in entries.items():
        raw = embedder.embed(embedder.preprocess.apply(decode(picture, size_hint=embedder.preprocess.size)))
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


def answer_anew(bundle: Bundle, last_layer: LastLayer) -> bytes:
    """The bundle's `canaries.json` for another last layer on the same backbone."""
    document, embedding = _read(bundle), bundle.manifest.embedding
    document["of"]["labels"] = list(last_layer.labels)
    for expected in document["expected"]:
        raw = np.array(expected["embedding"], dtype=embedding["dtype"])
        expected.update(_answer(raw, last_layer, embedding["zero_point"]))
    return _to_bytes(document)


def replay(bundle: Bundle, threads: Optional[int] = None) -> Replay:
    """Answers every canary with the interpreter of this device and compares; `threads` as for Classifier.

    Raises CanaryError where an answer is further off than the bundle's tolerance, or the canaries are of another
    model, other labels or other preprocessing; BundleError, EngineError where the bundle cannot be run.
    """
    document = _read(bundle)
    _check_claims(bundle, document["of"])
    classifier = Classifier(bundle, threads)
    cosines, gaps, times = [], [], []
    for expected in document["expected"]:
        picture = bundle.read(expected["image"])
        try:
            prediction, raw = classifier.predict(picture), classifier.embed(picture)
        except ImageError as error:
            raise IntegrityError(f"the canary {expected['image']} is no picture; build it again") from error
        cosines.append(_cosine(raw, expected["embedding"], bundle.manifest.embedding["zero_point"]))
        gaps.append(abs(prediction.probabilities.get(expected["label"], 0.0) - expected["probability"]))
        times.append(_latency_ms(prediction))
    found = Replay(
        canaries=len(cosines),
        cosine=round(min(cosines), 5),
        probability_gap=round(max(gaps), 5),
        latency_ms=round(statistics.median(times), 3),
        interpreter=classifier.interpreter,
        accelerator=classifier.accelerator,
    )
    _check_answers(bundle, found, document["tolerance"])
    return found


def _check_claims(bundle: Bundle, of: Mapping[str, Any]) -> None:
    actual = {
        "model": hashlib.sha256(bundle.read(MODEL)).hexdigest(),
        "labels": bundle.manifest.labels,
        "preprocess": bundle.manifest.preprocess,
    }
    for name, value in actual.items():
        if of[name] != value:
            raise CanaryError(
                f"'{bundle.manifest.name}' was changed: its canaries were answered with another {name}; build it again"
            )


def _check_answers(bundle: Bundle, found: Replay, tolerance: Mapping[str, Any]) -> None:
    """Written so that a tolerance that is not a number refuses too."""
    limits = {
        "cosine similarity of embeddings": (found.cosine >= tolerance["cosine"], found.cosine, tolerance["cosine"]),
        "difference of probabilities": (
            found.probability_gap <= tolerance["probability"],
            found.probability_gap,
            tolerance["probability"],
        ),
    }
    if "latency_ms" in tolerance:
        within = found.latency_ms <= tolerance["latency_ms"]
        limits["latency in ms"] = (within, found.latency_ms, tolerance["latency_ms"])
    for name, (is_within, value, limit) in limits.items():
        if not is_within:
            raise CanaryError(
                f"'{bundle.manifest.name}' does not answer here as where it was built: {name} {value:g}, "
                f"the limit is {limit:g} ({found.interpreter}); build it for this device"
            )


def _read(bundle: Bundle) -> Dict[str, Any]:
    """The document, held against its form. Raises IntegrityError."""
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
        raise IntegrityError(f"the '{CANARIES}' of '{bundle.manifest.name}' is not as edgetl packs it; build it again")
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
    """Of two raw embeddings (d,), as real numbers: without their common zero point."""
    here, there = raw.astype(np.float64) - zero_point, np.array(expected, np.float64) - zero_point
    if np.array_equal(here, there):
        return 1.0
    lengths = float(np.linalg.norm(here) * np.linalg.norm(there))
    return float(here @ there) / lengths if lengths else 0.0


def _latency_ms(prediction: Prediction) -> float:
    return prediction.milliseconds["total"] - prediction.milliseconds["decode"]


def _to_bytes(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False).encode()
