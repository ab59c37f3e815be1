"""Hides the way from a folder of photos to a checked Dataset; the pipeline and evaluation call it."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Optional

import numpy as np

from edgetl.data.checks.photo_checks import (
    CheckResult,
    check_counts,
    check_listed_classes,
    check_photos,
    require_usable_classes,
)
from edgetl.data.dataset import SPLITS, DataOptions, Dataset, Sample
from edgetl.data.findings import DatasetReport, Finding
from edgetl.data.listing import Photo, list_photos
from edgetl.data.reading.cache import Cache, open_cache_folder
from edgetl.data.reading.frames import FrameStore, read_frame
from edgetl.data.reading.photo_pass import Reading, read_photos
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

    Each photo is opened once, by a worker thread; one that has not changed since an earlier call is not
    opened at all, and an interrupted call goes on where it stopped. Without an embedder photos are only checked.
    Raises DataError where the photos as a whole cannot be used, StorageError where the cache folder cannot.
    """
    source, options = Path(source), options or DataOptions()
    preprocess = _agreed_preprocess(preprocess, embedder)
    listing = list_photos(source)
    findings = check_listed_classes(listing.photos, listing.empty_labels, source)
    folder = open_cache_folder(cache)
    paths = [photo.path for photo in listing.photos]
    frames = FrameStore(folder, preprocess.size, len(paths)) if keep_frames else None
    with contextlib.closing(Cache(folder)) as known:
        reading = read_photos(paths, known, preprocess, embedder, frames, options.workers, progress)
    if known.rebuilt:
        findings.append(Finding("cache rebuilt", (known.path,), "the cache was damaged and has been begun anew"))
    result = check_photos(listing.photos, reading, embedder.zero_point if embedder else 0, options.exclude_bad)
    findings += result.findings
    rows = _in_order(listing.photos, reading, result)
    findings += require_usable_classes(listing.photos, rows, reading.digests, result.findings, source)
    samples, how = _split(listing.photos, rows, reading, result, options, source)
    counts = _counts(samples)
    findings += check_counts(counts)
    if frames is not None:
        frames.select(np.array(rows), lambda at: read_frame(samples[at].path, samples[at].digest, preprocess))
    return Dataset(
        samples=samples,
        labels=tuple(counts),
        report=DatasetReport(
            source=str(source),
            photos=len(listing.photos),
            counts=counts,
            properties=_properties(reading, rows),
            ignored=listing.ignored,
            findings=tuple(findings),
            left_out={paths[row]: reason for row, reason in sorted(result.left_out.items())},
            split=how,
            embedded=len(reading.embedded),
        ),
        preprocess=preprocess,
        embeddings=None if reading.embeddings is None else reading.embeddings[rows],
        frames=frames,
    )


_DEFAULT_PREPROCESS = Preprocess(224, 224)


def _agreed_preprocess(preprocess: Optional[Preprocess], embedder: Optional[Embedder]) -> Preprocess:
    if embedder is None:
        return preprocess or _DEFAULT_PREPROCESS
    if preprocess is not None and preprocess != embedder.preprocess:
        raise OptionError(f"preprocess {preprocess} differs from the embedder's {embedder.preprocess}; leave it out")
    return embedder.preprocess


def _in_order(photos: Sequence[Photo], reading: Reading, result: CheckResult) -> list[int]:
    """The rows in use by label, content and name: the same photos come in the same order everywhere."""
    rows = (row for row in range(len(photos)) if row not in result.left_out)
    return sorted(rows, key=lambda row: (photos[row].label, reading.digests[row], photos[row].name))


def _split(
    photos: Sequence[Photo],
    rows: Sequence[int],
    reading: Reading,
    result: CheckResult,
    options: DataOptions,
    source: Path,
) -> tuple[tuple[Sample, ...], str]:
    """The samples, and how they came to be in their splits."""
    groups = _renumbered(result.groups[rows].tolist())
    digests = [reading.digests[row].hex() for row in rows]
    given = [photos[row].split for row in rows]
    shares, renamed, how = _plan(set(given), options, source)
    splits = [renamed.get(split or "train", split or "train") for split in given]
    train = [at for at, split in enumerate(splits) if split == "train"]
    dealt = deal_splits(
        [photos[rows[at]].label for at in train],
        [groups[at] for at in train],
        [digests[at] for at in train],
        shares,
        options.seed,
    )
    for at, split in zip(train, dealt):
        splits[at] = split
    samples = (
        Sample(photos[row].path, photos[row].label, split, digest, group)
        for row, split, digest, group in zip(rows, splits, digests, groups)
    )
    return tuple(samples), how


def _plan(
    given: set[Optional[str]], options: DataOptions, source: Path
) -> tuple[dict[str, float], dict[str, str], str]:
    """What to deal out of the training photos, which given splits change their name, and that in words."""
    validation = {"val": options.validation_fraction}
    both = {"test": options.test_fraction, **validation}
    seed = f"seed {options.seed}"
    if given <= {None, "train"}:
        return both, {}, f"test and val dealt out by class and near-duplicate group ({seed})"
    if "train" not in given:
        held_back = " and ".join(sorted(map(str, given)))
        raise DataError(f"{source} has {held_back} photos but no train photo that can be used; put some into train")
    if given == {"train", "test"}:
        return validation, {}, f"test as given; val dealt out of train ({seed})"
    if given == {"train", "val"}:
        how = f"the given val serves as test, a figure needs one; a new val dealt out of train ({seed})"
        return validation, {"val": "test"}, how
    return {}, {}, "train, val and test as given"


def _renumbered(groups: Sequence[int]) -> list[int]:
    numbers: dict[int, int] = {}
    return [numbers.setdefault(group, len(numbers)) for group in groups]


def _counts(samples: Sequence[Sample]) -> dict[str, dict[str, int]]:
    pairs = Counter((sample.label, sample.split) for sample in samples)
    labels = sorted({sample.label for sample in samples})
    return {label: {split: pairs[label, split] for split in SPLITS} for label in labels}


def _properties(reading: Reading, rows: Sequence[int]) -> dict[str, int]:
    traits = [reading.traits[row] for row in rows]
    return {name: sum(getattr(one, name) for one in traits) for name in ("rotated", "grey", "alpha")}
