"""Measures forgetting: classes, or sessions, are learned one after another and never shown again.

    python -m benchmarks.incremental --data photos/ [--data more/] [--backbone NAME] [--weights FILE] [--json]

Each folder has `train/` and `test/`, each with a folder per class; its classes arrive one by one after the first two.
A folder of such folders contains sessions, which arrive one by one, each with all of its classes. All methods get the
same int8 embeddings, of length 1, in the same order; several orders are drawn.

Accuracy is over all test photos at the end. Forgetting is defined by Chaudhry et al. (Riemannian Walk for Incremental
Learning, ECCV 2018): the best accuracy of a class, or session, before the last step, less its accuracy after it; the
mean over all that were there before. More classes are harder to distinguish for any learner, which also counts as
forgetting; joint training on all photos so far, repeated at every step, shows how much of it is that.

edgetl keeps the solver of a model built on what arrived first, and its shrinkage follows the statistics. The benchmark
asserts that it equals its joint training, in the statistics and in every prediction of every step. Imprinting is the
nearest normalised class mean (Qi et al., CVPR 2018), as on Coral boards. Softmax is gradient descent on what arrives
and is replayed.
"""

from __future__ import annotations

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import numpy as np

from benchmarks.embedded import Photos, add_arguments, embed, parts
from benchmarks.novelty import stratified
from edgetl.learners import GRID, SOLVERS, Selection, Statistics, choose, relearn
from edgetl.learners.softmax_regression import SoftmaxOptions, SoftmaxRegression

FIRST_CLASSES = 2
REPLAYED = 20
OURS, OURS_JOINTLY = "edgetl", "edgetl, joint"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--orders", type=int, default=5)
    arguments = parser.parse_args()
    rows = []
    for folder in arguments.data:
        sets = [embed(part, arguments.backbone, arguments.weights) for part in parts(folder)]
        rows += compare(folder.name, sets, arguments.orders)
    result = {"backbone": arguments.backbone, "orders": arguments.orders, "rows": rows}
    print(json.dumps(result, indent=2) if arguments.json else table(result))


class Arrival(NamedTuple):
    """What arrives in one step, and the test photos, by class or session, that can be classified from then on."""

    rows: np.ndarray
    labels: list[str]
    tests: dict[str, tuple[np.ndarray, np.ndarray]]


def compare(name: str, sets: list[Photos], orders: int) -> list[dict[str, Any]]:
    """A row per method: mean and standard deviation of accuracy and forgetting over the orders."""
    arriving, arrive = ("classes", classes) if len(sets) == 1 else ("sessions", sessions)
    found: dict[str, list[tuple[float, float]]] = defaultdict(list)
    for seed in range(orders):
        for method, measured in measure(list(arrive(sets, seed)), seed).items():
            found[method].append(measured)
    return [row(f"{name}, {arriving}", method, measured) for method, measured in found.items()]


def classes(sets: list[Photos], seed: int) -> Iterator[Arrival]:
    (photos,) = sets
    order = np.random.default_rng(seed).permutation(photos.labels).tolist()
    for labels in (order[:FIRST_CLASSES], *([label] for label in order[FIRST_CLASSES:])):
        learned = np.isin(photos.train_labels, labels)
        is_test = {label: photos.test_labels == label for label in labels}
        yield Arrival(
            photos.train[learned],
            photos.train_labels[learned].tolist(),
            {label: (photos.test[chosen], photos.test_labels[chosen]) for label, chosen in is_test.items()},
        )


def sessions(sets: list[Photos], seed: int) -> Iterator[Arrival]:
    for number in np.random.default_rng(seed).permutation(len(sets)):
        photos = sets[number]
        yield Arrival(photos.train, photos.train_labels.tolist(), {photos.name: (photos.test, photos.test_labels)})


def measure(arrivals: list[Arrival], seed: int) -> dict[str, tuple[float, float]]:
    """The accuracy and the forgetting, in percent, of each method."""
    learners = methods(choose_all(arrivals[0].rows, arrivals[0].labels), seed)
    answered = {name: answers(learner, arrivals) for name, learner in learners.items()}
    assert learners[OURS].statistics == learners[OURS_JOINTLY].statistics
    for step, jointly in zip(answered[OURS], answered[OURS_JOINTLY]):
        assert all(np.array_equal(step[group], jointly[group]) for group in jointly)
    return {name: score(steps, arrivals) for name, steps in answered.items()}


def answers(learner: Learner, arrivals: list[Arrival]) -> list[dict[str, np.ndarray]]:
    """The predictions after each step for the test photos of every class or session so far."""
    steps, tests = [], {}
    for arrival in arrivals:
        learner.learn(arrival.rows, arrival.labels)
        tests |= arrival.tests
        steps.append({group: learner.predict(rows) for group, (rows, _) in tests.items()})
    return steps


