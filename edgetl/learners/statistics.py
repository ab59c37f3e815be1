"""Exact sufficient statistics of labelled integer embeddings: counts, sums and the Gram matrix."""

from __future__ import annotations

import json
import struct
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, Optional, Union

import numpy as np
from numpy.typing import ArrayLike, NDArray

from edgetl.errors import IntegrityError, LearningError

LARGEST = 1 << 26
"""The largest magnitude of a number in an embedding."""

Labels = Union[str, Sequence[str]]
"""One label for all embeddings, or one for each."""


class Statistics:
    """The count and the sum of the embeddings of each class, and the Gram matrix of all of them.

    Every operation is exact: the order does not matter, and undoing an operation restores the previous bits. An
    operation that fails changes nothing. A class without embeddings does not exist. Not thread-safe.

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
        if dimension is not None and not 0 < dimension <= _MAX_DIMENSION:
            raise LearningError(f"dimension is {dimension}; expected 1 to {_MAX_DIMENSION}")
        self._dimension = None if dimension is None else int(dimension)
        self._counts: dict[str, int] = {}
        self._sums: dict[str, NDArray[np.int64]] = {}
        self._applied_gram: Optional[NDArray[np.int64]] = None
        self._pending: list[tuple[int, NDArray[Any]]] = []
        self._squares = np.zeros(dimension or 1, dtype=np.int64)

    @property
    def dimension(self) -> Optional[int]:
        """Numbers in an embedding; None until the first is added."""
        return self._dimension

    @property
    def labels(self) -> tuple[str, ...]:
        """The classes, in the order in which they were first added."""
        return tuple(self._counts)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(K,) int64: the number of embeddings in each class."""
        return np.array(list(self._counts.values()), dtype=np.int64)

    @property
    def sums(self) -> NDArray[np.int64]:
        """(K, d) int64: the sum of each class's embeddings."""
        rows = list(self._sums.values())
        return np.stack(rows) if rows else np.zeros((0, self._dimension or 0), dtype=np.int64)

    @property
    def gram(self) -> NDArray[np.int64]:
        """(d, d) int64, read-only: the sum of the outer products of all embeddings."""
        self._apply_pending()
        view = self._gram_matrix().view()
        view.flags.writeable = False
        return view

    @property
    def total(self) -> int:
        """The number of embeddings in all classes."""
        return sum(self._counts.values())

    def add(self, embedding: ArrayLike, label: Labels) -> None:
        """Add an integer embedding (d,) with its label, or n embeddings (n, d) with n labels or one for all.

        Raises:
            LearningError: not integers, a magnitude above LARGEST, another dimension, or labels that do not fit; or
                the sums would exceed 64 bits.
        """
        rows, labels = self._checked(embedding, label)
        self._check_overflow(_square_sum_bound(rows))
        self._dimension = rows.shape[1]
        self._squares = self._squares + _squares_of(rows)
        for name, members in _by_label(rows, labels):
            self._counts[name] = self._counts.get(name, 0) + len(members)
            self._sums[name] = self._sums.get(name, 0) + members.sum(axis=0, dtype=np.int64)
        self._queue(+1, rows)

    def remove(self, embedding: ArrayLike, label: Labels) -> None:
        """Undo an `add` of the same embeddings under the same labels, in any order.

        Raises:
            LearningError: as in `add`; the class is unknown or has fewer embeddings; or no embeddings could have the
                sums and squares that would be left, so something was never added. The last check is only certain to
                fail for the last embeddings: the more remain, the more combinations are possible.
        """
        rows, labels = self._checked(embedding, label)
        left = {}
        for name, members in _by_label(rows, labels):
            total = self._sums[name] - members.sum(axis=0, dtype=np.int64) if name in self._sums else None
            left[name] = (self._counts.get(name, 0) - len(members), total)
        squares = self._squares - _squares_of(rows)
        self._check_remainder(left, squares)
        if len(rows) == self.total:
            _check_emptied(self.gram, _gram_of(rows))
        self._set_remainder(left, squares)
        self._queue(-1, rows)

    def merge(self, other: Statistics) -> None:
        """Add everything in another instance, as if it had been added here.

        Raises:
            LearningError: another dimension, or the sums would exceed 64 bits.
        """
        self._check_dimension(other.dimension)
        self._check_overflow(int(other._squares.max()))
        self._dimension = self._dimension or other.dimension
        self._squares = self._squares + other._squares
        for name, count in other._counts.items():
            self._counts[name] = self._counts.get(name, 0) + count
            self._sums[name] = self._sums.get(name, 0) + other._sums[name]
        if other.total:
            self._gram_matrix()[...] += other.gram

    def subtract(self, other: Statistics) -> None:
        """Undo a `merge`.

        Raises:
            LearningError: the other contains something that this one does not.
        """
        self._check_dimension(other.dimension)
        left = {
            name: (self._counts.get(name, 0) - count, self._sums.get(name, 0) - other._sums[name])
            for name, count in other._counts.items()
        }
        squares = self._squares - other._squares
        self._check_remainder(left, squares)
        if not other.total:
            return
        if other.total == self.total:
            _check_emptied(self.gram, other.gram)
        self._set_remainder(left, squares)
        self._gram_matrix()[...] -= other.gram

    def rename(self, old: str, new: str) -> None:
        """Give a class another name; it keeps its place in the order.

        Raises:
            LearningError: the class is unknown, or the new name is taken or not a label.
        """
        if old not in self._counts:
            raise LearningError(f"unknown class '{old}'; choose {_listing(self.labels)}")
        if new != old and new in self._counts:
            raise LearningError(f"class '{new}' already exists; to merge the two, correct the pictures of '{old}'")
        _check_label(new)
        self._counts = {new if name == old else name: count for name, count in self._counts.items()}
        self._sums = {new if name == old else name: row for name, row in self._sums.items()}

    def copy(self) -> Statistics:
        """Return an independent copy."""
        twin = Statistics(self._dimension)
        twin.merge(self)
        return twin

    def __eq__(self, other: object) -> bool:
        """Whether every count, sum and product is equal; the order of the classes does not matter."""
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
        """Serialise a header, the sums and the triangle of the Gram matrix, in the narrowest integers that suffice."""
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
        """Read statistics in the form of `to_bytes`.

        Raises:
            IntegrityError: the data has another form.
        """
        try:
            return cls._parse(memoryview(data))
        except (ValueError, KeyError, TypeError, AttributeError, struct.error, RecursionError) as error:
            raise IntegrityError(f"these are not statistics that edgetl can read: {error}") from error

    @classmethod
    def _parse(cls, data: memoryview) -> Statistics:
        start = len(_MAGIC) + struct.calcsize("<HI")
        if bytes(data[: len(_MAGIC)]) != _MAGIC:
            raise ValueError("the header is missing")
        version, size = struct.unpack("<HI", data[len(_MAGIC) : start])
        if version != _VERSION:
            raise ValueError(f"their version is {version}, this edgetl reads version {_VERSION}")
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
            gram = statistics._gram_matrix()
            gram[np.tril_indices(dimension)] = triangle
            statistics._squares = gram.diagonal().copy()
            classes = ((count, statistics._sums[name]) for name, count in counts.items())
            if not _is_possible(classes, statistics._squares) or (not counts and triangle.any()):
                raise ValueError("their Gram matrix cannot be that of embeddings")
            gram += np.tril(gram, -1).T
        return statistics

    def _checked(self, embedding: ArrayLike, label: Labels) -> tuple[NDArray[Any], list[str]]:
        try:
            rows = np.asarray(embedding)
        except ValueError as error:
            raise LearningError(f"embeddings must be an array (d,) or (n, d): {error}") from error
        if rows.dtype.kind not in "iu":
            raise LearningError(f"embeddings have dtype {rows.dtype}; expected integers. Convert them: to_grid")
        if rows.ndim not in (1, 2) or rows.shape[-1] == 0:
            raise LearningError(f"embeddings have shape {rows.shape}; expected (d,) or (n, d)")
        rows = np.atleast_2d(rows)
        if not isinstance(label, str) and not hasattr(label, "__iter__"):
            _check_label(label)
        labels = [label] * len(rows) if isinstance(label, str) else list(label)
        if len(labels) != len(rows):
            raise LearningError(f"received {len(rows)} embeddings with {len(labels)} labels; give one label for each")
        for name in set(labels):
            _check_label(name)
        if _magnitude(rows) > LARGEST:
            raise LearningError(f"an embedding contains the magnitude {_magnitude(rows)}; expected at most {LARGEST}")
        self._check_dimension(rows.shape[1])
        return rows, labels

    def _check_dimension(self, dimension: Optional[int]) -> None:
        if dimension is not None and dimension > _MAX_DIMENSION:
            raise LearningError(f"embeddings have {dimension} numbers; expected 1 to {_MAX_DIMENSION}")
        if None not in (dimension, self._dimension) and dimension != self._dimension:
            raise LearningError(f"embeddings have {dimension} numbers; these statistics hold {self._dimension}")

    def _check_remainder(self, left: dict[str, tuple[int, Any]], squares: NDArray[np.int64]) -> None:
        for name, (count, total) in left.items():
            if name not in self._counts:
                known = _listing(self.labels)
                raise LearningError(f"cannot remove from '{name}', which was never taught; choose {known}")
            if count < 0:
                held = self._counts[name]
                raise LearningError(f"cannot remove {held - count} embeddings from class '{name}' of {held}")
            if count == 0 and total.any():
                raise LearningError(f"cannot remove from class '{name}': these embeddings were never added to it")
        rest = [(count, self._sums[name]) for name, count in self._counts.items() if name not in left]
        if not _is_possible([*rest, *left.values()], squares):
            raise LearningError(
                "cannot remove what was never added: no embeddings could have the sums that would be left"
            )

    def _set_remainder(self, left: dict[str, tuple[int, Any]], squares: NDArray[np.int64]) -> None:
        self._squares = squares
        for name, (count, total) in left.items():
            if count:
                self._counts[name], self._sums[name] = count, total
            else:
                del self._counts[name], self._sums[name]

    def _check_overflow(self, growth: int) -> None:
        """Raise LearningError if a sum could exceed int64 after the largest sum of squares has grown by `growth`.

        A Gram matrix is positive semidefinite, so no entry is larger than the largest on its diagonal, and over
        integers no sum is larger than the sum of squares. Pending additions that are removed again may overflow in
        between: int64 wraps around there and back.
        """
        if int(self._squares.max()) + growth >= _INT64_END:
            raise LearningError(
                f"64-bit sums cannot hold more than {self.total} of these embeddings; start new statistics"
            )

    def _gram_matrix(self) -> NDArray[np.int64]:
        if self._applied_gram is None:
            width = self._dimension or 0
            self._applied_gram = np.zeros((width, width), dtype=np.int64)
        return self._applied_gram

    def _queue(self, sign: int, rows: NDArray[Any]) -> None:
        """Collect rows before applying them: one matrix product of many costs little more than that of a single one."""
        self._pending.append((sign, np.array(rows)))
        if sum(len(waiting) for _, waiting in self._pending) >= _MAX_PENDING:
            self._apply_pending()

    def _apply_pending(self) -> None:
        pending, self._pending = self._pending, []
        for sign in (+1, -1):
            rows = [waiting for direction, waiting in pending if direction == sign]
            if rows:
                _accumulate(self._gram_matrix(), sign, np.concatenate(rows))


