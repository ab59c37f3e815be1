"""The accuracy gate of a build: the final model against its float twin, repaired where it lost too much.

Both are judged on photos that neither was trained on: by cross-validation of the last layer over all but the test
photos where the backbone is as it was published, on the validation photos where it was fine-tuned.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

from edgetl.conversion.backbone_source import Origin
from edgetl.conversion.quantization.layerwise_error import FRAMES, compare_layers, guilty_layers
from edgetl.data import Dataset
from edgetl.errors import ConversionError, EngineError, OptionError, TrainingError
from edgetl.evaluation import Gate, GuiltyLayer, ImageResult, Judgement, Repair, Stage, allowed_drop, judge
from edgetl.pipeline.candidate import FOLDS, Candidate, held_out_answers
from edgetl.pipeline.job import Job
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.stages.repairs import Attempt, RepairStep, Workshop, repairs_for, train_aware
from edgetl.pipeline.stages.sparsity import tell_compression
from edgetl.pipeline.stages.transfer import calibration_frames, merit, obstacle_to_training, solve_float, stage_of

AWARE = "quantization-aware"

NAMED_LAYERS = 5
"""Guilty layers that the report and the error name."""


@dataclass(frozen=True)
class Gated:
    """What came through the gate: the model to ship, its float twin, and how it went."""

    candidate: Candidate
    reference: Candidate
    gate: Gate


def require_float(origin: Origin, options: BuildOptions) -> None:
    """Raises OptionError where something was asked for that takes the float model, and only a compiled one is there."""
    if origin.assemble is not None:
        return
    if options.max_drop is not None:
        raise OptionError(f"{origin.name} is compiled: there is no float model to compare with; leave --max-drop out")
    if options.aware:
        raise OptionError(f"{origin.name} is compiled, so it cannot be trained; use --quantize int8")


def pass_gate(start: Attempt, job: Job) -> Gated:
    """The candidate itself where it loses at most `options.max_drop` points against float, else a repaired one.

    Repairs are tried in order of their cost, each on top of the best model so far, until one is good enough.
    Raises ConversionError where none is, and `options.allow_drop` is off.
    """
    assert job.options.max_drop is not None
    kept = start.candidate
    with job.steps.measure("accuracy gate"):
        reference = solve_float(kept, job)
    court = _Court(reference, job.dataset)
    best, first = start, court.rule(start)
    repairs: list[Repair] = []
    guilty: tuple[GuiltyLayer, ...] = ()
    if not first.passes(job.options.max_drop):
        guilty = _guilty(kept, reference, job.dataset)
        workshop = Workshop(kept, job)
        for step in repairs_for(start, job):
            best, repair = _try(step, best, court, workshop)
            repairs.append(repair)
            if repair.kept and court.rule(best).passes(job.options.max_drop):
                break
    gate = _told(job.options.max_drop, first, court.rule(best), repairs, guilty)
    if not gate.passed and not job.options.allow_drop:
        raise ConversionError(_refusal(gate, kept.artifact.quantize))
    return Gated(best.candidate, reference, gate)


def prefer_aware(kept: Candidate, job: Job) -> tuple[Attempt, Stage]:
    """The candidate after quantization-aware training where the validation photos prefer it, else as it was.

    Raises OptionError where there are no validation photos.
    """
    if obstacle := obstacle_to_training(job):
        raise OptionError(f"{obstacle}; use --quantize int8")
    started, start = time.perf_counter(), Attempt(kept, job.options.conversion)
    with job.steps.measure("quantization-aware training"):
        trained = train_aware(Workshop(kept, job), start)
    validation = {str(job.dataset.samples[index].path) for index in job.dataset.indices("val")}
    before, after = (
        [answer for answer in held_out_answers(candidate.selection, job.dataset) if answer.source in validation]
        for candidate in (kept, trained.candidate)
    )
    better = merit(after) > merit(before)
    candidate = replace(trained.candidate, stage=f"{kept.stage}, {AWARE}")
    note = "" if better else f"the validation photos did not prefer it to {kept.stage}"
    if job.options.sparsity is not None:
        note = "; ".join(filter(None, [note, tell_compression(kept, candidate)]))
    stage = stage_of(candidate, better, after, _VALIDATION, job.dataset, note)
    stage = replace(stage, seconds=time.perf_counter() - started)
    return (replace(trained, candidate=candidate) if better else start), stage


class _Court:
    """The float twin's answers, and who is judged by them."""

    def __init__(self, reference: Candidate, dataset: Dataset) -> None:
        self._dataset = dataset
        self._answers = held_out_answers(reference.selection, dataset)
        self._validation = {str(dataset.samples[index].path) for index in dataset.indices("val")}
        cross_validated = reference.model is None
        self._how = f"{FOLDS}-fold cross-validation of the last layer" if cross_validated else _VALIDATION

    def rule(self, attempt: Attempt) -> Judgement:
        """A candidate against the float twin, as the gate decides by it.

        One that was trained on the training photos must hold on the validation photos, which it has not seen, and on
        all of them together, where it has an advantage: few validation photos alone would let it pass by luck.
        """
        by_all = self.judge(attempt, by_validation=False)
        if not attempt.trained:
            return by_all
        return min(by_all, self.judge(attempt, by_validation=True), key=lambda judged: judged.difference.points)

    def judge(self, attempt: Attempt, by_validation: bool) -> Judgement:
        """A candidate against the float twin on all photos that may judge, or on the validation photos alone."""
        answers: Sequence[ImageResult] = held_out_answers(attempt.candidate.selection, self._dataset)
        how = self._how
        if by_validation:
            how = _VALIDATION
            answers = [answer for answer in answers if answer.source in self._validation]
        return judge(self._answers, answers, attempt.candidate.artifact.quantize, how)


