"""Searches for the best model for a board: which trials to run in which order, and the build of the pick.

The order of the trials depends only on the photos, the options, and how long trials took. Each result is stored, so an
interrupted search continues and ends with the same pick.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

from edgetl.data import load_folder, open_cache_folder
from edgetl.durable import make_folder
from edgetl.errors import OptionError
from edgetl.evaluation import SearchReport, write_search
from edgetl.pipeline.budget import require_known_latency
from edgetl.pipeline.builder import build
from edgetl.pipeline.edgetpu import require_compiler
from edgetl.pipeline.options import BuildResult
from edgetl.pipeline.preflight import check_board, check_name, check_output, check_sources, default_name
from edgetl.pipeline.search.cluster import connect
from edgetl.pipeline.search.options import SearchOptions
from edgetl.pipeline.search.ranking import FinishedTrial, fronts, promote, rank
from edgetl.pipeline.search.report import make_search_report
from edgetl.pipeline.search.space import Recipe, Space
from edgetl.pipeline.search.time_estimate import TimeEstimate
from edgetl.pipeline.search.trial import LocalRunner, Runner, Trials
from edgetl.pipeline.search.trial_queue import TrialQueue
from edgetl.pipeline.search.trial_store import TrialStore
from edgetl.progress import Progress
from edgetl.targets import Target, load_target

BACKBONES_UNTIL, SIZES_UNTIL = 0.25, 0.4
"""Shares of the time after which no further backbone, and no further input size, is tried without training."""

DEFAULT_UNTIL = 0.75
"""Share of the time after which the board's default backbone is no longer trained; it may still be pruned."""

TRAINING_UNTIL = 0.7
"""Share of the time after which no training starts, if only pruned models can be picked."""

BACKBONES_RESIZED = 1 / 2
"""Share of the backbones that are also tried at smaller input sizes."""


@dataclass(frozen=True)
class SearchResult:
    """The report of a search, its HTML page, and the build of the pick if one was asked for."""

    report: SearchReport
    report_html: Path
    built: Optional[BuildResult] = None

    def found_json(self) -> dict[str, Any]:
        """The report without the build; `edgetl build --json` prints it as "search"."""
        return {**self.report.to_json(), "report_html": str(self.report_html)}

    def to_json(self) -> dict[str, Any]:
        """What `edgetl search --json` prints."""
        return {**self.found_json(), "build": self.built and self.built.to_json()}


def search(
    source: Union[str, Path],
    target: str = "generic",
    options: Optional[SearchOptions] = None,
    *,
    name: Optional[str] = None,
    output: Union[str, Path] = ".",
    bundle: bool = True,
    progress: Optional[Progress] = None,
) -> SearchResult:
    """Find the best model for a board, write OUTPUT/NAME-search.html, and build the pick unless `bundle` is false.

    Args:
        source: a folder with one folder per class, or a CSV file with the columns path and label.
        target: the name of a board.
        options: where to look, the budget, and the time; the defaults for None.
        name: the name of the bundle; the name of the source for None.
        output: the folder to write to; created if it does not exist.
        bundle: whether to build the pick.
        progress: called with the name of a step, how many of its units are done, and how many there are.

    Raises:
        EdgetlError: nothing could be tried, no model is within the budget, or what `build` raises.
    """
    source, output, options = Path(source), Path(output), options or SearchOptions()
    board = load_target(target)
    options = replace(options, budget=options.budget.with_defaults_of(board))
    require_known_latency(options.budget, board, options.build.conversion.quantize)
    name = check_name(name or default_name(source))
    check_board(board, options.build)
    check_output(output, name)
    check_sources(source, options.build)
    if bundle and options.build.require_edgetpu:
        require_compiler(board, progress)
    space = Space(board, options.budget, options)
    backbones = space.backbones()
    if not backbones:
        raise _nothing_found(space, None, options)
    photos = load_folder(source, options.build.data, cache=options.build.cache, progress=progress)
    store = TrialStore(open_cache_folder(options.build.cache), photos, board, options.build)
    trials = Trials(source, board, options.build, progress)
    with _runner(options, trials, store) as runner:
        queue = TrialQueue(runner, store, TimeEstimate(len(photos)), board, options, progress)
        Searcher(space, backbones, queue, board, options).run()
    if not queue.finished:
        raise _nothing_found(space, queue, options)
    ranking = rank(queue.finished, fast_enough=options.budget.latency_ms is not None)
    report = make_search_report(queue, ranking, space.skipped, board, source, len(photos))
    make_folder(output)
    page = write_search(report, output / f"{name}-search.html")
    if not bundle:
        return SearchResult(report, page)
    recipe = queue.finished[ranking.pick].recipe
    pick = recipe.build_options(replace(options.build, budget=options.budget))
    return SearchResult(report, page, build(source, target, pick, name=name, output=output, progress=progress))


