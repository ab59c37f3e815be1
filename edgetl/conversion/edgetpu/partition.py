"""Hides which operators end up on the Edge TPU together; the analysis calls it.

The compiler cuts the graph as TensorFlow Lite does for a delegate: not by the order of the list but by
what depends on what. Operators fall into subsets of one kind each, every subset as large as the data
allows; the compiler takes the first subset of the Edge TPU's kind and leaves the others to the CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from edgetl.conversion.tflite.graph import Graph


def first_subset(graph: Graph, mappable: Sequence[bool]) -> frozenset[int]:
    """Indices of the operators that the Edge TPU takes, given which ones it could (one for each operator).

    The kind of a subset is that of its first ready operator; then every operator of that kind joins whose
    inputs come from this subset or an earlier one. Empty where nothing can be mapped. Linear in the size
    of the graph.
    """
    waiting_for, readers = _dependences(graph)
    ready: dict[bool, deque[int]] = {True: deque(), False: deque()}
    for index, count in enumerate(waiting_for):
        if not count:
            ready[mappable[index]].append(index)
    while ready[True] or ready[False]:
        kind = _kind_of_next(ready)
        subset = _exhaust(kind, ready, mappable, waiting_for, readers)
        if kind:
            return frozenset(subset)
    return frozenset()


def _kind_of_next(ready: dict[bool, deque[int]]) -> bool:
    """The kind of the ready operator that comes first in the list."""
    if not (ready[True] and ready[False]):
        return bool(ready[True])
    return min(ready[True]) < min(ready[False])


def _exhaust(
    kind: bool,
    ready: dict[bool, deque[int]],
    mappable: Sequence[bool],
    waiting_for: list[int],
    readers: list[list[int]],
) -> list[int]:
    """Take every operator of the kind that is ready or becomes so; those of the other kind stay ready."""
    subset = []
    while ready[kind]:
        index = ready[kind].popleft()
        subset.append(index)
        for reader in readers[index]:
            waiting_for[reader] -= 1
            if not waiting_for[reader]:
                ready[mappable[reader]].append(reader)
    return subset


def _dependences(graph: Graph) -> tuple[list[int], list[list[int]]]:
    """For each operator: how many inputs others write, and who reads its outputs (once for each input)."""
    writer = {index: operator.index for operator in graph.operators for index in operator.outputs}
    waiting_for = [0] * len(graph.operators)
    readers: list[list[int]] = [[] for _ in graph.operators]
    for operator in graph.operators:
        for index in operator.inputs:
            if index in writer:
                waiting_for[operator.index] += 1
                readers[writer[index]].append(operator.index)
    return waiting_for, readers
