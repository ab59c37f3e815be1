"""The prediction of how long a trial takes."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.search.time_estimate import TimeEstimate


def test_time_estimates_follow_the_times_of_similar_trials():
    costs, recipe = TimeEstimate(photos=100), Recipe("any", 32, Path("any"), 10**8)
    before = costs.expect(recipe)
    costs.learn(recipe, 3 * before)
    assert costs.expect(recipe) == pytest.approx(3 * before)
    trained = Recipe("any", 32, Path("any"), 10**8, epochs=3)
    assert before < costs.expect(trained) < costs.expect(Recipe("any", 32, Path("any"), 10**8, 3, pruned=0.5))
