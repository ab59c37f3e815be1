"""A candidate's last layer, and the photos that may judge it."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np

from edgetl.learners import choose, relearn, to_grid
from edgetl.pipeline.candidate import Candidate, solved_from_training_photos


def test_fine_tuning_starts_from_a_layer_that_has_not_seen_the_validation_photos():
    rng = np.random.default_rng(0)
    labels = np.array(["elm", "oak"] * 30)
    raw = rng.integers(-128, 128, (60, 16)).astype(np.int8)
    validation, training = np.arange(0, 60, 5), np.setdiff1d(np.arange(60), np.arange(0, 60, 5))
    embeddings = to_grid(raw, -128)
    selection = choose(embeddings, list(labels), np.arange(60) % 5)
    artifact = SimpleNamespace(embedding={"zero_point": -128})
    dataset = SimpleNamespace(indices=lambda split: validation, labels_of=lambda indices: list(labels[indices]))
    start = solved_from_training_photos(Candidate("stage 1", artifact, raw, selection), dataset)
    alone = choose(embeddings[training], list(labels[training]), np.arange(len(training)) % 5).statistics
    expected = relearn(selection.last_layer, alone, selection.parameters)
    np.testing.assert_allclose(start.weights, expected.weights, rtol=1e-5, atol=1e-6)
    assert not np.allclose(start.weights, selection.last_layer.weights)