class Searcher:
    """Decides which recipes a search tries: fewer and fewer of them, with more and more training."""

    def __init__(
        self, space: Space, backbones: list[Recipe], queue: TrialQueue, board: Target, options: SearchOptions
    ) -> None:
        self._space, self._backbones, self._queue = space, backbones, queue
        self._board, self._options = board, options

    def run(self) -> None:
        """Try all backbones, smaller input sizes of the better ones, training of ever fewer, and pruning of the best.

        Among equals the cheapest come first, so that one slow model does not take the time of many. The model that
        a build without a search would train is trained before the others, whole and pruned, so that the pick is
        never worse.

        Raises:
            OptionError: the cluster does not answer, or cannot run a trial.
        """
        backbones = self._queue.run(self._backbones, BACKBONES_UNTIL)
        resized = [size for recipe in promote(backbones, BACKBONES_RESIZED) for size in self._space.other_sizes(recipe)]
        sizes = self._queue.run(sorted(resized, key=lambda recipe: recipe.macs), SIZES_UNTIL)
        untrained = self._worth_keeping(backbones + sizes)
        contenders = [trial for trial in untrained if self._options.is_length_fixed or not trial.result.stays]
        if self._train_default(contenders):
            untrained = [trial for trial in untrained if not self._is_default(trial)]
            contenders = [trial for trial in contenders if not self._is_default(trial)]
        trained = self._train_ever_fewer(contenders)
        only_pruned_fit = all(trial.excess for trial in untrained)
        self._prune(trained or (untrained if self._options.build.pruning or only_pruned_fit else []))

    def _train_ever_fewer(self, contenders: list[FinishedTrial]) -> list[FinishedTrial]:
        """The contenders that were trained for longest: each length of training has its share of the time left."""
        lengths, end = self._options.lengths, TRAINING_UNTIL if self._options.build.pruning else 1.0
        start = max(SIZES_UNTIL, self._queue.spent_s / self._queue.available_s)
        for number, epochs in enumerate(lengths, start=1):
            until = start + (end - start) * number / len(lengths)
            contenders = self._train(contenders, epochs, until) or contenders
        return [trial for trial in contenders if trial.recipe.epochs]

    def _train_default(self, contenders: list[FinishedTrial]) -> list[FinishedTrial]:
        """Train the board's default backbone for the longest time that is tried, and prune it.

        The pruned model is the most likely one to be as accurate and faster. Returns no trial if there was no time.
        """
        longest = self._options.lengths[-1:]
        recipes = [
            replace(trial.recipe, epochs=epochs)
            for trial in contenders
            if self._is_default(trial)
            for epochs in longest
        ]
        trained = self._queue.run(recipes, DEFAULT_UNTIL)
        self._queue.run([replace(one.recipe, pruned=share) for one in trained for share in self._options.shares], 1.0)
        return trained

    def _is_default(self, trial: FinishedTrial) -> bool:
        first = self._backbones[0]
        return first.backbone == self._board.backbone and trial.recipe == first

    def _train(self, contenders: list[FinishedTrial], epochs: int, until: float) -> list[FinishedTrial]:
        """Train the best contenders; if some do not fit into the time, the next in line take their places."""
        line = [replace(recipe, epochs=epochs) for recipe in promote(contenders, 1.0)]
        places = len(promote(contenders))
        trained: list[FinishedTrial] = []
        while line and len(trained) < places:
            free = places - len(trained)
            trained += self._queue.run(sorted(line[:free], key=self._queue.times.expect), until)
            line = line[free:]
        return trained

    def _worth_keeping(self, trials: list[FinishedTrial]) -> list[FinishedTrial]:
        """The trials within the budget.

        Those that may fit after pruning are included if pruning was asked for, or if nothing else is left.
        """
        left_by_pruning = 1 - max(self._options.shares, default=0.0)
        within = [trial for trial in trials if trial.excess is None]
        reachable = [trial for trial in trials if trial.excess is None or trial.excess.times * left_by_pruning <= 1]
        return reachable if self._options.build.pruning else within or reachable

    def _prune(self, trials: list[FinishedTrial]) -> None:
        """Prune the trials that no other beats; if all of these exceed the budget, those of the next front."""
        for front in fronts(trials):
            recipes = [replace(recipe, pruned=share) for recipe in front for share in self._options.shares]
            if any(trial.excess is None for trial in self._queue.run(recipes, 1.0)):
                return


@contextmanager
def _runner(options: SearchOptions, trials: Trials, store: TrialStore) -> Iterator[Runner]:
    """This process, or the cluster that the options name while the block runs."""
    if options.ray is None:
        yield LocalRunner(trials, store.keep)
    else:
        with connect(options.ray, trials, store.keep) as cluster:
            yield cluster


def _nothing_found(space: Space, queue: Optional[TrialQueue], options: SearchOptions) -> OptionError:
    """Why a search has no model to pick; `queue` is None if there was nothing to try."""
    untried = bool(queue and queue.untried)
    more_time = f"allow more than {options.time_s:g} seconds: --time 20m"
    if excesses := {**space.excesses, **(queue.excesses if queue else {})}:
        nearest = min(excesses, key=lambda name: excesses[name].times)
        or_time = f", or, since not all could be tried, {more_time}" if untried else ""
        return OptionError(
            f"no model is within the budget; the nearest is {nearest}: {excesses[nearest].text}; "
            f"raise the limit{or_time}"
        )
    if untried:
        return OptionError(f"no trial fits into the time; {more_time}")
    failed = queue.failed if queue else []
    return OptionError(f"no backbone can be used: {'; '.join([*space.skipped, *failed])[:600]}")
