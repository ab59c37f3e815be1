"""The ranking of trials: which go on to more training, and which one is picked."""

from __future__ import annotations

import pytest

from edgetl.errors import DataError
from edgetl.pipeline.search.ranking import FinishedTrial, explain, promote, rank
from edgetl.pipeline.search.trial import TrialResult
from tests.pipeline.search.examples import names, tried


def test_the_fastest_of_the_models_within_one_standard_error_is_picked():
    trials = [tried("slow", 90, 96), tried("fast", 10, 95), tried("faster", 5, 80)]
    ranking = rank(trials)
    assert (ranking.best, ranking.pick) == (0, 1)
    assert "9.0 times faster" in explain(trials, ranking)


def test_under_a_latency_limit_the_most_accurate_model_is_picked():
    trials = [tried("slow", 90, 96), tried("fast", 10, 95), tried("confident", 80, 96, probability=0.99)]
    assert rank(trials, fast_enough=True).pick == 2


def test_an_equally_accurate_but_less_confident_model_is_not_picked():
    ranking = rank([tried("slow", 90, 96, probability=0.99), tried("fast", 10, 96, probability=0.6)])
    assert ranking.pick == 0


def test_only_photos_that_were_held_out_in_all_trials_count():
    whole = tried("whole", 10, 50)
    answers = {str(photo): (True, 0.9) for photo in range(40)}
    held_out = FinishedTrial(whole.recipe, TrialResult(1.0, 9, 9, 9, answers), 20)
    ranking = rank([whole, held_out])
    assert ranking.right.shape == (2, 40)
    assert ranking.pick == 0


def test_one_photo_is_not_enough_to_choose():
    with pytest.raises(DataError, match="found 1; add photos"):
        rank([tried("any", 1, 1, of=1)])


def test_trials_that_no_other_beats_are_on_the_front():
    trials = [tried("accurate", 90, 96), tried("fast", 10, 90), tried("beaten", 95, 90), tried("small", 95, 90, size=9)]
    assert rank(trials).front == {0, 1, 3}


def test_a_third_is_promoted_the_best_for_their_cost_first():
    trials = [tried("slow", 90, 96), tried("slower", 99, 95), tried("fast", 10, 90), tried("poor", 11, 40)]
    assert names(promote(trials)) == ["slow", "fast"]
    assert names(promote(trials, 1 / 4)) == ["slow"]
