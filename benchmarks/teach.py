"""Compares the cost of teaching one picture, apart from its embedding, with other methods, on one machine in one run.

    python -m benchmarks.teach [--pictures 100] [--folder FOLDER] [--json]

An embedding has 1280 numbers. Of 20 classes, 15 exist before, with 60 pictures each, and 5 are taught here. "taught" is
the time until the method has accepted the picture (for edgetl: until it is on the disk), "live" the time from then
until predictions use it. Peers: scikit-learn's SGDClassifier.partial_fit and LogisticRegression, refit on all
embeddings, and streaming LDA as in Avalanche (Hayes and Kanan 2020), whose weights need the pseudo-inverse of the
covariance. None of the peers stores anything on the disk. The state must be on the disk that is to be measured:
`--folder`.

OpenBLAS threads spin while they wait for each other. If other programs keep the processor busy, as the camera and
interpreter of a device do, one thread is by far faster than two: OPENBLAS_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.synthetic import ZERO_POINT, draw, pack_synthetic
from edgetl.learners import to_grid
from edgetl.runtime.learning import Learner

DIMENSION, OLD, CLASSES, PER_CLASS = 1280, 15, 20, 60
TAUGHT_MS, LIVE_MS = 1.0, 60.0
"""The limit for edgetl."""
SLOW_PICTURES = 2
"""The number of pictures measured for peers that take seconds per picture."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pictures", type=int, default=100)
    parser.add_argument("--folder", type=Path, default=Path.cwd(), help="a folder on the disk to measure")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    task = Task(options.pictures)
    with tempfile.TemporaryDirectory(dir=options.folder) as folder:
        ours, about = edgetl_row(task, Path(folder))
    rows = [ours, sgd_row(task), logistic_row(task), slda_row(task)]
    if options.json:
        print(json.dumps({"rows": rows, **about}))
    else:
        print(table(rows), *(f"{name.replace('_', ' ')}: {value}" for name, value in about.items()), sep="\n")


class Task:
    """The existing pictures, those to teach one by one, and the test pictures."""

    def __init__(self, pictures: int) -> None:
        raw, labels = draw(CLASSES, PER_CLASS, DIMENSION, seed=1)
        old = np.array([int(label.split()[1]) < OLD for label in labels])
        self.old_raw, self.old_labels = raw[old], [label for label, there in zip(labels, old) if there]
        raw, labels = draw(CLASSES, 40, DIMENSION, seed=2)
        new = [index for index, label in enumerate(labels) if int(label.split()[1]) >= OLD]
        order = np.random.default_rng(0).permutation(new)[:pictures]
        self.raw, self.labels = raw[order], [labels[index] for index in order]
        self.test_raw, self.test_labels = draw(CLASSES, 25, DIMENSION, seed=3)
        self.names = np.unique([*self.old_labels, *self.labels])

    def accuracy(self, predicted: Any) -> float:
        return float(np.mean(np.asarray(predicted) == self.test_labels))


def edgetl_row(task: Task, folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    bundle = pack_synthetic(folder / "synthetic.edgetl", OLD, PER_CLASS, DIMENSION)
    with Learner(bundle, state=folder / "state") as learner:
        learner.last_layer()
        learner.statistics()
        burst, taught, live = [], [], []
        for row, label in zip(task.raw, task.labels):
            taught.append(seconds(lambda row=row, label=label: learner.teach_embeddings(row, label)))
            live.append(seconds(learner.last_layer))
        layer = learner.last_layer()
        size = learner.status().size_bytes
        for row, label in zip(task.raw, task.labels):
            burst.append(seconds(lambda row=row, label=label: learner.teach_embeddings(row, label)))
    predicted = [layer.labels[slot] for slot in layer.scores(to_grid(task.test_raw, ZERO_POINT)).argmax(axis=1)]
    with tempfile.TemporaryDirectory(dir="/dev/shm") as memory, Learner(bundle, state=Path(memory)) as learner:
        in_memory = [
            seconds(lambda row=row, label=label: learner.teach_embeddings(row, label))
            for row, label in zip(task.raw, task.labels)
        ]
    return line("edgetl, exact and on the disk", taught, live, task.accuracy(predicted)), {
        "one_sync_of_this_disk_ms": milliseconds(sync_seconds(folder)),
        "taught_in_a_burst_ms": milliseconds(burst),
        "taught_where_syncing_is_free_ms": milliseconds(in_memory),
        "state_MB": round(size / 1e6, 2),
        "blas_threads": os.environ.get("OPENBLAS_NUM_THREADS", "as many as cores"),
    }


def sync_seconds(folder: Path) -> list[float]:
    """The time the disk needs to write and sync 8 kB, which every acknowledgement requires."""
    with open(folder / "sync", "wb") as file:

        def write() -> None:
            file.write(bytes(8192))
            file.flush()
            os.fdatasync(file.fileno())

        return [seconds(write) for _ in range(50)]


def sgd_row(task: Task) -> dict[str, Any]:
    from sklearn.linear_model import SGDClassifier

    model = SGDClassifier(loss="log_loss", random_state=0)
    for _ in range(5):
        model.partial_fit(unit(task.old_raw), task.old_labels, classes=task.names)
    taught = [
        seconds(lambda row=row, label=label: model.partial_fit(unit(row[None]), [label]))
        for row, label in zip(task.raw, task.labels)
    ]
    return line("scikit-learn SGD, partial_fit", taught, None, task.accuracy(model.predict(unit(task.test_raw))))


def logistic_row(task: Task) -> dict[str, Any]:
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=100, max_iter=200)
    known, labels, taught = list(task.old_raw), list(task.old_labels), []
    for number, (row, label) in enumerate(zip(task.raw, task.labels)):
        known.append(row)
        labels.append(label)
        if number >= len(task.raw) - SLOW_PICTURES:
            taught.append(seconds(lambda: model.fit(unit(np.stack(known)), labels)))
    accuracy = task.accuracy(model.predict(unit(task.test_raw)))
    return line("scikit-learn logistic regression, refit", taught, None, accuracy)


