"""Checks each learning operation against what is in effect, and drafts the journal rows that record it."""

from __future__ import annotations

import io
import os
import unicodedata
from typing import Collection, Iterable, List, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from edgetl.bundle import distinguishable, is_label, look_alike
from edgetl.errors import LearningError
from edgetl.runtime.inference.classifier import Classifier
from edgetl.runtime.inference.preprocess import ImageSource, decode
from edgetl.runtime.learning.journal import Draft
from edgetl.runtime.learning.live_statistics import LiveStatistics
from edgetl.runtime.learning.projection import (
    CORRECT,
    FORGET,
    FORGET_CLASS,
    RENAME,
    TEACH,
    UNDO,
    Projection,
    Row,
)
from edgetl.runtime.stream.sources import Source

THUMBNAIL_SIDE = 320
"""The longer side of a stored thumbnail, in pixels: large enough for the input of a later backbone."""


def teach_image(
    image: Union[ImageSource, Source],
    label: str,
    classifier: Classifier,
    live_statistics: LiveStatistics,
    with_thumbnail: bool,
) -> Draft:
    """Draft the teaching of one image, which is decoded once for its embedding and its thumbnail.

    Raises:
        ImageError: the image cannot be read.
    """
    source = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
    preprocess = classifier.manifest.preprocess
    white_level = preprocess.get("white_level")
    if isinstance(image, Source):
        frame_size = (preprocess["height"], preprocess["width"])
        size_hint = (THUMBNAIL_SIDE, THUMBNAIL_SIDE) if with_thumbnail else frame_size
        source, image = image.name, decode(image.image, size_hint, image.name, white_level)
    thumbnail = None
    if with_thumbnail:
        image = decode(image, (THUMBNAIL_SIDE, THUMBNAIL_SIDE), white_level=white_level)
        thumbnail = _thumbnail(image)
    (embedding,) = live_statistics.encode(classifier.embed(image))
    return Draft(TEACH, label, source=source, embedding=embedding, thumbnail=thumbnail)


def correct(projection: Projection, picture: int, label: str) -> List[Draft]:
    """Draft another label for a picture.

    Raises:
        LearningError: the picture is unknown, or already has this label.
    """
    picture, present_label = _known_picture(projection, picture)
    if present_label == label:
        raise LearningError(f"picture {picture} already has the label '{label}'; give another label")
    return [Draft(CORRECT, label, subject=picture)]


def forget(projection: Projection, picture: int) -> List[Draft]:
    """Draft the removal of a picture.

    Raises:
        LearningError: the picture is unknown.
    """
    picture, present_label = _known_picture(projection, picture)
    return [Draft(FORGET, present_label, subject=picture)]


def forget_class(projection: Projection, label: str) -> List[Draft]:
    """Draft the removal of a class.

    Raises:
        LearningError: the class is unknown, or it is the only one.
    """
    _require_class(projection, label)
    if len(projection.labels) == 1:
        raise LearningError(f"'{label}' is the only class; teach another class first")
    return [Draft(FORGET_CLASS, label)]


def rename(projection: Projection, old: str, new: str) -> List[Draft]:
    """Draft another name for a class.

    Raises:
        LearningError: the class is unknown, or a class already has the new name.
    """
    _require_class(projection, old)
    if new in projection.labels:
        raise LearningError(f"class '{new}' already exists; to merge the two, correct the pictures of '{old}'")
    return [Draft(RENAME, new, former=old)]


def undo(projection: Projection) -> List[Draft]:
    """Draft the reversal of the latest step in effect.

    Raises:
        LearningError: no step is in effect.
    """
    last = projection.last_step
    if last is None:
        raise LearningError("there is nothing to undo: the state is as shipped")
    return [Draft(UNDO, subject=last.id)]


def normalized_label(label: str) -> str:
    """The label in Unicode form NFC without surrounding spaces, as a build writes the names of folders.

    So the same word is the same class, whichever keyboard or file system it comes from.

    Raises:
        LearningError: it cannot be a label.
    """
    normalized = unicodedata.normalize("NFC", label).strip() if isinstance(label, str) else label
    if not is_label(normalized):
        raise LearningError(f"invalid label {label!r}: expected 1 to 200 characters without control characters")
    return normalized


def require_distinct(label: str, labels: Collection[str]) -> None:
    """Check a label against those in use.

    Raises:
        LearningError: it is another label than these, but looks like one of them.
    """
    twin = look_alike(label, labels)
    if twin is not None:
        raise LearningError(
            f"{distinguishable(label)} looks like the class {distinguishable(twin)}, which exists; use that name, "
            "or make a second class: --new-class"
        )


def require_pictures(drafts: Sequence[Draft], label: str) -> Sequence[Draft]:
    """Return the drafts.

    Raises:
        LearningError: the sequence is empty.
    """
    if not drafts:
        raise LearningError(f"no picture to teach '{label}' with; give at least one readable image")
    return drafts


def hypothetical_rows(drafts: Iterable[Draft], ids: Iterable[int]) -> List[Row]:
    """The rows that these drafts would become. Ids below 0 occur in no journal."""
    return [Row(key, -1, d.kind, d.label, d.subject, d.former, d.origin) for d, key in zip(drafts, ids)]


_THUMBNAIL_QUALITY = 85


def _known_picture(projection: Projection, picture: int) -> Tuple[int, str]:
    """The id as a Python int, because SQLite would store a NumPy integer as bytes; and the picture's label."""
    label = projection.label_of(picture) if isinstance(picture, (int, np.integer)) else None
    if label is None:
        raise LearningError(
            f"unknown picture {picture}: no picture with this id was taught here. List the ids: edgetl history. "
            "Pictures that the bundle was built from have no id: teach better ones, or forget the whole class"
        )
    return int(picture), label


def _require_class(projection: Projection, label: str) -> None:
    if label not in projection.labels:
        raise LearningError(f"unknown class '{label}'; choose {', '.join(projection.labels)}")


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=_THUMBNAIL_QUALITY)
    return stream.getvalue()