_VALIDATION = "validation photos"


def _try(step: RepairStep, best: Attempt, court: _Court, workshop: Workshop) -> tuple[Attempt, Repair]:
    """The better of before and after the repair, on the same photos, and how it is told."""
    started = time.perf_counter()
    try:
        with workshop.steps.measure(f"repair: {step.name}"):
            attempt = step.apply(workshop, best)
    except (ConversionError, EngineError, TrainingError) as error:
        before, seconds = court.rule(best), time.perf_counter() - started
        return best, Repair(step.name, before.accuracy, seconds=seconds, note=str(error))
    before, after = (court.judge(one, by_validation=attempt.trained) for one in (best, attempt))
    kept = after.difference.points > before.difference.points
    seconds = time.perf_counter() - started
    repair = Repair(step.name, before.accuracy, after.accuracy, after.difference, seconds, kept, attempt.note)
    return (attempt if kept else best), repair


def _guilty(kept: Candidate, reference: Candidate, dataset: Dataset) -> tuple[GuiltyLayer, ...]:
    frames = calibration_frames(dataset, FRAMES)
    errors = compare_layers(kept.artifact.model, reference.artifact.model, frames)
    return tuple(
        GuiltyLayer(error.layer, error.operator, round(error.sqnr_db, 1))
        for error in guilty_layers(errors, NAMED_LAYERS)
    )


def _told(
    max_drop: float, first: Judgement, final: Judgement, repairs: list[Repair], guilty: tuple[GuiltyLayer, ...]
) -> Gate:
    return Gate(
        max_drop=max_drop,
        allowed=allowed_drop(max_drop, final.difference.n),
        passed=final.passes(max_drop),
        proven=final.is_proven(max_drop),
        float_accuracy=final.float_accuracy,
        first_accuracy=first.accuracy,
        final_accuracy=final.accuracy,
        first=first.difference,
        final=final.difference,
        repairs=tuple(repairs),
        guilty=guilty,
        how=final.how,
    )


def _refusal(gate: Gate, quantize: str) -> str:
    kept = [repair.name for repair in gate.repairs if repair.kept]
    reached = f"the best of {len(gate.repairs)} repairs ({', '.join(kept)})" if kept else "no repair helped: it"
    names = ", ".join(layer.name for layer in gate.guilty)
    return (
        f"{quantize} loses {-gate.first.points:.1f} points of accuracy against float32, {gate.max_drop:g} are allowed; "
        f"{reached} still loses {-gate.final.points:.1f} ({gate.final.n} photos). Layers that lose most: {names}. "
        "Choose another --backbone, raise --max-drop, or ship it all the same: --allow-drop"
    )
