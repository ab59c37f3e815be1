"""The value that the stages of a build pass on: the best model so far, and how it came about."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Optional

from edgetl.conversion import BackboneSource
from edgetl.data import Dataset
from edgetl.evaluation import Gate, ImageResult, Pruning, Stage, proportion
from edgetl.pipeline.candidate import FOLDS, Candidate

CROSS_VALIDATED = f"{FOLDS}-fold cross-validation of the last layer"
"""How validation predictions were made for a backbone that was not trained on the photos."""

HELD_OUT = "validation photos, last layer solved from the training photos"
"""How validation predictions were made for a backbone that was trained on the training photos."""

VALIDATION = "validation photos"
"""How the predictions of the accuracy gate and of quantization-aware training were made."""


@dataclass(frozen=True, eq=False)
class Model:
    """The model that would ship if the build ended here.

    `backbone` is the source of the candidate's backbone: pruning and related photos replace it. `start` is the
    candidate that training starts from: stage 1, or what related photos made of it. `stages` records each stage so
    far for the report; exactly one is marked as kept. `pruning` is what structured pruning removed, `gate` the
    decision of the accuracy gate, and `float_twin` the same model in float32, if the gate has made one.
    """

    candidate: Candidate
    backbone: BackboneSource
    start: Candidate
    stages: tuple[Stage, ...]
    pruning: Optional[Pruning] = None
    gate: Optional[Gate] = None
    float_twin: Optional[Candidate] = None

    def with_stage(self, candidate: Candidate, stage: Stage) -> Model:
        """This model after one more stage; `candidate` replaces the current one if the stage's record is kept."""
        if not stage.kept:
            return replace(self, stages=(*self.stages, stage))
        earlier = tuple(replace(one, kept=False) for one in self.stages)
        return replace(self, candidate=candidate, stages=(*earlier, stage))

    def with_note(self, note: str) -> Model:
        """This model with a further note on the stage that is kept."""
        return self.with_kept_stage(
            replace(self.kept_stage, note="; ".join(filter(None, [self.kept_stage.note, note])))
        )

    def with_kept_stage(self, stage: Stage) -> Model:
        """This model with another record of the stage that is kept."""
        return replace(self, stages=tuple(stage if one.kept else one for one in self.stages))

    @property
    def kept_stage(self) -> Stage:
        """The record of the stage that made the candidate."""
        return next(stage for stage in self.stages if stage.kept)


def stage_record(
    candidate: Candidate, kept: bool, validation: Sequence[ImageResult], how: str, dataset: Dataset, note: str = ""
) -> Stage:
    """The record of a stage for the report: accuracy on the validation predictions and on the test photos."""
    test = candidate.predict(dataset, dataset.indices("test"))
    right, test_right = (sum(answer.correct for answer in answers) for answers in (validation, test))
    return Stage(
        name=candidate.stage,
        kept=kept,
        validation=proportion(right, len(validation), how),
        test=proportion(test_right, len(test), f"test photos, {candidate.artifact.quantize} embeddings"),
        seconds=candidate.seconds,
        note=note,
    )
