"""Recognises labels that look the same to people although they are different classes."""

from __future__ import annotations

import unicodedata
from collections import defaultdict
from typing import Collection, Dict, Iterable, List, Optional


def look_alike_key(label: str) -> str:
    """A key that is the same for labels that look the same.

    It ignores case, width (full-width letters), Unicode form, characters that cannot be seen (zero-width spaces,
    variation selectors), kinds of space, dash and quotation mark, and whether a letter is Latin or a Cyrillic or
    Greek one of the same shape (after Unicode Technical Standard 39, section 4).

    >>> look_alike_key("Ma\\u200bple") == look_alike_key("m\\u0430ple") == "maple"
    True
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    seen = "".join(character for character in folded if not _is_invisible(character))
    return " ".join(seen.translate(_SAME_SHAPE).split())


def look_alike(label: str, labels: Collection[str]) -> Optional[str]:
    """The first of these labels that looks like another one, `label`; None if `label` itself is among them."""
    if label in labels:
        return None
    key = look_alike_key(label)
    return next((other for other in labels if look_alike_key(other) == key), None)


def look_alikes(labels: Iterable[str]) -> List[List[str]]:
    """The groups of labels that look the same, sorted; labels that look like no other are left out."""
    groups: Dict[str, List[str]] = defaultdict(list)
    for label in sorted(labels):
        groups[look_alike_key(label)].append(label)
    return [group for group in groups.values() if len(group) > 1]


def distinguishable(label: str) -> str:
    """A label in quotes, with its code points if it passes for ASCII or has characters that cannot be seen."""
    escaped = ascii(label)
    deceives = look_alike_key(label).isascii() or not label.isprintable()
    return f"'{label}'" if label.isascii() or not deceives else f"{escaped} ('{label}')"


_INVISIBLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0")
_CYRILLIC = ("авекмнорстухіјѕһԁԛԝ", "abekmhopctyxijshdqw")
_GREEK = ("αβεζηικμνορτυχϲϳ", "abezhikmvoptyxcj")
_LATIN = ("ıɑɡ", "iag")
_PUNCTUATION = ("‐‑‒–—―−﹣’‘ʼ`´“”", "--------'''''\"\"")
_SAME_SHAPE = {ord(one): other for table in (_CYRILLIC, _GREEK, _LATIN, _PUNCTUATION) for one, other in zip(*table)}


def _is_invisible(character: str) -> bool:
    is_selector = "\ufe00" <= character <= "\ufe0f" or "\U000e0100" <= character <= "\U000e01ef"
    return is_selector or character in _INVISIBLE or unicodedata.category(character) in ("Cf", "Cc")
