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

from edgetl.data import load_folder
from edgetl.data.cache import open_folder
from edgetl.data.listing import list_photos
from edgetl.durable import make_folder
from edgetl.errors import OptionError
from edgetl.evaluation import Figure, SearchReport, Trial, proportion, wording, write_search
from edgetl.pipeline import BuildResult, Progress, build
from edgetl.pipeline.search.choosing import Tried, Verdict, decide, explain, promote, standard_error
from edgetl.pipeline.search.cluster import connect
from edgetl.pipeline.search.cost import Costs
from edgetl.pipeline.search.options import Budget, SearchOptions
from edgetl.pipeline.search.records import Records
from edgetl.pipeline.search.space import Recipe, Space
from edgetl.pipeline.search.trial import Here, Outcome, Runner, Trials, Wait
from edgetl.pipeline.telling import estimated
from edgetl.targets import Target, load_target

__all__ = ["Budget", "SearchOptions", "SearchResult", "search"]

BACKBONES_UNTIL, SIZES_UNTIL = 0.25, 0.4
"""Shares of the time after which no further backbone, and no further input size, is tried without training."""

BACKBONES_RESIZED = 1 / 2
"""So many of the backbones are tried at smaller input sizes as well."""


@dataclass(frozen=True)
class SearchResult:
    """What a search found, its page, and the build of its pick where one was asked for."""

    report: SearchReport
    report_html: Path
    built: Optional[BuildResult] = None

    def to_json(self) -> dict[str, Any]:
        """What `edgetl search --json` prints."""
        build_json = self.built and self.built.to_json()
        return {**self.report.to_json(), "report_html": str(self.report_html), "build": build_json}


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
        EdgetlError: nothing could be tried, nothing fits the budget, or what `build` raises.
    """
    source, output, options = Path(source), Path(output), options or SearchOptions()
    board = load_target(target)
    options = replace(options, budget=options.budget.or_of(board))
    if options.budget.latency_ms is not None and not board.known_latencies():
        raise OptionError(f"no latency is known of {target}; measure one with edgetl bench, or leave the limit out")
    name = name or source.resolve().stem
    if not name or Path(name).name != name:
        raise OptionError(f"'{name}' cannot be the name of a bundle; give a plain one: --name leaves")
    list_photos(source)  # an unusable folder is told of before anything is made
    make_folder(output)
    course = _Course(source, board, options, progress)
    course.run()
    verdict = decide(course.tried)
    report = course.report(verdict)
    page = write_search(report, output / f"{name}-search.html")
    if not bundle:
        return SearchResult(report, page)
    chosen = course.tried[verdict.pick].recipe.build_options(options.build)
    return SearchResult(report, page, build(source, target, chosen, name=name, output=output, progress=progress))


class _Course:
    """One search: what was tried so far, what it took, and what comes next."""

    def __init__(self, source: Path, board: Target, options: SearchOptions, progress: Optional[Progress]) -> None:
        self._board, self._options, self._progress = board, options, progress
        dataset = load_folder(source, options.build.data, cache=options.build.cache, progress=progress)
        self._space = Space(board, options.budget, options)
        self._trials = Trials(source, board, options.budget, options.build, progress)
        self._records = Records(open_folder(options.build.cache), dataset, board, options.budget, options.build)
        self._costs = Costs(len(dataset))
        self._runner: Runner = Here(self._trials, self._records.keep)
        self._source, self._photos, self._spent = source, len(dataset), 0.0
        self._failed: list[str] = []
        self._untried: list[Recipe] = []
        self.tried: list[Tried] = []

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

        Of equals the cheapest come first, so that a slow one does not take the time of many.
        """
        backbones = self._try(self._space.backbones(), BACKBONES_UNTIL)
        resized = [size for recipe in promote(backbones, BACKBONES_RESIZED) for size in self._space.other_sizes(recipe)]
        sizes = self._try(sorted(resized, key=lambda recipe: recipe.macs), SIZES_UNTIL)
        self._require_some()
        contenders = [one for one in backbones + sizes if not one.outcome.stays]
        for number, epochs in enumerate(self._options.epochs, start=1):
            until = SIZES_UNTIL + (1 - SIZES_UNTIL) * number / len(self._options.epochs)
            recipes = [replace(recipe, epochs=epochs) for recipe in promote(contenders)]
            contenders = self._try(sorted(recipes, key=self._costs.expect), until) or contenders
        trained = [one for one in contenders if one.recipe.epochs]
        pruned = [replace(one, pruned=share) for one in promote(trained)[:1] for share in self._options.prune]
        self._try(pruned, 1.0)

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
                self._untried.append(recipe)
                continue
            under_way.append((recipe, self._begin(recipe)))
        for begun in under_way:
            found += self._finish(*begun)
        self.tried += found
        return found

    def _begin(self, recipe: Recipe) -> Wait:
        """From the records where it is there; it counts with the time that it took then, so a search goes on alike."""
        self._tell_progress()
        known = self._records.find(recipe)
        return self._runner.begin(recipe) if known is None else lambda: known

    def _finish(self, recipe: Recipe, wait: Wait) -> list[Tried]:
        """Itself with its outcome, or nothing where there is no model, or none within the budget."""
        outcome = wait()
        self._spent += outcome.seconds
        self._costs.learn(recipe, outcome.seconds)
        self._tell_progress()
        latency = self._board.estimate_latency(outcome.workload)
        excess = self._options.budget.excess(latency, outcome.model_bytes, outcome.ram_bytes)
        if failure := outcome.failure or excess:
            self._failed.append(f"{recipe.name}: {failure}")
            return []
        return [Tried(recipe, outcome, float(outcome.workload.macs) if latency is None else latency.latency_ms)]

    def _tell_progress(self) -> None:
        if self._progress is not None:
            limit = round(self._options.time_s)
            self._progress("search (seconds)", min(round(self._spent / self._runner.at_once), limit), limit)

    def _require_some(self) -> None:
        if self.tried:
            return
        reasons = [*self._space.skipped, *self._failed]
        if self._untried:
            raise OptionError(f"no trial fits into {self._options.time_s:g} seconds; give more: --time 20m")
        raise OptionError(f"no candidate is left: {'; '.join(reasons)[:600]}")

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
