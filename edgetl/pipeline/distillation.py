"""A student trained with a teacher, within a build, and kept only where that helps; `build` calls it."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np

from edgetl.bundle import open_bundle
from edgetl.conversion.origin import find_origin
from edgetl.data import Dataset, JoinedFrames
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
    with job.steps.measure("prepare teacher"):
        teacher = _teacher(kept, job)
    with job.steps.measure("distil"):
        trained = fine_tune(
            job.origin.assemble(),
            job.origin.normalization,
            *_photos_to_learn_from(job),
            solved_from_training_photos(first, job.dataset),
            training_options(f"{DISTILLED} from {_digest(teacher)} {job.unlabelled and job.unlabelled.digest}", job),
            progress=job.steps.progress,
            teacher=teacher,
        )
    candidate = compile_and_solve(DISTILLED, trained, job)
    before, after = (on_validation(one, job.dataset) for one in (kept, candidate))
    better = merit(after) > merit(before)
    told = tuple(replace(stage, kept=stage.kept and not better) for stage in stages)
    stage = stage_of(candidate, better, after, HELD_OUT, job.dataset, _note(kept, better, job))
    return (candidate if better else kept), (*told, stage)


def on_validation(candidate: Candidate, dataset: Dataset) -> list[ImageResult]:
    """What a last layer that had not seen them said about the validation photos."""
    validation = {str(dataset.samples[index].path) for index in dataset.indices("val")}
    return [answer for answer in held_out_answers(candidate.selection, dataset) if answer.source in validation]


def _teacher(kept: Candidate, job: Job) -> CompiledTeacher:
    """A bundle as it is; a pretrained backbone with a last layer solved on the training photos; or what is kept."""
    from edgetl.training import CompiledTeacher

    name = job.options.teacher
    if name is None:
        embedder = Embedder(kept.artifact.model, job.origin.preprocess)
        return CompiledTeacher(embedder, solved_from_training_photos(kept, job.dataset))
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


def _digest(teacher: CompiledTeacher) -> str:
    """Of all that its answers depend on."""
    layer = teacher.last_layer
    parts = (layer.weights.tobytes(), layer.bias.tobytes(), np.float64(layer.temperature).tobytes())
    return hashlib.sha256(b"".join((teacher.backbone.digest.encode(), *parts))).hexdigest()


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
