"""Reports class folders whose names are not UTF-8, as ZIP files from Windows make them, and how to rename them."""

from __future__ import annotations

import os
import unicodedata
from collections import Counter
from collections.abc import Collection, Sequence
from pathlib import Path
from typing import Optional

from edgetl.data.findings import Finding
from edgetl.data.listing.photo import normalized_label
from edgetl.errors import DataError


def check_encoding(root: Path, folders: Collection[str]) -> list[Finding]:
    """A finding if the names of class folders are not UTF-8.

    Raises:
        DataError: such a name is written like another folder's, so that two classes would become one.
    """
    undecoded = sorted(name for name in folders if not _is_utf8(name))
    if not undecoded:
        return []
    labels = Counter(normalized_label(name) for name in folders)
    for name in undecoded:
        if labels[normalized_label(name)] > 1:
            raise DataError(f"{root} has two class folders that read {normalized_label(name)!r}; rename one of them")
    shown = ", ".join(f"'{normalized_label(name)}'" for name in undecoded[:3])
    detail = f"names of {len(undecoded)} class folders are not UTF-8 ({shown}); rename the folders{_advice(undecoded)}"
    return [Finding("class name not UTF-8", (), detail)]


_ENCODINGS = ("cp1251", "cp866", "shift_jis", "gbk", "euc_kr", "big5", "cp1253", "cp1252")
"""Those of Windows and its ZIP programs that are most in use."""
_READINGS = 2
"""Encodings that are suggested."""


def _is_utf8(name: str) -> bool:
    try:
        os.fsencode(name).decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def _advice(names: Sequence[str]) -> str:
    raw = [os.fsencode(name) for name in names]
    readings = [(encoding, words) for encoding in _ENCODINGS if (words := _decoded(raw, encoding))][:_READINGS]
    if not readings:
        return ""
    read = " or ".join(f"'{words[0]}' if they are {encoding}" for encoding, words in readings)
    return f": the first reads {read} (convmv -r --notest -f {readings[0][0]} -t utf-8 FOLDER)"


def _decoded(names: Sequence[bytes], encoding: str) -> Optional[list[str]]:
    """The names in an encoding; None if they are not words in it."""
    try:
        words = [name.decode(encoding) for name in names]
    except UnicodeDecodeError:
        return None
    return words if all(map(_is_word, words)) else None


def _is_word(text: str) -> bool:
    """Whether a text has only letters, digits and separators, and each word has one script and usual capitals."""
    words = "".join(character if character.isalpha() else " " for character in text).split()
    is_usual = all(word in (word.lower(), word.upper(), word.capitalize()) and _scripts(word) == 1 for word in words)
    return is_usual and all(character.isalnum() or character in " _-.()" for character in text)


def _scripts(word: str) -> int:
    """How many scripts the letters of a word are from; Japanese writes several as one."""
    names = {unicodedata.name(letter, "?").split()[0] for letter in word}
    return len({"CJK" if name in ("HIRAGANA", "KATAKANA") else name for name in names})
