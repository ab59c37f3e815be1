"""Runs one trial of a search: the stages of a build on one recipe, without its gate and its bundle."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Optional, Protocol

import numpy as np

from edgetl.conversion import check, estimate_ram, find_backbone_source
from edgetl.data import Dataset, load_folder
from edgetl.errors import DataError, EdgetlError, ImageError, MissingExtraError, StorageError
from edgetl.pipeline.candidate import Candidate, held_out_predictions
from edgetl.pipeline.edgetpu import require_mappable
from edgetl.pipeline.job import Job
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.preflight import fit_to_values
from edgetl.pipeline.search.space import Recipe
from edgetl.pipeline.stages.closed_form import solve_closed_form
from edgetl.pipeline.stages.fine_tuning import fine_tune_backbone, reason_not_to_fine_tune
from edgetl.pipeline.stages.pruning import prune_backbone
from edgetl.pipeline.step_times import StepTimes
from edgetl.progress import Progress
from edgetl.runtime import Embedder
from edgetl.targets import Target
from edgetl.workload import Workload

FATAL_ERRORS = (DataError, ImageError, MissingExtraError, StorageError)
"""Errors that would occur with every other recipe as well, so they end the search."""

_DIGEST = 12
"""Hex digits that identify a photo; the chance that any two of a million photos share them is 1 in 600."""

NO_WORK = Workload(0, 0, 0)


@dataclass(frozen=True)
class TrialResult:
    """The result of a trial; the cache stores it as JSON.

    `answers` maps the digest of each held-out photo to whether its prediction was right, and the probability of the
    right label. Held out are all photos except the test photos, by cross-validation, where the backbone is as
    published, and the validation photos where it was trained. `stays` says why fine-tuning is not worthwhile, and
    `failure` why there is no model; both are usually empty.
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
        """The share of right predictions among the held-out photos."""
        return float(np.mean([right for right, _ in self.answers.values()]))

    def to_json(self) -> str:
        """The result as JSON text."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> TrialResult:
        """The result from the text that `to_json` returned."""
        content = json.loads(text)
        return cls(**{**content, "workload": Workload(**content["workload"])})


Wait = Callable[[], TrialResult]
"""Waits for the result of a trial that was started. Raises one of FATAL_ERRORS."""

Keep = Callable[[Recipe, TrialResult], None]
"""Stores the result of a trial as soon as it is known."""


class Runner(Protocol):
    """Runs trials in this process or on a cluster; `at_once` of them at the same time."""

    at_once: int

    def start(self, recipe: Recipe) -> Wait:
        """Start a trial; no more than `at_once` may be running."""


class Trials:
    """Runs recipes on one set of photos for one board; a recipe that cannot be built is a result, not an error.

    Each result says whether fine-tuning is worthwhile, whatever was asked for, so that other searches can reuse it.
    """

    def __init__(self, source: Path, board: Target, common: BuildOptions, progress: Optional[Progress]) -> None:
        self.source, self._board, self._progress = source, board, progress
        self._common = replace(common, fine_tune="auto")

    def for_another_process(self, cpus: int) -> Trials:
        """The same for a process in another folder, perhaps on another machine, that may use `cpus` CPUs."""
        data = replace(self._common.data, workers=self._common.data.workers or cpus)
        return Trials(self.source.absolute(), self._board, replace(self._common, data=data), None)

    def run(self, recipe: Recipe) -> TrialResult:
        """Run one trial. Raises one of FATAL_ERRORS."""
        started = time.monotonic()
        try:
            return self._try(recipe, started)
        except FATAL_ERRORS:
            raise
        except (EdgetlError, MemoryError) as error:
            return TrialResult(time.monotonic() - started, failure=str(error) or "not enough memory")

    def _try(self, recipe: Recipe, started: float) -> TrialResult:
        options, board = recipe.build_options(self._common), self._board
        backbone = find_backbone_source(
            recipe.backbone, recipe.input_size, recipe.weights, options.cache, options.normalization
        )
        artifact = backbone.compile("int8")
        check(artifact.model, board)
        require_mappable(artifact.model, board)
        backbone, _ = fit_to_values(backbone, self.source)
        embedder = Embedder(artifact.model, backbone.preprocess)
        trains = recipe.epochs > 0 or recipe.pruned > 0
        dataset = load_folder(
            self.source, options.data, backbone.preprocess, embedder, trains, options.cache, self._progress
        )
        try:
            job = Job(dataset, board, options, StepTimes(self._progress))
            model = solve_closed_form(artifact, backbone, dataset)
            asked = replace(job, options=self._common) if options.fine_tune == "off" else job
            stays = reason_not_to_fine_tune(model, asked)
            for stage in (fine_tune_backbone, prune_backbone):
                model = stage(model, job)
            compiled = model.candidate.artifact.model
            return TrialResult(
                seconds=time.monotonic() - started,
                workload=model.backbone.workload or NO_WORK,
                model_bytes=len(compiled),
                ram_bytes=estimate_ram(compiled),
                answers=_answers(model.candidate, dataset),
                stays=stays,
            )
        finally:
            dataset.close()
            if trains:
                _forget_graphs()


class LocalRunner:
    """Runs one trial after the other in this process."""

    at_once = 1

    def __init__(self, trials: Trials, keep: Keep) -> None:
        self._trials, self._keep = trials, keep

    def start(self, recipe: Recipe) -> Wait:
        """The trial runs when its result is waited for."""
        return partial(self._run, recipe)

    def _run(self, recipe: Recipe) -> TrialResult:
        result = self._trials.run(recipe)
        self._keep(recipe, result)
        return result


def _answers(candidate: Candidate, dataset: Dataset) -> dict[str, tuple[bool, float]]:
    digests = {str(sample.path): sample.digest[:_DIGEST] for sample in dataset.samples}
    return {
        digests[prediction.source]: (prediction.correct, round(prediction.probability_of_label, 6))
        for prediction in held_out_predictions(candidate.selection, dataset)
    }


def _forget_graphs() -> None:
    """Free the graphs of past trainings, tens of megabytes each: TensorFlow keeps them until the session is cleared."""
    from edgetl.backbones import tf_keras

    tf_keras().backend.clear_session()
