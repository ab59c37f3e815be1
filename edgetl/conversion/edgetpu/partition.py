"""Predicts which operators end up on the Edge TPU together.

The compiler partitions the graph as TensorFlow Lite does for a delegate: by data dependency, not by list order.
Operators fall into subsets of one kind each, every subset as large as the dependencies allow. The compiler takes the
first subset of operators that the Edge TPU supports and leaves all others to the CPU.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from edgetl.conversion.tflite.graph import Graph


def first_subset(graph: Graph, mappable: Sequence[bool]) -> frozenset[int]:
    """Indices of the operators that run on the Edge TPU.

    `mappable` says for each operator whether the Edge TPU supports it. The kind of a subset, mappable or not, is that
    of its first ready operator; every operator of that kind joins whose inputs come from this subset or an earlier
    one. The result is empty if nothing can be mapped. Time is linear in the size of the graph.
    """
    pending_inputs, readers = _dependencies(graph)
    ready: dict[bool, deque[int]] = {True: deque(), False: deque()}
    for index, count in enumerate(pending_inputs):
        if not count:
            ready[mappable[index]].append(index)
    while ready[True] or ready[False]:
        kind = _kind_of_next(ready)
        subset = _exhaust(kind, ready, mappable, pending_inputs, readers)
        if kind:
            return frozenset(subset)
    return frozenset()


def _kind_of_next(ready: dict[bool, deque[int]]) -> bool:
    """The kind of the first ready operator in list order."""
    if not (ready[True] and ready[False]):
        return bool(ready[True])
    return min(ready[True]) < min(ready[False])


def _exhaust(
    kind: bool,
    ready: dict[bool, deque[int]],
    mappable: Sequence[bool],
    pending_inputs: list[int],
    readers: list[list[int]],
) -> list[int]:
    """Take every operator of the kind that is ready or becomes ready; leave those of the other kind."""
    subset = []
    while ready[kind]:
        index = ready[kind].popleft()
        subset.append(index)
        for reader in readers[index]:
            pending_inputs[reader] -= 1
            if not pending_inputs[reader]:
                ready[mappable[reader]].append(reader)
    return subset


def _dependencies(graph: Graph) -> tuple[list[int], list[list[int]]]:
    """For each operator: how many of its inputs other operators write, and the readers of its outputs.

    A reader is listed once for each input that it reads.
    """
    writer = {index: operator.index for operator in graph.operators for index in operator.outputs}
    pending_inputs = [0] * len(graph.operators)
    readers: list[list[int]] = [[] for _ in graph.operators]
    for operator in graph.operators:
        for index in operator.inputs:
            if index in writer:
                pending_inputs[operator.index] += 1
                readers[writer[index]].append(operator.index)
    return pending_inputs, readers
