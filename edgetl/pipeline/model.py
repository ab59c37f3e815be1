"""Which model ships: stage 1, or what training, pruning and repair made of it, in their order; `build` calls it."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Optional

from edgetl.conversion.origin import Origin
from edgetl.data import Dataset
from edgetl.evaluation import Gate, Pruning, Stage
from edgetl.pipeline.candidate import Candidate
from edgetl.pipeline.distillation import prefer_distilled
from edgetl.pipeline.gate import pass_gate, prefer_aware
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.pruning import prune_backbone
from edgetl.pipeline.repairs import Attempt
from edgetl.pipeline.sparsity import compress_weights
from edgetl.pipeline.stages import fine_tune_stage_2, keep_better, reason_to_stay, train_from_scratch
from edgetl.pipeline.steps import Steps
from edgetl.targets import Target


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


def choose_model(
    first: Candidate, origin: Origin, dataset: Dataset, board: Target, options: BuildOptions, steps: Steps
) -> Chosen:
    """The model that stage 1, `first`, becomes by all that the options ask for.

    Raises:
        OptionError: something was asked for that the backbone or the photos do not allow.
        ConversionError: no model passes the gate, or the board does not take it.
    """
    reason = reason_to_stay(first, origin, dataset, options)
    tuned = None if reason else fine_tune_stage_2(first, origin, dataset, board, options, steps)
    kept, stages = keep_better(first, tuned, dataset, reason)
    if options.teacher is not None:
        kept, stages = prefer_distilled(first, kept, stages, origin, dataset, board, options, steps)
    pruning = None
    if options.pruning is not None:
        pruned = prune_backbone(kept, stages, origin, dataset, board, options, steps)
        kept, stages, origin, pruning = pruned.candidate, pruned.stages, pruned.origin, pruned.record
    if options.sparsity is not None:
        kept, stages = compress_weights(kept, stages, origin, dataset, board, options, steps)
    attempt = Attempt(kept, options.conversion)
    if options.aware:
        attempt, aware = prefer_aware(kept, origin, dataset, board, options, steps)
        stages = (*(replace(stage, kept=stage.kept and not aware.kept) for stage in stages), aware)
    chosen = Chosen(attempt.candidate, origin, stages, pruning)
    if options.max_drop is not None:
        gated = pass_gate(attempt, origin, dataset, board, options, steps)
        chosen = replace(chosen, candidate=gated.candidate, gate=gated.gate, twin=gated.reference)
    if options.compare_scratch:
        scratch = train_from_scratch(origin, dataset, board, options, steps)
        chosen = replace(chosen, stages=(*stages, scratch))
    return chosen
