"""Quantizes changed versions of one float backbone again, and solves the last layer on the embeddings of each."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np

from edgetl.conversion import Artifact, ConversionOptions, convert
from edgetl.pipeline.candidate import Candidate, Quantization
from edgetl.pipeline.compilation import calibration_frames, compile_for_board, solver_for
from edgetl.pipeline.job import Job
from edgetl.pipeline.model import Model
from edgetl.runtime import Embedder

if TYPE_CHECKING:
    from tf_keras import Model as KerasModel

BIAS_FRAMES = 16
"""Photos that the channel means for bias correction are measured on."""


class Requantizer:
    """Makes candidates like that of `model`, but quantized in another way."""

    def __init__(self, model: Model, job: Job) -> None:
        self._kept, self._backbone, self._job = model.candidate, model.backbone, job
        self.normalization, self.steps = model.backbone.normalization, job.steps

    @cached_property
    def float_model(self) -> KerasModel:
        """The float backbone, BatchNorm folded into its convolutions."""
        from edgetl.training import fold

        if self._kept.model is not None:
            return fold(self._kept.model)
        assert self._backbone.assemble is not None
        return fold(self._backbone.assemble())

    def quantization_of(self, candidate: Candidate) -> Quantization:
        """How the candidate was quantized, its `model` filled in."""
        quantization = candidate.quantization or Quantization(self._job.options.conversion)
        return replace(quantization, model=quantization.model or self.float_model)

    def frames(self, count: int) -> list[np.ndarray]:
        """At most `count` training photos at the model's size, uint8 (h, w, 3), balanced over the classes."""
        return calibration_frames(self._job.dataset, count)

    def quantize(self, quantization: Quantization) -> Candidate:
        """A candidate with this quantization; ConversionError if the board cannot run it."""
        artifact = self.convert(quantization)
        if quantization.bias_corrected and quantization.options.quantize == "int8":
            artifact = self._correct_bias(artifact, quantization)
        embeddings = self._job.embed(Embedder(artifact.model, self._backbone.preprocess))
        selection = solver_for(self._kept)(artifact, embeddings, self._job.dataset)
        return replace(
            self._kept, artifact=artifact, embeddings=embeddings, selection=selection, quantization=quantization
        )

    def convert(self, quantization: Quantization) -> Artifact:
        """The model of `quantization` compiled for the board; ConversionError if the board cannot run it."""
        return compile_for_board(quantization.model, quantization.options, self._backbone, self._job)

    def float_twin(self, quantization: Quantization) -> Artifact:
        """The same model in float32, to compare with; the board does not have to run it."""
        return convert(quantization.model, self.normalization, self._backbone.preprocess, ConversionOptions("float32"))

    def train(self, model: KerasModel) -> KerasModel:
        """The model after quantization-aware training towards the embeddings of the float model."""
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

    def _correct_bias(self, artifact: Artifact, quantization: Quantization) -> Artifact:
        """The int8 artifact with the mean of each channel shifted to that of the float model."""
        from edgetl.conversion.quantization import correct_bias

        return correct_bias(artifact, self.float_twin(quantization), self.frames(BIAS_FRAMES))
