"""Structured pruning in rounds: rank channels, remove the least important, train again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Optional

import numpy as np

from edgetl.backbones import count_macs, count_workload
from edgetl.conversion import BackboneSource, PruningOptions
from edgetl.conversion.compression import find_groups, prune
from edgetl.errors import OptionError
from edgetl.evaluation import PrunedLayer, Pruning
from edgetl.pipeline.candidate import Candidate, held_out_predictions, solved_from_training_photos
from edgetl.pipeline.compilation import calibration_sample, compile_and_solve
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import HELD_OUT, Model, stage_record
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.training_setup import obstacle_to_training, photos_to_train_on, with_checkpoint
from edgetl.training import FineTuneOptions

if TYPE_CHECKING:
    from tf_keras import Model as KerasModel

PRUNED = "pruned"

LOWEST_RATE = 0.3
"""Learning rate of the first layer relative to the last; fine-tuning of an intact network uses far less."""

BATCH = 16
"""Photos per batch while importance is measured: their activations and gradients are all in memory."""


def prune_backbone(model: Model, job: Job) -> Model:
    """The backbone with fewer channels, trained towards the unpruned one after every round.

    Raises:
        OptionError: the backbone is compiled, or there are no validation photos.
        ConversionError: the backbone has no channels, or not enough, that can be removed.
    """
    if job.options.pruning is None:
        return model
    from edgetl.training import fold

    kept, backbone = model.candidate, model.backbone
    if obstacle := obstacle_to_training(backbone, job.dataset):
        raise OptionError(f"{obstacle}; leave --prune out")
    assert backbone.assemble is not None
    whole = fold(backbone.assemble() if kept.model is None else kept.model)
    with job.steps.measure("prune"):
        trained = _prune_in_rounds(whole, kept, backbone, job.options.pruning, job)
    candidate = compile_and_solve(PRUNED, trained, backbone, job)
    pruning = _what_was_removed(whole, trained.model)
    validation = held_out_predictions(candidate.selection, job.dataset)
    note = f"{pruning.share:.0%} of the multiply-accumulates removed"
    model = model.with_stage(candidate, stage_record(candidate, True, validation, HELD_OUT, job.dataset, note))
    description = {**backbone.description, **count_workload(trained.model).to_dict()}
    return replace(model, backbone=replace(backbone, description=description), pruning=pruning)


@dataclass(frozen=True, eq=False)
class _Pruned:
    """The backbone after the last round, with the history and the seconds of all rounds."""

    model: KerasModel
    history: tuple[Mapping[str, Any], ...]
    seconds: float


def _prune_in_rounds(
    whole: KerasModel, kept: Candidate, backbone: BackboneSource, pruning: PruningOptions, job: Job
) -> _Pruned:
    from edgetl.training import Teacher, fine_tune, label_loss

    options, normalization = job.options, backbone.normalization
    last_layer = solved_from_training_photos(kept, job.dataset)
    teacher, loss = Teacher(whole, normalization, last_layer), label_loss(last_layer)
    photos, model, flip = photos_to_train_on(job.dataset), whole, options.training.augmentation.flip
    rounds = []
    for number, budget in enumerate(pruning.budgets(count_macs(whole)), start=1):
        batches = _batches(normalization, job, pruning.images)
        model = prune(model, budget, batches, loss, job.board.channel_multiple, pruning.smallest_share)
        stage = f"{PRUNED} {number} {pruning} from {kept.stage} {options.fine_tune} {options.training}"
        training = with_checkpoint(_training_options(number, flip, pruning, options), stage, backbone, job)
        trained = fine_tune(model, normalization, *photos, last_layer, training, job.steps.progress, teacher=teacher)
        rounds.append(trained)
        model, flip = trained.model, trained.flip
    history = [
        {**record, "phase": f"round {number}"} for number, one in enumerate(rounds, start=1) for record in one.history
    ]
    numbered = tuple({**record, "epoch": epoch} for epoch, record in enumerate(history, start=1))
    return _Pruned(model, numbered, sum(one.seconds for one in rounds))


def _training_options(
    number: int, flip: Optional[bool], pruning: PruningOptions, options: BuildOptions
) -> FineTuneOptions:
    """The options of one round: all layers are trained from the first step on, since all of them are damaged."""
    epochs = pruning.last_epochs if number == pruning.rounds else pruning.epochs
    return replace(
        options.training,
        seed=options.data.seed,
        epochs_upper=0,
        epochs_all=epochs,
        lowest_rate=LOWEST_RATE,
        kept_share=1.0,
        augmentation=replace(options.training.augmentation, flip=flip),
    )


def _batches(normalization: tuple[float, float], job: Job, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """At most `count` training photos: normalised frames (m, h, w, 3) float32 and class indices (m,) int32."""
    dataset = job.dataset
    columns = {label: column for column, label in enumerate(dataset.labels)}
    chosen = np.array(calibration_sample(dataset, count))
    offset, scale = (np.float32(value) for value in normalization)
    for first in range(0, len(chosen), BATCH):
        indices = chosen[first : first + BATCH]
        frames = np.stack([dataset.frame(index) for index in indices]).astype(np.float32)
        yield (frames - offset) / scale, np.array([columns[label] for label in dataset.labels_of(indices)], np.int32)


def _what_was_removed(whole: KerasModel, pruned: KerasModel) -> Pruning:
    layers = [
        PrunedLayer(name, group.width, int(pruned.get_layer(name).output_shape[-1]))
        for group in find_groups(whole)
        for name in group.producers
    ]
    return Pruning(
        macs_before=count_macs(whole),
        macs_after=count_macs(pruned),
        parameters_before=whole.count_params(),
        parameters_after=pruned.count_params(),
        layers=tuple(layer for layer in layers if layer.after < layer.before),
    )
