"""Small synthetic embeddings: classes that differ a little, in a space with uneven variance."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest

from edgetl.learners import Statistics, to_grid


@dataclass(frozen=True)
class World:
    """Draws embeddings of a class; `d` numbers each, never negative, like those of a real backbone."""

    means: np.ndarray
    mixing: np.ndarray

    def draw(self, label: int, n: int, seed: int) -> np.ndarray:
        noise = np.random.default_rng([seed, label]).normal(size=(n, len(self.mixing))) @ self.mixing
        return to_grid(np.maximum(self.means[label] + noise, 0).astype(np.float32))

    def taught(self, counts: dict[int, int], seed: int) -> tuple[np.ndarray, list[str]]:
        rows = np.concatenate([self.draw(label, n, seed) for label, n in counts.items()])
        return rows, [name(label) for label, n in counts.items() for _ in range(n)]

    def statistics(self, counts: dict[int, int], seed: int) -> Statistics:
        statistics = Statistics()
        statistics.add(*self.taught(counts, seed))
        return statistics


def name(label: int) -> str:
    return f"class {label}"


def make_world(classes: int, d: int, apart: float) -> World:
    rng = np.random.default_rng(7)
    mixing = rng.normal(size=(d, d)) * np.geomspace(3, 0.1, d)[:, None] / np.sqrt(d)
    return World(6 + apart * rng.normal(size=(classes, d)), mixing)


@pytest.fixture(scope="session")
def world() -> World:
    return make_world(classes=6, d=48, apart=0.45)
