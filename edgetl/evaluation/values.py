"""Figures, and the conversion of a report's dataclasses to and from JSON."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields, is_dataclass
from typing import Any, Optional, TypeVar, Union, cast, get_args, get_origin, get_type_hints

from edgetl.errors import BundleError

T = TypeVar("T")


@dataclass(frozen=True)
class Figure:
    """One number of a report, with its interval and how it was measured.

    `unit` is "share" (0..1), "points" (percentage points), "nats", "ms" or "bytes". `low`..`high` is the 95 %
    interval, if there is one. `how` is a sentence, and `estimate` is true if the number was not measured.
    """

    value: float
    unit: str
    how: str
    low: Optional[float] = None
    high: Optional[float] = None
    estimate: bool = False


def encode(value: Any) -> Any:
    """A tree of dataclasses, tuples and mappings as dicts, lists and plain values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: encode(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Mapping):
        return {str(key): encode(item) for key, item in value.items()}
    if isinstance(value, (tuple, list)):
        return [item if type(item) in _PLAIN else encode(item) for item in value]
    return value


# Checked without a call, because the confusion matrix of 2,000 classes has 4 million entries.
_PLAIN = frozenset((int, float, str, bool, type(None)))


def decode(kind: type[T], content: Any, where: str) -> T:
    """The dataclass `kind` from what `encode` returned; `where` names it in error messages.

    Raises:
        BundleError: a key is unknown or missing, or a value has the wrong type or is not finite.
    """
    return cast(T, _decode(kind, content, where))


def _decode(kind: Any, content: Any, where: str) -> Any:
    origin = get_origin(kind)
    if kind is Any:
        return content
    if origin is Union:
        inner = next(part for part in get_args(kind) if part is not type(None))
        return None if content is None else _decode(inner, content, where)
    if origin is tuple:
        return _decode_tuple(get_args(kind), _expect(list, content, where), where)
    if isinstance(origin, type) and issubclass(origin, Mapping):
        items = _expect(dict, content, where).items()
        return {key: _decode(get_args(kind)[1], item, f"{where}.{key}") for key, item in items}
    if is_dataclass(kind):
        return _decode_dataclass(kind, _expect(dict, content, where), where)
    return _decode_plain(kind, content, where)


def _decode_tuple(kinds: tuple[Any, ...], content: list[Any], where: str) -> tuple[Any, ...]:
    if kinds[-1] is Ellipsis:
        kinds = kinds[:1] * len(content)
    if len(kinds) != len(content):
        raise BundleError(f"{where} must have {len(kinds)} items, received {len(content)}")
    return tuple(_decode(kind, item, f"{where}[{i}]") for i, (kind, item) in enumerate(zip(kinds, content)))


def _decode_dataclass(kind: Any, content: dict[str, Any], where: str) -> Any:
    hints = get_type_hints(kind)
    names = {field.name for field in fields(kind)}
    for wrong, problem in (
        (content.keys() - names, "has the unknown"),
        (names - content.keys(), "is missing the"),
    ):
        if wrong:
            raise BundleError(f"{where} {problem} key '{min(wrong)}'; it was written by another version of edgetl")
    return kind(**{name: _decode(hints[name], content[name], f"{where}.{name}") for name in content})


def _decode_plain(kind: type, content: Any, where: str) -> Any:
    if kind is float and isinstance(content, int) and not isinstance(content, bool):
        content = float(content)
    if isinstance(_expect(kind, content, where), float) and not math.isfinite(content):
        raise BundleError(f"{where} must be a finite number, received {content}")
    return content


def _expect(kind: type, content: Any, where: str) -> Any:
    if not isinstance(content, kind) or (isinstance(content, bool) and kind is not bool):
        raise BundleError(f"{where} must be of type {kind.__name__}, received {str(content)[:60]!r}")
    return content
