"""Reads the Markdown pages of the documentation: links, headings, code blocks, and the commands in them."""

from __future__ import annotations

import re
import shlex
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Optional

from tests.conftest import REPOSITORY

DOCS = REPOSITORY / "docs"

FOLDERS = ("docs", "examples", "docker")


@dataclass(frozen=True)
class Block:
    """A code block, and the comment on the line above it, such as "run" or "file: photos.csv"."""

    language: str
    text: str
    marker: Optional[str]


class Command(NamedTuple):
    """A command in a page; `is_whole` says that it is meant to be typed as it stands."""

    words: list[str]
    is_whole: bool


def pages() -> list[Path]:
    """Every Markdown page that a user reads."""
    below = [path for folder in FOLDERS for path in sorted((REPOSITORY / folder).rglob("*.md"))]
    return [*sorted(REPOSITORY.glob("*.md")), *below]


def name_of(page: Path) -> str:
    """The path of a page from the repository's root."""
    return page.relative_to(REPOSITORY).as_posix()


def blocks(page: Path) -> Iterator[Block]:
    """The fenced and the indented code blocks of a page."""
    text = page.read_text(encoding="utf-8")
    for marker, language, body in _FENCED.findall(text):
        yield Block(language, body, marker or None)
    for body in _INDENTED.findall(_FENCED.sub("", text)):
        yield Block("", "\n".join(line[4:] for line in body.splitlines()) + "\n", None)


def prose(page: Path) -> str:
    """A page without its code blocks."""
    return _INDENTED.sub("\n", _FENCED.sub("", page.read_text(encoding="utf-8")))


def inline_code(page: Path) -> list[str]:
    """What stands between backquotes, in one line each."""
    return [" ".join(code.split()) for code in _INLINE.findall(prose(page))]


def links(page: Path) -> list[str]:
    """The targets of links and images that are not on another host."""
    targets = _LINK.findall(_INLINE.sub("", prose(page)))
    return [target for target in targets if not re.match(r"[a-z]+:", target)]


def anchors(page: Path) -> set[str]:
    """The names that headings can be linked by."""
    headings = re.findall(r"^#+ +(.+?)(?: +\{.*\})?$", _FENCED.sub("", page.read_text(encoding="utf-8")), re.M)
    return {_slug(heading) for heading in headings}


def commands(page: Path) -> Iterator[Command]:
    """Every shell command, from blocks and from inline code."""
    for block in blocks(page):
        if block.language in ("", "sh", "bash"):
            for line in block.text.replace("\\\n", " ").splitlines():
                for words in _split(line):
                    yield Command(words, is_whole=True)
    for code in inline_code(page):
        for words in _split(code):
            yield Command(words, is_whole=False)


def table(page: Path, heading: str) -> dict[str, str]:
    """The tables below a heading: first column, by each of its code spans, to the second."""
    text = page.read_text(encoding="utf-8")
    start = re.search(rf"^#+ {re.escape(heading)}$", text, re.M)
    assert start, f"{name_of(page)} has no heading '{heading}'"
    section = re.split(r"^#+ ", text[start.end() :], maxsplit=1, flags=re.M)[0]
    rows = (line.strip("|").split("|") for line in section.splitlines() if line.startswith("| `"))
    return {key: cells[1].strip() for cells in rows for key in _INLINE.findall(cells[0])}


_FENCED = re.compile(r"(?:^<!-- (.+?) -->\n)?^```(\w*)[^\n]*\n(.*?)^```$", re.M | re.S)
_INDENTED = re.compile(r"(?<=\n\n)((?: {4}[^\n]*\n)+)")
_INLINE = re.compile(r"`([^`]+)`")
_LINK = re.compile(r"\]\(\s*([^)\s]+)\s*\)")
_SUBSTITUTION = re.compile(r"\$\([^)]*\)")


def _split(line: str) -> Iterator[list[str]]:
    """The simple commands of a shell line, without assignments before them."""
    try:
        lexer = shlex.shlex(_SUBSTITUTION.sub("SUBSTITUTION", line), posix=True, punctuation_chars="|&;<>")
        lexer.whitespace_split = True
        words = list(lexer)
    except ValueError:  # prose in backquotes
        return
    command: list[str] = []
    for word in [*words, ";"]:
        if word and set(word) <= set("|&;<>"):
            if command:
                yield command
            command = []
        elif command or not re.fullmatch(r"[A-Z_]+=.*", word):
            command.append(word)


def _slug(heading: str) -> str:
    """As Python-Markdown makes it, which for these headings is what GitHub makes."""
    plain = re.sub(r"[`*]", "", heading)
    plain = unicodedata.normalize("NFKD", plain).encode("ascii", "ignore").decode()
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", plain).strip().lower())
