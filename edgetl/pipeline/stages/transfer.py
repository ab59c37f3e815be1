"""The two stages of transfer learning, and which of them ships: `build` calls them in order."""

from __future__ import annotations

import contextlib
import hashlib
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Optional

import numpy as np

from edgetl import __version__
from edgetl.conversion import Artifact, ConversionOptions, check, convert
from edgetl.data import Dataset, open_cache_folder
from edgetl.errors import OptionError
from edgetl.evaluation import ImageResult, Stage, proportion
from edgetl.learners import Selection
from edgetl.pipeline.candidate import (
    FOLDS,
    Candidate,
    held_out_answers,
    known_photos,
    solve_cross_validated,
    solve_held_out,
    solved_from_training_photos,
)
from edgetl.pipeline.edgetpu import require_mappable
from edgetl.pipeline.job import Job
from edgetl.pipeline.options import BuildOptions
from edgetl.runtime import Embedder
from edgetl.training import FineTuneOptions

STAGE_1 = "stage 1"
FINE_TUNED = "fine-tuned"
FROM_SCRATCH = "from scratch"

ENOUGH_ACCURACY = 0.995
"""Out-of-fold accuracy of stage 1 from which "auto" leaves the backbone as it is."""

ENOUGH_PHOTOS = 8
"""Training photos in the smallest class below which "auto" does not dare to change the backbone."""

CHECKPOINTS_KEPT = 8
"""Unfinished and finished trainings that wait in the cache, the newest; so many of EfficientNet-Lite0 take 400 MB."""


def solve_stage_1(artifact: Artifact, dataset: Dataset) -> Candidate:
    """The pretrained backbone as it is, with a last layer in closed form."""
    assert dataset.embeddings is not None
    selection = solve_cross_validated(artifact, dataset.embeddings, dataset)
    return Candidate(STAGE_1, artifact, dataset.embeddings, selection)


def reason_to_stay(first: Candidate, job: Job) -> str:
    """Why the backbone stays as it is; empty where it is to be fine-tuned.

    Raises:
        OptionError: fine-tuning was asked for, and the backbone or the photos do not allow it.
    """
    if job.options.fine_tune == "off":
        return "fine-tuning was switched off"
    obstacle = obstacle_to_training(job)
    if job.options.fine_tune != "auto":
        if obstacle:
            raise OptionError(f"{obstacle}; leave --fine-tune {job.options.fine_tune} out")
        return ""
    if obstacle:
        return obstacle
    smallest = min(counts.get("train", 0) for counts in job.dataset.report.counts.values())
    if smallest < ENOUGH_PHOTOS:
        return f"the smallest class has {smallest} training photos; fine-tuning wants {ENOUGH_PHOTOS} or more"
    accuracy = np.mean([answer.correct for answer in held_out_answers(first.selection, job.dataset)])
    if accuracy >= ENOUGH_ACCURACY:
        return f"stage 1 is right on {accuracy:.1%} of the photos it was not solved from: little is left to gain"
    return ""


def fine_tune_stage_2(first: Candidate, job: Job) -> Candidate:
    """The backbone fine-tuned from stage 1's last layer, compiled anew, with a last layer solved on what it gives."""
    from edgetl.training import fine_tune

    assert job.origin.assemble is not None
    with job.steps.measure("fine-tune"):
        tuned = fine_tune(
            job.origin.assemble(),
            job.origin.normalization,
            *photos_to_train_on(job.dataset),
            solved_from_training_photos(first, job.dataset),
            training_options(FINE_TUNED, job),
            progress=job.steps.progress,
        )
    return compile_and_solve(FINE_TUNED, tuned, job)


def train_from_scratch(job: Job) -> Stage:
    """The same architecture trained for as many epochs from random weights: what transfer is measured against.

    Raises:
        OptionError: only a compiled backbone is there, or there are no validation photos.
    """
    from edgetl.training import from_scratch

    if obstacle := obstacle_to_training(job):
        raise OptionError(f"{obstacle}; leave --compare-scratch out")
    assert job.origin.assemble_untrained is not None
    with job.steps.measure("train from scratch"):
        trained = from_scratch(
            job.origin.assemble_untrained(),
            job.origin.normalization,
            *photos_to_train_on(job.dataset),
            training_options(FROM_SCRATCH, job),
            progress=job.steps.progress,
        )
    candidate = compile_and_solve(FROM_SCRATCH, trained, job)
    answers = held_out_answers(candidate.selection, job.dataset)
    return stage_of(candidate, False, answers, HELD_OUT, job.dataset, "for comparison only")


def keep_better(
    first: Candidate, tuned: Optional[Candidate], dataset: Dataset, note: str = ""
) -> tuple[Candidate, tuple[Stage, ...]]:
    """The candidate that the validation photos prefer, and both as the report tells them."""
    if tuned is None:
        answers = held_out_answers(first.selection, dataset)
        how = f"{FOLDS}-fold cross-validation of the last layer"
        return first, (stage_of(first, True, answers, how, dataset, note),)
    before = held_out_answers(solve_held_out(first.artifact, first.embeddings, dataset), dataset)
    after = held_out_answers(tuned.selection, dataset)
    better = merit(after) > merit(before)
    verdict = "" if better else "the validation photos did not prefer it"
    stages = (
        stage_of(first, not better, before, HELD_OUT, dataset, note),
        stage_of(tuned, better, after, HELD_OUT, dataset, verdict),
    )
    return (tuned if better else first), stages


