"""Reads TOML files that users write: targets, settings, project files."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any, Dict

from edgetl.errors import OptionError

if sys.version_info >= (3, 11):
    import tomllib
else:  # pragma: no cover - Python 3.9 and 3.10 have no TOML parser
    import tomli as tomllib

SIZE_LIMIT_BYTES = 1 << 20


def read_toml(path: Path, what: str) -> Dict[str, Any]:
    """The content of a TOML file in UTF-8, with or without a byte order mark.

    Args:
        path: the file.
        what: what the file should be, for the error, e.g. "a target file".

    Raises:
        FileNotFoundError: there is no such file.
        OptionError: the file cannot be read, is larger than SIZE_LIMIT_BYTES, is nested too deeply or is not TOML.
    """
    try:
        if not path.is_file() and path.exists():
            raise OptionError(f"{path} is not {what}: it is not a regular file")
        if path.stat().st_size > SIZE_LIMIT_BYTES:
            raise OptionError(f"{path} is not {what}: it is larger than {SIZE_LIMIT_BYTES} bytes")
        return parse_toml(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise
    except OSError as error:
        raise OptionError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        reason = "it is nested too deeply" if isinstance(error, RecursionError) else str(error)
        raise OptionError(f"{path} is not {what}: {reason}; correct the file") from error


def parse_toml(text: str) -> Dict[str, Any]:
    """The content of a TOML text. Raises ValueError if it is not TOML, RecursionError if it is nested too deeply."""
    return tomllib.loads(text)
