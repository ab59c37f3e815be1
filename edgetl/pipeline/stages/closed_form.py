"""Stage 1: the pretrained backbone as published, with a last layer solved in closed form."""

from __future__ import annotations

from edgetl.conversion import Artifact, BackboneSource
from edgetl.data import Dataset
from edgetl.pipeline.candidate import Candidate, held_out_predictions, solve_cross_validated
from edgetl.pipeline.model import CROSS_VALIDATED, Model, stage_record

STAGE_1 = "stage 1"


def solve_closed_form(artifact: Artifact, backbone: BackboneSource, dataset: Dataset) -> Model:
    """The first model of a build: all other stages start from it."""
    assert dataset.embeddings is not None
    selection = solve_cross_validated(artifact, dataset.embeddings, dataset)
    candidate = Candidate(STAGE_1, artifact, dataset.embeddings, selection)
    validation = held_out_predictions(selection, dataset)
    record = stage_record(candidate, True, validation, CROSS_VALIDATED, dataset)
    return Model(candidate, backbone, start=candidate, stages=(record,))
