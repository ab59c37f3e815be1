from __future__ import annotations

import math

import numpy as np
import pytest

from edgetl.evaluation import metrics


@pytest.fixture
def labels() -> np.ndarray:
    return np.random.default_rng(3).integers(0, 5, 400)


@pytest.fixture
def predicted(labels: np.ndarray) -> np.ndarray:
    random = np.random.default_rng(4)
    return np.where(random.random(labels.size) < 0.7, labels, random.integers(0, 5, labels.size))


@pytest.fixture
def confusion(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
    return metrics.confusion_matrix(labels, predicted, 5)


def test_figures_equal_those_of_scikit_learn(labels: np.ndarray, predicted: np.ndarray, confusion: np.ndarray) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    precision, recall, f1, support = sklearn.precision_recall_fscore_support(labels, predicted)

    assert np.array_equal(confusion, sklearn.confusion_matrix(labels, predicted))
    assert metrics.accuracy(confusion) == sklearn.accuracy_score(labels, predicted)
    assert metrics.balanced_accuracy(confusion) == pytest.approx(sklearn.balanced_accuracy_score(labels, predicted))
    assert np.allclose(metrics.precision(confusion), precision)
    assert np.allclose(metrics.recall(confusion), recall)
    assert np.allclose(metrics.f1(confusion), f1)
    assert np.array_equal(confusion.sum(axis=1), support)


def test_log_loss_equals_that_of_scikit_learn(labels: np.ndarray) -> None:
    sklearn = pytest.importorskip("sklearn.metrics")
    probabilities = np.random.default_rng(5).dirichlet(np.ones(5), labels.size)

    measured = metrics.log_loss(probabilities[np.arange(labels.size), labels])

    assert measured == pytest.approx(sklearn.log_loss(labels, probabilities))


def test_a_probability_of_zero_does_not_make_the_log_loss_infinite() -> None:
    assert metrics.log_loss(np.array([0.0, 1.0])) == pytest.approx(-math.log(1e-7) / 2)


def test_a_class_without_images_or_predictions_has_no_recall_or_precision() -> None:
    confusion = metrics.confusion_matrix(np.array([0, 0, 1]), np.array([0, 1, 1]), 3)

    assert np.isnan(metrics.recall(confusion)[2])
    assert np.isnan(metrics.precision(confusion)[2])
    assert metrics.balanced_accuracy(confusion) == 0.75


@pytest.mark.parametrize(
    ("successes", "n", "low", "high"),
    [  # Newcombe 1998, Statistics in Medicine 17:857, table I, method 3
        (81, 263, 0.2553, 0.3662),
        (15, 148, 0.0624, 0.1605),
        (0, 20, 0.0, 0.1611),
        (1, 29, 0.0061, 0.1718),
    ],
)
def test_the_wilson_interval_equals_published_values(successes: int, n: int, low: float, high: float) -> None:
    assert metrics.wilson(successes, n) == pytest.approx((low, high), abs=5e-5)


def test_the_wilson_interval_stays_within_zero_and_one() -> None:
    assert metrics.wilson(0, 5)[0] == 0.0
    assert metrics.wilson(5, 5)[1] == 1.0
    assert metrics.wilson(0, 0) == (0.0, 1.0)


def test_the_calibration_error_of_a_known_case_is_right() -> None:
    confidence = np.array([0.95, 0.95, 0.55, 0.55])
    correct = np.array([True, True, True, False])

    assert metrics.expected_calibration_error(confidence, correct) == pytest.approx((0.05 + 0.05) / 2)
    assert [entry.n for entry in metrics.reliability(confidence, correct)] == [2, 2]


def test_calibrated_predictions_have_hardly_any_calibration_error() -> None:
    random = np.random.default_rng(6)
    confidence = random.uniform(0.2, 1.0, 50_000)

    assert metrics.expected_calibration_error(confidence, random.random(50_000) < confidence) < 0.01


def test_bootstrap_intervals_contain_the_value_and_repeat_with_their_seed(confusion: np.ndarray) -> None:
    random = np.random.default_rng(7)
    confidence, correct = random.uniform(0.5, 1, 300), random.random(300) < 0.8
    of_label = random.uniform(0.1, 1, 300)

    for value, interval in (
        (metrics.balanced_accuracy(confusion), lambda: metrics.balanced_accuracy_interval(confusion, 1)),
        (
            metrics.expected_calibration_error(confidence, correct),
            lambda: metrics.calibration_error_interval(confidence, correct, seed=1),
        ),
        (metrics.log_loss(of_label), lambda: metrics.log_loss_interval(of_label, 1)),
    ):
        low, high = interval()
        assert low <= value <= high
        assert low < high
        assert interval() == (low, high)


def test_the_balanced_accuracy_of_balanced_classes_has_about_the_wilson_interval() -> None:
    confusion = np.full((4, 4), 5) + np.diag([60] * 4)

    assert metrics.balanced_accuracy_interval(confusion) == pytest.approx(metrics.wilson(4 * 65, 4 * 80), abs=0.01)


def test_a_perfect_score_still_has_an_interval() -> None:
    low, high = metrics.balanced_accuracy_interval(np.diag([10, 10]))

    assert (low, high) == pytest.approx(metrics.wilson(20, 20), abs=0.04)
    assert low < 0.9


def test_the_interval_contains_the_balanced_accuracy_when_the_only_image_of_a_class_was_wrong() -> None:
    confusion = np.array([[104, 0], [1, 0]])
    low, high = metrics.balanced_accuracy_interval(confusion)
    assert low < metrics.balanced_accuracy(confusion) < high
    assert high > 0.8, "one image proves little"


def test_mcnemar_is_the_exact_binomial_test() -> None:
    stats = pytest.importorskip("scipy.stats")
    for gained, lost in ((0, 0), (1, 0), (3, 9), (10, 10), (700, 640)):
        expected = stats.binomtest(gained, gained + lost, 0.5).pvalue if gained + lost else 1.0
        assert metrics.mcnemar(gained, lost) == pytest.approx(expected)


def test_a_paired_difference_counts_flips_both_ways() -> None:
    first = np.array([True] * 80 + [False] * 20)
    second = first.copy()
    second[:3], second[80:90] = False, True

    difference = metrics.paired_difference(first, second)

    assert (difference.n, difference.gained, difference.lost) == (100, 10, 3)
    assert difference.points == pytest.approx(7.0)
    # (11 - 4) / 102, plus and minus 1.96 times the root of (15/102 - (7/102)^2) / 102, by hand
    assert (difference.low, difference.high) == pytest.approx((-0.459, 14.185), abs=1e-3)
    assert difference.p_value == pytest.approx(0.0923, abs=1e-4)


def test_the_paired_interval_contains_the_truth_about_95_times_in_a_hundred() -> None:
    random = np.random.default_rng(8)
    held = 0
    for _ in range(1000):
        kind = random.random(100)
        difference = metrics.paired_difference(kind > 0.2, (kind > 0.27) | (kind < 0.04))
        held += difference.low <= -3 <= difference.high
    assert 920 <= held <= 990


def test_no_change_still_has_an_interval() -> None:
    same = np.array([True, False] * 50)

    difference = metrics.paired_difference(same, same)

    assert difference.points == 0
    assert difference.low == pytest.approx(-difference.high)
    assert difference.high > 0
    assert difference.p_value == 1.0
