"""Hides how a folder of photos becomes a checked and split Dataset; training and the pipeline call it."""

from edgetl.data.dataset import DataOptions, Dataset, Sample
from edgetl.data.embedding import embed_all
from edgetl.data.frames import FrameStore
from edgetl.data.loading import load_folder
from edgetl.data.report import DatasetReport, Finding
from edgetl.data.suspects import suspect_labels

__all__ = [
    "DataOptions",
    "Dataset",
    "DatasetReport",
    "Finding",
    "FrameStore",
    "Sample",
    "embed_all",
    "load_folder",
    "suspect_labels",
]
