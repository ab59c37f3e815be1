"""Compiles a backbone for the board, calibrated on the user's photos, and solves a last layer on its embeddings."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from edgetl.conversion import Artifact, BackboneSource, ConversionOptions, check, convert
from edgetl.data import Dataset
from edgetl.learners import Selection
from edgetl.pipeline.candidate import Candidate, known_photos, solve_cross_validated, solve_held_out
from edgetl.pipeline.edgetpu import require_mappable
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import Model
from edgetl.pipeline.training_setup import discard_old_checkpoints
from edgetl.runtime import Embedder

if TYPE_CHECKING:
    from tf_keras import Model as KerasModel

Solve = Callable[[Artifact, np.ndarray, Dataset], Selection]


class TrainedBackbone(Protocol):
    """The result of a training, e.g. `FineTuned`."""

    @property
    def model(self) -> KerasModel:
        """The trained tf_keras backbone."""

    @property
    def history(self) -> tuple[Mapping[str, Any], ...]:
        """One record per epoch."""

    @property
    def seconds(self) -> float:
        """How long the training took."""


def compile_and_solve(
    stage: str, trained: TrainedBackbone, backbone: BackboneSource, job: Job, solve: Solve = solve_held_out
) -> Candidate:
    """A trained backbone compiled for the board, with a last layer solved on the embeddings of the compiled model.

    Raises:
        ConversionError: the backbone cannot be converted, or the board cannot run it.
    """
    discard_old_checkpoints(job.options)
    with job.steps.measure("convert"):
        artifact = compile_for_board(trained.model, job.options.conversion, backbone, job)
    with job.steps.measure("embed again"):
        embeddings = job.embed(Embedder(artifact.model, backbone.preprocess))
    with job.steps.measure("solve last layer"):
        selection = solve(artifact, embeddings, job.dataset)
    return Candidate(stage, artifact, embeddings, selection, trained.model, trained.history, trained.seconds)


def solve_float(model: Model, job: Job) -> Candidate:
    """The same backbone in float32, its last layer chosen in the same way: the reference for quantization."""
    kept = model.candidate
    if kept.model is None:
        artifact = model.backbone.compile("float32")
    else:
        artifact = compile_on_photos(kept.model, ConversionOptions("float32"), model.backbone, job)
    known = known_photos(job.dataset)
    embeddings = np.zeros((len(job.dataset), artifact.embedding["size"]), np.float32)
    embeddings[known] = job.embed(Embedder(artifact.model, model.backbone.preprocess), known)
    selection = solver_for(kept)(artifact, embeddings, job.dataset)
    return replace(kept, artifact=artifact, embeddings=embeddings, selection=selection)


def solver_for(candidate: Candidate) -> Solve:
    """Cross-validated where the backbone is as published, held out where it was trained on the photos."""
    return solve_cross_validated if candidate.model is None else solve_held_out


def compile_for_board(model: KerasModel, options: ConversionOptions, backbone: BackboneSource, job: Job) -> Artifact:
    """A tf_keras backbone compiled and checked against the board; ConversionError if the board cannot run it."""
    artifact = compile_on_photos(model, options, backbone, job)
    check(artifact.model, job.board)
    require_mappable(artifact.model, job.board)
    return artifact


def compile_on_photos(model: KerasModel, options: ConversionOptions, backbone: BackboneSource, job: Job) -> Artifact:
    """A tf_keras backbone compiled, calibrated on the user's own training photos."""
    frames = calibration_frames(job.dataset, options.calibration_images)
    return convert(model, backbone.normalization, backbone.preprocess, options, frames)


def calibration_frames(dataset: Dataset, count: int) -> list[np.ndarray]:
    """At most `count` training photos at the model's size, uint8 (h, w, 3), balanced over the classes."""
    return [dataset.frame(index) for index in calibration_sample(dataset, count)]


def calibration_sample(dataset: Dataset, count: int) -> list[int]:
    """Indices of at most `count` training photos, one class after the other in turn.

    Photos of a class are sorted by digest, so the sample within a class is random but repeatable.
    """
    by_label: dict[str, list[int]] = {}
    for index in dataset.indices("train"):
        by_label.setdefault(dataset.samples[index].label, []).append(int(index))
    turns = max(len(indices) for indices in by_label.values())
    in_turn = [indices[turn] for turn in range(turns) for indices in by_label.values() if turn < len(indices)]
    return in_turn[:count]
