"""Repairs of the accuracy that quantization costs, one function each, the cheapest first."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import NamedTuple

from edgetl.conversion import ConversionOptions
from edgetl.conversion.quantization import FRAMES, compare_layers, guilty_layers, tensors_around
from edgetl.pipeline.candidate import Candidate
from edgetl.pipeline.job import Job
from edgetl.pipeline.stages.requantizer import BIAS_FRAMES, Requantizer

MORE_FRAMES = 500
"""Photos to calibrate on where the usual number was not enough."""

CLIPPED_QUANTILE = 0.9999
"""Quantile of a tensor's values beyond which they saturate (Wu et al. 2020, arXiv 2004.09602, section 4.2)."""

RANGE_FRAMES = 64
"""Photos that the range of each channel is measured on, for equalisation."""

FLOAT_LAYERS = 8
"""Layers with the largest error that are kept in float; with more, the model would hardly be an int8 one."""


class Repaired(NamedTuple):
    """A repaired candidate, and a note for the report on what was done."""

    candidate: Candidate
    note: str = ""


class RepairStep(NamedTuple):
    """One repair: its name, and the function that applies it to the best candidate so far."""

    name: str
    apply: Callable[[Requantizer, Candidate], Repaired]


def repairs_for(candidate: Candidate, job: Job) -> list[RepairStep]:
    """The repairs that apply to an int8 model of this job, in the order to try them; none for other formats.

    None of them undoes sparsity or clusters: equalisation scales the weights within a channel differently, so it is
    left out where there are clusters.
    """
    if candidate.artifact.quantize != "int8":
        return []
    clustered = job.options.sparsity is not None and job.options.sparsity.clusters is not None
    steps = [
        (True, RepairStep("more calibration photos", _calibrate_on_more)),
        (True, RepairStep("clipped activation ranges", _clip_ranges)),
        (not clustered, RepairStep("cross-layer equalisation", _equalize)),
        (True, RepairStep("bias correction", _correct_bias)),
        (not job.board.edgetpu, RepairStep("guilty layers in float", _keep_layers_in_float)),
        (not candidate.is_trained_for_int8, RepairStep("quantization-aware training", train_for_int8)),
        ("int16x8" in job.board.quantize, RepairStep("int16 activations", _widen_activations)),
    ]
    return [step for applies, step in steps if applies]


def train_for_int8(requantizer: Requantizer, best: Candidate) -> Repaired:
    """Quantization-aware training towards the embeddings of the float model."""
    before = requantizer.quantization_of(best)
    trained = replace(before, model=requantizer.train(before.model), trained_on_photos=True)
    return Repaired(requantizer.quantize(trained))


def _calibrate_on_more(requantizer: Requantizer, best: Candidate) -> Repaired:
    before = requantizer.quantization_of(best)
    options = replace(before.options, calibration_images=MORE_FRAMES)
    photos = len(requantizer.frames(MORE_FRAMES))
    return Repaired(requantizer.quantize(replace(before, options=options)), f"{photos} photos")


def _clip_ranges(requantizer: Requantizer, best: Candidate) -> Repaired:
    before = requantizer.quantization_of(best)
    options = replace(before.options, range_quantile=CLIPPED_QUANTILE)
    note = f"to the middle {2 * CLIPPED_QUANTILE - 1:.2%} of the values"
    return Repaired(requantizer.quantize(replace(before, options=options)), note)


def _equalize(requantizer: Requantizer, best: Candidate) -> Repaired:
    from edgetl.conversion.quantization import equalize

    before = requantizer.quantization_of(best)
    model = equalize(before.model, requantizer.frames(RANGE_FRAMES), requantizer.normalization)
    return Repaired(requantizer.quantize(replace(before, model=model)))


def _correct_bias(requantizer: Requantizer, best: Candidate) -> Repaired:
    corrected = replace(requantizer.quantization_of(best), bias_corrected=True)
    return Repaired(requantizer.quantize(corrected), f"channel means from {BIAS_FRAMES} photos")


def _keep_layers_in_float(requantizer: Requantizer, best: Candidate) -> Repaired:
    before = requantizer.quantization_of(best)
    quantized, float_twin = requantizer.convert(before), requantizer.float_twin(before)
    errors = compare_layers(quantized.model, float_twin.model, requantizer.frames(FRAMES))
    worst = guilty_layers(errors, FLOAT_LAYERS)
    options = replace(before.options, float_tensors=tensors_around(quantized.model, worst))
    return Repaired(requantizer.quantize(replace(before, options=options)), ", ".join(error.layer for error in worst))


def _widen_activations(requantizer: Requantizer, best: Candidate) -> Repaired:
    before = requantizer.quantization_of(best)
    options = ConversionOptions("int16x8", before.options.calibration_images)
    return Repaired(requantizer.quantize(replace(before, options=options)), "slower on most boards")
