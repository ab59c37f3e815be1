"""Trains the backbone for int8, and keeps the result only if the validation photos prefer it."""

from __future__ import annotations

import time
from dataclasses import replace

from edgetl.errors import OptionError
from edgetl.pipeline.candidate import held_out_predictions, merit
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import VALIDATION, Model, stage_record
from edgetl.pipeline.stages.repairs import train_for_int8
from edgetl.pipeline.stages.requantizer import Requantizer
from edgetl.pipeline.stages.sparsity import describe_compression
from edgetl.pipeline.training_setup import obstacle_to_training

AWARE = "quantization-aware"


def train_quantization_aware(model: Model, job: Job) -> Model:
    """The model after quantization-aware training, if the validation photos prefer it.

    Raises:
        OptionError: the backbone is compiled, or there are no validation photos.
    """
    if not job.options.aware:
        return model
    if obstacle := obstacle_to_training(model.backbone, job.dataset):
        raise OptionError(f"{obstacle}; use --quantize int8")
    kept, started = model.candidate, time.perf_counter()
    with job.steps.measure("quantization-aware training"):
        trained = train_for_int8(Requantizer(model, job), kept).candidate
    validation = {str(job.dataset.samples[index].path) for index in job.dataset.indices("val")}
    before, after = (
        [answer for answer in held_out_predictions(one.selection, job.dataset) if answer.source in validation]
        for one in (kept, trained)
    )
    better = merit(after) > merit(before)
    notes = [] if better else [f"the validation photos did not prefer it to {kept.stage}"]
    if job.options.sparsity is not None:
        notes.append(describe_compression(kept, trained))
    candidate = replace(trained, stage=f"{kept.stage}, {AWARE}")
    record = stage_record(candidate, better, after, VALIDATION, job.dataset, "; ".join(notes))
    return model.with_stage(candidate, replace(record, seconds=time.perf_counter() - started))
