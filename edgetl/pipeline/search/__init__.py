"""Finds the model for a board within a budget: cheap trials of many candidates first, then training of ever fewer.

`edgetl search` calls it; `build` makes the bundle of what it picks. The order of all trials follows from the photos
and the options alone, and every finished one is kept, so an interrupted search ends where it would have ended.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional, Union

from edgetl.data import load_folder, open_cache_folder
from edgetl.durable import make_folder
from edgetl.errors import OptionError
from edgetl.evaluation import Figure, SearchReport, Trial, proportion, write_search
from edgetl.evaluation.renderers import wording
from edgetl.pipeline import BuildResult, build
from edgetl.pipeline.budget import Budget, Excess, require_known_latency
from edgetl.pipeline.edgetpu import require_compiler
from edgetl.pipeline.preflight import check_board, check_output, check_sources, checked_name, name_of
from edgetl.pipeline.reporting import estimated
from edgetl.pipeline.search.cluster import connect
from edgetl.pipeline.search.options import SearchOptions
from edgetl.pipeline.search.ranking import Tried, Verdict, decide, explain, fronts, promote, standard_error
from edgetl.pipeline.search.space import Recipe, Space
from edgetl.pipeline.search.time_estimate import Costs
from edgetl.pipeline.search.trial import Here, Outcome, Runner, Trials, Wait
from edgetl.pipeline.search.trial_store import Records
from edgetl.progress import Progress
from edgetl.targets import Target, load_target

__all__ = ["Budget", "SearchOptions", "SearchResult", "search"]

BACKBONES_UNTIL, SIZES_UNTIL = 0.25, 0.4
"""Shares of the time after which no further backbone, and no further input size, is tried without training."""

USUAL_UNTIL = 0.75
"""The share after which what a build would train without a search is not trained any more; pruned it still may be."""

TRAINING_UNTIL = 0.7
"""The share after which nothing more is trained where only pruned models can be picked."""

BACKBONES_RESIZED = 1 / 2
"""So many of the backbones are tried at smaller input sizes as well."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found, its page, and the build of its pick where one was asked for."""

    report: SearchReport
    report_html: Path
    built: Optional[BuildResult] = None

    def found_json(self) -> dict[str, Any]:
        """What was found, without the build; `edgetl build --json` prints it as its "search"."""
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
    """Find the model for a board, write OUTPUT/NAME-search.html, and build the pick unless `bundle` is false.

    Args:
        source: a folder per class, or a CSV of path,label.
        target: the name of a board.
        options: where to look, the budget, and the time.
        name: of the bundle; the source's name for None.
        output: the folder to write to; it is made where it is missing.
        bundle: whether to build the pick.
        progress: called with a step's name, how much is done, and how much there is.

    Raises:
        EdgetlError: nothing could be tried, nothing keeps to the budget, or what `build` raises.
    """
    source, output, options = Path(source), Path(output), options or SearchOptions()
    board = load_target(target)
    options = replace(options, budget=options.budget.or_of(board))
    require_known_latency(options.budget, board, options.build.conversion.quantize)
    name = checked_name(name or name_of(source))
    check_board(board, options.build)
    check_output(output, name)
    check_sources(source, options.build)
    if bundle and options.build.require_edgetpu:
        require_compiler(board, progress)
    course = _Course(source, board, options, progress)
    course.run()
    verdict = decide(course.tried, fast_enough=options.budget.latency_ms is not None)
    report = course.report(verdict)
    make_folder(output)
    page = write_search(report, output / f"{name}-search.html")
    if not bundle:
        return SearchResult(report, page)
    chosen = course.tried[verdict.pick].recipe.build_options(replace(options.build, budget=options.budget))
    return SearchResult(report, page, build(source, target, chosen, name=name, output=output, progress=progress))


