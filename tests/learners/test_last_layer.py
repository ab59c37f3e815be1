"""A last layer predicts, measures novelty, is stored as arrays, and is solved again from changed statistics."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from edgetl.errors import IntegrityError, LearningError, OptionError, UnknownNameError
from edgetl.learners import SOLVERS, LastLayer, Statistics, choose, relearn
from tests.learners.conftest import name

LABELS = tuple(name(label) for label in range(4))


@pytest.fixture(scope="module")
def selection(world_module):
    rows, labels = world_module.taught({0: 60, 1: 60, 2: 60, 3: 60}, 0)
    return choose(rows, labels, np.arange(240) % 5)


@pytest.fixture(scope="module")
def world_module(world):
    return world


@pytest.fixture
def layer(selection) -> LastLayer:
    return selection.last_layer


class TestPredicting:
    def test_probabilities_sum_to_one_and_follow_the_scores(self, layer, world):
        rows = world.draw(1, 50, 1)
        probabilities, scores = layer.probabilities(rows), layer.scores(rows)
        assert probabilities.dtype == scores.dtype == np.float32
        assert np.abs(probabilities.sum(axis=1) - 1).max() < 1e-6
        assert (probabilities.argmax(axis=1) == scores.argmax(axis=1)).all()

    def test_a_single_embedding_gives_the_same_as_in_a_batch(self, layer, world):
        rows = world.draw(2, 9, 1)
        for method in (layer.scores, layer.probabilities, layer.novelty):
            assert np.allclose(method(rows[4])[0], method(rows)[4], atol=1e-4)

    def test_predict_gives_probabilities_and_novelty_together(self, layer, world):
        rows = world.draw(2, 9, 1)
        probabilities, novelty = layer.predict(rows)
        assert np.allclose(probabilities, layer.probabilities(rows), atol=1e-5)
        assert np.allclose(novelty, layer.novelty(rows), atol=1e-3)
        assert layer.predict(rows[4])[0].shape == (1, len(LABELS))

    def test_enormous_scores_do_not_overflow(self, layer, world):
        steep = replace(layer, temperature=1e-6)
        assert np.isfinite(steep.probabilities(world.draw(0, 20, 1))).all()


class TestNovelty:
    def test_is_the_share_of_known_images_that_look_less_unusual(self, layer, world):
        known = np.concatenate([layer.novelty(world.draw(label, 200, 2)) for label in range(4)])
        assert 0 <= known.min() <= known.max() <= 1
        assert abs(np.median(known) - 0.5) < 0.1
        assert (known > layer.novelty_threshold).mean() < 0.08

    def test_images_of_unknown_classes_are_more_novel(self, layer, world):
        known = np.concatenate([layer.novelty(world.draw(label, 100, 2)) for label in range(4)])
        unknown = np.concatenate([layer.novelty(world.draw(label, 200, 2)) for label in (4, 5)])
        assert (unknown[:, None] > known).mean() > 0.7

    def test_an_entirely_different_image_is_novel(self, layer):
        strange = np.zeros((1, 48), np.int16)
        strange[0, ::7] = -1500
        assert layer.novelty(strange)[0] > layer.novelty_threshold


class TestStoring:
    def test_a_round_trip_keeps_every_prediction(self, layer, world):
        back = LastLayer.from_arrays(layer.to_arrays(), layer.labels, layer.solver)
        rows = world.draw(3, 20, 1)
        assert np.array_equal(back.probabilities(rows), layer.probabilities(rows))
        assert np.array_equal(back.novelty(rows), layer.novelty(rows))
        assert back.novelty_threshold == pytest.approx(layer.novelty_threshold)

    def test_all_arrays_are_float32_in_row_order(self, layer):
        for array in layer.to_arrays().values():
            assert array.dtype == np.float32
            assert array.flags.c_contiguous

    @pytest.mark.parametrize("key", sorted({
        "weights", "bias", "temperature", "novelty_directions", "novelty_weights", "novelty_bias",
        "novelty_scales", "novelty_quantiles", "novelty_threshold",
    }))  # fmt: skip
    @pytest.mark.parametrize(
        "spoil",
        [
            lambda a: None,
            lambda a: a * np.float32(np.nan),
            lambda a: a.astype(np.float64),
            lambda a: a[..., None],
            lambda a: np.concatenate([a, a]),
            lambda a: a[:0],
            lambda a: np.array([object()]),
        ],
        ids=["missing", "nan", "float64", "deeper", "twice", "empty", "object"],
    )
    def test_an_invalid_array_is_refused_in_one_line(self, layer, key, spoil):
        arrays = layer.to_arrays()
        spoilt = spoil(arrays[key])
        arrays = {name: array for name, array in arrays.items() if name != key}
        if spoilt is not None:
            arrays[key] = spoilt
        with pytest.raises(IntegrityError) as refused:
            LastLayer.from_arrays(arrays, layer.labels, layer.solver)
        assert "\n" not in str(refused.value)

    @pytest.mark.parametrize("labels", [LABELS[:3], (*LABELS, "more"), ("a", "a", "b", "c"), ()])
    def test_labels_that_do_not_fit_are_refused(self, layer, labels):
        with pytest.raises(IntegrityError):
            LastLayer.from_arrays(layer.to_arrays(), labels, layer.solver)

    @pytest.mark.parametrize(
        ("key", "value"),
        [("temperature", 0), ("temperature", -1), ("novelty_threshold", 1.5), ("novelty_scales", 0)],
    )
    def test_numbers_out_of_range_are_refused(self, layer, key, value):
        arrays = layer.to_arrays()
        arrays[key] = np.full_like(arrays[key], value)
        with pytest.raises(IntegrityError):
            LastLayer.from_arrays(arrays, layer.labels, layer.solver)


class TestRelearning:
    def test_unchanged_statistics_give_the_same_layer(self, selection):
        again = relearn(selection.last_layer, selection.statistics, selection.parameters)
        for one, other in zip(selection.last_layer.to_arrays().values(), again.to_arrays().values()):
            assert np.array_equal(one, other)

    @pytest.mark.parametrize("solver", sorted(SOLVERS))
    def test_a_new_class_becomes_known(self, selection, world, solver):
        statistics = selection.statistics.copy()
        statistics.add(world.draw(4, 15, 8), name(4))
        before = replace(selection.last_layer, solver=solver)
        after = relearn(before, statistics, {})
        rows = world.draw(4, 100, 9)
        assert after.labels == (*LABELS, name(4))
        assert (after.probabilities(rows).argmax(axis=1) == 4).mean() > 0.4
        assert after.novelty(rows).mean() < before.novelty(rows).mean()

    def test_a_single_class_can_be_solved(self, selection, world):
        statistics = Statistics()
        statistics.add(world.draw(0, 3, 8), "only")
        layer = relearn(selection.last_layer, statistics, selection.parameters)
        assert layer.probabilities(world.draw(0, 1, 1)).tolist() == [[1.0]]
        assert 0 <= layer.novelty(world.draw(0, 1, 1))[0] <= 1

    def test_an_error_names_the_cause(self, selection):
        layer, statistics = selection.last_layer, selection.statistics
        with pytest.raises(UnknownNameError, match="did you mean 'ridge'"):
            relearn(replace(layer, solver="rigde"), statistics, {})
        with pytest.raises(OptionError, match="does not take"):
            relearn(layer, statistics, {"shrinkage": 0.3, "momentum": 1})
        with pytest.raises(OptionError, match="shrinkage is 2"):
            relearn(layer, statistics, {"shrinkage": 2})
        with pytest.raises(LearningError, match="nothing was taught"):
            relearn(layer, Statistics(), {})
