"""The solver is chosen, and the last layer calibrated, by cross-validation."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.errors import LearningError
from edgetl.learners import SOLVERS, Statistics, choose, relearn
from tests.learners.conftest import make_world, name

COUNTS = {0: 60, 1: 25, 2: 40, 3: 60}


def spread(n: int, k: int = 5) -> np.ndarray:
    return np.arange(n) % k


@pytest.fixture(scope="module")
def taught():
    return make_world(classes=6, d=48, apart=0.45).taught(COUNTS, 0)


@pytest.fixture(scope="module")
def selection(taught):
    rows, labels = taught
    return choose(rows, labels, spread(len(rows)))


def test_the_last_layer_is_solved_from_all_embeddings(selection, taught):
    everything = Statistics()
    everything.add(*taught)
    assert selection.statistics == everything
    weights, bias = SOLVERS[selection.solver].solve(selection.statistics, **selection.parameters)
    assert np.array_equal(weights, selection.last_layer.weights)
    assert np.array_equal(bias, selection.last_layer.bias)


def test_labels_are_in_alphabetical_order_whatever_came_first(taught):
    rows, labels = taught
    turned = choose(rows[::-1], labels[::-1], spread(len(rows))[::-1])
    assert turned.last_layer.labels == turned.statistics.labels == tuple(sorted(set(labels)))


def test_every_solver_was_tried_and_the_best_comes_first(selection):
    assert {result.solver for result in selection.results} == set(SOLVERS)
    losses = [result.log_loss for result in selection.results]
    assert losses == sorted(losses)
    assert all(0 <= result.accuracy <= 1 for result in selection.results)


def test_teaching_classes_later_equals_building_on_all_of_them(selection, taught):
    rows, labels = taught
    first = np.isin(labels, [name(0), name(1)])
    built = choose(rows[first], [label for label in labels if label in (name(0), name(1))], spread(int(first.sum())))
    statistics = built.statistics.copy()
    statistics.add(rows[~first], [label for label in labels if label not in (name(0), name(1))])
    layer = relearn(built.last_layer, statistics, built.parameters)
    assert layer.labels == selection.last_layer.labels
    assert np.array_equal(layer.weights, selection.last_layer.weights)
    assert np.array_equal(layer.bias, selection.last_layer.bias)


def test_the_same_input_gives_the_same_bits(selection, taught):
    rows, labels = taught
    again = choose(rows, labels, spread(len(rows)))
    for one, other in zip(selection.last_layer.to_arrays().values(), again.last_layer.to_arrays().values()):
        assert np.array_equal(one, other)
    assert np.array_equal(selection.out_of_fold_probabilities, again.out_of_fold_probabilities)


def test_out_of_fold_probabilities_sum_to_one_and_predict_accuracy_on_new_pictures(selection, world):
    p = selection.out_of_fold_probabilities
    assert p.shape == (sum(COUNTS.values()), 4)
    assert np.abs(p.sum(axis=1) - 1).max() < 1e-5
    truth = np.repeat(np.arange(4), list(COUNTS.values()))
    foretold = np.mean([(p.argmax(axis=1) == truth)[truth == k].mean() for k in range(4)])
    answers = [selection.last_layer.probabilities(world.draw(k, 200, 50)).argmax(axis=1) == k for k in range(4)]
    assert abs(foretold - np.mean(answers)) < 0.08


def test_confidence_is_calibrated(selection, world):
    probabilities = np.concatenate([selection.last_layer.probabilities(world.draw(k, 300, 51)) for k in range(4)])
    hits = probabilities.argmax(axis=1) == np.repeat(np.arange(4), 300)
    assert abs(probabilities.max(axis=1).mean() - hits.mean()) < 0.07


def test_ten_right_predictions_do_not_give_certainty(world):
    far_apart = make_world(classes=2, d=48, apart=5)
    rows, labels = far_apart.taught({0: 5, 1: 5}, 0)
    confidence = choose(rows, labels, spread(10)).out_of_fold_probabilities.max(axis=1)
    assert 0.8 < confidence.min() <= confidence.max() < 0.999


def test_fold_minus_one_is_learned_from_but_not_predicted(taught):
    rows, labels = taught
    folds = np.where(np.arange(len(rows)) % 4 == 0, 0, -1)
    selection = choose(rows, labels, folds)
    assert selection.out_of_fold_indices.tolist() == np.flatnonzero(folds == 0).tolist()
    assert selection.statistics.total == len(rows)


def test_a_held_out_embedding_does_not_leak_into_its_own_prediction(world):
    rows, labels = world.taught({0: 20, 1: 20}, 3)
    guessed = choose(rows, [labels[i] for i in np.random.default_rng(0).permutation(40)], spread(40))
    assert guessed.results[0].accuracy < 0.75


@pytest.mark.parametrize("n", [30, 120])
def test_fewer_or_more_embeddings_than_dimensions_give_the_same_scores(world, n):
    rows, labels = world.taught({0: n // 2, 1: n // 2}, 1)
    selection = choose(rows, labels, spread(n))
    rest = Statistics()
    kept = np.flatnonzero(spread(n) != 0)
    rest.add(rows[kept], [labels[i] for i in kept])
    weights, bias = SOLVERS[selection.solver].solve(rest, **selection.parameters)
    scores = rows[spread(n) == 0] / 4096 @ weights + bias
    layer = selection.last_layer
    odds = np.log(selection.out_of_fold_probabilities[spread(n) == 0]) * layer.temperature
    assert np.allclose(np.diff(odds), np.diff(scores), rtol=1e-2, atol=1e-2 * np.abs(scores).max())


def test_a_class_in_one_fold_only_is_accepted(world):
    rows, labels = world.taught({0: 20, 1: 20, 2: 1}, 4)
    selection = choose(rows, labels, spread(41))
    assert np.isfinite(selection.out_of_fold_probabilities).all()
    assert name(2) in selection.last_layer.labels


def test_two_embeddings_of_each_class_are_enough(world):
    rows, labels = world.taught({0: 2, 1: 2}, 5)
    selection = choose(rows, labels, np.array([0, 1, 0, 1]))
    assert np.isfinite(selection.last_layer.probabilities(rows)).all()


def test_equal_embeddings_and_dead_channels_are_accepted():
    rows = np.zeros((20, 16), np.int16)
    rows[::2, 0], rows[1::2, 1] = 4096, 4096
    selection = choose(rows, ["a", "b"] * 10, np.arange(20) // 2 % 5)
    assert selection.results[0].accuracy == pytest.approx(1)
    assert selection.last_layer.novelty(rows).max() <= 1


def test_rare_classes_weigh_as_much_as_common_ones(world):
    rows, labels = world.taught({0: 150, 1: 150, 2: 12}, 6)
    selection = choose(rows, labels, spread(len(rows)))
    rare = selection.last_layer.probabilities(world.draw(2, 200, 60)).argmax(axis=1) == 2
    assert rare.mean() > 0.4


@pytest.mark.parametrize(
    ("labels", "folds", "complaint"),
    [
        (["a"] * 4, [0, 0, 1, 1], "at least two"),
        (["a", "b", "a", "b"], [-1] * 4, "no embedding is in a fold"),
        (["a", "b", "a", "b"], [0, 1, 0, 1], "are outside fold 0"),
        (["a", "b"], [0, 1, 0, 1], "do not fit"),
    ],
)
def test_unusable_folds_and_labels_are_refused(world, labels, folds, complaint):
    with pytest.raises(LearningError, match=complaint):
        choose(world.draw(0, 4, 0), labels, np.array(folds))
