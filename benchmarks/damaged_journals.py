"""Damages journals at random and counts how many devices still classify, and how many rows come back.

    python -m benchmarks.damaged_journals BUNDLE STATE IMAGE [COUNT]
"""

from __future__ import annotations

import contextlib
import io
import random
import shutil
import sys
import tempfile
from collections import Counter
from pathlib import Path

from edgetl.runtime import Learner

JOURNAL = "journal.sqlite"
PAGE = 4096


def main() -> None:
    """Print the counts."""
    bundle, state, image = map(Path, sys.argv[1:4])
    print(dict(survey(bundle, state, image.read_bytes(), int((sys.argv[4:] or ["300"])[0]))))


def survey(bundle: Path, state: Path, image: bytes, count: int) -> Counter[str]:
    """Damage `count` copies of a state, each with a seed of its own; return the counts."""
    counts: Counter[str] = Counter()
    for seed in range(count):
        with tempfile.TemporaryDirectory() as folder:
            copy = Path(folder) / "state"
            shutil.copytree(state, copy)
            counts[damage(copy / JOURNAL, random.Random(seed))] += 1
            with contextlib.redirect_stderr(io.StringIO()):
                try:
                    with Learner(bundle, copy, threads=1) as learner:
                        learner.classifier().predict(image)
                        counts["rows"] += len(learner.history())
                    counts["classify"] += 1
                    counts["set aside"] += any(copy.glob("journal.damaged-*.sqlite"))
                except Exception as error:
                    counts[f"failed: {type(error).__name__}: {error}"[:160].replace(folder, "")] += 1
    return counts


def damage(path: Path, chance: random.Random) -> str:
    """Damage a file; return the kind of damage."""
    content = bytearray(path.read_bytes())
    kind = chance.choice(["flipped bytes", "cut short", "zero-filled page"])
    if kind == "flipped bytes":
        for _ in range(chance.choice([1, 8, 64])):
            content[chance.randrange(len(content))] ^= chance.randrange(1, 256)
    elif kind == "cut short":
        del content[chance.randrange(1, len(content)) :]
    else:
        start = chance.randrange(len(content) // PAGE) * PAGE
        content[start : start + PAGE] = bytes(PAGE)
    path.write_bytes(content)
    return kind


if __name__ == "__main__":
    main()
