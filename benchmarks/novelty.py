"""Measures how well unknown classes are recognised: each class in turn is left out and must get high novelty scores.

    python -m benchmarks.novelty --data photos/ [--data more/] [--backbone NAME] [--weights FILE] [--json]

The figure is the area under the ROC curve on the test photos (1: every unknown photo has a higher score than every
known one, 0.5: chance), averaged over the classes left out. "near" are photos of the class left out, "far" those of
the other folders.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from typing import Any

import numpy as np

from benchmarks.embedded import Photos, add_arguments, embed
from edgetl.learners import GRID, LastLayer, choose
from edgetl.learners.solvers.nearest_mean import from_means

FOLDS = 5


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    arguments = parser.parse_args()
    sets = [embed(folder, arguments.backbone, arguments.weights) for folder in arguments.data]
    rows = [row for photos in sets for row in compare(photos, [other for other in sets if other is not photos])]
    result = {"backbone": arguments.backbone, "rows": rows}
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def compare(photos: Photos, others: list[Photos]) -> list[dict[str, Any]]:
    """A row per score: its mean area over the classes left out."""
    areas: dict[str, list[list[float]]] = {}
    for label in photos.labels:
        known = photos.train_labels != label
        folds = stratified(photos.train_labels[known])
        layer = choose(photos.train[known], photos.train_labels[known].tolist(), folds).last_layer
        is_known = photos.test_labels != label
        groups = [photos.test[~is_known], *([np.concatenate([other.test for other in others])] if others else [])]
        for name, score in scores(layer, photos.train[known], photos.train_labels[known]).items():
            ours = score(photos.test[is_known])
            areas.setdefault(name, []).append([area(ours, score(group)) for group in groups])
    means = {name: np.mean(values, axis=0).round(3).tolist() for name, values in areas.items()}
    return [
        {"data": photos.name, "score": name, "near": mean[0], "far": mean[1] if others else None}
        for name, mean in means.items()
    ]


def scores(layer: LastLayer, rows: np.ndarray, labels: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    means = np.stack([rows[labels == label].mean(axis=0) for label in layer.labels])
    directions, _ = from_means(means)

    def energy(embeddings: np.ndarray) -> np.ndarray:
        return -np.logaddexp.reduce(layer.scores(embeddings) / layer.temperature, axis=1)

    return {
        "edgetl": layer.novelty,
        "cosine to the nearest mean": lambda embeddings: -(embeddings / GRID @ directions).max(axis=1),
        "largest probability": lambda embeddings: -layer.probabilities(embeddings).max(axis=1),
        "energy": energy,
    }


def stratified(labels: np.ndarray) -> np.ndarray:
    folds = np.empty(len(labels), dtype=np.int64)
    for label in sorted(set(labels.tolist())):
        members = np.random.default_rng(0).permutation(np.flatnonzero(labels == label))
        folds[members] = np.arange(len(members)) % FOLDS
    return folds


def area(known: np.ndarray, unknown: np.ndarray) -> float:
    """The probability that an unknown photo scores above a known one; ties count half."""
    ordered = np.sort(known)
    below, up_to = np.searchsorted(ordered, unknown, "left"), np.searchsorted(ordered, unknown, "right")
    return float((below + up_to).mean() / (2 * len(known)))


def table(result: dict[str, Any]) -> str:
    lines = [f"Area under the ROC curve, {result['backbone']}", f"{'':48}{'near':>8}{'far':>8}"]
    for row in result["rows"]:
        far = "" if row["far"] is None else f"{row['far']:.3f}"
        lines.append(f"{row['data']:18}{row['score']:30}{row['near']:8.3f}{far:>8}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
