"""A backbone that first learns from photos of a related domain, within a build, and only where that helps.

`model` calls it. The related classes train the backbone alone, so every labelled photo can judge what came of it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from threadpoolctl import threadpool_limits

from edgetl.data import Dataset
from edgetl.errors import OptionError
from edgetl.evaluation import Stage
from edgetl.learners import GRID, LastLayer, Statistics, relearn, to_grid
from edgetl.pipeline.candidate import FOLDS, Candidate, held_out_answers, solve_cross_validated
from edgetl.pipeline.job import Job
from edgetl.pipeline.stages.transfer import compile_and_solve, merit, stage_of, training_options

RELATED = "related"

NEIGHBOURS = 20
"""So many related photos are taken for each training photo: those whose embeddings are nearest."""

LEAST_PHOTOS = 4
"""A related class with fewer photos among those is left out."""


@dataclass(frozen=True)
class Start:
    """Where the rest of the build begins: stage 1, or what it became by related photos.

    `job` has the backbone that belongs to it, `stages` what was not chosen, and `note` is for the report.
    """

    candidate: Candidate
    job: Job
    stages: tuple[Stage, ...] = ()
    note: str = ""


def start_from_related(first: Candidate, job: Job) -> Start:
    """Stage 1, or the backbone trained on related photos where cross-validation on the labelled ones prefers it.

    The related photos nearest to the training photos, by stage 1's embeddings, are learned as classes of their own;
    then the last layer is solved on the labelled photos as in stage 1.

    Raises:
        OptionError: the backbone is compiled.
    """
    assert job.related is not None
    if job.origin.assemble is None:
        raise OptionError(f"{job.origin.name} is compiled, so it cannot learn from related photos; leave --related out")
    chosen = _nearest(first, job.dataset, job.related)
    classes = len(set(job.related.labels_of(chosen)))
    note = f"{len(chosen):,} of {job.related.report.photos:,} related photos, {classes} classes"
    if classes < 2:
        return Start(first, job, (), f"{note}: too few are like the training photos, so none is used")
    model, candidate = _learned(first, chosen, job)
    before, after = (held_out_answers(one.selection, job.dataset) for one in (first, candidate))
    how = f"{FOLDS}-fold cross-validation of the last layer"
    if merit(after) <= merit(before):
        note = f"{note}; not used: the labelled photos did not prefer it to {first.stage}"
        return Start(first, job, (stage_of(candidate, False, after, how, job.dataset, note),))
    description = {**job.origin.description, "related": job.related.digest}
    origin = replace(job.origin, description=description, assemble=lambda: model)
    passed = stage_of(first, False, before, how, job.dataset)
    return Start(candidate, replace(job, origin=origin), (passed,), note)


def _nearest(first: Candidate, dataset: Dataset, related: Dataset) -> np.ndarray:
    """The related photos (m,) that are among the nearest of a training photo by the cosine of embeddings."""
    assert related.embeddings is not None
    theirs, ours = (
        to_grid(embeddings, first.artifact.embedding["zero_point"]).astype(np.float32) / GRID
        for embeddings in (related.embeddings, first.embeddings[dataset.indices("train")])
    )
    count = min(NEIGHBOURS, len(related))
    with threadpool_limits(1, "blas"):
        nearest = np.unique([np.argpartition(-(theirs @ one), count - 1)[:count] for one in ours])
    _, slots, counts = np.unique(related.labels_of(nearest), return_inverse=True, return_counts=True)
    return nearest[counts[slots] >= LEAST_PHOTOS]


def _learned(first: Candidate, chosen: np.ndarray, job: Job) -> tuple[Any, Candidate]:
    """The backbone trained to tell these related photos apart, and what it makes of the labelled ones."""
    from edgetl.training import fine_tune

    related = job.related
    assert related is not None
    assert related.frames is not None
    assert job.origin.assemble is not None
    judging = related.folds(chosen, FOLDS) == 0
    start = _last_layer_of(first, related, chosen[~judging])
    slots = {label: slot for slot, label in enumerate(start.labels)}
    labels = [slots.get(sample.label, 0) for sample in related.samples]
    with job.steps.measure("learn from related photos"):
        trained = fine_tune(
            job.origin.assemble(),
            job.origin.normalization,
            related.frames,
            labels,
            chosen[~judging],
            chosen[judging],
            start,
            training_options(f"{RELATED} {related.digest} {chosen.tobytes().hex()}", job),
            progress=job.steps.progress,
        )
    candidate = compile_and_solve(RELATED, trained, job, solve_cross_validated)
    return trained.model, candidate


def _last_layer_of(first: Candidate, related: Dataset, chosen: np.ndarray) -> LastLayer:
    """Stage 1's last layer for the classes of these related photos instead."""
    assert related.embeddings is not None
    statistics = Statistics()
    grid = to_grid(related.embeddings[chosen], first.artifact.embedding["zero_point"])
    statistics.add(grid, related.labels_of(chosen))
    with threadpool_limits(1, "blas"):
        return relearn(first.last_layer, statistics, first.selection.parameters)