def slda_row(task: Task) -> dict[str, Any]:
    """Running means and covariance, one rank-one update per picture, as in avalanche.training.StreamingLDA."""
    means, counts = np.zeros((len(task.names), DIMENSION)), np.zeros(len(task.names))
    covariance, total = np.zeros((DIMENSION, DIMENSION)), 0
    slots = {name: slot for slot, name in enumerate(task.names)}

    def learn(row: np.ndarray, label: str) -> None:
        nonlocal covariance, total
        slot, x = slots[label], unit(row[None])[0]
        offset = x - means[slot]
        covariance = (total * covariance + np.outer(offset, offset) * total / (total + 1)) / (total + 1)
        means[slot] += offset / (counts[slot] + 1)
        counts[slot] += 1
        total += 1

    def solve() -> tuple[np.ndarray, np.ndarray]:
        shrunk = (1 - 1e-4) * covariance + 1e-4 * np.eye(DIMENSION)
        weights = np.linalg.pinv(shrunk) @ means.T
        return weights, -0.5 * (means.T * weights).sum(axis=0)

    for row, label in zip(task.old_raw, task.old_labels):
        learn(row, label)
    taught = [seconds(lambda row=row, label=label: learn(row, label)) for row, label in zip(task.raw, task.labels)]
    live = [seconds(solve)]
    weights, bias = solve()
    predicted = task.names[(unit(task.test_raw) @ weights + bias).argmax(axis=1)]
    return line("streaming LDA, pseudo-inverse", taught, live, task.accuracy(predicted))


def unit(raw: np.ndarray) -> np.ndarray:
    values = raw.astype(np.float64) - ZERO_POINT
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def seconds(act: Callable[[], Any]) -> float:
    start = time.perf_counter()
    act()
    return time.perf_counter() - start


def milliseconds(times: list[float]) -> dict[str, float]:
    return {"p50": round(1000 * float(np.median(times)), 3), "p95": round(1000 * float(np.quantile(times, 0.95)), 3)}


def line(method: str, taught: list[float], live: list[float] | None, accuracy: float) -> dict[str, Any]:
    zero = {"p50": 0.0, "p95": 0.0}
    return {
        "method": method,
        "taught_ms": milliseconds(taught),
        "live_ms": milliseconds(live) if live else zero,
        "accuracy": round(accuracy, 4),
    }


def table(rows: list[dict[str, Any]]) -> str:
    first = rows[0]["taught_ms"]["p50"] + rows[0]["live_ms"]["p50"]
    lines = [f"{'':42}{'taught ms':>12}{'live ms':>12}{'together':>12}{'accuracy':>10}"]
    for row in rows:
        taught, live = row["taught_ms"]["p50"], row["live_ms"]["p50"]
        lines.append(
            f"{row['method']:42}{taught:12.2f}{live:12.2f}{(taught + live) / first:11.1f}x{row['accuracy']:10.1%}"
        )
    ours = rows[0]
    within = ours["taught_ms"]["p50"] <= TAUGHT_MS and ours["live_ms"]["p50"] <= LIVE_MS
    verdict = "within" if within else "beyond"
    lines.append(f"edgetl is {verdict} its target: {TAUGHT_MS:g} ms until taught, {LIVE_MS:g} ms more until live")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
