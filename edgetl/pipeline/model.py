"""Which model ships: stage 1, or what training, pruning and repair made of it, in their order; `build` calls it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from edgetl.conversion.backbone_source import Origin
from edgetl.evaluation import Gate, Pruning, Stage
from edgetl.pipeline.candidate import Candidate
from edgetl.pipeline.job import Job
from edgetl.pipeline.stages.distillation import prefer_distilled
from edgetl.pipeline.stages.gate import pass_gate, prefer_aware
from edgetl.pipeline.stages.pruning import prune_backbone
from edgetl.pipeline.stages.related import Start, start_from_related
from edgetl.pipeline.stages.repairs import Attempt
from edgetl.pipeline.stages.sparsity import compress_weights
from edgetl.pipeline.stages.transfer import fine_tune_stage_2, keep_better, reason_to_stay, train_from_scratch


@dataclass(frozen=True)
class Chosen:
    """The model to ship and how it came about.

    `origin` describes its backbone, pruned or not; `twin` is its float counterpart, where the gate has made one.
    """

    candidate: Candidate
    origin: Origin
    stages: tuple[Stage, ...]
    pruning: Optional[Pruning] = None
    gate: Optional[Gate] = None
    twin: Optional[Candidate] = None


def choose_model(first: Candidate, job: Job) -> Chosen:
    """The model that stage 1, `first`, becomes by all that the options ask for.

    Raises:
        OptionError: something was asked for that the backbone or the photos do not allow.
        ConversionError: no model passes the gate, or the board does not take it.
    """
    start = Start(first, job) if job.related is None else start_from_related(first, job)
    first, job = start.candidate, start.job
    reason = reason_to_stay(first, job)
    tuned = None if reason else fine_tune_stage_2(first, job)
    kept, stages = keep_better(first, tuned, job.dataset, "; ".join(filter(None, [start.note, reason])))
    stages = (*start.stages, *stages)
    if job.options.teacher is not None or job.unlabelled is not None:
        kept, stages = prefer_distilled(first, kept, stages, job)
    pruning = None
    if job.options.pruning is not None:
        pruned = prune_backbone(kept, stages, job)
        kept, stages, pruning = pruned.candidate, pruned.stages, pruned.record
        job = replace(job, origin=pruned.origin)
    if job.options.sparsity is not None:
        kept, stages = compress_weights(kept, stages, job)
    attempt = Attempt(kept, job.options.conversion)
    if job.options.aware:
        attempt, aware = prefer_aware(kept, job)
        stages = (*(replace(stage, kept=stage.kept and not aware.kept) for stage in stages), aware)
    chosen = Chosen(attempt.candidate, job.origin, stages, pruning)
    if job.options.max_drop is not None:
        gated = pass_gate(attempt, job)
        chosen = replace(chosen, candidate=gated.candidate, gate=gated.gate, twin=gated.reference)
    if job.options.compare_scratch:
        scratch = train_from_scratch(job)
        chosen = replace(chosen, stages=(*stages, scratch))
    return chosen
