"""Trains the backbone on photos of a related domain first, and keeps the result only if it helps.

The related classes train the backbone alone, so all labelled photos can judge the result by cross-validation.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
from threadpoolctl import threadpool_limits

from edgetl.data import Dataset
from edgetl.errors import OptionError
from edgetl.learners import GRID, LastLayer, Statistics, relearn, to_grid
from edgetl.pipeline.candidate import FOLDS, Candidate, held_out_predictions, merit, solve_cross_validated
from edgetl.pipeline.compilation import compile_and_solve
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import CROSS_VALIDATED, Model, stage_record
from edgetl.pipeline.training_setup import training_options

if TYPE_CHECKING:
    from tf_keras import Model as KerasModel

RELATED = "related"

NEIGHBOURS = 20
"""Related photos taken per training photo: those with the nearest embeddings."""

LEAST_PHOTOS = 4
"""A related class with fewer photos among the neighbours is left out."""


def learn_from_related(model: Model, job: Job) -> Model:
    """Stage 1 with a backbone trained on related photos, if cross-validation on the labelled photos prefers it.

    The related photos nearest to the training photos, by the embeddings of stage 1, are learned as classes of their
    own; then the last layer is solved on the labelled photos as in stage 1.

    Raises:
        OptionError: the backbone is compiled.
    """
    if job.related is None:
        return model
    if model.backbone.assemble is None:
        name = model.backbone.name
        raise OptionError(f"{name} is compiled, so it cannot learn from related photos; leave --related out")
    first = model.candidate
    chosen = _nearest(first, job.dataset, job.related)
    classes = len(set(job.related.labels_of(chosen)))
    note = f"{len(chosen):,} of {job.related.report.photos:,} related photos, {classes} classes"
    if classes < 2:
        return model.with_note(f"{note}: too few are similar to the training photos, so none is used")
    trained, candidate = _train(chosen, model, job)
    before, after = (held_out_predictions(one.selection, job.dataset) for one in (first, candidate))
    better = merit(after) > merit(before)
    if not better:
        note = f"{note}; not used: the labelled photos did not prefer it to {first.stage}"
    model = model.with_stage(candidate, stage_record(candidate, better, after, CROSS_VALIDATED, job.dataset, note))
    if not better:
        return model
    description = {**model.backbone.description, "related": job.related.digest}
    backbone = replace(model.backbone, description=description, assemble=lambda: trained)
    return replace(model, backbone=backbone, start=candidate)


def _nearest(first: Candidate, dataset: Dataset, related: Dataset) -> np.ndarray:
    """Indices (m,) of the related photos that are near a training photo by the cosine of their embeddings."""
    assert related.embeddings is not None
    theirs, ours = (
        to_grid(embeddings, first.artifact.embedding["zero_point"]).astype(np.float32) / GRID
        for embeddings in (related.embeddings, first.embeddings[dataset.indices("train")])
    )
    count = min(NEIGHBOURS, len(related))
    with threadpool_limits(1, "blas"):
        nearest = np.unique([np.argpartition(-(theirs @ one), count - 1)[:count] for one in ours])
    _, classes, counts = np.unique(related.labels_of(nearest), return_inverse=True, return_counts=True)
    return nearest[counts[classes] >= LEAST_PHOTOS]


def _train(chosen: np.ndarray, model: Model, job: Job) -> tuple[KerasModel, Candidate]:
    """The backbone trained on the related photos at `chosen`, and the resulting candidate for the labelled photos."""
    from edgetl.training import fine_tune

    related, backbone = job.related, model.backbone
    assert related is not None
    assert related.frames is not None
    assert backbone.assemble is not None
    validation = related.folds(chosen, FOLDS) == 0
    start = _last_layer_for(related, chosen[~validation], model.candidate)
    columns = {label: column for column, label in enumerate(start.labels)}
    labels = [columns.get(sample.label, 0) for sample in related.samples]
    with job.steps.measure("learn from related photos"):
        trained = fine_tune(
            backbone.assemble(),
            backbone.normalization,
            related.frames,
            labels,
            chosen[~validation],
            chosen[validation],
            start,
            training_options(f"{RELATED} {related.digest} {chosen.tobytes().hex()}", backbone, job),
            progress=job.steps.progress,
        )
    return trained.model, compile_and_solve(RELATED, trained, backbone, job, solve_cross_validated)


def _last_layer_for(related: Dataset, chosen: np.ndarray, first: Candidate) -> LastLayer:
    """A last layer for the related classes, with the solver and parameters of stage 1."""
    assert related.embeddings is not None
    statistics = Statistics()
    embeddings = to_grid(related.embeddings[chosen], first.artifact.embedding["zero_point"])
    statistics.add(embeddings, related.labels_of(chosen))
    with threadpool_limits(1, "blas"):
        return relearn(first.last_layer, statistics, first.selection.parameters)
