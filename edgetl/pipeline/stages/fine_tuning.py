"""Stage 2: fine-tunes the backbone on the training photos, and keeps the result only if validation prefers it."""

from __future__ import annotations

import numpy as np

from edgetl.errors import OptionError
from edgetl.evaluation import ImageResult
from edgetl.pipeline.candidate import (
    Candidate,
    held_out_predictions,
    merit,
    solve_held_out,
    solved_from_training_photos,
)
from edgetl.pipeline.compilation import compile_and_solve
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import HELD_OUT, Model, stage_record
from edgetl.pipeline.training_setup import obstacle_to_training, photos_to_train_on, training_options

FINE_TUNED = "fine-tuned"

ENOUGH_ACCURACY = 0.995
"""Cross-validated accuracy of stage 1 from which "auto" does not fine-tune."""

ENOUGH_PHOTOS = 8
""""auto" does not fine-tune if the smallest class has fewer training photos."""


def fine_tune_backbone(model: Model, job: Job) -> Model:
    """The backbone fine-tuned from the last layer of stage 1, if the validation photos prefer it.

    Raises:
        OptionError: fine-tuning was asked for, and the backbone or the photos do not allow it.
        ConversionError: the board cannot run the fine-tuned backbone.
    """
    if reason := reason_not_to_fine_tune(model, job):
        return model.with_note(reason)
    tuned = _fine_tune(model, job)
    before = predictions_without_validation(model.candidate, job)
    after = held_out_predictions(tuned.selection, job.dataset)
    better = merit(after) > merit(before)
    note = "" if better else "the validation photos did not prefer it"
    comparable = stage_record(model.candidate, True, before, HELD_OUT, job.dataset, model.kept_stage.note)
    model = model.with_kept_stage(comparable)
    return model.with_stage(tuned, stage_record(tuned, better, after, HELD_OUT, job.dataset, note))


def reason_not_to_fine_tune(model: Model, job: Job) -> str:
    """Why the backbone is left as it is; empty if it is to be fine-tuned.

    Raises:
        OptionError: fine-tuning was asked for, and the backbone or the photos do not allow it.
    """
    if job.options.fine_tune == "off":
        return "fine-tuning was switched off"
    obstacle = obstacle_to_training(model.backbone, job.dataset)
    if job.options.fine_tune != "auto":
        if obstacle:
            raise OptionError(f"{obstacle}; leave --fine-tune {job.options.fine_tune} out")
        return ""
    if obstacle:
        return obstacle
    smallest = min(counts.get("train", 0) for counts in job.dataset.report.counts.values())
    if smallest < ENOUGH_PHOTOS:
        return f"the smallest class has {smallest} training photos; fine-tuning needs {ENOUGH_PHOTOS} or more"
    predictions = held_out_predictions(model.candidate.selection, job.dataset)
    accuracy = np.mean([prediction.correct for prediction in predictions])
    if accuracy >= ENOUGH_ACCURACY:
        return f"stage 1 already has a cross-validated accuracy of {accuracy:.1%}, so fine-tuning has little to gain"
    return ""


def predictions_without_validation(candidate: Candidate, job: Job) -> list[ImageResult]:
    """The candidate's predictions for the validation photos, its last layer solved without them."""
    selection = solve_held_out(candidate.artifact, candidate.embeddings, job.dataset)
    return held_out_predictions(selection, job.dataset)


def _fine_tune(model: Model, job: Job) -> Candidate:
    from edgetl.training import fine_tune

    backbone = model.backbone
    assert backbone.assemble is not None
    with job.steps.measure("fine-tune"):
        tuned = fine_tune(
            backbone.assemble(),
            backbone.normalization,
            *photos_to_train_on(job.dataset),
            solved_from_training_photos(model.start, job.dataset),
            training_options(FINE_TUNED, backbone, job),
            progress=job.steps.progress,
        )
    return compile_and_solve(FINE_TUNED, tuned, backbone, job)
