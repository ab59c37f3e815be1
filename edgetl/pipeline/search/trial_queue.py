"""Runs trials in order, within the time and the budget of a search, and collects their results."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import NamedTuple, Optional

from edgetl.pipeline.budget import Excess
from edgetl.pipeline.search.options import SearchOptions
from edgetl.pipeline.search.ranking import FinishedTrial
from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.search.time_estimate import TimeEstimate
from edgetl.pipeline.search.trial import Runner, Wait
from edgetl.pipeline.search.trial_store import TrialStore
from edgetl.progress import Progress
from edgetl.targets import Target


class _Running(NamedTuple):
    recipe: Recipe
    wait: Wait


class TrialQueue:
    """Runs trials as long as they fit into the time, and stores their results.

    Attributes:
        finished: the trials that can be picked: within the budget, and trained and pruned as the user asked for.
        failed: one line per recipe that gave no model, or one over the budget.
        untried: recipes that did not fit into the time, in order.
        excesses: how far models exceed the budget, by the name of the recipe.
        spent_s: seconds that all trials took, those of earlier runs of the same search included.
    """

    def __init__(
        self,
        runner: Runner,
        store: TrialStore,
        times: TimeEstimate,
        board: Target,
        options: SearchOptions,
        progress: Optional[Progress],
    ) -> None:
        self._runner, self._store, self.times = runner, store, times
        self._board, self._options, self._progress = board, options, progress
        self.finished: list[FinishedTrial] = []
        self.failed: list[str] = []
        self.untried: dict[Recipe, None] = {}
        self.excesses: dict[str, Excess] = {}
        self.spent_s = 0.0

    @property
    def available_s(self) -> float:
        """Seconds for all trials; several at once have that time each."""
        return self._options.time_s * self._runner.at_once

    def run(self, recipes: Sequence[Recipe], until: float) -> list[FinishedTrial]:
        """Run the recipes in order, except those that would end after the share `until` (0..1) of the time.

        Running trials count with their expected time, and results are taken in the order of the recipes: which
        recipes are tried depends on how long trials took, not on which of them ended first. Returns the trials that
        gave a model, whether it is within the budget or not.
        """
        done: list[FinishedTrial] = []
        running: deque[_Running] = deque()
        for recipe in recipes:
            if len(running) == self._runner.at_once:
                done += self._finish(running.popleft())
            expected = sum(self.times.expect(one) for one in (recipe, *(trial.recipe for trial in running)))
            if self.spent_s + expected > until * self.available_s:
                self.untried[recipe] = None
                continue
            running.append(self._start(recipe))
        for trial in running:
            done += self._finish(trial)
        self.finished += [trial for trial in done if self._can_be_picked(trial)]
        return done

    def _start(self, recipe: Recipe) -> _Running:
        """Start the recipe, or take its stored result, whose seconds count as if it had run now."""
        self._report_progress()
        stored = self._store.find(recipe)
        return _Running(recipe, self._runner.start(recipe) if stored is None else lambda: stored)

    def _finish(self, trial: _Running) -> list[FinishedTrial]:
        """Wait for the trial; the list is empty if it gave no model."""
        recipe, result = trial.recipe, trial.wait()
        self.spent_s += result.seconds
        self.times.learn(recipe, result.seconds)
        self._report_progress()
        if result.failure:
            self.failed.append(f"{recipe.name}: {result.failure}")
            return []
        latency = self._board.estimate_latency(result.workload)
        excess = self._options.budget.excess(latency, result.model_bytes, result.ram_bytes)
        if excess is not None:
            self.failed.append(f"{recipe.name}: {excess.text}")
            self.excesses[recipe.name] = excess
        cost = float(result.workload.macs) if latency is None else latency.latency_ms
        return [FinishedTrial(recipe, result, cost, excess)]

    def _can_be_picked(self, trial: FinishedTrial) -> bool:
        options, recipe = self._options, trial.recipe
        is_trained = not options.is_length_fixed or recipe.epochs == options.build.fine_tune
        is_pruned = options.build.pruning is None or recipe.pruned == options.build.pruning.share
        return trial.excess is None and is_trained and is_pruned

    def _report_progress(self) -> None:
        if self._progress is not None:
            limit = round(self._options.time_s)
            self._progress("search (seconds)", min(round(self.spent_s / self._runner.at_once), limit), limit)
