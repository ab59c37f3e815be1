"""Hides how pictures that only teach are read and held against the labelled ones; the pipeline calls it."""

from __future__ import annotations

import contextlib
from collections import Counter, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from edgetl.data.checks.duplicates import exact_groups, near_pairs, union
from edgetl.data.checks.photo_checks import TINY_SIDE
from edgetl.data.dataset import Dataset, ReadingOptions, Sample
from edgetl.data.findings import DatasetReport, Finding
from edgetl.data.listing import Listing, Photo, list_photos, list_pictures
from edgetl.data.reading.cache import Cache, open_cache_folder
from edgetl.data.reading.frames import FrameStore, read_frame
from edgetl.data.reading.photo_pass import Reading, read_photos
from edgetl.errors import DataError
from edgetl.progress import Progress
from edgetl.runtime import Embedder

UNLABELLED = ""
"""The label of a picture that has none."""


def load_unlabelled(
    source: Path,
    beside: Dataset,
    embedder: Embedder,
    options: Optional[ReadingOptions] = None,
    progress: Optional[Progress] = None,
) -> Dataset:
    """The pictures below a folder, all of them for training, without labels, whatever folders they lie in.

    They are read and checked as `load_folder` does it. Left out are those that cannot be read, are tiny or of a
    single colour, or show nearly the same as a photo of `beside`, so that none of its validation and test photos is
    learned from, or as another picture here.
    Raises DataError where no picture is left or the folder cannot be listed, StorageError where the cache cannot.
    """
    listing = list_pictures(Path(source))
    return _load(listing, Path(source), beside, embedder, options or ReadingOptions(), progress)


def load_related(
    source: Path,
    beside: Dataset,
    embedder: Embedder,
    options: Optional[ReadingOptions] = None,
    progress: Optional[Progress] = None,
) -> Dataset:
    """The photos of a folder per class, or a CSV, all of them for training, checked as in `load_unlabelled`."""
    listing = list_photos(Path(source))
    return _load(listing, Path(source), beside, embedder, options or ReadingOptions(), progress)


def _load(
    listing: Listing,
    source: Path,
    beside: Dataset,
    embedder: Embedder,
    options: ReadingOptions,
    progress: Optional[Progress],
) -> Dataset:
    """Photos that were seen before come from the cache, those of `beside` among them."""
    folder, photos = open_cache_folder(options.cache), listing.photos
    known = [sample.path for sample in beside.samples]
    paths = [*known, *(photo.path for photo in photos)]
    frames = FrameStore(folder, embedder.preprocess.size, len(paths))
    with contextlib.closing(Cache(folder)) as cached:
        reading = read_photos(paths, cached, embedder.preprocess, embedder, frames, options.workers, progress)
    labels = [sample.label for sample in beside.samples]
    left_out = _left_out(reading, labels, embedder.zero_point)
    rows = [row for row in range(len(known), len(paths)) if row not in left_out]
    if not rows:
        reasons = ", ".join(f"{count} {reason}" for reason, count in Counter(left_out.values()).most_common())
        raise DataError(f"no picture in {source} can be used: {reasons}; leave it out, or name another folder")
    rows.sort(key=lambda row: (photos[row - len(known)].label, reading.digests[row], paths[row]))
    samples = tuple(_sample(photos[row - len(known)], row, reading) for row in rows)
    frames.select(
        np.array(rows, np.int64),
        lambda at: read_frame(samples[at].path, samples[at].digest, embedder.preprocess),
    )
    assert reading.embeddings is not None
    return Dataset(
        samples=samples,
        labels=tuple(sorted({sample.label for sample in samples} - {UNLABELLED})),
        report=_report(source, listing, samples, {paths[row]: reason for row, reason in left_out.items()}),
        preprocess=embedder.preprocess,
        embeddings=reading.embeddings[rows],
        frames=frames,
    )


def _sample(photo: Photo, row: int, reading: Reading) -> Sample:
    return Sample(photo.path, photo.label, "train", reading.digests[row].hex(), row)


def _left_out(reading: Reading, labels: Sequence[str], zero_point: int) -> dict[int, str]:
    """The rows after those of the labelled photos that are not to be used, each with the reason."""
    reasons = {row: fault.kind for row, fault in reading.faults.items()}
    for row in range(len(labels), len(reading.traits)):
        if (traits := reading.traits[row]) is None:
            continue
        if min(traits.width, traits.height) < TINY_SIDE:
            reasons[row] = "tiny"
        elif traits.blank:
            reasons[row] = "blank"
    usable = [row for row in range(len(reading.traits)) if row not in reasons]
    for row, first in zip(usable, _groups(reading, usable, labels, zero_point)):
        if first < len(labels) <= row:
            reasons[row] = "like a labelled photo"
        elif first != row:
            reasons[row] = "like another picture"
    return {row: reason for row, reason in sorted(reasons.items()) if row >= len(labels)}


def _groups(reading: Reading, rows: Sequence[int], labels: Sequence[str], zero_point: int) -> list[int]:
    """The first row that shows the same as each of these rows, or nearly the same."""
    from threadpoolctl import threadpool_limits  # of the host extra, which listing photos does without

    assert reading.embeddings is not None
    copies = exact_groups([reading.digests[row] for row in rows])
    repeated = {member for members in copies for member in members[1:]}
    distinct = np.array([at for at in range(len(rows)) if at not in repeated], np.int64)
    chosen = [rows[at] for at in distinct]
    traits = [reading.traits[row] for row in chosen]
    thumbnails = np.frombuffer(b"".join(one.thumbnail for one in traits if one), np.uint8)
    known = np.array([labels[row] for row in chosen if row < len(labels)])
    with threadpool_limits(1, "blas"):  # more threads would spin as they wait for each other
        near = near_pairs(thumbnails.reshape(len(chosen), -1), known, reading.embeddings[chosen], zero_point)
    firsts = union(len(rows), [*copies, *distinct[near].tolist()])
    return [rows[first] for first in firsts]


def _report(source: Path, listing: Listing, samples: Sequence[Sample], left_out: dict[Path, str]) -> DatasetReport:
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
        findings=tuple(
            Finding(reason, tuple(paths), f"{len(paths)} of the pictures in {source}: {reason}; left out")
            for reason, paths in sorted(by_reason.items())
        ),
        left_out=left_out,
        split="all of them teach; none is for validation or test",
    )
