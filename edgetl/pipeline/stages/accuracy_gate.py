"""The accuracy gate: compares the model with its float twin, and repairs it if it lost too much.

Both are judged on photos that neither was trained on: by cross-validation of the last layer on all photos except the
test photos where the backbone is as published, and on the validation photos where it was trained.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from edgetl.conversion.quantization import FRAMES, compare_layers, guilty_layers
from edgetl.data import Dataset
from edgetl.errors import ConversionError, EngineError, TrainingError
from edgetl.evaluation import Gate, GuiltyLayer, ImageResult, Judgement, Repair, allowed_drop, judge
from edgetl.pipeline.candidate import Candidate, held_out_predictions
from edgetl.pipeline.compilation import calibration_frames, solve_float
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import CROSS_VALIDATED, VALIDATION, Model
from edgetl.pipeline.stages.repairs import RepairStep, repairs_for
from edgetl.pipeline.stages.requantizer import Requantizer

NAMED_LAYERS = 5
"""Layers with the largest error that the report and the error message name."""


def pass_gate(model: Model, job: Job) -> Model:
    """The model itself if it loses at most `options.max_drop` points against float, else a repaired one.

    Repairs are tried in order of their cost, each on top of the best candidate so far, until one is good enough.

    Raises:
        ConversionError: no repair is good enough, and `options.allow_drop` is off.
    """
    max_drop = job.options.max_drop
    if max_drop is None:
        return model
    first = model.candidate
    with job.steps.measure("accuracy gate"):
        float_twin = solve_float(model, job)
    reference = _FloatReference(float_twin, job.dataset)
    repaired = _Repaired(first)
    worst: tuple[GuiltyLayer, ...] = ()
    if not reference.decide(first).passes(max_drop):
        worst = _worst_layers(first, float_twin, job.dataset)
        repaired = _repair(model, reference, max_drop, job)
    gate = _gate(max_drop, reference.decide(first), reference.decide(repaired.best), repaired.records, worst)
    if not gate.passed and not job.options.allow_drop:
        raise ConversionError(_refusal(gate, first.artifact.quantize))
    return replace(model, candidate=repaired.best, gate=gate, float_twin=float_twin)


class _FloatReference:
    """The float twin's predictions, and how candidates compare with them."""

    def __init__(self, float_twin: Candidate, dataset: Dataset) -> None:
        self._dataset = dataset
        self._predictions = held_out_predictions(float_twin.selection, dataset)
        self._validation = {str(dataset.samples[index].path) for index in dataset.indices("val")}
        self._how = CROSS_VALIDATED if float_twin.model is None else VALIDATION

    def decide(self, candidate: Candidate) -> Judgement:
        """The comparison that the gate decides by.

        A candidate that was trained on the training photos must pass on the validation photos, which it has not
        seen, and on all photos, where it has an advantage: few validation photos alone could let it pass by chance.
        """
        on_all = self.compare(candidate, on_validation=False)
        if not candidate.is_trained_for_int8:
            return on_all
        return min(on_all, self.compare(candidate, on_validation=True), key=lambda judged: judged.difference.points)

    def compare(self, candidate: Candidate, on_validation: bool) -> Judgement:
        """The candidate against the float twin on all photos that were held out, or on the validation photos alone."""
        predictions: Sequence[ImageResult] = held_out_predictions(candidate.selection, self._dataset)
        how = self._how
        if on_validation:
            how = VALIDATION
            predictions = [prediction for prediction in predictions if prediction.source in self._validation]
        return judge(self._predictions, predictions, candidate.artifact.quantize, how)


@dataclass
class _Repaired:
    """The best candidate after some repairs, and the record of each for the report."""

    best: Candidate
    records: list[Repair] = field(default_factory=list)


def _repair(model: Model, reference: _FloatReference, max_drop: float, job: Job) -> _Repaired:
    repaired, requantizer = _Repaired(model.candidate), Requantizer(model, job)
    for step in repairs_for(model.candidate, job):
        repaired.best, record = _try(step, repaired.best, reference, requantizer)
        repaired.records.append(record)
        if record.kept and reference.decide(repaired.best).passes(max_drop):
            break
    return repaired


def _try(
    step: RepairStep, best: Candidate, reference: _FloatReference, requantizer: Requantizer
) -> tuple[Candidate, Repair]:
    """The better of before and after the repair, judged on the same photos, and the record of the repair."""
    started = time.perf_counter()
    try:
        with requantizer.steps.measure(f"repair: {step.name}"):
            candidate, note = step.apply(requantizer, best)
    except (ConversionError, EngineError, TrainingError) as error:
        accuracy, seconds = reference.decide(best).accuracy, time.perf_counter() - started
        return best, Repair(step.name, accuracy, seconds=seconds, note=str(error))
    before, after = (reference.compare(one, candidate.is_trained_for_int8) for one in (best, candidate))
    kept = after.difference.points > before.difference.points
    seconds = time.perf_counter() - started
    record = Repair(step.name, before.accuracy, after.accuracy, after.difference, seconds, kept, note)
    return (candidate if kept else best), record


def _worst_layers(candidate: Candidate, float_twin: Candidate, dataset: Dataset) -> tuple[GuiltyLayer, ...]:
    frames = calibration_frames(dataset, FRAMES)
    errors = compare_layers(candidate.artifact.model, float_twin.artifact.model, frames)
    return tuple(
        GuiltyLayer(error.layer, error.operator, round(error.sqnr_db, 1))
        for error in guilty_layers(errors, NAMED_LAYERS)
    )


def _gate(
    max_drop: float, first: Judgement, final: Judgement, repairs: list[Repair], worst: tuple[GuiltyLayer, ...]
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
        guilty=worst,
        how=final.how,
    )


def _refusal(gate: Gate, quantize: str) -> str:
    kept = [repair.name for repair in gate.repairs if repair.kept]
    loss = f"{-gate.final.points:.1f} points"
    outcome = f"after the best repairs ({', '.join(kept)}) it still loses {loss}" if kept else "no repair helped"
    names = ", ".join(layer.name for layer in gate.guilty)
    return (
        f"{quantize} loses {-gate.first.points:.1f} points of accuracy against float32 on {gate.final.n} photos, "
        f"more than the {gate.max_drop:g} allowed; {outcome}. Layers with the largest error: {names}. "
        "Choose another --backbone, raise --max-drop, or ship the model anyway: --allow-drop"
    )
