"""Parses what edgetpu_compiler prints."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Optional

_ROW = re.compile(r"^(?P<op>[A-Za-z][\w:.\-]*)\s+(?P<count>\d{1,9})\s+(?P<status>\S.*)$")
_VERSION = re.compile(r"^Edge TPU Compiler version (\S+)")
_SIZE = re.compile(r"^(?P<what>O\w+-chip memory [^:]+): (?P<size>\d+(?:\.\d+)?)(?P<unit>\w+)$")
_UNKNOWN_VERSION = re.compile(r"Didn't find op for builtin opcode '\s*(?P<op>\w+)\s*' version '(?P<version>\d{1,9})'")
_UNITS = {"B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30}
_FAILURES = (
    "Invalid model:",
    "Model not quantized",
    "Model could not be parsed",
    "Op builtin_code out of range",
    "Compilation failed",
    "Compilation timeout",
    "Internal compiler error",
    "Attempting to use a delegate that only supports static-sized tensors",
    "Could not read file",
)


@dataclass(frozen=True)
class LogRow:
    """One line of the compiler's table: `count` operators named `op` ended with `status`."""

    op: str
    count: int
    status: str

    @property
    def mapped(self) -> bool:
        """Whether they run on the Edge TPU."""
        return self.status == "Mapped to Edge TPU"


@dataclass(frozen=True)
class CompilerLog:
    """The compiler's version, its table, its memory plan (bytes, rounded by the compiler) and its error lines.

    `unknown_versions` are the operators, with their versions, for which it refused the whole model.
    """

    version: str
    rows: tuple[LogRow, ...]
    cached_bytes: Optional[int]
    remaining_bytes: Optional[int]
    streamed_bytes: Optional[int]
    failures: tuple[str, ...]
    unknown_versions: tuple[tuple[str, int], ...] = ()


def parse_log(text: str) -> CompilerLog:
    """Parse a log; unknown lines are ignored."""
    lines = [line.strip() for line in text.splitlines()]
    version = next((found.group(1) for found in map(_VERSION.match, lines) if found), "unknown")
    memory = {found.group("what"): _bytes(found) for found in map(_SIZE.match, lines) if found}
    return CompilerLog(
        version=version,
        rows=tuple(LogRow(row["op"], int(row["count"]), row["status"]) for row in map(_ROW.match, lines) if row),
        cached_bytes=memory.get("On-chip memory used for caching model parameters"),
        remaining_bytes=memory.get("On-chip memory remaining for caching model parameters"),
        streamed_bytes=memory.get("Off-chip memory used for streaming uncached model parameters"),
        failures=tuple(line for line in lines if any(failure in line for failure in _FAILURES)),
        unknown_versions=tuple(
            (found["op"], int(found["version"])) for found in map(_UNKNOWN_VERSION.search, lines) if found
        ),
    )


def _bytes(found: re.Match[str]) -> int:
    return round(float(found["size"]) * _UNITS.get(found["unit"], 1))
