"""Makes the report of a search from its trials."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from edgetl.evaluation import SearchReport, Trial, proportion, wording
from edgetl.pipeline.reporting import estimate_figure
from edgetl.pipeline.search.ranking import Ranking, explain, standard_error
from edgetl.pipeline.search.trial_queue import TrialQueue
from edgetl.targets import Target


def make_search_report(
    queue: TrialQueue, ranking: Ranking, skipped: Sequence[str], board: Target, source: Path, photos: int
) -> SearchReport:
    """All trials, the most accurate first, then those that failed or were not tried.

    `skipped` has one line for each backbone that was left out from the start.
    """
    trials = queue.finished
    order = sorted(range(len(trials)), key=lambda position: (-ranking.accuracy(position), trials[position].cost))
    untried = [f"{recipe.name}: no time was left" for recipe in queue.untried]
    more = f" There was no time for {wording.count(len(untried), 'more trial')}." if untried else ""
    return SearchReport(
        target=board.name,
        target_title=board.title,
        source=str(source),
        photos=photos,
        trials=tuple(_trial(position, queue, ranking, board) for position in order),
        why=explain(trials, ranking) + more,
        skipped=(*skipped, *queue.failed, *untried),
        seconds=round(queue.spent_s, 1),
    )


def _trial(position: int, queue: TrialQueue, ranking: Ranking, board: Target) -> Trial:
    trial, right = queue.finished[position], ranking.right[position]
    recipe, result = trial.recipe, trial.result
    latency = board.estimate_latency(result.workload)
    how = "photos that were held out from the last layer and from training"
    return Trial(
        name=recipe.name,
        backbone=recipe.backbone,
        input_size=recipe.input_size,
        epochs=recipe.epochs,
        pruned=recipe.pruned,
        accuracy=proportion(int(right.sum()), len(right), how),
        standard_error=standard_error(right),
        log_loss=ranking.log_loss(position),
        latency=None if latency is None else estimate_figure(latency),
        macs=result.workload.macs,
        model_bytes=result.model_bytes,
        ram_bytes=result.ram_bytes,
        seconds=round(result.seconds, 1),
        on_front=position in ranking.front,
        picked=position == ranking.pick,
    )
