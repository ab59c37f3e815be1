"""Trains the same architecture from random weights, to measure what transfer learning gains; it never ships."""

from __future__ import annotations

from edgetl.errors import OptionError
from edgetl.pipeline.candidate import held_out_predictions
from edgetl.pipeline.compilation import compile_and_solve
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import HELD_OUT, Model, stage_record
from edgetl.pipeline.training_setup import obstacle_to_training, photos_to_train_on, training_options

FROM_SCRATCH = "from scratch"


def compare_from_scratch(model: Model, job: Job) -> Model:
    """The model with one more stage for comparison: trained from random weights for as many epochs.

    Raises:
        OptionError: the backbone is compiled, or there are no validation photos.
    """
    if not job.options.compare_scratch:
        return model
    from edgetl.training import from_scratch

    backbone = model.backbone
    if obstacle := obstacle_to_training(backbone, job.dataset):
        raise OptionError(f"{obstacle}; leave --compare-scratch out")
    assert backbone.assemble_untrained is not None
    with job.steps.measure("train from scratch"):
        trained = from_scratch(
            backbone.assemble_untrained(),
            backbone.normalization,
            *photos_to_train_on(job.dataset),
            training_options(FROM_SCRATCH, backbone, job),
            progress=job.steps.progress,
        )
    candidate = compile_and_solve(FROM_SCRATCH, trained, backbone, job)
    validation = held_out_predictions(candidate.selection, job.dataset)
    record = stage_record(candidate, False, validation, HELD_OUT, job.dataset, "for comparison only")
    return model.with_stage(candidate, record)
