"""A student trained with a larger teacher, within a build, and kept only where that helps; `build` calls it."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from edgetl.bundle import open_bundle
from edgetl.conversion.origin import Origin, find_origin
from edgetl.data import Dataset, embed_all
from edgetl.errors import OptionError
from edgetl.evaluation import ImageResult, Stage
from edgetl.learners import LastLayer
from edgetl.pipeline.candidate import Candidate, held_out_answers, solve_cross_validated, solved_from_training_photos
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.stages import (
    HELD_OUT,
    compile_and_solve,
    merit,
    obstacle_to_training,
    photos_to_train_on,
    stage_of,
    training_options,
)
from edgetl.pipeline.steps import Steps
from edgetl.runtime import Embedder, Preprocess
from edgetl.runtime.bundled import MODEL, read_last_layer
from edgetl.targets import Target

if TYPE_CHECKING:
    from edgetl.training import CompiledTeacher

DISTILLED = "distilled"


def prefer_distilled(
    first: Candidate,
    kept: Candidate,
    stages: tuple[Stage, ...],
    origin: Origin,
    dataset: Dataset,
    board: Target,
    options: BuildOptions,
    steps: Steps,
) -> tuple[Candidate, tuple[Stage, ...]]:
    """The backbone fine-tuned with a teacher where the validation photos prefer it to `kept`, else `kept`.

    It starts where fine-tuning alone started, from `first`, and takes as many epochs.

    Raises:
        OptionError: the backbone is compiled, there are no validation photos, or the teacher knows other classes.
        UnknownNameError, BundleError, WeightsError: there is no such teacher.
    """
    from edgetl.training import fine_tune

    assert options.teacher is not None
    if obstacle := obstacle_to_training(origin, dataset):
        raise OptionError(f"{obstacle}; leave --teacher out")
    assert origin.assemble is not None
    with steps.measure("prepare teacher"):
        teacher = _teacher(options.teacher, dataset, options, steps)
    with steps.measure("distil"):
        trained = fine_tune(
            origin.assemble(),
            origin.normalization,
            *photos_to_train_on(dataset),
            solved_from_training_photos(first, dataset),
            training_options(f"{DISTILLED} from {teacher.backbone.digest}", origin, dataset, options),
            progress=steps.progress,
            teacher=teacher,
        )
    candidate = compile_and_solve(DISTILLED, trained, origin, dataset, board, options, steps)
    before, after = (_on_validation(one, dataset) for one in (kept, candidate))
    better = merit(after) > merit(before)
    verdict = "" if better else f"; the validation photos did not prefer it to {kept.stage}"
    told = tuple(replace(stage, kept=stage.kept and not better) for stage in stages)
    stage = stage_of(candidate, better, after, HELD_OUT, dataset, f"teacher {options.teacher}{verdict}")
    return (candidate if better else kept), (*told, stage)


def _teacher(name: str, dataset: Dataset, options: BuildOptions, steps: Steps) -> CompiledTeacher:
    """A bundle as it is; a pretrained backbone with a last layer solved on the training photos."""
    from edgetl.training import CompiledTeacher

    if name.endswith(".edgetl"):
        bundle = open_bundle(name)
        last_layer = _in_order(read_last_layer(bundle), dataset.labels, name)
        preprocess = Preprocess.from_dict(bundle.manifest.preprocess)
        return CompiledTeacher(Embedder(bundle.read(MODEL), preprocess), last_layer)
    origin = find_origin(name, cache=options.cache)
    artifact = origin.compile("int8")
    embedder = Embedder(artifact.model, origin.preprocess)
    embeddings = embed_all(dataset, embedder, options.data.workers, steps.progress, cache=options.cache)
    solved = Candidate("teacher", artifact, embeddings, solve_cross_validated(artifact, embeddings, dataset))
    return CompiledTeacher(embedder, solved_from_training_photos(solved, dataset))


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
