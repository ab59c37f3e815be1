"""A student trained with a teacher, within a build, and kept only where that helps; `build` calls it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Any, Optional

import numpy as np
from threadpoolctl import threadpool_limits

from edgetl.bundle import MODEL, open_bundle
from edgetl.conversion.backbone_source import find_origin
from edgetl.data import JoinedFrames
from edgetl.errors import OptionError
from edgetl.evaluation import Stage
from edgetl.learners import LastLayer, Selection, choose, to_grid
from edgetl.pipeline.candidate import (
    FOLDS,
    Candidate,
    held_out_answers,
    solve_held_out,
    solved_from_training_photos,
)
from edgetl.pipeline.job import Job
from edgetl.pipeline.stages.transfer import (
    HELD_OUT,
    compile_and_solve,
    merit,
    obstacle_to_training,
    photos_to_train_on,
    stage_of,
    training_options,
)
from edgetl.runtime import Embedder, Preprocess
from edgetl.runtime.inference.bundle_entries import read_last_layer

DISTILLED = "distilled"


def prefer_distilled(
    first: Candidate, kept: Candidate, stages: tuple[Stage, ...], job: Job
) -> tuple[Candidate, tuple[Stage, ...]]:
    """The backbone fine-tuned with a teacher where the validation photos prefer it to `kept`, else `kept`.

    It starts where fine-tuning alone started, from `first`, and takes as many epochs. The teacher also says what
    the unlabelled pictures show; where none was named it is `kept` itself.

    Raises:
        OptionError: the backbone is compiled, there are no validation photos, or the teacher knows other classes.
        UnknownNameError, BundleError, WeightsError: there is no such teacher.
    """
    from edgetl.training import fine_tune

    if obstacle := obstacle_to_training(job):
        raise OptionError(f"{obstacle}; leave --teacher and --unlabelled out")
    assert job.origin.assemble is not None
    with job.steps.measure("ask teacher"):
        answers = _answers(_teacher(kept, job), job)
    with job.steps.measure("distil"):
        trained = fine_tune(
            job.origin.assemble(),
            job.origin.normalization,
            *_photos_to_learn_from(job),
            solved_from_training_photos(first, job.dataset),
            training_options(f"{DISTILLED} {hashlib.sha256(answers.tobytes()).hexdigest()}", job),
            progress=job.steps.progress,
            answers=answers,
        )
    candidate = compile_and_solve(DISTILLED, trained, job)
    before = held_out_answers(solve_held_out(kept.artifact, kept.embeddings, job.dataset), job.dataset)
    after = held_out_answers(candidate.selection, job.dataset)
    better = merit(after) > merit(before)
    told = tuple(replace(stage, kept=stage.kept and not better) for stage in stages)
    stage = stage_of(candidate, better, after, HELD_OUT, job.dataset, _note(kept, better, job))
    return (candidate if better else kept), (*told, stage)


@dataclass(frozen=True, eq=False)
class _Teacher:
    """A backbone and its last layer; where no photo has shaped the backbone, also what layers said of each training
    photo that had not seen it, (n, K): the last layer itself is surer of these than it ever is of others.
    """

    backbone: Embedder
    last_layer: LastLayer
    out_of_fold: Optional[Selection] = None


def _teacher(kept: Candidate, job: Job) -> _Teacher:
    """A bundle as it is; a pretrained backbone with a last layer solved on the training photos; or what is kept."""
    name = job.options.teacher
    if name is None:
        backbone = Embedder(kept.artifact.model, job.origin.preprocess)
        if kept.model is None:
            return _solved(backbone, job)
        return _Teacher(backbone, solved_from_training_photos(kept, job.dataset))
    if name.endswith(".edgetl"):
        bundle = open_bundle(name)
        last_layer = _in_order(read_last_layer(bundle), job.dataset.labels, name)
        return _Teacher(Embedder(bundle.read(MODEL), Preprocess.from_dict(bundle.manifest.preprocess)), last_layer)
    origin = find_origin(name, cache=job.options.cache)
    return _solved(Embedder(origin.compile("int8").model, origin.preprocess), job)


def _solved(backbone: Embedder, job: Job) -> _Teacher:
    """A backbone that has seen none of these photos, with a last layer solved on the training photos."""
    training = job.dataset.indices("train")
    grid = to_grid(job.embed(backbone, training), backbone.zero_point)
    with threadpool_limits(1, "blas"):
        selection = choose(grid, job.dataset.labels_of(training), job.dataset.folds(training, FOLDS))
    return _Teacher(backbone, selection.last_layer, selection)


def _answers(teacher: _Teacher, job: Job) -> np.ndarray:
    """Probabilities (n, K) float32 for the photos of the data set, then for the unlabelled pictures.

    The teacher sees each photo as a whole and at its own size, in the order of the classes. Only the rows of the
    training photos are filled.
    """
    training = job.dataset.indices("train")
    answers = np.zeros((len(job.dataset), len(job.dataset.labels)), np.float32)
    answers[training] = _probabilities(teacher, job, training)
    if teacher.out_of_fold is not None:
        answers[training[teacher.out_of_fold.out_of_fold_indices]] = teacher.out_of_fold.out_of_fold_probabilities
    if job.unlabelled is None:
        return answers
    pictures = replace(job, dataset=job.unlabelled)
    return np.concatenate([answers, _probabilities(teacher, pictures, np.arange(len(job.unlabelled)))])


def _probabilities(teacher: _Teacher, job: Job, indices: np.ndarray) -> np.ndarray:
    return teacher.last_layer.probabilities(to_grid(job.embed(teacher.backbone, indices), teacher.backbone.zero_point))


def _in_order(layer: LastLayer, labels: tuple[str, ...], name: str) -> LastLayer:
    """The last layer with its columns in the order of the photos' classes."""
    if sorted(layer.labels) != sorted(labels):
        raise OptionError(
            f"the teacher {name} tells {', '.join(layer.labels)} apart, the photos show {', '.join(labels)}; "
            "give a teacher of the same classes"
        )
    columns = np.array([layer.labels.index(label) for label in labels])
    return replace(layer, labels=labels, weights=layer.weights[:, columns], bias=layer.bias[columns])


def _photos_to_learn_from(job: Job) -> tuple[Any, list[int], np.ndarray, np.ndarray]:
    """As `photos_to_train_on`, with the unlabelled pictures as further ones to train on."""
    from edgetl.training import NO_LABEL

    frames, labels, training, validation = photos_to_train_on(job.dataset)
    if job.unlabelled is None:
        return frames, labels, training, validation
    assert job.dataset.frames is not None
    assert job.unlabelled.frames is not None
    further = np.arange(len(labels), len(labels) + len(job.unlabelled))
    labels = [*labels, *[NO_LABEL] * len(further)]
    frames = JoinedFrames(job.dataset.frames, job.unlabelled.frames)
    return frames, labels, np.concatenate([training, further]), validation


def _note(kept: Candidate, better: bool, job: Job) -> str:
    parts = [f"teacher {job.options.teacher or f'the {kept.stage} model itself'}"]
    if job.unlabelled is not None:
        report = job.unlabelled.report
        parts.append(f"{len(job.unlabelled):,} of {report.photos:,} unlabelled pictures")
    return " and ".join(parts) + ("" if better else f"; the validation photos did not prefer it to {kept.stage}")
