"""Hides how a folder of photos becomes a checked and split Dataset; training and the pipeline call it."""

from edgetl.data.checks.suspects import suspect_labels
from edgetl.data.dataset import DataOptions, Dataset, Sample
from edgetl.data.extra_photos import load_related, load_unlabelled
from edgetl.data.findings import DatasetReport, Finding
from edgetl.data.loading import load_folder
from edgetl.data.reading.embedding_pass import embed_all
from edgetl.data.reading.frames import FrameStore, JoinedFrames

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
