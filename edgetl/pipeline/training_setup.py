"""What every training of a build starts from: photos, seeded options, and a checkpoint in the cache."""

from __future__ import annotations

import contextlib
import hashlib
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from edgetl import __version__
from edgetl.conversion import BackboneSource
from edgetl.data import Dataset, FrameStore, JoinedFrames, open_cache_folder
from edgetl.errors import OptionError
from edgetl.pipeline.job import Job
from edgetl.pipeline.options import BuildOptions
from edgetl.training import FineTuneOptions

if TYPE_CHECKING:
    from tf_keras import Model as KerasModel

CHECKPOINTS_KEPT = 8
"""The newest checkpoints stay in the cache; this many of EfficientNet-Lite0 take 400 MB."""


class TrainingPhotos(NamedTuple):
    """Photos as the training functions take them.

    `labels` are the class indices of all frames; `training` and `validation` are indices into the frames.
    """

    frames: FrameStore | JoinedFrames
    labels: list[int]
    training: np.ndarray
    validation: np.ndarray


def photos_to_train_on(dataset: Dataset) -> TrainingPhotos:
    """The training and validation photos of a data set that was loaded with its frames."""
    assert dataset.frames is not None
    columns = {label: column for column, label in enumerate(dataset.labels)}
    labels = [columns[sample.label] for sample in dataset.samples]
    return TrainingPhotos(dataset.frames, labels, dataset.indices("train"), dataset.indices("val"))


def obstacle_to_training(backbone: BackboneSource, dataset: Dataset) -> str:
    """Why the backbone cannot be trained on these photos; empty if it can."""
    if backbone.assemble is None:
        return f"{backbone.name} is compiled, so it cannot be fine-tuned"
    if not len(dataset.indices("val")):
        return "there are no validation photos to judge fine-tuning by"
    return ""


def trainable_backbone(backbone: BackboneSource, dataset: Dataset, advice: str) -> KerasModel:
    """The float tf_keras backbone as published.

    Raises:
        OptionError: the backbone cannot be trained on these photos; the message ends with `advice`.
    """
    if obstacle := obstacle_to_training(backbone, dataset):
        raise OptionError(f"{obstacle}; {advice}")
    assert backbone.assemble is not None
    return backbone.assemble()


def training_options(stage: str, backbone: BackboneSource, job: Job) -> FineTuneOptions:
    """The options of a fine-tuning: seeded like the split, for the number of epochs that was asked for."""
    training = replace(job.options.training, seed=job.options.data.seed)
    if isinstance(job.options.fine_tune, int):
        upper = min(training.epochs_upper, job.options.fine_tune - 1)
        training = replace(training, epochs_upper=upper, epochs_all=job.options.fine_tune - upper)
    return with_checkpoint(training, stage, backbone, job)


def with_checkpoint(training: FineTuneOptions, stage: str, backbone: BackboneSource, job: Job) -> FineTuneOptions:
    """The options with a checkpoint file for just this stage, these photos, this backbone and these options."""
    description = json.dumps(backbone.description, sort_keys=True)
    key = f"{__version__}\n{stage}\n{job.dataset.digest}\n{description}\n{training}"
    return replace(training, checkpoint=_checkpoints(job.options) / hashlib.sha256(key.encode()).hexdigest()[:32])


def discard_old_checkpoints(options: BuildOptions) -> None:
    """Delete all but the newest CHECKPOINTS_KEPT; those of trainings still running are among the newest."""
    with contextlib.suppress(OSError):
        dated = sorted((path.stat().st_mtime_ns, path) for path in _checkpoints(options).iterdir())
        for _, path in dated[:-CHECKPOINTS_KEPT]:
            path.unlink()


def _checkpoints(options: BuildOptions) -> Path:
    return open_cache_folder(options.cache) / "fine-tuning"
