"""Weights that compress better, within a build: the kept backbone learns its own embeddings again with fewer values."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from edgetl.conversion.compression.sparsity import SparsityOptions, cluster, sparsify
from edgetl.conversion.tflite.weight_counts import count_weights
from edgetl.errors import OptionError
from edgetl.evaluation import Stage, compressed_size
from edgetl.pipeline.candidate import Candidate, held_out_answers
from edgetl.pipeline.job import Job
from edgetl.pipeline.stages.transfer import HELD_OUT, compile_and_solve, obstacle_to_training, stage_of


@dataclass(frozen=True, eq=False)
class _Trained:
    """As a stage's training leaves it."""

    model: Any
    history: tuple[Any, ...]
    seconds: float


def compress_weights(kept: Candidate, stages: tuple[Stage, ...], job: Job) -> tuple[Candidate, tuple[Stage, ...]]:
    """The kept backbone with sparse or clustered weights, and the stages with it as the one that is kept.

    Raises:
        OptionError: the backbone is compiled, or there are no validation photos.
        MissingExtraError: tensorflow-model-optimization is not installed.
    """
    assert job.options.sparsity is not None
    name, option = _named(job.options.sparsity)
    if obstacle := obstacle_to_training(job):
        raise OptionError(f"{obstacle}; leave {option} out")
    assert job.origin.assemble is not None
    whole = job.origin.assemble() if kept.model is None else kept.model
    started = time.monotonic()
    with job.steps.measure(name):
        model = _compressed(whole, job.options.sparsity, job)
    trained = _Trained(model, kept.history, time.monotonic() - started)
    candidate = compile_and_solve(name, trained, job)
    answers = held_out_answers(candidate.selection, job.dataset)
    note = tell_compression(kept, candidate)
    told = tuple(replace(earlier, kept=False) for earlier in stages)
    return candidate, (*told, stage_of(candidate, True, answers, HELD_OUT, job.dataset, note))


def tell_compression(before: Candidate, after: Candidate) -> str:
    """What became of the weights in the file that would ship, and of its size compressed, in words."""
    sizes = [compressed_size(one.artifact.model) / 1e6 for one in (before, after)]
    told = f"compressed {sizes[1]:.2f} MB instead of {sizes[0]:.2f}"
    if after.artifact.quantize == "int8":
        count = count_weights(after.artifact.model)
        told = f"{count.zeros:.0%} zeros, at most {count.values} values in a tensor; {told}"
    return f"{told}; no faster: XNNPACK's int8 kernels skip no zeros"


def _named(sparsity: SparsityOptions) -> tuple[str, str]:
    """What the stage is called, and the options that asked for it."""
    parts = []
    if sparsity.sparsity is not None:
        parts.append((f"{sparsity.sparsity} sparse", "--sparsity"))
    if sparsity.clusters is not None:
        parts.append((f"in {sparsity.clusters} clusters", "--clusters"))
    names, options = zip(*parts)
    return f"weights {', '.join(names)}", " and ".join(options)


def _compressed(whole: Any, sparsity: SparsityOptions, job: Job) -> Any:
    """Sparse first, then clustered with the zeros kept, so that both hold in the end."""
    from edgetl.training import copy_for_training, fold, imitate

    course = replace(job.options.imitation, seed=job.options.data.seed)
    folded = fold(whole)
    changed, size = copy_for_training(folded, course.train_scale)
    teacher, _ = copy_for_training(folded, course.train_scale)
    assert job.dataset.frames is not None
    photos = job.dataset.frames, job.dataset.indices("train")

    def train(model: Any, callbacks: Sequence[Any]) -> None:
        imitate(model, teacher, job.origin.normalization, *photos, size, course, callbacks, job.steps.progress)

    if sparsity.sparsity is not None:
        changed = sparsify(changed, sparsity.sparsity, course.steps, train)
    if sparsity.clusters is not None:
        changed = cluster(changed, sparsity.clusters, train, keep_zeros=sparsity.sparsity is not None)
    folded.set_weights(changed.get_weights())
    return folded
