"""What may win back the accuracy that quantization costs, in order of cost; `gate` tries one after the other."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from edgetl.conversion import Artifact, ConversionOptions, convert
from edgetl.conversion.quantization.layerwise_error import FRAMES, compare_layers, guilty_layers, tensors_around
from edgetl.pipeline.candidate import Candidate, solve_cross_validated, solve_held_out
from edgetl.pipeline.job import Job
from edgetl.pipeline.stages.transfer import calibration_frames, compile_for_board
from edgetl.runtime import Embedder

MORE_FRAMES = 500
"""Photos to calibrate on once the usual number was not enough."""

CLIPPED_QUANTILE = 0.9999
"""Of a tensor's values: what lies beyond saturates (Wu et al. 2020, arXiv 2004.09602, section 4.2)."""

RANGE_FRAMES = 64
"""Photos that show how large each channel becomes, for equalisation."""

BIAS_FRAMES = 16
"""Photos that the means for bias correction come from."""

FLOAT_LAYERS = 8
"""Guilty layers that are kept in float; beyond that the model is hardly an int8 one any more."""


@dataclass(frozen=True)
class Attempt:
    """A candidate and how it was converted; `model` is the tf_keras backbone, None for the build's own.

    `trained` says that its backbone was trained on the training photos after the float twin was made, `corrected`
    that biases are corrected after the conversion, int8 given.
    """

    candidate: Candidate
    conversion: ConversionOptions
    model: Any = None
    trained: bool = False
    corrected: bool = False
    note: str = ""


class Workshop:
    """What every repair needs: the model in float, photos, and the way from a model to a candidate."""

    def __init__(self, kept: Candidate, job: Job) -> None:
        self._kept, self._job = kept, job
        self.normalization, self.steps = job.origin.normalization, job.steps

    @cached_property
    def model(self) -> Any:
        """The float backbone, BatchNorm folded into its convolutions."""
        from edgetl.training import fold

        assert self._job.origin.assemble is not None
        return fold(self._job.origin.assemble() if self._kept.model is None else self._kept.model)

    def frames(self, count: int) -> list[Any]:
        """Training photos, uint8 (h, w, 3), every class in turn."""
        return calibration_frames(self._job.dataset, count)

    def attempt(self, before: Attempt, model: Any, conversion: ConversionOptions, note: str = "") -> Attempt:
        """A model, converted like the one before, with its last layer solved on what it then gives."""
        artifact = self.convert(model, conversion)
        if before.corrected and conversion.quantize == "int8":
            artifact = self.correct(artifact, model)
        candidate = self.solve(artifact)
        return replace(before, candidate=candidate, conversion=conversion, model=model, note=note)

    def convert(self, model: Any, conversion: ConversionOptions) -> Artifact:
        """The model as the board takes it; ConversionError where it does not."""
        return compile_for_board(model, conversion, self._job)

    def correct(self, artifact: Artifact, model: Any) -> Artifact:
        """The int8 artifact with the mean of each channel where the model has it in float."""
        from edgetl.conversion.quantization.bias_correction import correct_bias

        return correct_bias(artifact, self.twin(model), self.frames(BIAS_FRAMES))

    def twin(self, model: Any) -> Artifact:
        """The model in float32, to compare with; no board has to take it."""
        return convert(model, self.normalization, self._job.origin.preprocess, ConversionOptions("float32"))

    def solve(self, artifact: Artifact) -> Candidate:
        """A candidate like the one that was kept, but of this artifact."""
        embeddings = self._job.embed(Embedder(artifact.model, self._job.origin.preprocess))
        solve = solve_cross_validated if self._kept.model is None else solve_held_out
        selection = solve(artifact, embeddings, self._job.dataset)
        return replace(self._kept, artifact=artifact, embeddings=embeddings, selection=selection)

    def train(self, model: Any) -> Any:
        """The model, trained to stand int8."""
        from edgetl.training import train_quantization_aware

        dataset, options = self._job.dataset, self._job.options
        assert dataset.frames is not None
        return train_quantization_aware(
            model,
            self.normalization,
            dataset.frames,
            dataset.indices("train"),
            replace(options.quantization_aware, seed=options.data.seed),
            progress=self._job.steps.progress,
        )


@dataclass(frozen=True)
class RepairStep:
    """One repair: what it is called, and what it makes of the best attempt so far."""

    name: str
    apply: Callable[[Workshop, Attempt], Attempt]


def repairs_for(attempt: Attempt, job: Job) -> list[RepairStep]:
    """The repairs that an int8 model of this job can have, the cheapest first; none for other number formats.

    None of them undoes sparsity or clusters: equalisation, which scales the weights of a channel apart from each
    other, is left out where there are clusters.
    """
    if attempt.candidate.artifact.quantize != "int8":
        return []
    steps = [RepairStep("more calibration photos", _calibrate_on_more), RepairStep("clipped activation ranges", _clip)]
    if job.options.sparsity is None or job.options.sparsity.clusters is None:
        steps.append(RepairStep("cross-layer equalisation", _equalize))
    steps.append(RepairStep("bias correction", _correct_bias))
    board = job.board
    if not board.edgetpu:
        steps.append(RepairStep("guilty layers in float", _keep_in_float))
    if not attempt.trained:
        steps.append(RepairStep("quantization-aware training", train_aware))
    if "int16x8" in board.quantize:
        steps.append(RepairStep("int16 activations", _widen))
    return steps


def train_aware(workshop: Workshop, best: Attempt) -> Attempt:
    """Quantization-aware training, towards the embeddings of the float model."""
    model = workshop.train(best.model or workshop.model)
    return replace(workshop.attempt(best, model, best.conversion), trained=True)


def _calibrate_on_more(workshop: Workshop, best: Attempt) -> Attempt:
    frames = workshop.frames(MORE_FRAMES)
    conversion = replace(best.conversion, calibration_images=MORE_FRAMES)
    return workshop.attempt(best, best.model or workshop.model, conversion, f"{len(frames)} photos")


def _clip(workshop: Workshop, best: Attempt) -> Attempt:
    conversion = replace(best.conversion, range_quantile=CLIPPED_QUANTILE)
    note = f"to the middle {2 * CLIPPED_QUANTILE - 1:.2%} of the values"
    return workshop.attempt(best, best.model or workshop.model, conversion, note)


def _equalize(workshop: Workshop, best: Attempt) -> Attempt:
    from edgetl.conversion.quantization.equalization import equalize

    frames = workshop.frames(RANGE_FRAMES)
    model = equalize(best.model or workshop.model, frames, workshop.normalization)
    return workshop.attempt(best, model, best.conversion)


def _correct_bias(workshop: Workshop, best: Attempt) -> Attempt:
    model, corrected = best.model or workshop.model, replace(best, corrected=True)
    return workshop.attempt(corrected, model, best.conversion, f"means of {BIAS_FRAMES} photos")


def _keep_in_float(workshop: Workshop, best: Attempt) -> Attempt:
    model = best.model or workshop.model
    artifact, frames = workshop.convert(model, best.conversion), workshop.frames(FRAMES)
    errors = compare_layers(artifact.model, workshop.twin(model).model, frames)
    guilty = guilty_layers(errors, FLOAT_LAYERS)
    conversion = replace(best.conversion, float_tensors=tensors_around(artifact.model, guilty))
    return workshop.attempt(best, model, conversion, ", ".join(error.layer for error in guilty))


def _widen(workshop: Workshop, best: Attempt) -> Attempt:
    conversion = ConversionOptions("int16x8", best.conversion.calibration_images)
    return workshop.attempt(best, best.model or workshop.model, conversion, "slower on most boards")
