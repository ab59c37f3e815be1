"""Makes text fit for the place that it goes to: a terminal, JSON, SQLite, HTML, a process, or a systemd unit.

Names of files, labels of bundles and answers of devices come from outside and may contain anything: control characters
and escape sequences, bytes that are not UTF-8 (lone surrogates in Python, PEP 383), markup, or letters that the
terminal's encoding lacks. Text for rich is made by `rich.text.Text(for_terminal(text))`: a plain string would be read
as markup.
"""

from __future__ import annotations

import codecs
import html
import json
import math
import os
import re
import sys
import unicodedata
from typing import Any, Optional, TextIO, Tuple, Union

from edgetl.errors import OptionError

ENCODING_ERRORS = "edgetl.visible"
"""The name of a codec error handler that writes what an encoding lacks as ASCII: "−" as "-", "日" as "\\u65e5"."""


def for_terminal(text: object, encoding: Optional[str] = None) -> str:
    """One line for people: whatever could move the cursor, hide or reorder text becomes a visible escape.

    A byte of a file name that is not UTF-8 is shown as "\\xe9", a line break as "\\n".

    Args:
        text: what to show, as by `str`.
        encoding: that of the terminal; by default that of standard output. Characters that it lacks are escaped too.
    """
    visible = _visible(str(text))
    name = encoding or getattr(sys.stdout, "encoding", None) or "utf-8"
    return visible.encode(name, ENCODING_ERRORS).decode(name)


def never_fail(stream: Optional[TextIO]) -> None:
    """Let a stream escape the characters that its encoding lacks, instead of raising UnicodeEncodeError."""
    if stream is not None and hasattr(stream, "reconfigure"):
        stream.reconfigure(errors=ENCODING_ERRORS)


def for_json(value: object, encoding: Optional[str] = "utf-8", indent: Optional[int] = None) -> str:
    """JSON that is valid whatever the strings contain, on one line unless `indent` is set.

    A lone surrogate, i.e. a byte of a file name that is not UTF-8, is written as "\\udce9": `json.loads` returns the
    same string, which `os.fsencode` turns into the name's bytes. Control characters are escaped. Only ASCII is written
    for an encoding other than UTF-8. Numbers that JSON cannot express (NaN, infinities) become null.
    """
    is_unicode = codecs.lookup(encoding or "utf-8").name.startswith("utf")
    text = json.dumps(_finite(value), ensure_ascii=not is_unicode, allow_nan=False, indent=indent)
    if text.isascii() and "\x7f" not in text:
        return text
    return "".join(f"{json.dumps(c)[1:-1]}" if _is_hidden(c) and c != "\n" else c for c in text)


def for_sqlite(text: Optional[str]) -> Union[str, bytes, None]:
    """The value to store; `from_sqlite` returns the text. What SQLite cannot store as text is stored as bytes."""
    if text is None or _is_encodable(text):
        return text
    return text.encode("utf-8", "surrogatepass")


def from_sqlite(value: Union[str, bytes, None]) -> Optional[str]:
    """The text that `for_sqlite` prepared."""
    return value.decode("utf-8", "surrogatepass") if isinstance(value, bytes) else value


def for_html(text: object) -> str:
    """Text for the content and the attributes of HTML elements; what is hidden becomes visible, markup is escaped."""
    return html.escape(_visible(str(text), keep="\n\t"))


def for_process(text: str) -> bytes:
    """Text as an argument or an environment variable of a process: the bytes of a file's name, or UTF-8.

    A name is returned as the file system spells it, and a label that the locale cannot express as UTF-8.
    """
    try:
        return os.fsencode(text)
    except UnicodeEncodeError:
        return text.encode("utf-8", "backslashreplace")


def from_argument(text: str) -> str:
    """Text that a user typed: UTF-8 stays what it is even if the process runs in a locale without it, e.g. LC_ALL=C."""
    try:
        return text if _is_encodable(text) else os.fsencode(text).decode("utf-8")
    except UnicodeError:
        return text


def for_identifier(name: str) -> str:
    """A name for an object of another library, e.g. a layer: 1 to 100 ASCII letters, digits and underscores.

    Different names may give the same identifier.
    """
    return "n" + re.sub(r"\W", "_", name, flags=re.ASCII)[:99] if not _IDENTIFIER.fullmatch(name) else name


def for_systemd(word: str) -> str:
    """A word quoted for systemd.syntax(7), so that nothing in it is expanded as a specifier.

    Raises:
        OptionError: it contains line breaks, control characters, or bytes that are not UTF-8.
    """
    if any(_is_hidden(character) for character in word):
        raise OptionError(f"invalid word {word!r} in the service: remove line breaks and control characters")
    return '"' + word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%") + '"'


_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,99}", re.ASCII)
_JOINERS = "\u200c\u200d"
"""Zero-width characters that spelling needs: Persian and Indic words, and emoji."""
_HIDDEN = frozenset(["Cc", "Cf", "Cs", "Cn", "Zl", "Zp"])
"""General categories of characters that a terminal does not show, or that move what it shows."""
_ASCII = {
    "−": "-",
    "–": "-",
    "‑": "-",
    "…": "...",
    "→": "->",
    "≈": "~",
    "±": "+/-",
    "×": "x",
    "·": "-",
    "✓": "+",
    "█": "#",
    "°": " deg ",
    "\N{NO-BREAK SPACE}": " ",
    "\N{IDEOGRAPHIC SPACE}": " ",
}
"""What typography is replaced by if an encoding lacks it."""


def _visible(text: str, keep: str = "") -> str:
    if text.isprintable():
        return text
    return "".join(_escape(c) if _is_hidden(c) and c not in keep else c for c in text)


def _is_hidden(character: str) -> bool:
    return unicodedata.category(character) in _HIDDEN and character not in _JOINERS


def _escape(character: str) -> str:
    code = ord(character)
    if 0xDC80 <= code <= 0xDCFF:  # a byte that could not be decoded, see PEP 383
        return f"\\x{code - 0xDC00:02x}"
    return character.encode("unicode_escape").decode("ascii")


def _replace_unencodable(error: UnicodeError) -> Tuple[str, int]:
    assert isinstance(error, UnicodeEncodeError)
    missing = error.object[error.start : error.end]
    return "".join(_ASCII.get(character) or _escape(character) for character in missing), error.end


codecs.register_error(ENCODING_ERRORS, _replace_unencodable)


def _is_encodable(text: str) -> bool:
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(part) for key, part in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(part) for part in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
