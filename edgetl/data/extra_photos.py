"""Loads unlabelled and related photos, for training only, and leaves out those that repeat the labelled photos."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from edgetl.data.checks.duplicates import exact_groups, merge_groups
from edgetl.data.checks.photo_checks import TINY_SIDE, near_duplicate_pairs
from edgetl.data.dataset import Dataset, ReadingOptions, Sample
from edgetl.data.findings import DatasetReport, Finding
from edgetl.data.listing import Listing, Photo, list_photos, list_pictures
from edgetl.data.reading.cache import Cache, open_cache_folder
from edgetl.data.reading.frames import FrameStore, read_frame
from edgetl.data.reading.photo_pass import ReadPhotos, read_photos
from edgetl.errors import DataError
from edgetl.progress import Progress
from edgetl.runtime import Embedder

UNLABELLED = ""
"""The label of a photo without one."""


def load_unlabelled(
    source: Path,
    labelled: Dataset,
    embedder: Embedder,
    options: Optional[ReadingOptions] = None,
    progress: Optional[Progress] = None,
) -> Dataset:
    """All photos below a folder, at any depth, as training samples without labels.

    Left out are photos that are unreadable, tiny or blank, those that repeat another photo here, and those that
    are nearly identical to a photo of `labelled`, so that training never sees its validation and test photos.

    Raises:
        DataError: the folder cannot be listed, or contains no usable photo.
        StorageError: the cache folder cannot be used.
    """
    listing = list_pictures(Path(source))
    return _load(listing, Path(source), labelled, embedder, options or ReadingOptions(), progress)


def load_related(
    source: Path,
    labelled: Dataset,
    embedder: Embedder,
    options: Optional[ReadingOptions] = None,
    progress: Optional[Progress] = None,
) -> Dataset:
    """The photos of a folder per class, or a CSV file, as training samples, with the checks of `load_unlabelled`."""
    listing = list_photos(Path(source))
    return _load(listing, Path(source), labelled, embedder, options or ReadingOptions(), progress)


def _load(
    listing: Listing,
    source: Path,
    labelled: Dataset,
    embedder: Embedder,
    options: ReadingOptions,
    progress: Optional[Progress],
) -> Dataset:
    """Reads the labelled photos (from the cache) and, in the rows after them, those of the listing."""
    folder, photos = open_cache_folder(options.cache), listing.photos
    first = len(labelled)
    paths = [*(sample.path for sample in labelled.samples), *(photo.path for photo in photos)]
    frames = FrameStore(folder, embedder.preprocess.size, len(paths))
    with contextlib.closing(Cache(folder)) as cache:
        read = read_photos(paths, cache, embedder.preprocess, embedder, frames, options.workers, progress)
    left_out = _left_out(read, [sample.label for sample in labelled.samples], embedder.zero_point)
    rows = [row for row in range(first, len(paths)) if row not in left_out]
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(left_out.values()).most_common())
        raise DataError(f"no usable photo in {source}: {reasons}; omit this folder or choose another")
    rows.sort(key=lambda row: (photos[row - first].label, read.digests[row], paths[row]))
    samples = tuple(_sample(photos[row - first], row, read) for row in rows)
    frames.select(
        np.array(rows, np.int64),
        lambda index: read_frame(samples[index].path, samples[index].digest, embedder.preprocess),
    )
    assert read.embeddings is not None
    return Dataset(
        samples=samples,
        labels=tuple(sorted({sample.label for sample in samples} - {UNLABELLED})),
        report=_report(source, listing, samples, {paths[row]: reason for row, reason in left_out.items()}),
        preprocess=embedder.preprocess,
        embeddings=read.embeddings[rows],
        frames=frames,
    )


def _sample(photo: Photo, row: int, read: ReadPhotos) -> Sample:
    return Sample(photo.path, photo.label, "train", read.digests[row].hex(), row)


def _left_out(read: ReadPhotos, labels: Sequence[str], zero_point: int) -> dict[int, str]:
    """The rows after the labelled photos that cannot be used, each with the reason; `labels` are of the latter."""
    reasons = {row: fault.kind for row, fault in read.faults.items()}
    for row in range(len(labels), len(read.traits)):
        if (traits := read.traits[row]) is None:
            continue
        if min(traits.width, traits.height) < TINY_SIDE:
            reasons[row] = "tiny"
        elif traits.blank:
            reasons[row] = "blank"
    usable = [row for row in range(len(read.traits)) if row not in reasons]
    for row, first in zip(usable, _first_duplicates(read, usable, labels, zero_point)):
        if first < len(labels) <= row:
            reasons[row] = "like a labelled photo"
        elif first != row:
            reasons[row] = "like another picture"
    return {row: reason for row, reason in sorted(reasons.items()) if row >= len(labels)}


def _first_duplicates(read: ReadPhotos, rows: Sequence[int], labels: Sequence[str], zero_point: int) -> list[int]:
    """For each of these rows, the first row that shows nearly the same photo: the row itself if it is unique."""
    copies = exact_groups([read.digests[row] for row in rows])
    repeated = {member for members in copies for member in members[1:]}
    distinct = np.array([member for member in range(len(rows)) if member not in repeated], np.int64)
    chosen = [rows[member] for member in distinct]
    chosen_labels = [labels[row] for row in chosen if row < len(labels)]
    near = near_duplicate_pairs(read, chosen, chosen_labels, zero_point)
    return [rows[first] for first in merge_groups(len(rows), [*copies, *distinct[near].tolist()])]


def _report(source: Path, listing: Listing, samples: Sequence[Sample], left_out: Mapping[Path, str]) -> DatasetReport:
    by_reason: dict[str, list[Path]] = defaultdict(list)
    for path, reason in left_out.items():
        by_reason[reason].append(path)
    counts = Counter(sample.label for sample in samples)
    return DatasetReport(
        source=str(source),
        photos=len(listing.photos),
        counts={label: {"train": count} for label, count in sorted(counts.items())},
        properties={},
        ignored=listing.ignored,
        findings=(
            *listing.findings,
            *(
                Finding(reason, tuple(paths), f"{len(paths)} of the pictures in {source}: {reason}; left out")
                for reason, paths in sorted(by_reason.items())
            ),
        ),
        left_out=left_out,
        split="all for training, none for validation or test",
    )
