"""Finished trials for the tests of a search."""

from __future__ import annotations

from pathlib import Path

from edgetl.pipeline.search.ranking import FinishedTrial
from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.search.trial import TrialResult

BOARD = "rpi-zero2w"


def tried(name, cost, right, of=100, size=1000, probability=0.9):
    """A trial that is right on the first `right` of `of` photos."""
    answers = {str(photo): (photo < right, probability if photo < right else 0.1) for photo in range(of)}
    return FinishedTrial(Recipe(name, 32, Path(name), cost), TrialResult(1.0, cost, size, size, answers), cost)


def names(recipes):
    return [recipe.backbone for recipe in recipes]