_MAGIC = b"edgetl statistics\n"
_VERSION = 1
_MAX_DIMENSION = 1 << 13
_INT64_END = 1 << 63
_FLOAT64_EXACT = 1 << 53
_ROUNDING = 1e-9
_MAX_PENDING = 64
_LARGEST_BLOCK = 2048
_STRIP = 128
"""Rows of the Gram matrix that are converted to integers and added while they are in the processor's cache."""
_WIDTHS = ("<i1", "<i2", "<i4", "<i8")


def _magnitude(rows: NDArray[Any]) -> int:
    return max(int(rows.max()), -int(rows.min())) if rows.size else 0


def _square_sum_bound(rows: NDArray[Any]) -> int:
    return len(rows) * _magnitude(rows) ** 2


def _squares_of(rows: NDArray[Any]) -> NDArray[np.int64]:
    """Return (d,) int64, the diagonal of the rows' Gram matrix."""
    return np.asarray(np.einsum("ij,ij->j", rows, rows, dtype=np.int64, casting="unsafe"))


def _is_possible(classes: Iterable[tuple[int, NDArray[np.int64]]], squares: NDArray[np.int64]) -> bool:
    """Whether embeddings can have these counts and sums (d,) per class, and these total squares (d,).

    The squares of a class sum to at least its count times the squares of its mean (Cauchy and Schwarz).
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
    index_of = {name: index for index, name in enumerate(names)}
    indices = np.array([index_of[label] for label in labels])
    for name, index in index_of.items():
        yield name, rows[indices == index]


def _accumulate(gram: NDArray[np.int64], sign: int, rows: NDArray[Any]) -> None:
    """Add sign * rows' rows to the Gram matrix, exactly, at the speed of a floating-point matrix product.

    With m the largest magnitude, every product is at most m**2 and every partial sum over b rows at most b * m**2.
    Below 2**53 all of these are integers that float64 represents exactly, in whatever order they are summed.
    LARGEST = 2**26 allows blocks of one row at least.
    """
    exact_rows = (_FLOAT64_EXACT - 1) // max(_magnitude(rows) ** 2, 1)
    block_rows = min(exact_rows, _LARGEST_BLOCK)
    for start in range(0, len(rows), block_rows):
        block = rows[start : start + block_rows].astype(np.float64)
        product = block.T @ block
        for strip in range(0, len(gram), _STRIP):
            gram[strip : strip + _STRIP] += (sign * product[strip : strip + _STRIP]).astype(np.int64)


def _gram_of(rows: NDArray[Any]) -> NDArray[np.int64]:
    gram = np.zeros((rows.shape[1], rows.shape[1]), dtype=np.int64)
    _accumulate(gram, +1, rows)
    return gram


def _check_emptied(held: NDArray[np.int64], removed: NDArray[np.int64]) -> None:
    if not np.array_equal(held, removed):
        raise LearningError("cannot remove the last embeddings: they are not the ones that were added")


def _check_label(label: object) -> None:
    if not isinstance(label, str) or not label:
        raise LearningError(f"invalid label {label!r}; expected a non-empty string")


def _listing(labels: Sequence[str]) -> str:
    return ", ".join(labels) if labels else "nothing: no class was taught yet"


def _narrowest(numbers: NDArray[np.int64]) -> str:
    for width in _WIDTHS:
        limits = np.iinfo(width)
        if not numbers.size or (limits.min <= numbers.min() and numbers.max() <= limits.max):
            return width
    raise AssertionError("every int64 fits in an int64")


def _check_header(dimension: Any, labels: Any, counts: Any) -> None:
    if dimension is not None and (type(dimension) is not int or not 0 < dimension <= _MAX_DIMENSION):
        raise ValueError(f"the dimension is {dimension!r}")
    if not isinstance(labels, list) or not all(isinstance(name, str) and name for name in labels):
        raise ValueError("a label is not a string")
    if len(set(labels)) != len(labels):
        raise ValueError("a label occurs twice")
    if not isinstance(counts, list) or len(counts) != len(labels) or (labels and dimension is None):
        raise ValueError("labels and counts do not match")
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
            raise ValueError("the data is cut short")
        part = data[start : start + size]
        yield np.frombuffer(part, dtype=widths[name]).reshape(shape).astype(np.int64)
        start += size
    if start != len(data):
        raise ValueError("data follows after the end")