def solve_float(kept: Candidate, job: Job) -> Candidate:
    """The same backbone in float32, its last layer chosen in the same way: what quantization is measured against."""
    if kept.model is None:
        artifact = job.origin.compile("float32")
    else:
        artifact = compile_on_photos(kept.model, ConversionOptions("float32"), job)
    known = known_photos(job.dataset)
    embeddings = np.zeros((len(job.dataset), artifact.embedding["size"]), np.float32)
    embeddings[known] = job.embed(Embedder(artifact.model, job.origin.preprocess), known)
    solve = solve_cross_validated if kept.model is None else solve_held_out
    return replace(kept, artifact=artifact, embeddings=embeddings, selection=solve(artifact, embeddings, job.dataset))


def compile_on_photos(model: Any, options: ConversionOptions, job: Job) -> Artifact:
    """A tf_keras backbone compiled, calibrated on the user's own training photos."""
    frames = calibration_frames(job.dataset, options.calibration_images)
    return convert(model, job.origin.normalization, job.origin.preprocess, options, frames)


def compile_for_board(model: Any, options: ConversionOptions, job: Job) -> Artifact:
    """The same, held against what the board takes; ConversionError where it does not take it."""
    artifact = compile_on_photos(model, options, job)
    check(artifact.model, job.board)
    require_mappable(artifact.model, job.board)
    return artifact


def calibration_frames(dataset: Dataset, count: int) -> list[np.ndarray]:
    """At most `count` training photos as the model takes them, uint8 (h, w, 3), every class in turn."""
    return [dataset.frame(index) for index in calibration_sample(dataset, count)]


HELD_OUT = "validation photos, last layer solved from the training photos"


def photos_to_train_on(dataset: Dataset) -> tuple[Any, list[int], np.ndarray, np.ndarray]:
    """Frames, label slots, and the indices to train and to validate on, as training takes them."""
    slots = {label: slot for slot, label in enumerate(dataset.labels)}
    labels = [slots[sample.label] for sample in dataset.samples]
    return dataset.frames, labels, dataset.indices("train"), dataset.indices("val")


def compile_and_solve(
    stage: str, trained: Any, job: Job, solve: Callable[[Artifact, np.ndarray, Dataset], Selection] = solve_held_out
) -> Candidate:
    """A trained backbone (FineTuned) as the board takes it, with a last layer solved on what it then gives."""
    _discard_old_checkpoints(job.options)
    with job.steps.measure("convert"):
        artifact = compile_for_board(trained.model, job.options.conversion, job)
    with job.steps.measure("embed again"):
        embeddings = job.embed(Embedder(artifact.model, job.origin.preprocess))
    with job.steps.measure("solve last layer"):
        selection = solve(artifact, embeddings, job.dataset)
    return Candidate(stage, artifact, embeddings, selection, trained.model, trained.history, trained.seconds)


def obstacle_to_training(job: Job) -> str:
    """Why the backbone cannot be trained here; empty where it can."""
    if job.origin.assemble is None:
        return f"{job.origin.name} is compiled, so it cannot be fine-tuned"
    if not len(job.dataset.indices("val")):
        return "there are no validation photos to judge fine-tuning by"
    return ""


def training_options(stage: str, job: Job) -> FineTuneOptions:
    """Seeded like the split, for as many epochs as were asked for."""
    training = replace(job.options.training, seed=job.options.data.seed)
    if isinstance(job.options.fine_tune, int):
        upper = min(training.epochs_upper, job.options.fine_tune - 1)
        training = replace(training, epochs_upper=upper, epochs_all=job.options.fine_tune - upper)
    return with_checkpoint(training, stage, job)


def with_checkpoint(training: FineTuneOptions, stage: str, job: Job) -> FineTuneOptions:
    """With a checkpoint of its own for this stage, these photos, backbone and options."""
    backbone = json.dumps(job.origin.description, sort_keys=True)
    key = f"{__version__}\n{stage}\n{job.dataset.digest}\n{backbone}\n{training}"
    return replace(training, checkpoint=_checkpoints(job.options) / hashlib.sha256(key.encode()).hexdigest()[:32])


def _checkpoints(options: BuildOptions) -> Path:
    return open_cache_folder(options.cache) / "fine-tuning"


def _discard_old_checkpoints(options: BuildOptions) -> None:
    """All but the newest CHECKPOINTS_KEPT go; a training that is under way in another process is among the newest."""
    with contextlib.suppress(OSError):
        dated = sorted((path.stat().st_mtime_ns, path) for path in _checkpoints(options).iterdir())
        for _, path in dated[:-CHECKPOINTS_KEPT]:
            path.unlink()


def calibration_sample(dataset: Dataset, count: int) -> list[int]:
    """Training photos, every class in turn; within a class they are in the order of their digests, so by chance."""
    by_label: dict[str, list[int]] = {}
    for index in dataset.indices("train"):
        by_label.setdefault(dataset.samples[index].label, []).append(int(index))
    turns = max(len(indices) for indices in by_label.values())
    in_turn = [indices[turn] for turn in range(turns) for indices in by_label.values() if turn < len(indices)]
    return in_turn[:count]


def merit(answers: list[ImageResult]) -> tuple[float, float]:
    """What candidates are compared by: accuracy first, then the probability given to the right label."""
    accuracy = float(np.mean([answer.correct for answer in answers]))
    return accuracy, float(np.mean([np.log(max(answer.probability_of_label, 1e-12)) for answer in answers]))


def stage_of(
    candidate: Candidate, kept: bool, validation: list[ImageResult], how: str, dataset: Dataset, note: str = ""
) -> Stage:
    """A stage as the report tells it, its test figure with it."""
    test = candidate.answers(dataset, dataset.indices("test"))
    right, test_right = (sum(answer.correct for answer in answers) for answers in (validation, test))
    return Stage(
        name=candidate.stage,
        kept=kept,
        validation=proportion(right, len(validation), how),
        test=proportion(test_right, len(test), f"test photos, {candidate.artifact.quantize} embeddings"),
        seconds=candidate.seconds,
        note=note,
    )
