"""What the name of a folder says: a split, a copy of another folder, or a class."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Collection
from functools import lru_cache
from typing import Optional

Parts = tuple[str, ...]
"""A path relative to the root, as its parts."""

SPLIT_WORDS = {
    **dict.fromkeys(("train", "training", "trn", "trainval"), "train"),
    **dict.fromkeys(("val", "valid", "validate", "validation", "dev", "development"), "val"),
    **dict.fromkeys(("test", "testing", "tst", "eval", "evaluation"), "test"),
}
"""The split that a word stands for."""


def split_of(name: str, siblings: Collection[str] = ()) -> Optional[str]:
    """The split that a folder's name stands for, e.g. "train" for "Training_Set", "seg_train" or "train (1)".

    A name with further words (seg_train) is a split only if all `siblings` have the same further words, and one of
    them is another split: "freight_train" is a class. So is "valid" beside "invalid".
    """
    split, rest = _parsed(name)
    if split is None or not rest:
        return None if _is_opposite(name, siblings) else split
    parsed = [_parsed(sibling) for sibling in siblings]
    has_partner = any(other not in (None, split) for other, _ in parsed)
    return split if has_partner and all(other and words == rest for other, words in parsed) else None


def unsafe_split(name: str, siblings: Collection[str], in_class_name: bool = False) -> bool:
    """Whether a folder beside class folders is probably held back for testing.

    With `in_class_name`, it is one if its further words are the name of a sibling: "cat_test" beside "cat".
    """
    split, rest = _parsed(name)
    if split in (None, "train"):
        return False
    if not rest:
        return not _is_opposite(name, siblings) and name.casefold() not in _CLASS_LIKE
    return in_class_name and any(_parsed(sibling)[1] == rest for sibling in siblings if sibling != name)


def without_copy_mark(name: str) -> str:
    """A name without what a file manager adds to a copy: "cat" for "cat (1)", "cat - Copy" and "cat copy 2"."""
    return _COPY.sub("", name)


_FILLER = frozenset(
    ("set", "sets", "data", "dataset", "split", "folder", "images", "image", "imgs", "img", "photos", "pics")
)
_CLASS_LIKE = frozenset(("valid", "development", "evaluation"))
"""Words that are at least as often a class as a split when they are alone beside other classes."""
_COPY = re.compile(r"(\s*\(\d+\)|[\s_-]+(copy|copie|kopie|copia)(\s*\(?\d+\)?)?)$", re.IGNORECASE)
_WORDS = re.compile(r"[^\W\d_]+")
_HUMP = re.compile(r"(?<=[a-z])(?=[A-Z])")
_COMPOUND = re.compile(r"(train|training|test|testing|val|valid|validation|eval|dev)(set|data|dataset|images|imgs)")


@lru_cache(maxsize=4096)
def _parsed(name: str) -> tuple[Optional[str], tuple[str, ...]]:
    """The split in a name, or None, and the further words; digits, fillers and copy marks are left out."""
    plain = _HUMP.sub(" ", unicodedata.normalize("NFKC", without_copy_mark(name)))
    words = [word for found in _WORDS.findall(plain.casefold()) for word in _uncompounded(found)]
    splits = {SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS}
    if len(splits) != 1:
        return None, tuple(word for word in words if word not in _FILLER) or tuple(words)
    return splits.pop(), tuple(word for word in words if word not in SPLIT_WORDS and word not in _FILLER)


def _uncompounded(word: str) -> list[str]:
    match = _COMPOUND.fullmatch(word)
    return list(match.groups()) if match else [word]


def _is_opposite(name: str, siblings: Collection[str]) -> bool:
    return any(sibling.casefold() == "in" + name.casefold() for sibling in siblings)
