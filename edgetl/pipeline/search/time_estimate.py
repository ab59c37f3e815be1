"""Predicts how long a trial will take, from how long earlier trials took."""

from __future__ import annotations

from edgetl.conversion import PruningOptions
from edgetl.pipeline.search.space import Recipe

COMPILE_SECONDS = 20.0
"""Converting a backbone to int8 and float32; used until a trial has shown how fast this machine is."""

SECONDS_PER_MAC = 1e-11
"""Embedding a photo, reading it included; measured with EfficientNet-Lite0 on two cores."""

TRAINING_MACS = 4.0
"""The time of one photo in one epoch of fine-tuning, relative to embedding it."""


class TimeEstimate:
    """Expected seconds of a trial: a rough formula, scaled by the measured times of trials of the same kind.

    Trials with and without training are the two kinds.
    """

    def __init__(self, photos: int) -> None:
        self._photos = photos
        self._expected: dict[bool, float] = {}
        self._taken: dict[bool, float] = {}

    def expect(self, recipe: Recipe) -> float:
        """Seconds that the trial is expected to take."""
        kind = recipe.epochs > 0
        scale = self._taken[kind] / self._expected[kind] if kind in self._taken else 1.0
        return scale * self._formula(recipe)

    def learn(self, recipe: Recipe, seconds: float) -> None:
        """Adjust the estimate by the seconds that a trial took."""
        kind = recipe.epochs > 0
        self._expected[kind] = self._expected.get(kind, 0.0) + self._formula(recipe)
        self._taken[kind] = self._taken.get(kind, 0.0) + seconds

    def _formula(self, recipe: Recipe) -> float:
        epochs = _pruning_epochs(recipe) if recipe.pruned else recipe.epochs  # its fine-tuning was a trial of its own
        passes = 1 + TRAINING_MACS * epochs
        compilations = 1 + (recipe.epochs > 0) + (recipe.pruned > 0)
        return compilations * COMPILE_SECONDS + passes * self._photos * recipe.macs * SECONDS_PER_MAC


def _pruning_epochs(recipe: Recipe) -> float:
    """Epochs of the unpruned backbone that take as long as the rounds of pruning; the teacher adds a third."""
    pruning = PruningOptions(recipe.pruned)
    epochs = pruning.epochs * (pruning.rounds - 1) + pruning.last_epochs
    return epochs * (1 - recipe.pruned + 1 / 3)