class _Course:
    """One search: what was tried so far, what it took, and what comes next."""

    def __init__(self, source: Path, board: Target, options: SearchOptions, progress: Optional[Progress]) -> None:
        self._board, self._options, self._progress = board, options, progress
        self._failed: list[str] = []
        self._untried: dict[Recipe, None] = {}
        self._excesses: dict[str, Excess] = {}
        self.tried: list[Tried] = []
        self._space = Space(board, options.budget, options)
        self._backbones = self._space.backbones()
        if not self._backbones:
            self._require_some()
        dataset = load_folder(source, options.build.data, cache=options.build.cache, progress=progress)
        self._trials = Trials(source, board, options.build, progress)
        self._records = Records(open_cache_folder(options.build.cache), dataset, board, options.build)
        self._costs = Costs(len(dataset))
        self._runner: Runner = Here(self._trials, self._records.keep)
        self._source, self._photos, self._spent = source, len(dataset), 0.0

    def run(self) -> None:
        """All trials, here or on the cluster that was asked for.

        Raises:
            OptionError: nothing could be tried, or the cluster does not answer, or cannot run a trial.
        """
        if self._options.ray is None:
            self._run()
            return
        with connect(self._options.ray, self._trials, self._records.keep) as self._runner:
            self._run()

    def _run(self) -> None:
        """Backbones, then input sizes of the better ones, then training of ever fewer, then pruning of the best.

        Of equals the cheapest come first, so that a slow one does not take the time of many. Before the others are
        trained, what a build would train without a search is, whole and pruned: nothing that is worse is picked then.
        """
        backbones = self._try(self._backbones, BACKBONES_UNTIL)
        resized = [size for recipe in promote(backbones, BACKBONES_RESIZED) for size in self._space.other_sizes(recipe)]
        sizes = self._try(sorted(resized, key=lambda recipe: recipe.macs), SIZES_UNTIL)
        worthwhile = self._worthwhile(backbones + sizes)
        contenders = [one for one in worthwhile if self._options.is_length_fixed or not one.outcome.stays]
        if self._train_the_usual(contenders):
            worthwhile = [one for one in worthwhile if not self._is_usual(one)]
            contenders = [one for one in contenders if not self._is_usual(one)]
        lengths, training_until = self._options.lengths, TRAINING_UNTIL if self._options.build.pruning else 1.0
        begun = max(SIZES_UNTIL, self._spent / (self._options.time_s * self._runner.at_once))
        for number, epochs in enumerate(lengths, start=1):
            until = begun + (training_until - begun) * number / len(lengths)
            contenders = self._train(contenders, epochs, until) or contenders
        trained = [one for one in contenders if one.recipe.epochs]
        has_to_be_pruned = self._options.build.pruning or all(one.excess for one in worthwhile)
        self._prune(trained or (worthwhile if has_to_be_pruned else []))
        self._require_some()

    def _train_the_usual(self, contenders: list[Tried]) -> list[Tried]:
        """The board's own backbone at its size, for as long as anything is trained; nothing where there is no time.

        Pruned it is the likeliest to be as accurate and faster.
        """
        lengths = self._options.lengths[-1:]
        usual = [replace(one.recipe, epochs=epochs) for one in contenders if self._is_usual(one) for epochs in lengths]
        trained = self._try(usual, USUAL_UNTIL)
        self._try([replace(one.recipe, pruned=share) for one in trained for share in self._options.shares], 1.0)
        return trained

    def _is_usual(self, one: Tried) -> bool:
        first = self._backbones[0]
        return first.backbone == self._board.backbone and one.recipe == first

    def _train(self, contenders: list[Tried], epochs: int, until: float) -> list[Tried]:
        """The best of them for so many epochs; the next in line take the places of those that do not fit any more."""
        line = [replace(recipe, epochs=epochs) for recipe in promote(contenders, 1.0)]
        places, found = len(promote(contenders)), list[Tried]()
        while line and len(found) < places:
            free = places - len(found)
            found += self._try(sorted(line[:free], key=self._costs.expect), until)
            line = line[free:]
        return found

    def _worthwhile(self, tried: list[Tried]) -> list[Tried]:
        """What is within the budget, or may be once it is pruned, where that was asked for or nothing else is left."""
        kept = 1 - max(self._options.shares, default=0.0)
        within = [one for one in tried if one.excess is None]
        reachable = [one for one in tried if one.excess is None or one.excess.times * kept <= 1]
        return reachable if self._options.build.pruning else within or reachable

    def _prune(self, tried: list[Tried]) -> None:
        """Those that nothing beats with fewer channels; where all of that exceeds the budget, the next."""
        for front in fronts(tried):
            recipes = [replace(recipe, pruned=share) for recipe in front for share in self._options.shares]
            if any(one.excess is None for one in self._try(recipes, 1.0)):
                return

    def report(self, verdict: Verdict) -> SearchReport:
        """All of it as a value, the most accurate trial first."""
        order = sorted(range(len(self.tried)), key=lambda at: (-verdict.accuracy(at), self.tried[at].cost))
        untried = [f"{recipe.name}: no time was left" for recipe in self._untried]
        more = f" There was no time for {wording.count(len(untried), 'more trial')}." if untried else ""
        return SearchReport(
            target=self._board.name,
            target_title=self._board.title,
            source=str(self._source),
            photos=self._photos,
            trials=tuple(self._tell(at, verdict) for at in order),
            why=explain(self.tried, verdict) + more,
            skipped=(*self._space.skipped, *self._failed, *untried),
            seconds=round(self._spent, 1),
        )

    def _try(self, recipes: Sequence[Recipe], until: float) -> list[Tried]:
        """Those that fit into this share of the time and the budget, in order, with their outcomes.

        What is under way counts as expected, and outcomes are taken in the order of the recipes whichever comes
        first: what is tried follows from how long trials took, not from when they ended.
        """
        found: list[Tried] = []
        under_way: deque[tuple[Recipe, Wait]] = deque()
        for recipe in recipes:
            if len(under_way) == self._runner.at_once:
                found += self._finish(*under_way.popleft())
            expected = sum(self._costs.expect(one) for one in (recipe, *(begun for begun, _ in under_way)))
            if self._spent + expected > until * self._options.time_s * self._runner.at_once:
                self._untried[recipe] = None
                continue
            under_way.append((recipe, self._begin(recipe)))
        for begun in under_way:
            found += self._finish(*begun)
        self.tried += [one for one in found if self._can_be_picked(one)]
        return found

    def _begin(self, recipe: Recipe) -> Wait:
        """From the records where it is there; it counts with the time that it took then, so a search goes on alike."""
        self._tell_progress()
        known = self._records.find(recipe)
        return self._runner.begin(recipe) if known is None else lambda: known

    def _finish(self, recipe: Recipe, wait: Wait) -> list[Tried]:
        """Itself with its outcome, or nothing where there is no model."""
        outcome = wait()
        self._spent += outcome.seconds
        self._costs.learn(recipe, outcome.seconds)
        self._tell_progress()
        if outcome.failure:
            self._failed.append(f"{recipe.name}: {outcome.failure}")
            return []
        latency = self._board.estimate_latency(outcome.workload)
        excess = self._options.budget.excess(latency, outcome.model_bytes, outcome.ram_bytes)
        if excess is not None:
            self._failed.append(f"{recipe.name}: {excess.text}")
            self._excesses[recipe.name] = excess
        cost = float(outcome.workload.macs) if latency is None else latency.latency_ms
        return [Tried(recipe, outcome, cost, excess)]

    def _can_be_picked(self, one: Tried) -> bool:
        """Whether it is within the budget, and trained and pruned as the user fixed it."""
        options, recipe = self._options, one.recipe
        is_trained = not options.is_length_fixed or recipe.epochs == options.build.fine_tune
        is_pruned = options.build.pruning is None or recipe.pruned == options.build.pruning.share
        return one.excess is None and is_trained and is_pruned

    def _tell_progress(self) -> None:
        if self._progress is not None:
            limit = round(self._options.time_s)
            self._progress("search (seconds)", min(round(self._spent / self._runner.at_once), limit), limit)

    def _require_some(self) -> None:
        if self.tried:
            return
        more_time = f"give more than {self._options.time_s:g} seconds: --time 20m"
        if excesses := {**self._space.excesses, **self._excesses}:
            nearest = min(excesses, key=lambda name: excesses[name].times)
            untried = f", or, as not all could be tried, {more_time}" if self._untried else ""
            raise OptionError(
                f"no model keeps to the budget; the nearest is {nearest}: {excesses[nearest].text}; "
                f"raise the limit{untried}"
            )
        if self._untried:
            raise OptionError(f"no trial fits into the time; {more_time}")
        raise OptionError(f"no candidate is left: {'; '.join([*self._space.skipped, *self._failed])[:600]}")

    def _tell(self, position: int, verdict: Verdict) -> Trial:
        one, right = self.tried[position], verdict.right[position]
        how = "photos that were held back from the last layer, and from training"
        return Trial(
            name=one.recipe.name,
            backbone=one.recipe.backbone,
            input_size=one.recipe.input_size,
            epochs=one.recipe.epochs,
            pruned=one.recipe.pruned,
            accuracy=proportion(int(right.sum()), len(right), how),
            standard_error=standard_error(right),
            log_loss=verdict.log_loss(position),
            latency=self._latency(one.outcome),
            macs=one.outcome.workload.macs,
            model_bytes=one.outcome.model_bytes,
            ram_bytes=one.outcome.ram_bytes,
            seconds=round(one.outcome.seconds, 1),
            on_front=position in verdict.front,
            picked=position == verdict.pick,
        )

    def _latency(self, outcome: Outcome) -> Optional[Figure]:
        estimate = self._board.estimate_latency(outcome.workload)
        return None if estimate is None else estimated(estimate)
