"""Hides what a step may ask for, and how its rows come about; the Learner calls it."""

from __future__ import annotations

import io
import os
import unicodedata
from typing import Iterable, List, Optional, Sequence, Tuple, Union

import numpy as np
from PIL import Image

from edgetl.bundle import is_label
from edgetl.errors import LearningError
from edgetl.runtime.inference.classifier import Classifier
from edgetl.runtime.inference.preprocess import ImageSource, decode
from edgetl.runtime.learning.journal import Draft
from edgetl.runtime.learning.live_statistics import Knowledge
from edgetl.runtime.learning.projection import (
    ACCEPT,
    CORRECT,
    FORGET,
    FORGET_CLASS,
    PROPOSE,
    RENAME,
    TEACH,
    UNDO,
    Contents,
    Row,
)
from edgetl.runtime.stream.sources import Source

THUMBNAIL_SIDE = 320
"""The longer side of a stored thumbnail, in pixels: enough for the frame of a later backbone."""


def drawn_up(
    image: Union[ImageSource, Source], label: str, classifier: Classifier, knowledge: Knowledge, with_thumbnail: bool
) -> Draft:
    """A picture to teach; it is decoded once for its embedding and its thumbnail. Raises ImageError."""
    source = os.fspath(image) if isinstance(image, (str, os.PathLike)) else None
    if isinstance(image, Source):
        frame = classifier.manifest.preprocess
        hint = (THUMBNAIL_SIDE, THUMBNAIL_SIDE) if with_thumbnail else (frame["height"], frame["width"])
        source, image = image.name, decode(image.image, hint, image.name)
    thumbnail = None
    if with_thumbnail:
        image = decode(image, size_hint=(THUMBNAIL_SIDE, THUMBNAIL_SIDE))
        thumbnail = _thumbnail(image)
    (data,) = knowledge.encode(classifier.embed(image))
    return Draft(TEACH, label, source=source, embedding=data, thumbnail=thumbnail)


def correction(contents: Contents, picture: int, label: str) -> List[Draft]:
    """Gives a picture another label."""
    picture, known = _known_picture(contents, picture)
    if known == label:
        raise LearningError(f"picture {picture} is a '{label}' already; give another label")
    return [Draft(CORRECT, label, subject=picture)]


def removal(contents: Contents, picture: int) -> List[Draft]:
    """Takes a picture out."""
    picture, known = _known_picture(contents, picture)
    return [Draft(FORGET, known, subject=picture)]


def class_removal(contents: Contents, label: str) -> List[Draft]:
    """Takes a class out that is not the only one."""
    _require_class(contents, label)
    if len(contents.labels) == 1:
        raise LearningError(f"'{label}' is the only class; teach another one first")
    return [Draft(FORGET_CLASS, label)]


def renaming(contents: Contents, old: str, new: str) -> List[Draft]:
    """Gives a class a name that no class has yet."""
    _require_class(contents, old)
    if new in contents.labels:
        raise LearningError(f"there already is a class '{new}'; correct the pictures of '{old}' instead")
    return [Draft(RENAME, new, former=old)]


def undoing(contents: Contents) -> List[Draft]:
    """Takes the latest step back."""
    last = contents.last_step
    if last is None:
        raise LearningError("there is nothing to undo: the state is as shipped")
    return [Draft(UNDO, subject=last.id)]


def spelled(label: str) -> str:
    """The label as a build spells those of folders, whichever keyboard or file system it comes from.

    Raises LearningError where no class can have this name.
    """
    composed = unicodedata.normalize("NFC", label).strip() if isinstance(label, str) else label
    if not is_label(composed):
        raise LearningError(f"a label is {label!r}; give a text of 1 to 200 characters without control characters")
    return composed


def require_pictures(drafts: Sequence[Draft], label: str) -> Sequence[Draft]:
    """The drafts; raises LearningError where there are none."""
    if not drafts:
        raise LearningError(f"there is no picture to teach '{label}' with; give at least one that can be read")
    return drafts


def supposed_rows(drafts: Iterable[Draft], ids: Iterable[int]) -> List[Row]:
    """Rows as drafts would make them; ids below 0 are in no journal."""
    return [Row(key, -1, d.kind, d.label, d.subject, d.former, d.origin) for d, key in zip(drafts, ids)]


def picture_of(draft: Draft, id: int) -> Optional[int]:
    """The picture that a draft with this id is about; None where it is about none."""
    if draft.kind in (TEACH, PROPOSE):
        return id
    return draft.subject if draft.kind in (ACCEPT, CORRECT, FORGET) else None


_THUMBNAIL_QUALITY = 85


def _known_picture(contents: Contents, picture: int) -> Tuple[int, str]:
    """The id as SQLite takes it, where NumPy's integers would be stored as bytes; and the picture's label."""
    label = contents.label_of(picture) if isinstance(picture, (int, np.integer)) else None
    if label is None:
        raise LearningError(
            f"there is no picture {picture} among those taught here; see their ids: edgetl history. "
            "Those that the bundle was built from have none: teach better ones, or forget a whole class"
        )
    return int(picture), label


def _require_class(contents: Contents, label: str) -> None:
    if label not in contents.labels:
        raise LearningError(f"there is no class '{label}'; choose {', '.join(contents.labels)}")


def _thumbnail(image: Image.Image) -> bytes:
    small = image.copy()
    small.thumbnail((THUMBNAIL_SIDE, THUMBNAIL_SIDE))
    stream = io.BytesIO()
    small.save(stream, "JPEG", quality=_THUMBNAIL_QUALITY)
    return stream.getvalue()
