"""Loads a folder of photos, or a CSV file, as a checked Dataset with splits."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from edgetl.data.checks.class_checks import check_counts, check_listed_classes, require_usable_classes
from edgetl.data.checks.photo_checks import CheckedPhotos, check_photos
from edgetl.data.dataset import SPLITS, DataOptions, Dataset, Sample
from edgetl.data.findings import DatasetReport, Finding
from edgetl.data.listing import Photo, list_photos
from edgetl.data.reading.cache import Cache, open_cache_folder
from edgetl.data.reading.frames import FrameStore, read_frame
from edgetl.data.reading.photo_pass import ReadPhotos, read_photos
from edgetl.data.splitting import deal_splits
from edgetl.errors import DataError, OptionError
from edgetl.progress import Progress
from edgetl.runtime import Embedder, Preprocess


def load_folder(
    source: Path,
    options: Optional[DataOptions] = None,
    preprocess: Optional[Preprocess] = None,
    embedder: Optional[Embedder] = None,
    keep_frames: bool = False,
    cache: Optional[Path] = None,
    progress: Optional[Progress] = None,
) -> Dataset:
    """Lists, checks, embeds and splits photos: a folder per class, split folders above them, or a CSV file.

    Each photo is opened once, by a worker thread. A photo that has not changed since an earlier call is not opened
    at all, and an interrupted call continues where it stopped.

    Args:
        preprocess: how a photo becomes a frame; by default the embedder's, else 224 x 224 pixels.
        embedder: computes the embeddings of the Dataset; without one, photos are only checked.
        keep_frames: whether the Dataset stores the decoded frames.
        cache: the cache folder; by default EDGETL_CACHE or the user's cache folder.

    Raises:
        DataError: the photos as a whole cannot be used, e.g. only one class has photos.
        OptionError: `preprocess` differs from the embedder's.
        StorageError: the cache folder cannot be used.
    """
    source, options = Path(source), options or DataOptions()
    preprocess = _agreed_preprocess(preprocess, embedder)
    listing = list_photos(source)
    photos, paths = listing.photos, [photo.path for photo in listing.photos]
    findings = [*listing.findings, *check_listed_classes(photos, listing.empty_labels, source)]
    folder = open_cache_folder(cache)
    frames = FrameStore(folder, preprocess.size, len(paths)) if keep_frames else None
    with contextlib.closing(Cache(folder)) as opened:
        read = read_photos(paths, opened, preprocess, embedder, frames, options.workers, progress)
    if opened.rebuilt:
        findings.append(Finding("cache rebuilt", (opened.path,), "the cache was damaged and has been rebuilt"))
    checked = check_photos(photos, read, embedder.zero_point if embedder else 0, options.exclude_bad)
    rows = _rows_in_order(photos, read, checked)
    unusable = require_usable_classes(photos, rows, read.digests, checked.findings, source)
    samples, split = _split(photos, rows, read, checked, options, source)
    counts = _counts(samples)
    if frames is not None:
        frames.select(np.array(rows), lambda index: read_frame(samples[index].path, samples[index].digest, preprocess))
    return Dataset(
        samples=samples,
        labels=tuple(counts),
        report=DatasetReport(
            source=str(source),
            photos=len(photos),
            counts=counts,
            properties=_properties(read, rows),
            ignored=listing.ignored,
            findings=(*findings, *checked.findings, *unusable, *check_counts(counts)),
            left_out={paths[row]: reason for row, reason in sorted(checked.left_out.items())},
            split=split,
            embedded=len(read.embedded),
        ),
        preprocess=preprocess,
        embeddings=None if read.embeddings is None else read.embeddings[rows],
        frames=frames,
    )


_DEFAULT_PREPROCESS = Preprocess(224, 224)


def _agreed_preprocess(preprocess: Optional[Preprocess], embedder: Optional[Embedder]) -> Preprocess:
    if embedder is None:
        return preprocess or _DEFAULT_PREPROCESS
    if preprocess is not None and preprocess != embedder.preprocess:
        raise OptionError(f"preprocess {preprocess} differs from the embedder's {embedder.preprocess}; omit it")
    return embedder.preprocess


def _rows_in_order(photos: Sequence[Photo], read: ReadPhotos, checked: CheckedPhotos) -> list[int]:
    """The rows in use, by label, content and name, so that the order is the same on every machine."""
    rows = (row for row in range(len(photos)) if row not in checked.left_out)
    return sorted(rows, key=lambda row: (photos[row].label, read.digests[row], photos[row].name))


def _split(
    photos: Sequence[Photo],
    rows: Sequence[int],
    read: ReadPhotos,
    checked: CheckedPhotos,
    options: DataOptions,
    source: Path,
) -> tuple[tuple[Sample, ...], str]:
    """The samples with their splits, and how they were split, in words."""
    groups = _renumbered(checked.groups[rows].tolist())
    digests = [read.digests[row].hex() for row in rows]
    assigned = [photos[row].split for row in rows]
    shares, renamed, description = _plan(set(assigned), options, source)
    splits = [renamed.get(split or "train", split or "train") for split in assigned]
    train = [index for index, split in enumerate(splits) if split == "train"]
    dealt = deal_splits(
        [photos[rows[index]].label for index in train],
        [groups[index] for index in train],
        [digests[index] for index in train],
        shares,
        options.seed,
    )
    for index, split in zip(train, dealt):
        splits[index] = split
    samples = (
        Sample(photos[row].path, photos[row].label, split, digest, group)
        for row, split, digest, group in zip(rows, splits, digests, groups)
    )
    return tuple(samples), description


def _plan(
    assigned: set[Optional[str]], options: DataOptions, source: Path
) -> tuple[dict[str, float], dict[str, str], str]:
    """The shares to take from the training photos, which assigned splits are renamed, and both in words."""
    validation = {"val": options.validation_fraction}
    both = {"test": options.test_fraction, **validation}
    seed = f"seed {options.seed}"
    if assigned <= {None, "train"}:
        return both, {}, f"test and val drawn at random by class and near-duplicate group ({seed})"
    if "train" not in assigned:
        held_back = " and ".join(sorted(map(str, assigned)))
        raise DataError(f"{source} has {held_back} photos but no usable train photo; add some to train")
    if assigned == {"train", "test"}:
        return validation, {}, f"test as given; val drawn at random from train ({seed})"
    if assigned == {"train", "val"}:
        return (
            validation,
            {"val": "test"},
            f"the given val serves as test; val drawn at random from train ({seed})",
        )
    return {}, {}, "train, val and test as given"


def _renumbered(groups: Sequence[int]) -> list[int]:
    numbers: dict[int, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]


def _counts(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    pairs = Counter((sample.label, sample.split) for sample in samples)
    labels = sorted({sample.label for sample in samples})
    return {label: {split: pairs[label, split] for split in SPLITS} for label in labels}


def _properties(read: ReadPhotos, rows: Sequence[int]) -> dict[str, int]:
    traits = [read.traits[row] for row in rows]
    return {name: sum(getattr(one, name) for one in traits) for name in ("rotated", "grey", "alpha")}
