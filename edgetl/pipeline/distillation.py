"""A student trained with a larger teacher, within a build, and kept only where that helps; `build` calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgetl.bundle import open_bundle
from edgetl.conversion.origin import find_origin
from edgetl.data import Dataset
from edgetl.errors import OptionError
from edgetl.evaluation import ImageResult, Stage
from edgetl.learners import LastLayer
from edgetl.pipeline.candidate import Candidate, held_out_answers, solve_cross_validated, solved_from_training_photos
from edgetl.pipeline.job import Job
from edgetl.pipeline.stages import (
    HELD_OUT,
    compile_and_solve,
    merit,
    obstacle_to_training,
    photos_to_train_on,
    stage_of,
    training_options,
)
from edgetl.runtime import Embedder, Preprocess
from edgetl.runtime.bundled import MODEL, read_last_layer

if TYPE_CHECKING:
    from edgetl.training import CompiledTeacher

DISTILLED = "distilled"


def prefer_distilled(
    first: Candidate, kept: Candidate, stages: tuple[Stage, ...], job: Job
) -> tuple[Candidate, tuple[Stage, ...]]:
    """The backbone fine-tuned with a teacher where the validation photos prefer it to `kept`, else `kept`.

    It starts where fine-tuning alone started, from `first`, and takes as many epochs.

    Raises:
        OptionError: the backbone is compiled, there are no validation photos, or the teacher knows other classes.
        UnknownNameError, BundleError, WeightsError: there is no such teacher.
    """
    from edgetl.training import fine_tune

    assert job.options.teacher is not None
    if obstacle := obstacle_to_training(job):
        raise OptionError(f"{obstacle}; leave --teacher out")
    assert job.origin.assemble is not None
    with job.steps.measure("prepare teacher"):
        teacher = _teacher(job.options.teacher, job)
    with job.steps.measure("distil"):
        trained = fine_tune(
            job.origin.assemble(),
            job.origin.normalization,
            *photos_to_train_on(job.dataset),
            solved_from_training_photos(first, job.dataset),
            training_options(f"{DISTILLED} from {teacher.backbone.digest}", job),
            progress=job.steps.progress,
            teacher=teacher,
        )
    candidate = compile_and_solve(DISTILLED, trained, job)
    before, after = (_on_validation(one, job.dataset) for one in (kept, candidate))
    better = merit(after) > merit(before)
    verdict = "" if better else f"; the validation photos did not prefer it to {kept.stage}"
    told = tuple(replace(stage, kept=stage.kept and not better) for stage in stages)
    stage = stage_of(candidate, better, after, HELD_OUT, job.dataset, f"teacher {job.options.teacher}{verdict}")
    return (candidate if better else kept), (*told, stage)


def _teacher(name: str, job: Job) -> CompiledTeacher:
    """A bundle as it is; a pretrained backbone with a last layer solved on the training photos."""
    from edgetl.training import CompiledTeacher

    if name.endswith(".edgetl"):
        bundle = open_bundle(name)
        last_layer = _in_order(read_last_layer(bundle), job.dataset.labels, name)
        preprocess = Preprocess.from_dict(bundle.manifest.preprocess)
        return CompiledTeacher(Embedder(bundle.read(MODEL), preprocess), last_layer)
    origin = find_origin(name, cache=job.options.cache)
    artifact = origin.compile("int8")
    embedder = Embedder(artifact.model, origin.preprocess)
    embeddings = job.embed(embedder)
    solved = Candidate("teacher", artifact, embeddings, solve_cross_validated(artifact, embeddings, job.dataset))
    return CompiledTeacher(embedder, solved_from_training_photos(solved, job.dataset))


def _in_order(layer: LastLayer, labels: tuple[str, ...], name: str) -> LastLayer:
    """The last layer with its columns in the order of the photos' classes."""
    if sorted(layer.labels) != sorted(labels):
        raise OptionError(
            f"the teacher {name} tells {', '.join(layer.labels)} apart, the photos show {', '.join(labels)}; "
            "give a teacher of the same classes"
        )
    columns = np.array([layer.labels.index(label) for label in labels])
    return replace(layer, labels=labels, weights=layer.weights[:, columns], bias=layer.bias[columns])


def _on_validation(candidate: Candidate, dataset: Dataset) -> list[ImageResult]:
    validation = {str(dataset.samples[index].path) for index in dataset.indices("val")}
    return [answer for answer in held_out_answers(candidate.selection, dataset) if answer.source in validation]
