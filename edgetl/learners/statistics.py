"""Hides the exact integer arithmetic behind all that was taught; solvers read it, the Learner writes it."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import IntegrityError, LearningError

LARGEST = 1 << 26
"""The largest magnitude a number of an embedding may have."""

Labels = Union[str, Sequence[str]]


class Statistics:
    """Per class the count and the sum, for all the Gram matrix, of integer embeddings.

    Every operation is exact, so order does not matter and undoing leaves the bits as if nothing had been;
    an operation that fails changes nothing. A class without embeddings does not exist.
    Not thread-safe.

    >>> taught = Statistics()
    >>> taught.add(np.array([[3, 4], [0, 5]], dtype=np.int16), ["apple", "pear"])
    >>> taught.add(np.array([4, 3], dtype=np.int16), "apple")
    >>> taught.labels, taught.counts.tolist(), taught.gram.tolist()
    (('apple', 'pear'), [2, 1], [[25, 24], [24, 50]])
    >>> taught.remove(np.array([4, 3], dtype=np.int16), "apple")
    >>> taught.sums.tolist()
    [[3, 4], [0, 5]]
    """

    def __init__(self, dimension: Optional[int] = None) -> None:
        if dimension is not None and not 0 < dimension <= _MOST_DIMENSIONS:
            raise LearningError(f"dimension is {dimension}; give 1 to {_MOST_DIMENSIONS}")
        self._dimension = None if dimension is None else int(dimension)
        self._counts: dict[str, int] = {}
        self._sums: dict[str, NDArray[np.int64]] = {}
        self._folded: Optional[NDArray[np.int64]] = None
        self._pending: list[tuple[int, NDArray[Any]]] = []
        self._squares = np.zeros(dimension or 1, dtype=np.int64)

    @property
    def dimension(self) -> Optional[int]:
        """Numbers in an embedding; None until the first one."""
        return self._dimension

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes in the order of their slots: first taught, first."""
        return tuple(self._counts)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(K,) int64: embeddings in each class."""
        return np.array(list(self._counts.values()), dtype=np.int64)

    @property
    def sums(self) -> NDArray[np.int64]:
        """(K, d) int64: the sum of each class's embeddings."""
        rows = list(self._sums.values())
        return np.stack(rows) if rows else np.zeros((0, self._dimension or 0), dtype=np.int64)

    @property
    def gram(self) -> NDArray[np.int64]:
        """(d, d) int64, read-only: the sum of the outer products of all embeddings."""
        self._fold()
        view = self._gram().view()
        view.flags.writeable = False
        return view

    @property
    def total(self) -> int:
        """Embeddings in all classes."""
        return sum(self._counts.values())

    def add(self, embedding: ArrayLike, label: Labels) -> None:
        """Take in one embedding (d,) with its label, or n of them (n, d) with n labels (or one for all).

        Raises:
            LearningError: floats, another dimension, or labels that do not fit.
        """
        rows, labels = self._checked(embedding, label)
        self._reserve(_square_sum_bound(rows))
        self._dimension = rows.shape[1]
        self._squares = self._squares + _squares_of(rows)
        for name, members in _by_label(rows, labels):
            self._counts[name] = self._counts.get(name, 0) + len(members)
            self._sums[name] = self._sums.get(name, 0) + members.sum(axis=0, dtype=np.int64)
        self._postpone(+1, rows)

    def remove(self, embedding: ArrayLike, label: Labels) -> None:
        """Undo an `add` of the same embeddings under the same labels, in any order.

        Raises:
            LearningError: the class is unknown or holds fewer embeddings, or no embeddings have the sums and squares
                that would be left (something was never added). That is certain to be noticed only of the last ones:
                the more is held, the more could have been.
        """
        rows, labels = self._checked(embedding, label)
        left = {}
        for name, members in _by_label(rows, labels):
            total = self._sums[name] - members.sum(axis=0, dtype=np.int64) if name in self._sums else None
            left[name] = (self._counts.get(name, 0) - len(members), total)
        squares = self._squares - _squares_of(rows)
        self._check_remains(left, squares)
        if len(rows) == self.total:
            _check_emptied(self.gram, _gram_of(rows))
        self._keep(left, squares)
        self._postpone(-1, rows)

    def merge(self, other: Statistics) -> None:
        """Take in everything another one holds, as if it had been added here."""
        self._match(other.dimension)
        self._reserve(int(other._squares.max()))
        self._dimension = self._dimension or other.dimension
        self._squares = self._squares + other._squares
        for name, count in other._counts.items():
            self._counts[name] = self._counts.get(name, 0) + count
            self._sums[name] = self._sums.get(name, 0) + other._sums[name]
        if other.total:
            self._gram()[...] += other.gram

    def subtract(self, other: Statistics) -> None:
        """Undo a `merge`.

        Raises:
            LearningError: the other holds something that this one does not.
        """
        self._match(other.dimension)
        left = {
            name: (self._counts.get(name, 0) - count, self._sums.get(name, 0) - other._sums[name])
            for name, count in other._counts.items()
        }
        squares = self._squares - other._squares
        self._check_remains(left, squares)
        if not other.total:
            return
        if other.total == self.total:
            _check_emptied(self.gram, other.gram)
        self._keep(left, squares)
        self._gram()[...] -= other.gram

    def rename(self, old: str, new: str) -> None:
        """Give a class another name; it keeps its slot.

        Raises:
            LearningError: there is no such class, or the new name is taken.
        """
        if old not in self._counts:
            raise LearningError(f"there is no class '{old}'; choose {_listing(self.labels)}")
        if new != old and new in self._counts:
            raise LearningError(f"there already is a class '{new}'; merge the two by correcting its pictures")
        _check_label(new)
        self._counts = {new if name == old else name: count for name, count in self._counts.items()}
        self._sums = {new if name == old else name: row for name, row in self._sums.items()}

    def copy(self) -> Statistics:
        """Return an independent copy."""
        twin = Statistics(self._dimension)
        twin.merge(self)
        return twin

    def __eq__(self, other: object) -> bool:
        """Exactly equal in every count, sum and product; the order of the classes does not matter."""
        if not isinstance(other, Statistics):
            return NotImplemented
        if self._counts != other._counts:
            return False
        if not self._counts:
            return True
        return (
            self._dimension == other._dimension
            and all(np.array_equal(row, other._sums[name]) for name, row in self._sums.items())
            and np.array_equal(self.gram, other.gram)
        )

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"Statistics({self.total} embeddings of {self._dimension}, {len(self._counts)} classes)"

    def to_bytes(self) -> bytes:
        """Serialise: a header, the sums and the Gram matrix's triangle, in the narrowest integers that do."""
        triangle = self.gram[np.tril_indices(self._dimension or 0)]
        sums = self.sums
        widths = {"sums": _narrowest(sums), "gram": _narrowest(triangle)}
        header = {
            "dimension": self._dimension,
            "labels": list(self._counts),
            "counts": list(self._counts.values()),
            **widths,
        }
        text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
        return b"".join(
            (
                _MAGIC,
                struct.pack("<HI", _VERSION, len(text)),
                text,
                sums.astype(widths["sums"]).tobytes(),
                triangle.astype(widths["gram"]).tobytes(),
            )
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Statistics:
        """Read what `to_bytes` wrote.

        Raises:
            IntegrityError: anything else.
        """
        try:
            return cls._parse(memoryview(data))
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
            raise IntegrityError(f"these are not statistics that edgetl can read: {error}") from error

    @classmethod
    def _parse(cls, data: memoryview) -> Statistics:
        start = len(_MAGIC) + struct.calcsize("<HI")
        if bytes(data[: len(_MAGIC)]) != _MAGIC:
            raise ValueError("they do not begin as they should")
        version, size = struct.unpack("<HI", data[len(_MAGIC) : start])
        if version != _VERSION:
            raise ValueError(f"they have version {version}, this edgetl reads {_VERSION}")
        header = json.loads(bytes(data[start : start + size]).decode())
        dimension, labels, counts = header["dimension"], header["labels"], header["counts"]
        _check_header(dimension, labels, counts)
        width = dimension or 0
        shapes = {"sums": (len(labels), width), "gram": (width * (width + 1) // 2,)}
        numbers = list(_read_integers(data[start + size :], shapes, header))
        return cls._restored(dimension, dict(zip(labels, counts)), *numbers)

    @classmethod
    def _restored(
        cls,
        dimension: Optional[int],
        counts: dict[str, int],
        sums: NDArray[np.int64],
        triangle: NDArray[np.int64],
    ) -> Statistics:
        statistics = cls(dimension)
        statistics._counts = counts
        statistics._sums = {name: row.copy() for name, row in zip(counts, sums)}
        if dimension is not None:
            gram = statistics._gram()
            gram[np.tril_indices(dimension)] = triangle
            statistics._squares = gram.diagonal().copy()
            classes = ((count, statistics._sums[name]) for name, count in counts.items())
            if not _can_be(classes, statistics._squares) or (not counts and triangle.any()):
                raise ValueError("their Gram matrix cannot come from embeddings")
            gram += np.tril(gram, -1).T
        return statistics

    def _checked(self, embedding: ArrayLike, label: Labels) -> tuple[NDArray[Any], list[str]]:
        try:
            rows = np.asarray(embedding)
        except ValueError as error:
            raise LearningError(f"these are no embeddings, (d,) or (n, d): {error}") from error
        if rows.dtype.kind not in "iu":
            raise LearningError(f"embeddings are {rows.dtype}; statistics take integers: call to_grid first")
        if rows.ndim not in (1, 2) or rows.shape[-1] == 0:
            raise LearningError(f"embeddings have shape {rows.shape}; give (d,) or (n, d)")
        rows = np.atleast_2d(rows)
        if not isinstance(label, str) and not hasattr(label, "__iter__"):
            _check_label(label)
        labels = [label] * len(rows) if isinstance(label, str) else list(label)
        if len(labels) != len(rows):
            raise LearningError(f"{len(rows)} embeddings came with {len(labels)} labels; give one for each")
        for name in set(labels):
            _check_label(name)
        if _magnitude(rows) > LARGEST:
            raise LearningError(f"embeddings reach {_magnitude(rows)}; give integers up to {LARGEST}")
        self._match(rows.shape[1])
        return rows, labels

    def _match(self, dimension: Optional[int]) -> None:
        if dimension is not None and dimension > _MOST_DIMENSIONS:
            raise LearningError(f"embeddings have {dimension} numbers; give 1 to {_MOST_DIMENSIONS}")
        if None not in (dimension, self._dimension) and dimension != self._dimension:
            held = self._dimension
            raise LearningError(f"embeddings have {dimension} numbers; these statistics hold {held}")

    def _check_remains(self, left: dict[str, tuple[int, Any]], squares: NDArray[np.int64]) -> None:
        for name, (count, total) in left.items():
            if name not in self._counts:
                known = _listing(self.labels)
                raise LearningError(f"cannot remove from '{name}', which was never taught; choose {known}")
            if count < 0:
                held = self._counts[name]
                raise LearningError(f"cannot remove {held - count} embeddings from class '{name}' of {held}")
            if count == 0 and total.any():
                raise LearningError(f"cannot remove from class '{name}' what was never added to it")
        rest = [(count, self._sums[name]) for name, count in self._counts.items() if name not in left]
        if not _can_be([*rest, *left.values()], squares):
            raise LearningError("cannot remove what was never added: no embeddings have the sums that would be left")

    def _keep(self, left: dict[str, tuple[int, Any]], squares: NDArray[np.int64]) -> None:
        self._squares = squares
        for name, (count, total) in left.items():
            if count:
                self._counts[name], self._sums[name] = count, total
            else:
                del self._counts[name], self._sums[name]

    def _reserve(self, growth: int) -> None:
        """Refuse what could take an int64 over its edge.

        A Gram matrix is positive semidefinite, so no entry is larger than the largest on its diagonal;
        and over integers no sum is larger than the sum of squares. Postponed additions that are removed again may
        pass the edge meanwhile: int64 wraps around there and back.
        """
        if int(self._squares.max()) + growth >= _INT64_END:
            held = self.total
            raise LearningError(f"64-bit sums hold no more than these {held} embeddings; start new statistics")

    def _gram(self) -> NDArray[np.int64]:
        if self._folded is None:
            width = self._dimension or 0
            self._folded = np.zeros((width, width), dtype=np.int64)
        return self._folded

    def _postpone(self, sign: int, rows: NDArray[Any]) -> None:
        """One matrix product of many rows costs little more than that of one: gather them first."""
        self._pending.append((sign, np.array(rows)))
        if sum(len(waiting) for _, waiting in self._pending) >= _FOLD_AT:
            self._fold()

    def _fold(self) -> None:
        pending, self._pending = self._pending, []
        for sign in (+1, -1):
            rows = [waiting for direction, waiting in pending if direction == sign]
            if rows:
                _accumulate(self._gram(), sign, np.concatenate(rows))


_MAGIC = b"edgetl statistics\n"
_VERSION = 1
_MOST_DIMENSIONS = 1 << 13
_INT64_END = 1 << 63
_FLOAT64_EXACT = 1 << 53
_ROUNDING = 1e-9
_FOLD_AT = 64
_LARGEST_BLOCK = 2048
_STRIP = 128
"""Rows of the Gram matrix that are turned into integers and added at once, while they are in the processor's cache."""
_WIDTHS = ("<i1", "<i2", "<i4", "<i8")


def _magnitude(rows: NDArray[Any]) -> int:
    return max(int(rows.max()), -int(rows.min())) if rows.size else 0


def _square_sum_bound(rows: NDArray[Any]) -> int:
    return len(rows) * _magnitude(rows) ** 2


def _squares_of(rows: NDArray[Any]) -> NDArray[np.int64]:
    """(d,) the diagonal of their Gram matrix."""
    return np.einsum("ij,ij->j", rows, rows, dtype=np.int64, casting="unsafe")


def _can_be(classes: Iterable[tuple[int, NDArray[np.int64]]], squares: NDArray[np.int64]) -> bool:
    """Whether there can be embeddings with these counts and sums (d,) of their classes, and these squares (d,) in all.

    The squares of a class are at least those of its mean times their number (Cauchy and Schwarz).
    """
    least = np.zeros(len(squares))
    for count, total in classes:
        if count:
            least += total.astype(np.float64) ** 2 / count
    return bool((least <= squares * (1 + _ROUNDING)).all())


def _by_label(rows: NDArray[Any], labels: list[str]) -> Iterator[tuple[str, NDArray[Any]]]:
    names = list(dict.fromkeys(labels))
    if len(names) == 1:
        yield names[0], rows
        return
    slots = {name: slot for slot, name in enumerate(names)}
    slot_of = np.array([slots[label] for label in labels])
    for name, slot in slots.items():
        yield name, rows[slot_of == slot]


def _accumulate(gram: NDArray[np.int64], sign: int, rows: NDArray[Any]) -> None:
    """Add sign * rows' rows to the Gram matrix, exactly, at the speed of a floating-point matrix product.

    With m the largest magnitude, every product is at most m**2 and every partial sum over b rows at most
    b * m**2. While that is below 2**53 each of them is an integer that float64 holds exactly, whatever the
    order of summation. LARGEST = 2**26 leaves room for one row, at least.
    """
    safe = (_FLOAT64_EXACT - 1) // max(_magnitude(rows) ** 2, 1)
    step = min(safe, _LARGEST_BLOCK)
    for start in range(0, len(rows), step):
        block = rows[start : start + step].astype(np.float64)
        product = block.T @ block
        for strip in range(0, len(gram), _STRIP):
            gram[strip : strip + _STRIP] += (sign * product[strip : strip + _STRIP]).astype(np.int64)


def _gram_of(rows: NDArray[Any]) -> NDArray[np.int64]:
    gram = np.zeros((rows.shape[1], rows.shape[1]), dtype=np.int64)
    _accumulate(gram, +1, rows)
    return gram


def _check_emptied(held: NDArray[np.int64], removed: NDArray[np.int64]) -> None:
    if not np.array_equal(held, removed):
        raise LearningError("cannot remove the last embeddings: these are not the ones that were added")


def _check_label(label: object) -> None:
    if not isinstance(label, str) or not label:
        raise LearningError(f"a label is {label!r}; give a text that is not empty")


def _listing(labels: Sequence[str]) -> str:
    return ", ".join(labels) if labels else "nothing: no class was taught yet"


def _narrowest(numbers: NDArray[np.int64]) -> str:
    for width in _WIDTHS:
        limits = np.iinfo(width)
        if not numbers.size or (limits.min <= numbers.min() and numbers.max() <= limits.max):
            return width
    raise AssertionError("int64 holds every int64")


def _check_header(dimension: Any, labels: Any, counts: Any) -> None:
    if dimension is not None and (type(dimension) is not int or not 0 < dimension <= _MOST_DIMENSIONS):
        raise ValueError(f"the dimension is {dimension!r}")
    if not isinstance(labels, list) or not all(isinstance(name, str) and name for name in labels):
        raise ValueError("a label is not a text")
    if len(set(labels)) != len(labels):
        raise ValueError("a label is there twice")
    if not isinstance(counts, list) or len(counts) != len(labels) or (labels and dimension is None):
        raise ValueError("labels and counts do not fit")
    if not all(type(count) is int and 0 < count < _INT64_END for count in counts):
        raise ValueError("a count is not a positive integer")


def _read_integers(
    data: memoryview, shapes: dict[str, tuple[int, ...]], widths: dict[str, Any]
) -> Iterator[NDArray[np.int64]]:
    start = 0
    for name, shape in shapes.items():
        if widths[name] not in _WIDTHS:
            raise ValueError(f"the width of the {name} is {widths[name]!r}")
        size = int(np.prod(shape)) * np.dtype(widths[name]).itemsize
        if len(data) - start < size:
            raise ValueError("they are cut short")
        part = data[start : start + size]
        yield np.frombuffer(part, dtype=widths[name]).reshape(shape).astype(np.int64)
        start += size
    if start != len(data):
        raise ValueError("more follows than they should hold")
