"""What every stage of a build works with; `build` makes it once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Optional

import numpy as np

from edgetl.conversion.backbone_source import Origin
from edgetl.data import Dataset, embed_all
from edgetl.pipeline.options import BuildOptions
from edgetl.pipeline.step_times import Steps
from edgetl.runtime import Embedder
from edgetl.targets import Target


@dataclass(frozen=True, eq=False)
class Job:
    """One build: its backbone, photos and board, what was asked for, and how long each step took.

    `origin` describes the backbone as it now is: pruning puts a smaller one in its place. `unlabelled` are pictures
    that only a teacher speaks of, `related` photos of classes that need not be asked for.
    """

    origin: Origin
    dataset: Dataset
    board: Target
    options: BuildOptions
    steps: Steps
    unlabelled: Optional[Dataset] = None
    related: Optional[Dataset] = None

    def embed(self, embedder: Embedder, indices: Optional[np.ndarray] = None) -> np.ndarray:
        """Embeddings (n, d) of the photos at `indices`, of all for None; those seen before come from the cache."""
        workers, cache = self.options.data.workers, self.options.cache
        return embed_all(self.dataset, embedder, workers, self.steps.progress, indices, cache)

    def close(self) -> None:
        """Gives the disk space of all frames back."""
        for dataset in filter(None, (self.dataset, self.unlabelled, self.related)):
            dataset.close()
