"""Trains the backbone with a teacher's predictions, and keeps the result only if validation prefers it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from typing import Optional

import numpy as np
from threadpoolctl import threadpool_limits

from edgetl.bundle import MODEL, open_bundle
from edgetl.conversion import find_backbone_source
from edgetl.data import JoinedFrames
from edgetl.errors import OptionError
from edgetl.learners import LastLayer, Selection, choose, to_grid
from edgetl.pipeline.candidate import FOLDS, Candidate, held_out_predictions, merit, solved_from_training_photos
from edgetl.pipeline.compilation import compile_and_solve
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import HELD_OUT, Model, stage_record
from edgetl.pipeline.stages.fine_tuning import predictions_without_validation
from edgetl.pipeline.training_setup import TrainingPhotos, obstacle_to_training, photos_to_train_on, training_options
from edgetl.runtime import Embedder, Preprocess
from edgetl.runtime.inference import read_last_layer

DISTILLED = "distilled"


def distil(model: Model, job: Job) -> Model:
    """The backbone fine-tuned with a teacher, if the validation photos prefer it to the model so far.

    It starts where fine-tuning alone started, and takes as many epochs. The teacher also labels the unlabelled
    pictures; if no teacher was named, the model so far is the teacher.

    Raises:
        OptionError: the backbone is compiled, there are no validation photos, or the teacher has other classes.
        UnknownNameError, BundleError, WeightsError: the teacher cannot be opened.
    """
    if job.options.teacher is None and job.unlabelled is None:
        return model
    kept = model.candidate
    candidate = _train(model, job)
    before = predictions_without_validation(kept, job)
    after = held_out_predictions(candidate.selection, job.dataset)
    better = merit(after) > merit(before)
    return model.with_stage(
        candidate, stage_record(candidate, better, after, HELD_OUT, job.dataset, _note(kept, better, job))
    )


def _train(model: Model, job: Job) -> Candidate:
    from edgetl.training import fine_tune

    backbone = model.backbone
    if obstacle := obstacle_to_training(backbone, job.dataset):
        raise OptionError(f"{obstacle}; leave --teacher and --unlabelled out")
    assert backbone.assemble is not None
    with job.steps.measure("ask teacher"):
        targets = _soft_targets(_find_teacher(model, job), job)
    with job.steps.measure("distil"):
        trained = fine_tune(
            backbone.assemble(),
            backbone.normalization,
            *_photos_to_learn_from(job),
            solved_from_training_photos(model.start, job.dataset),
            training_options(f"{DISTILLED} {hashlib.sha256(targets.tobytes()).hexdigest()}", backbone, job),
            progress=job.steps.progress,
            answers=targets,
        )
    return compile_and_solve(DISTILLED, trained, backbone, job)


@dataclass(frozen=True, eq=False)
class _Teacher:
    """A backbone and its last layer.

    `cross_validation` holds out-of-fold predictions of the training photos, where the backbone was not trained on
    them: the last layer itself is more confident on these photos than it is on new ones.
    """

    backbone: Embedder
    last_layer: LastLayer
    cross_validation: Optional[Selection] = None


def _find_teacher(model: Model, job: Job) -> _Teacher:
    """The bundle or the pretrained backbone that the options name; otherwise the model so far."""
    name = job.options.teacher
    if name is None:
        kept = model.candidate
        embedder = Embedder(kept.artifact.model, model.backbone.preprocess)
        if kept.model is None:
            return _teacher_from(embedder, job)
        return _Teacher(embedder, solved_from_training_photos(kept, job.dataset))
    if name.endswith(".edgetl"):
        bundle = open_bundle(name)
        last_layer = _reordered(read_last_layer(bundle), job.dataset.labels, name)
        return _Teacher(Embedder(bundle.read(MODEL), Preprocess.from_dict(bundle.manifest.preprocess)), last_layer)
    source = find_backbone_source(name, cache=job.options.cache)
    preprocess = replace(source.preprocess, white_level=job.dataset.preprocess.white_level)
    return _teacher_from(Embedder(source.compile("int8").model, preprocess), job)


def _teacher_from(backbone: Embedder, job: Job) -> _Teacher:
    """A backbone that was not trained on these photos, with a last layer solved on the training photos."""
    training = job.dataset.indices("train")
    embeddings = to_grid(job.embed(backbone, training), backbone.zero_point)
    with threadpool_limits(1, "blas"):
        selection = choose(embeddings, job.dataset.labels_of(training), job.dataset.folds(training, FOLDS))
    return _Teacher(backbone, selection.last_layer, selection)


def _soft_targets(teacher: _Teacher, job: Job) -> np.ndarray:
    """The teacher's probabilities (n, K) float32 for the photos of the data set, then for the unlabelled pictures.

    The teacher sees each whole photo at its own input size; columns are in the order of the data set's classes. Of
    the data set, only the rows of the training photos are filled.
    """
    training = job.dataset.indices("train")
    targets = np.zeros((len(job.dataset), len(job.dataset.labels)), np.float32)
    targets[training] = _probabilities(teacher, job, training)
    if (selection := teacher.cross_validation) is not None:
        targets[training[selection.out_of_fold_indices]] = selection.out_of_fold_probabilities
    if job.unlabelled is None:
        return targets
    pictures = replace(job, dataset=job.unlabelled)
    return np.concatenate([targets, _probabilities(teacher, pictures, np.arange(len(job.unlabelled)))])


def _probabilities(teacher: _Teacher, job: Job, indices: np.ndarray) -> np.ndarray:
    return teacher.last_layer.probabilities(to_grid(job.embed(teacher.backbone, indices), teacher.backbone.zero_point))


def _reordered(layer: LastLayer, labels: tuple[str, ...], name: str) -> LastLayer:
    """The last layer with its columns in the order of `labels`; OptionError if its classes differ."""
    if sorted(layer.labels) != sorted(labels):
        raise OptionError(
            f"the teacher {name} has the classes {', '.join(layer.labels)}, the photos have {', '.join(labels)}; "
            "choose a teacher with the same classes"
        )
    columns = np.array([layer.labels.index(label) for label in labels])
    return replace(layer, labels=labels, weights=layer.weights[:, columns], bias=layer.bias[columns])


def _photos_to_learn_from(job: Job) -> TrainingPhotos:
    """The training and validation photos, with the unlabelled pictures as further ones to train on."""
    from edgetl.training import NO_LABEL

    photos = photos_to_train_on(job.dataset)
    if job.unlabelled is None:
        return photos
    assert job.dataset.frames is not None
    assert job.unlabelled.frames is not None
    unlabelled = np.arange(len(photos.labels), len(photos.labels) + len(job.unlabelled))
    return TrainingPhotos(
        frames=JoinedFrames(job.dataset.frames, job.unlabelled.frames),
        labels=[*photos.labels, *[NO_LABEL] * len(unlabelled)],
        training=np.concatenate([photos.training, unlabelled]),
        validation=photos.validation,
    )


def _note(kept: Candidate, better: bool, job: Job) -> str:
    parts = [f"teacher: {job.options.teacher or f'the {kept.stage} model itself'}"]
    if job.unlabelled is not None:
        report = job.unlabelled.report
        parts.append(f"{len(job.unlabelled):,} of {report.photos:,} unlabelled pictures")
    return ", ".join(parts) + ("" if better else f"; the validation photos did not prefer it to {kept.stage}")
