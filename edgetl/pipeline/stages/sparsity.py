"""Makes the weights compress better: sparse or clustered, trained to give the same embeddings as before."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from edgetl.conversion import BackboneSource, SparsityOptions, count_weights
from edgetl.conversion.compression import cluster, sparsify
from edgetl.errors import OptionError
from edgetl.evaluation import compressed_size
from edgetl.pipeline.candidate import Candidate, held_out_predictions
from edgetl.pipeline.compilation import compile_and_solve
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import HELD_OUT, Model, stage_record
from edgetl.pipeline.training_setup import obstacle_to_training

if TYPE_CHECKING:
    from tf_keras import Model as KerasModel


def compress_weights(model: Model, job: Job) -> Model:
    """The model with sparse or clustered weights.

    Raises:
        OptionError: the backbone is compiled, or there are no validation photos.
        MissingExtraError: tensorflow-model-optimization is not installed.
    """
    if job.options.sparsity is None:
        return model
    kept, backbone = model.candidate, model.backbone
    name, option = _name_and_option(job.options.sparsity)
    if obstacle := obstacle_to_training(backbone, job.dataset):
        raise OptionError(f"{obstacle}; leave {option} out")
    assert backbone.assemble is not None
    whole = backbone.assemble() if kept.model is None else kept.model
    started = time.monotonic()
    with job.steps.measure(name):
        compressed = _compress(whole, job.options.sparsity, backbone, job)
    trained = _Compressed(compressed, kept.history, time.monotonic() - started)
    candidate = compile_and_solve(name, trained, backbone, job)
    validation = held_out_predictions(candidate.selection, job.dataset)
    note = describe_compression(kept, candidate)
    return model.with_stage(candidate, stage_record(candidate, True, validation, HELD_OUT, job.dataset, note))


def describe_compression(before: Candidate, after: Candidate) -> str:
    """How far the weights of the compiled model are sparse or clustered, and its compressed sizes, in words."""
    sizes = [compressed_size(one.artifact.model) / 1e6 for one in (before, after)]
    text = f"compressed {sizes[1]:.2f} MB instead of {sizes[0]:.2f} MB"
    if after.artifact.quantize == "int8":
        count = count_weights(after.artifact.model)
        text = f"{count.zeros:.0%} zeros, at most {count.values} values in a tensor; {text}"
    return f"{text}; no faster, because XNNPACK's int8 kernels do not skip zeros"


@dataclass(frozen=True, eq=False)
class _Compressed:
    model: KerasModel
    history: tuple[Mapping[str, Any], ...]
    seconds: float


def _name_and_option(sparsity: SparsityOptions) -> tuple[str, str]:
    """The name of the stage, and the options that asked for it."""
    parts = []
    if sparsity.sparsity is not None:
        parts.append((f"{sparsity.sparsity} sparse", "--sparsity"))
    if sparsity.clusters is not None:
        parts.append((f"in {sparsity.clusters} clusters", "--clusters"))
    names, options = zip(*parts)
    return f"weights {', '.join(names)}", " and ".join(options)


def _compress(whole: KerasModel, sparsity: SparsityOptions, backbone: BackboneSource, job: Job) -> KerasModel:
    """Sparse first, then clustered with the zeros kept, so that the result is both."""
    from edgetl.training import copy_for_training, fold, imitate

    options = replace(job.options.imitation, seed=job.options.data.seed)
    folded = fold(whole)
    changed, size = copy_for_training(folded, options.train_scale)
    teacher, _ = copy_for_training(folded, options.train_scale)
    assert job.dataset.frames is not None
    photos = job.dataset.frames, job.dataset.indices("train")

    def train(model: KerasModel, callbacks: Sequence[Any]) -> None:
        imitate(model, teacher, backbone.normalization, *photos, size, options, callbacks, job.steps.progress)

    if sparsity.sparsity is not None:
        changed = sparsify(changed, sparsity.sparsity, options.steps, train)
    if sparsity.clusters is not None:
        changed = cluster(changed, sparsity.clusters, train, keep_zeros=sparsity.sparsity is not None)
    folded.set_weights(changed.get_weights())
    return folded
