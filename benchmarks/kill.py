"""Kills a teaching process at random moments, and counts acknowledged operations that were lost.

    python benchmarks/kill.py --kills 1000

Every trial forks a process that teaches, corrects, forgets, undoes and solves in the same state, and reports each
acknowledged operation through a pipe; it is killed (SIGKILL) a random time after its start or its first report. Then
the state is opened again: every acknowledged operation must be there with its embedding, and everything must be
readable.
"""

from __future__ import annotations

import argparse
import os
import random
import select
import signal
import sys
import tempfile
import time
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from benchmarks.synthetic import draw, pack_synthetic
from edgetl.errors import EdgetlError
from edgetl.runtime.learning import Journal, Learner
from edgetl.runtime.learning.live_statistics import LiveStatistics
from edgetl.runtime.learning.projection import Projection

DIMENSION = 64
LONGEST_SECONDS = 0.12
SHARE_AT_WORK = 0.8
"""The share of the processes that are killed after their first acknowledged operation, not after their start."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kills", type=int, default=1000)
    parser.add_argument("--processes", type=int, default=1, help="processes that teach and are killed at once")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        bundle = pack_synthetic(Path(folder, "synthetic.edgetl"), 5, 20, DIMENSION)
        found = run(bundle, Path(folder, "state"), options.kills, options.seed, options.processes)
    print(
        f"{found['kills']} kills, {found['acknowledged']} operations acknowledged: "
        f"{found['lost']} lost, {found['unreadable']} unreadable states, {found['rows']} rows in the end"
    )
    return 1 if found["lost"] or found["unreadable"] else 0


def run(bundle: Path, state: Path, kills: int, seed: int = 0, processes: int = 1) -> dict[str, int]:
    """Counts of kills, acknowledged and lost operations, and unreadable states."""
    chance = random.Random(seed)
    acknowledged: dict[int, tuple[str, int]] = {}
    unreadable = 0
    for start in range(0, kills, processes):
        children = [_start(bundle, state, seed=start + number) for number in range(min(processes, kills - start))]
        for child, pipe in children:
            if chance.random() < SHARE_AT_WORK:
                select.select([pipe], [], [])  # it has acknowledged something
            time.sleep(chance.uniform(0, LONGEST_SECONDS) / len(children))
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for _, pipe in children:
            acknowledged.update(_reported(pipe))
        try:
            held = _read(bundle, state)
        except EdgetlError as error:
            print(error, file=sys.stderr)
            unreadable += 1
    lost = sum(held.get(key) != value for key, value in acknowledged.items())
    return {
        "kills": kills,
        "acknowledged": len(acknowledged),
        "lost": lost,
        "unreadable": unreadable,
        "rows": len(held),
    }


def _start(bundle: Path, state: Path, seed: int) -> tuple[int, int]:
    """Starts a child that teaches until it is killed; returns (process id, pipe to read from)."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(writer)
        return child, reader
    try:
        os.close(reader)
        for line in _teach(bundle, state, random.Random(seed)):
            os.write(writer, line.encode())
    finally:
        os._exit(1)


def _teach(bundle: Path, state: Path, chance: random.Random) -> Iterator[str]:
    learner = Learner(bundle, state=state)
    raw, labels = draw(5, 20, DIMENSION, seed=chance.randrange(1 << 30))
    while True:
        try:
            step = _act(learner, raw, labels, chance)
        except EdgetlError:  # what the other processes did meanwhile has made it impossible
            continue
        yield f"{step.id} {step.kind} {zlib.crc32(_taught[step.id]) if step.kind == 'teach' else 0}\n"


_taught: dict[int, bytes] = {}


def _act(learner: Learner, raw: np.ndarray, labels: list[str], chance: random.Random):  # type: ignore[no-untyped-def]
    move = chance.random()
    entries = [entry for entry in learner.history()[-20:] if entry.now] if move < 0.2 else []
    if move < 0.07 and entries:
        return learner.correct(chance.choice(entries).id, "corrected")
    if move < 0.14 and entries:
        return learner.forget(chance.choice(entries).id)
    if move < 0.2:
        return learner.undo()
    if move < 0.25:
        learner.last_layer()
    row = chance.randrange(len(raw))
    step = learner.teach_embeddings(raw[row], labels[row])
    _taught[step.id] = raw[row].tobytes()
    return step


def _reported(pipe: int) -> dict[int, tuple[str, int]]:
    with os.fdopen(pipe) as lines:
        reported = [line.split() for line in lines if line.endswith("\n")]
    return {int(key): (kind, int(digest)) for key, kind, digest in reported}


def _read(bundle: Path, state: Path) -> dict[int, tuple[str, int]]:
    """Every row by id: its kind and the digest of its embedding, recomputed."""
    with Learner(bundle, state=state) as learner:
        learner.last_layer()
        statistics = learner.statistics()
        kinds = {entry.id: entry.kind for entry in learner.history()}
        journal = Journal(state) if kinds else None
        if journal is None:
            return {}
        stored = journal.embeddings(list(kinds))
        afresh = LiveStatistics(learner._bundle, journal.embeddings)
        projection = Projection(learner._bundle.manifest.labels, journal.rows_after(0))
        assert afresh.statistics(projection) == statistics
        journal.close()
    return {key: (kind, zlib.crc32(stored[key]) if key in stored else 0) for key, kind in kinds.items()}


if __name__ == "__main__":
    sys.exit(main())
