"""Feeds damaged .tflite files to the Edge TPU analysis, package reader and verification, and counts the outcomes.

    python benchmarks/edgetpu_fuzz.py --runs 100000 --models FOLDER

FOLDER contains .tflite files, compiled or not. A run is good if the file is accepted, or refused with a ConversionError
of one line. Anything else (another exception, or exceeding the time or memory limit) stops the program and writes the
file that caused it.
"""

from __future__ import annotations

import argparse
import random
import resource
import signal
import sys
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from edgetl.conversion.edgetpu import analyse, read_package, verify
from edgetl.errors import ConversionError
from tests.conversion.edgetpu.mutation import mutate

VERIFIED = 0.1  # of the files are also held against the source of the file that was damaged
READERS = {"analyse": analyse, "read_package": read_package}


def main() -> None:
    options = parse()
    resource.setrlimit(resource.RLIMIT_AS, (options.memory_mib << 20,) * 2)
    signal.signal(signal.SIGALRM, too_slow)
    paths = [path for path in sorted(options.models.glob("*.tflite")) if path.stat().st_size <= options.largest]
    corpus = [path.read_bytes() for path in paths]
    sources = {path: path.with_name(path.name.replace("_edgetpu", "")).read_bytes() for path in paths}
    chance = random.Random(options.seed)
    ends: Counter[str] = Counter()
    slowest = 0.0
    begin = time.monotonic()
    for run in range(options.runs):
        number = chance.randrange(len(corpus))
        damaged = mutate(corpus[number], chance)
        checks = dict(READERS)
        if chance.random() < VERIFIED:
            source = sources[paths[number]]
            checks["verify"] = lambda content, source=source: verify(source, content)
        for name, check in checks.items():
            started = time.process_time()
            signal.setitimer(signal.ITIMER_REAL, options.seconds)
            try:
                check(damaged)
                ends[f"{name}: taken"] += 1
            except ConversionError as error:
                lines = str(error).count("\n") + 1
                ends[f"{name}: refused" if lines == 1 else f"{name}: refused in {lines} lines"] += 1
            except BaseException:
                Path("edgetpu_fuzz_failure.tflite").write_bytes(damaged)
                print(f"run {run}, {paths[number].name}, {name}: see edgetpu_fuzz_failure.tflite")
                raise
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
            slowest = max(slowest, time.process_time() - started)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024
    for name, count in sorted(ends.items()):
        print(f"{name:24}{count:>9}")
    print(f"{options.runs} files from {len(corpus)} models in {time.monotonic() - begin:.0f} s, seed {options.seed}")
    print(f"slowest check {slowest * 1000:.0f} ms of CPU, peak memory {peak} MiB, no other end")


def too_slow(*_: object) -> None:
    raise TimeoutError("a check took too long")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=100_000)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--models", type=Path, required=True, help="folder of .tflite files")
    parser.add_argument("--largest", type=int, default=8 << 20, help="bytes; larger files are skipped")
    parser.add_argument("--seconds", type=float, default=10.0, help="time limit of one check")
    parser.add_argument("--memory-mib", type=int, default=2048, help="memory limit of the process")
    return parser.parse_args()


if __name__ == "__main__":
    main()
