"""One trial of a search: a build's own steps on one recipe, up to what the validation photos say."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Optional, Protocol

import numpy as np

from edgetl.conversion import check
from edgetl.conversion.backbone_source import Origin, find_origin
from edgetl.conversion.memory_estimate import estimate_ram
from edgetl.data import Dataset, load_folder
from edgetl.errors import DataError, EdgetlError, ImageError, MissingExtraError, StorageError
from edgetl.pipeline.candidate import Candidate, held_out_answers
from edgetl.pipeline.edgetpu import require_mappable
from edgetl.pipeline.job import Job
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.stages.pruning import prune_backbone
from edgetl.pipeline.stages.transfer import fine_tune_stage_2, keep_better, reason_to_stay, solve_stage_1
from edgetl.pipeline.step_times import Steps
from edgetl.progress import Progress
from edgetl.runtime import Embedder
from edgetl.targets import Target
from edgetl.workload import Workload

NOT_THE_CANDIDATES_FAULT = (DataError, ImageError, MissingExtraError, StorageError)
"""Errors that would meet every other candidate as well, so they end the search."""

_DIGEST = 12
"""Hex digits that name a photo in the answers; two of a million photos share them with a chance of 1 in 600."""


NO_WORK = Workload(0, 0, 0)


@dataclass(frozen=True)
class Outcome:
    """What came of a trial; it waits in the cache as JSON.

    `answers` has, for each photo that judged, by its digest, whether the answer was right and the probability that
    the right label got: all photos but the test photos, cross-validated, where the backbone is as it was, the
    validation photos where it was trained. `stays` says why fine-tuning is not worth while, `failure` why there is
    no model; both are mostly empty.
    """

    seconds: float
    workload: Workload = NO_WORK
    model_bytes: int = 0
    ram_bytes: int = 0
    answers: Mapping[str, tuple[bool, float]] = field(default_factory=dict)
    stays: str = ""
    failure: str = ""

    @property
    def accuracy(self) -> float:
        """On all the photos that judged it."""
        return float(np.mean([right for right, _ in self.answers.values()]))

    def to_json(self) -> str:
        """The inverse of `from_json`."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Outcome:
        """What `to_json` wrote."""
        content = json.loads(text)
        return cls(**{**content, "workload": Workload(**content["workload"])})


Wait = Callable[[], Outcome]
"""Waits for the outcome of a trial that was begun. Raises what is not the candidate's fault."""

Keep = Callable[[Recipe, Outcome], None]
"""Takes note of the outcome of a trial as soon as it is there."""


class Runner(Protocol):
    """Where trials run: here, or on a cluster; `at_once` of them at the same time."""

    at_once: int

    def begin(self, recipe: Recipe) -> Wait:
        """Begins a trial; no more than `at_once` may be under way."""


class Trials:
    """Runs recipes on one set of photos for one board; a recipe that cannot be built is an outcome, not an error.

    Whether fine-tuning is worth while is asked of all alike, so that an outcome serves any other search.
    """

    def __init__(self, source: Path, board: Target, common: BuildOptions, progress: Optional[Progress]) -> None:
        self.source, self._board, self._progress = source, board, progress
        self._common = replace(common, fine_tune="auto")

    def elsewhere(self, cpus: int) -> Trials:
        """The same for a process in another folder, and perhaps on another machine, that has so many CPUs."""
        data = replace(self._common.data, workers=self._common.data.workers or cpus)
        return Trials(self.source.absolute(), self._board, replace(self._common, data=data), None)

    def run(self, recipe: Recipe) -> Outcome:
        """The outcome of one trial. Raises what is not the candidate's fault."""
        started = time.monotonic()
        try:
            return self._try(recipe, started)
        except NOT_THE_CANDIDATES_FAULT:
            raise
        except (EdgetlError, MemoryError) as error:
            return Outcome(time.monotonic() - started, failure=str(error) or "it takes more memory than there is")

    def _try(self, recipe: Recipe, started: float) -> Outcome:
        options, board = recipe.build_options(self._common), self._board
        origin = find_origin(recipe.backbone, recipe.input_size, recipe.weights, options.cache, options.normalization)
        artifact = origin.compile("int8")
        check(artifact.model, board)
        require_mappable(artifact.model, board)
        embedder = Embedder(artifact.model, origin.preprocess)
        trains = recipe.epochs > 0 or recipe.pruned > 0
        dataset = load_folder(
            self.source, options.data, origin.preprocess, embedder, trains, options.cache, self._progress
        )
        try:
            job = Job(origin, dataset, board, options, Steps(self._progress))
            kept, origin, stays = self._transfer(solve_stage_1(artifact, dataset), job)
            return Outcome(
                seconds=time.monotonic() - started,
                workload=origin.workload or NO_WORK,
                model_bytes=len(kept.artifact.model),
                ram_bytes=estimate_ram(kept.artifact.model),
                answers=_answers(kept, dataset),
                stays=stays,
            )
        finally:
            dataset.close()
            if trains:
                _forget_graphs()

    def _transfer(self, first: Candidate, job: Job) -> tuple[Candidate, Origin, str]:
        """What a build would keep, before the gate, and where it comes from; at stage 1 why it would stay there."""
        is_trained = job.options.fine_tune != "off"
        stays = reason_to_stay(first, job if is_trained else replace(job, options=self._common))
        kept, stages = keep_better(first, fine_tune_stage_2(first, job) if is_trained else None, job.dataset)
        if job.options.pruning is None:
            return kept, job.origin, stays
        pruned = prune_backbone(kept, stages, job)
        return pruned.candidate, pruned.origin, stays


class Here:
    """Runs one trial after the other in this process."""

    at_once = 1

    def __init__(self, trials: Trials, keep: Keep) -> None:
        self._trials, self._keep = trials, keep

    def begin(self, recipe: Recipe) -> Wait:
        """The trial runs when its outcome is waited for."""
        return partial(self._run, recipe)

    def _run(self, recipe: Recipe) -> Outcome:
        outcome = self._trials.run(recipe)
        self._keep(recipe, outcome)
        return outcome


def _answers(candidate: Candidate, dataset: Dataset) -> dict[str, tuple[bool, float]]:
    digests = {str(sample.path): sample.digest[:_DIGEST] for sample in dataset.samples}
    return {
        digests[answer.source]: (answer.correct, round(answer.probability_of_label, 6))
        for answer in held_out_answers(candidate.selection, dataset)
    }


def _forget_graphs() -> None:
    """TensorFlow keeps every graph of a process, tens of megabytes a training, until it is told not to."""
    from edgetl.backbones import tf_keras

    tf_keras().backend.clear_session()
