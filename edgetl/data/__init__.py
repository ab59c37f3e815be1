"""Turns a folder of photos, or a CSV file, into a checked Dataset with splits."""

from edgetl.data.checks.suspects import suspect_labels
from edgetl.data.dataset import DataOptions, Dataset, ReadingOptions, Sample
from edgetl.data.digits import write_digits
from edgetl.data.extra_photos import load_related, load_unlabelled
from edgetl.data.findings import DatasetReport, Finding
from edgetl.data.listing import Listing, Photo, list_photos, list_pictures
from edgetl.data.loading import load_folder
from edgetl.data.reading.cache import open_cache_folder
from edgetl.data.reading.embedding_pass import embed_all
from edgetl.data.reading.frames import FrameStore, JoinedFrames
from edgetl.data.reading.value_range import ValueRange, find_value_range

__all__ = [
    "DataOptions",
    "Dataset",
    "DatasetReport",
    "Finding",
    "FrameStore",
    "JoinedFrames",
    "Listing",
    "Photo",
    "ReadingOptions",
    "Sample",
    "ValueRange",
    "embed_all",
    "find_value_range",
    "list_photos",
    "list_pictures",
    "load_folder",
    "load_related",
    "load_unlabelled",
    "open_cache_folder",
    "suspect_labels",
    "write_digits",
]
