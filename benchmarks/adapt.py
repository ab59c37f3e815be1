"""Measures adaptation to new conditions: accuracy under the new and the old ones after teaching a few pictures.

    python -m benchmarks.adapt --data sessions/ [--data photos/] [--backbone NAME] [--seeds 5] [--json]

A folder contains one folder per session, each with `train/` and `test/`. A model is built on one session and taught a
few pictures of each class from another one; both sessions' test photos are classified. "new only" is adapted and may
give up the old conditions if that is better; "alone" is a model built only from the taught pictures. A folder with its
own `train/` and `test/` is split into two halves instead: nothing changes between them, so adaptation can only harm.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from benchmarks.embedded import Photos, add_arguments, embed
from benchmarks.novelty import stratified
from edgetl.learners import Adaptation, ConditionWeights, LastLayer, Selection, Statistics, adapt, choose, relearn

SHOTS = (2, 5, 10, 20)
STAGES = ("as built", "taught", "adapted", "new only", "alone")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--seeds", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    with threadpool_limits(1, "blas"):
        for folder in arguments.data:
            rows += compare(folder.name, sessions(folder, arguments.backbone, arguments.weights), arguments.seeds)
    result = {"backbone": arguments.backbone, "seeds": arguments.seeds, "rows": rows}
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def sessions(folder: Path, backbone: str, weights: Path | None) -> list[Photos]:
    if (folder / "train").is_dir():
        return halves(embed(folder, backbone, weights))
    return [embed(part.parent, backbone, weights) for part in sorted(folder.glob("*/train"))]


def halves(photos: Photos) -> list[Photos]:
    side = np.random.default_rng(0).permutation(len(photos.train)) % 2
    return [replace(photos, train=photos.train[side == s], train_labels=photos.train_labels[side == s]) for s in (0, 1)]


def compare(name: str, parts: list[Photos], seeds: int) -> list[dict[str, Any]]:
    """A row per number of pictures, averaged over all pairs of sessions and over seeds."""
    found: dict[int, list[dict[str, Any]]] = defaultdict(list)
    for old, new in permutations(parts, 2):
        built = choose(old.train, old.train_labels.tolist(), stratified(old.train_labels))
        for seed in range(seeds):
            for shots in SHOTS:
                found[shots].append(trial(built, old, new, shots, seed))
    return [summary(name, shots, trials) for shots, trials in found.items()]


def trial(built: Selection, old: Photos, new: Photos, shots: int, seed: int) -> dict[str, Any]:
    """Accuracy in percent on the test photos of the new and the old session, at every stage."""
    rows, labels = draw(new, shots, seed)
    statistics = built.statistics.copy()
    statistics.add(rows, labels)
    solver, parameters, classes = built.solver, built.parameters, built.last_layer.labels
    adaptation = adapt(solver, parameters, statistics, rows, labels, classes, {})
    leaving = adapt(solver, parameters, statistics, rows, labels, classes, {}, leave_old=True)
    alone = Statistics()
    alone.add(rows, labels)
    layers = {
        "as built": built.last_layer,
        "taught": relearn(built.last_layer, statistics, parameters),
        "adapted": adapted(built, statistics, rows, labels, adaptation),
        "new only": adapted(built, statistics, rows, labels, leaving),
        "alone": relearn(built.last_layer, alone, parameters),
    }
    return {
        "new": {stage: accuracy(layer, new) for stage, layer in layers.items()},
        "old": {stage: accuracy(layer, old) for stage, layer in layers.items()},
        "chosen": adaptation.helps,
    }


def adapted(
    built: Selection, statistics: Statistics, rows: np.ndarray, labels: list[str], adaptation: Adaptation
) -> LastLayer:
    condition_weights = ConditionWeights.of(rows, labels, adaptation.halvings, adaptation.spanned)
    return relearn(built.last_layer, statistics, built.parameters, condition_weights=condition_weights)


def draw(photos: Photos, shots: int, seed: int) -> tuple[np.ndarray, list[str]]:
    random = np.random.default_rng(seed)
    chosen = np.concatenate(
        [random.permutation(np.flatnonzero(photos.train_labels == label))[:shots] for label in photos.labels]
    )
    return photos.train[chosen], photos.train_labels[chosen].tolist()


def accuracy(layer: LastLayer, photos: Photos) -> float:
    found = np.array(layer.labels)[layer.scores(photos.test).argmax(axis=1)]
    return 100 * float((found == photos.test_labels).mean())


def summary(name: str, shots: int, trials: list[dict[str, Any]]) -> dict[str, Any]:
    means = {
        where: {stage: round(float(np.mean([each[where][stage] for each in trials])), 1) for stage in STAGES}
        for where in ("new", "old")
    }
    gains = [each["new"]["adapted"] - each["new"]["taught"] for each in trials]
    return {
        "data": name,
        "pictures": shots,
        **means,
        "adapted_share": round(float(np.mean([each["chosen"] for each in trials])), 2),
        "worst_gain": round(min(gains), 1),
        "best_gain": round(max(gains), 1),
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"Accuracy in percent on the new session (on the old one), {result['backbone']}, {result['seeds']} seeds",
        f"{'':32}" + "".join(f"{stage:>16}" for stage in STAGES) + f"{'chosen':>8}{'gain, worst to best':>22}",
    ]
    for row in result["rows"]:
        cells = [f"{row['new'][stage]:.1f} ({row['old'][stage]:.1f})" for stage in STAGES]
        gains = f"{row['worst_gain']:+.1f} to {row['best_gain']:+.1f}"
        lines.append(
            f"{row['data']:20}{row['pictures']:3} a class"
            + "".join(f"{cell:>16}" for cell in cells)
            + f"{row['adapted_share']:>8.0%}{gains:>22}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
