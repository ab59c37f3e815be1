"""The rounds of structured pruning: rank, remove, mend, again; `build` calls it between training and the gate."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from edgetl.backbones import count_macs, count_workload
from edgetl.conversion.backbone_source import Origin
from edgetl.conversion.compression.channel_groups import find_groups
from edgetl.conversion.compression.structured_pruning import prune
from edgetl.errors import OptionError
from edgetl.evaluation import PrunedLayer, Pruning, Stage
from edgetl.pipeline.candidate import Candidate, held_out_answers, solved_from_training_photos
from edgetl.pipeline.job import Job
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.stages.transfer import (
    HELD_OUT,
    calibration_sample,
    compile_and_solve,
    obstacle_to_training,
    photos_to_train_on,
    stage_of,
    with_checkpoint,
)
from edgetl.training import FineTuneOptions

PRUNED = "pruned"
LOWEST_RATE = 0.3
"""How fast the first layer mends beside the top one; in fine-tuning, where it is whole, it hardly moves."""

BATCH = 16
"""Photos at once while importance is measured: their activations and gradients are all in memory."""


@dataclass(frozen=True, eq=False)
class Pruned:
    """The smaller backbone as a candidate, what it came from, and what went; `origin` describes the smaller one."""

    candidate: Candidate
    stages: tuple[Stage, ...]
    origin: Origin
    record: Pruning


def prune_backbone(kept: Candidate, stages: tuple[Stage, ...], job: Job) -> Pruned:
    """The kept backbone with fewer channels, which learned from the unpruned one after every round.

    Raises:
        OptionError: the backbone is compiled, or there are no validation photos.
        ConversionError: the backbone has no, or too few, channels that can go.
    """
    from edgetl.training import fold

    if obstacle := obstacle_to_training(job):
        raise OptionError(f"{obstacle}; leave --prune out")
    assert job.origin.assemble is not None
    whole = fold(job.origin.assemble() if kept.model is None else kept.model)
    with job.steps.measure("prune"):
        trained = _prune_in_rounds(whole, kept, job)
    candidate = compile_and_solve(PRUNED, trained, job)
    record = _record(whole, trained.model)
    description = {**job.origin.description, **count_workload(trained.model).to_dict()}
    answers = held_out_answers(candidate.selection, job.dataset)
    stage = stage_of(candidate, True, answers, HELD_OUT, job.dataset, f"{record.share:.0%} of the multiply-accumulates")
    told = tuple(replace(earlier, kept=False) for earlier in stages)
    return Pruned(candidate, (*told, stage), replace(job.origin, description=description), record)


def _prune_in_rounds(whole: Any, kept: Candidate, job: Job) -> Any:
    """The last round's FineTuned, with the history and the seconds of all."""
    from edgetl.training import Teacher, fine_tune, label_loss

    options, normalization = job.options, job.origin.normalization
    pruning = options.pruning
    assert pruning is not None
    last_layer = solved_from_training_photos(kept, job.dataset)
    teacher, loss = Teacher(whole, normalization, last_layer), label_loss(last_layer)
    photos, model, flip = photos_to_train_on(job.dataset), whole, options.training.augmentation.flip
    rounds = []
    for number, budget in enumerate(pruning.budgets(count_macs(whole)), start=1):
        batches = _batches(job, pruning.images)
        model = prune(model, budget, batches, loss, job.board.channel_multiple, pruning.smallest_share)
        stage = f"{PRUNED} {number} {pruning} from {kept.stage} {options.fine_tune} {options.training}"
        training = with_checkpoint(_training(number, flip, options), stage, job)
        rounds.append(
            fine_tune(model, normalization, *photos, last_layer, training, job.steps.progress, teacher=teacher)
        )
        model, flip = rounds[-1].model, rounds[-1].flip
    history = [
        {**record, "phase": f"round {number}"}
        for number, mended in enumerate(rounds, start=1)
        for record in mended.history
    ]
    numbered = tuple({**record, "epoch": epoch} for epoch, record in enumerate(history, start=1))
    return replace(rounds[-1], history=numbered, seconds=sum(mended.seconds for mended in rounds))


def _training(number: int, flip: Any, options: BuildOptions) -> FineTuneOptions:
    """All layers from the first step on, lower ones faster, and all that was learned is kept: the start is damaged."""
    pruning = options.pruning
    assert pruning is not None
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


def _batches(job: Job, count: int) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Training photos, every class in turn, normalised, with the columns of their labels."""
    dataset = job.dataset
    slots = {label: slot for slot, label in enumerate(dataset.labels)}
    chosen = np.array(calibration_sample(dataset, count))
    offset, scale = (np.float32(value) for value in job.origin.normalization)
    for first in range(0, len(chosen), BATCH):
        indices = chosen[first : first + BATCH]
        frames = np.stack([dataset.frame(index) for index in indices]).astype(np.float32)
        yield (frames - offset) / scale, np.array([slots[label] for label in dataset.labels_of(indices)], np.int32)


def _record(whole: Any, pruned: Any) -> Pruning:
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
