"""Makes the bundle, the state and the patch in this folder with the code of an earlier version.

They were made by commit b0588b5, whose modules this script imports, so it does not run on later code:

    git worktree add ../edgetl-b0588b5 b0588b5
    cd ../edgetl-b0588b5
    PYTHONPATH=$PWD python PATH/TO/tests/data_of_earlier_versions/make.py FOLDER

The test that opens them is tests/test_earlier_versions.py. Do not make them again with newer code: their age is the
point. Data of a later version goes in a folder of its own beside these files.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from edgetl.runtime import Classifier, Learner
from tests.models import CACHE, _recipe_digest
from tests.runtime.learning import MIXTURES, embeddings, frame, pack_teachable

COLOURS = ("red", "green", "blue", "yellow", "grey")


def main(folder: Path) -> None:
    model = (CACHE / f"tiny-{_recipe_digest()}" / "int8.tflite").read_bytes()
    bundle = pack_teachable(folder / "colours.edgetl", model)
    with Learner(bundle, folder / "colours.state", threads=1, thumbnails=True) as learner:
        teach(learner, bundle)
        before_last = facts(learner)
        learner.teach_embeddings(embeddings(3, seed=5), "violet")
        learner.publish()
        classifier = learner.classifier()
        predictions = {colour: classifier.predict(frame(colour, 900)) for colour in COLOURS}
        for number in range(25):
            classifier.predict(frame(COLOURS[number % 5], 1000 + number))
        learner.export_patch(folder / "taught.edgetl")
        shipped = Classifier(bundle, threads=1)
        expected = {
            "shipped": {colour: answer(shipped.predict(frame(colour, 900))) for colour in COLOURS[:3]},
            "predictions": {colour: answer(prediction) for colour, prediction in predictions.items()},
            "in effect": facts(learner),
            "before the last step": before_last,
            "history": [entry.to_dict() for entry in learner.history()],
            "scores": learner.last_layer().scores(np.eye(16, dtype=np.int16) * 4096).round(4).tolist(),
        }
    expected["adapted"] = adapt(bundle, folder / "adapted.state")
    (folder / "expected.json").write_text(json.dumps(expected, indent=1, ensure_ascii=False) + "\n")


def teach(learner: Learner, bundle: Path) -> None:
    """One step or more of every kind that the journal knows."""
    raw = np.stack([learner.classifier().embed(frame("red", seed)) for seed in range(100, 140)])
    refused = learner.teach_embeddings(raw, "scarlet", guard=1.0)
    assert not refused.accepted, "the guard should have refused these"
    learner.teach_many([frame("yellow", seed) for seed in range(1, 4)], "yellow")
    learner.teach(frame("red", 1), "red")
    mistaken = learner.teach(frame("grey", 1), "yellow")
    learner.teach_embeddings(embeddings(2, seed=1), "grey")
    learner.correct(mistaken.id, "grey")
    learner.forget(learner.teach_embeddings(embeddings(1, seed=2), "grey").id)
    learner.rename("blue", "azure")
    learner.reset()
    learner.undo()
    learner.teach_embeddings(embeddings(1, seed=3), "black")
    learner.forget_class("black")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        with Learner(bundle, "other.state", threads=1) as other:
            other.teach_embeddings(embeddings(2, seed=4), "brown")
        learner.merge("other.state")


def adapt(bundle: Path, state: Path) -> dict[str, object]:
    """A second state, whose classes are taught in the dark and adapted to it."""
    with Learner(bundle, state, threads=1) as learner:
        for colour in COLOURS[:3]:
            learner.teach_many([dark(colour, seed) for seed in range(2)], colour)
        assert learner.adapt().id, "the adaptation should have helped"
        learner.publish()
        return facts(learner)


def dark(colour: str, seed: int) -> np.ndarray:
    """A frame without much light; the noise stays as it is."""
    noise = np.random.default_rng(seed).integers(0, 90, (32, 32, 3))
    return (noise + 0.15 * 150 * np.array(MIXTURES[colour])).astype(np.uint8)


def facts(learner: Learner) -> dict[str, object]:
    status = learner.status()
    return {
        "labels": list(status.labels),
        "pictures": status.pictures,
        "pending": status.pending,
        "steps": status.steps,
        "halvings": status.halvings,
        "spanned": list(status.spanned),
        "statistics_sha256": hashlib.sha256(learner.statistics().to_bytes()).hexdigest(),
        "counts": learner.statistics().counts.tolist(),
    }


def answer(prediction: object) -> dict[str, object]:
    return {"label": prediction.label, "probability": round(prediction.probability, 4)}


if __name__ == "__main__":
    main(Path(sys.argv[1]).resolve())
