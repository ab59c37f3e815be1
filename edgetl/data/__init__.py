"""Hides how a folder of photos becomes a checked and split Dataset; training and the pipeline call it."""

from edgetl.data.dataset import DataOptions, Dataset, Sample
from edgetl.data.embedding import embed_all
from edgetl.data.frames import FrameStore, JoinedFrames
from edgetl.data.loading import load_folder
from edgetl.data.report import DatasetReport, Finding
from edgetl.data.suspects import suspect_labels
from edgetl.data.unlabelled import load_related, load_unlabelled

__all__ = [
    "DataOptions",
    "Dataset",
    "DatasetReport",
    "Finding",
    "FrameStore",
    "JoinedFrames",
    "Sample",
    "embed_all",
    "load_folder",
    "load_related",
    "load_unlabelled",
    "suspect_labels",
]
