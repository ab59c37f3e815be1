"""What every stage of a build reads: the photos, the board, the options, and the clock."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from edgetl.data import Dataset, embed_all
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.step_times import StepTimes
from edgetl.runtime import Embedder
from edgetl.targets import Target


@dataclass(frozen=True, eq=False)
class Job:
    """One build: its photos and board, its options, and the time that each step took.

    `unlabelled` are pictures that only a teacher labels; `related` are photos of classes that the model does not
    have to recognise.
    """

    dataset: Dataset
    board: Target
    options: BuildOptions
    steps: StepTimes
    unlabelled: Optional[Dataset] = None
    related: Optional[Dataset] = None

    def embed(self, embedder: Embedder, indices: Optional[np.ndarray] = None) -> np.ndarray:
        """Raw embeddings (n, d) of the photos at `indices`, or of all photos; known ones come from the cache."""
        workers, cache = self.options.data.workers, self.options.cache
        return embed_all(self.dataset, embedder, workers, self.steps.progress, indices, cache)

    def close(self) -> None:
        """Delete the temporary files that hold the decoded photos."""
        for dataset in filter(None, (self.dataset, self.unlabelled, self.related)):
            dataset.close()