def score(steps: list[dict[str, np.ndarray]], arrivals: list[Arrival]) -> tuple[float, float]:
    """Accuracy over all test photos after the last step, and forgetting, both in percent."""
    truth = {group: labels for arrival in arrivals for group, (_, labels) in arrival.tests.items()}
    hits = [{group: answer == truth[group] for group, answer in step.items()} for step in steps]
    *before, last = [{group: 100 * float(right.mean()) for group, right in step.items()} for step in hits]
    lost = [max(step[group] for step in before if group in step) - last[group] for group in before[-1]]
    return 100 * float(np.concatenate(list(hits[-1].values())).mean()), float(np.mean(lost))


class Learner(Protocol):
    """A method that learns from what arrives."""

    def learn(self, rows: np.ndarray, labels: list[str]) -> None: ...

    def predict(self, rows: np.ndarray) -> np.ndarray: ...


def methods(built: Selection, seed: int) -> dict[str, Any]:
    """New learners by name; some need what is built, or the seed."""
    return {
        OURS: Exact(built),
        "imprinting": Imprinting(),
        "softmax, no replay": Softmax(0, seed),
        f"softmax, replay of {REPLAYED} a class": Softmax(REPLAYED, seed),
        OURS_JOINTLY: Joint(lambda: Exact(built)),
        "edgetl, joint, rebuilt": Joint(Rebuilt),
        "softmax, joint": Joint(lambda: Softmax(0, seed)),
    }


class Exact:
    """edgetl on a device: the statistics so far, with the solver of the model that was built first."""

    def __init__(self, built: Selection) -> None:
        self.built = built
        self.statistics = Statistics()

    def learn(self, rows: np.ndarray, labels: list[str]) -> None:
        self.statistics.add(rows, labels)
        self.layer = relearn(self.built.last_layer, self.statistics, self.built.parameters)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.array(self.layer.labels)[self.layer.scores(rows).argmax(axis=1)]


class Rebuilt:
    """edgetl on a host: the solver is chosen once, on the given photos."""

    def learn(self, rows: np.ndarray, labels: list[str]) -> None:
        self.layer = choose_all(rows, labels).last_layer

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.array(self.layer.labels)[self.layer.scores(rows).argmax(axis=1)]


class Imprinting:
    def __init__(self) -> None:
        self.statistics = Statistics()

    def learn(self, rows: np.ndarray, labels: list[str]) -> None:
        self.statistics.add(rows, labels)
        self.weights, self.bias = SOLVERS["nearest-mean"].solve(self.statistics)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.array(self.statistics.labels)[(rows / GRID @ self.weights + self.bias).argmax(axis=1)]


class Softmax:
    def __init__(self, replay: int, seed: int) -> None:
        self.model = SoftmaxRegression(SoftmaxOptions(replay=replay, seed=seed))

    def learn(self, rows: np.ndarray, labels: list[str]) -> None:
        self.model.learn(rows, labels)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return np.array(self.model.labels)[self.model.scores(rows).argmax(axis=1)]


class Joint:
    """A learner that restarts at every step, with everything so far."""

    def __init__(self, begin: Callable[[], Learner]) -> None:
        self.begin = begin
        self.rows: list[np.ndarray] = []
        self.labels: list[str] = []

    def learn(self, rows: np.ndarray, labels: list[str]) -> None:
        self.rows.append(rows)
        self.labels += labels
        self.learner = self.begin()
        self.learner.learn(np.concatenate(self.rows), self.labels)

    def predict(self, rows: np.ndarray) -> np.ndarray:
        return self.learner.predict(rows)

    @property
    def statistics(self) -> Statistics:
        return self.learner.statistics


def choose_all(rows: np.ndarray, labels: list[str]) -> Selection:
    return choose(rows, labels, stratified(np.array(labels)))


def row(data: str, method: str, measured: list[tuple[float, float]]) -> dict[str, Any]:
    accuracy, forgotten = np.transpose(measured)
    return {
        "data": data,
        "method": method,
        "accuracy": round(float(accuracy.mean()), 2),
        "accuracy_deviation": round(float(accuracy.std()), 2),
        "forgetting": round(float(forgotten.mean()), 2),
        "forgetting_deviation": round(float(forgotten.std()), 2),
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"Percent, mean and standard deviation over {result['orders']} orders, {result['backbone']}",
        f"{'':62}{'accuracy':>16}{'forgetting':>16}",
    ]
    for each in result["rows"]:
        accuracy, forgotten = (
            f"{each[key]:.1f} ± {each[f'{key}_deviation']:.1f}" for key in ("accuracy", "forgetting")
        )
        lines.append(f"{each['data']:30}{each['method']:32}{accuracy:>16}{forgotten:>16}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
