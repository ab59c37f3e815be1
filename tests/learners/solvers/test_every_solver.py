"""The contract of a solver. Every module in edgetl/learners/solvers/ must pass it, without an edit here."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from edgetl.errors import LearningError, OptionError
from edgetl.learners import GRID, SOLVERS, Statistics, adapt, choose, relearn
from edgetl.learners import solvers as folder
from edgetl.learners.moments import Directions, Moments
from edgetl.learners.novelty import SHRINKAGE
from tests.learners.conftest import name
from tests.learners.solvers.scoring import COUNTS, accuracy, predicted

MODULES = {path.stem for path in Path(folder.__file__).parent.glob("*.py")} - {"__init__"}


@pytest.fixture(params=sorted(SOLVERS))
def solver(request):
    return SOLVERS[request.param]


def test_every_module_of_the_folder_is_a_solver():
    assert {module.__name__.rpartition(".")[2] for module in SOLVERS.values()} == MODULES
    assert {"nearest-mean", "ridge", "discriminant"} <= set(SOLVERS)


def test_no_file_outside_the_folder_lists_solvers():
    package = Path(folder.__file__).parents[2]
    outside = [path for path in package.rglob("*.py") if Path(folder.__file__).parent not in path.parents]
    names = [f'"{name}"' for name in SOLVERS]
    assert [path for path in outside if any(name in path.read_text() for name in names)] == []


class TestEverySolver:
    def test_names_itself(self, solver):
        assert SOLVERS[solver.NAME] is solver

    def test_returns_finite_float32_weights_and_bias(self, solver, world):
        weights, bias = solver.solve(world.statistics(COUNTS, 0))
        assert (weights.dtype, weights.shape) == (np.float32, (48, 4))
        assert (bias.dtype, bias.shape) == (np.float32, (4,))
        assert np.isfinite(weights).all()
        assert np.isfinite(bias).all()

    def test_takes_its_default_parameters(self, solver, world):
        statistics = world.statistics(COUNTS, 0)
        for one, other in zip(solver.solve(statistics, **solver.PARAMETERS), solver.solve(statistics)):
            assert np.array_equal(one, other)

    def test_gives_the_same_from_directions_as_from_statistics(self, solver, world):
        statistics = world.statistics(COUNTS, 0)
        directions = Directions.of(Moments.of(statistics), solver.PARAMETERS.get("shrinkage", SHRINKAGE))
        for one, other in zip(solver.from_directions(directions), solver.solve(statistics)):
            assert np.allclose(one, other, atol=1e-6 * np.abs(other).max())

    def test_separates_the_classes(self, solver, world):
        statistics = world.statistics(COUNTS, 0)
        assert accuracy(solver.solve(statistics), world, statistics, COUNTS) > 0.55

    def test_does_not_change_the_statistics(self, solver, world):
        statistics = world.statistics(COUNTS, 0)
        before = statistics.to_bytes()
        solver.solve(statistics)
        assert statistics.to_bytes() == before

    def test_gives_the_same_bits_for_the_same_statistics(self, solver, world):
        rows, labels = world.taught(COUNTS, 0)
        direct, undone = Statistics(), Statistics()
        direct.add(rows, labels)
        undone.add(rows, labels)
        undone.add(rows[:7], name(2))
        undone.remove(rows[:7], name(2))
        for one, other in zip(solver.solve(direct), solver.solve(undone)):
            assert np.array_equal(one, other)

    def test_keeps_the_order_of_the_classes(self, solver, world):
        statistics = world.statistics({3: 30, 0: 30, 2: 30}, 0)
        assert statistics.labels == (name(3), name(0), name(2))
        rows = world.draw(0, 100, 9)
        assert np.bincount(predicted(solver.solve(statistics), rows), minlength=3).argmax() == 1

    def test_predicts_the_same_in_another_order_of_the_classes(self, solver, world):
        rows = np.concatenate([world.draw(label, 50, 9) for label in COUNTS])
        forward = world.statistics(COUNTS, 0)
        backward = world.statistics(dict(reversed(COUNTS.items())), 0)
        one = np.array(forward.labels)[predicted(solver.solve(forward), rows)]
        other = np.array(backward.labels)[predicted(solver.solve(backward), rows)]
        assert (one == other).mean() > 0.99

    def test_works_with_one_embedding_per_class(self, solver, world):
        statistics = world.statistics({0: 1, 1: 1}, 0)
        solution = solver.solve(statistics)
        assert all(np.isfinite(part).all() for part in solution)
        rows, labels = world.taught({0: 1, 1: 1}, 0)
        assert [statistics.labels[column] for column in predicted(solution, rows)] == labels

    def test_works_with_a_single_class(self, solver, world):
        weights, bias = solver.solve(world.statistics({0: 5}, 0))
        assert weights.shape == (48, 1)
        assert np.isfinite(bias).all()

    def test_works_with_dead_channels_and_equal_embeddings(self, solver):
        rows = np.zeros((8, 16), np.int16)
        rows[:4, 0], rows[4:, 1] = GRID, GRID
        statistics = Statistics()
        statistics.add(rows, ["a"] * 4 + ["b"] * 4)
        assert predicted(solver.solve(statistics), rows).tolist() == [0] * 4 + [1] * 4

    def test_works_with_embeddings_of_zeros(self, solver):
        statistics = Statistics()
        statistics.add(np.zeros((4, 8), np.int16), ["a", "a", "b", "b"])
        assert all(np.isfinite(part).all() for part in solver.solve(statistics))

    def test_refuses_empty_statistics(self, solver):
        with pytest.raises(LearningError, match="nothing was taught"):
            solver.solve(Statistics())

    @pytest.mark.parametrize("shrinkage", [0, 1, -0.1, float("nan"), "ledoit", None, [0.5]])
    def test_refuses_a_shrinkage_out_of_range(self, solver, shrinkage, world):
        if "shrinkage" not in solver.PARAMETERS:
            with pytest.raises(TypeError, match="shrinkage"):
                solver.solve(world.statistics(COUNTS, 0), shrinkage=shrinkage)
        else:
            with pytest.raises(OptionError, match="shrinkage is"):
                solver.solve(world.statistics(COUNTS, 0), shrinkage=shrinkage)


def test_a_file_in_the_folder_is_all_that_a_new_solver_needs(world, tmp_path, monkeypatch):
    shutil.copyfile(Path(folder.__file__).parent / "nearest_mean.py", tmp_path / "copied.py")
    (tmp_path / "copied.py").write_text((tmp_path / "copied.py").read_text().replace("nearest-mean", "copied"))
    monkeypatch.setattr(folder, "__path__", [*folder.__path__, str(tmp_path)])
    found = folder._find()
    assert set(found) == {*SOLVERS, "copied"}
    monkeypatch.setitem(SOLVERS, "copied", found["copied"])
    rows, labels = world.taught(COUNTS, 0)
    selection = choose(rows, labels, np.arange(len(rows)) % 4)
    assert "copied" in {result.solver for result in selection.results}
    taught, taught_labels = world.taught({0: 4, 1: 4}, 1)
    statistics = selection.statistics.copy()
    statistics.add(taught, taught_labels)
    assert 0 <= adapt("copied", {}, statistics, taught, taught_labels, statistics.labels, {}).after <= 1
    assert relearn(selection.last_layer, statistics, selection.parameters).labels == statistics.labels
