"""Hides how fast a bundle runs on this machine, and how big a model is; the build's report calls it."""

from __future__ import annotations

import gzip
import itertools
import os
import platform
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgetl.errors import OptionError

if TYPE_CHECKING:
    from edgetl.runtime import Classifier


@dataclass(frozen=True)
class LatencyOptions:
    """How long to measure: `runs` timed predictions after `warm_up` untimed ones, at most for `limit_s`."""

    runs: int = 200
    warm_up: int = 10
    limit_s: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.runs < 1 or self.warm_up < 0 or not self.limit_s > 0:
            raise OptionError(
                f"measure at least 1 run, for more than 0 s; received {self.runs} and {self.limit_s}"
            )


@dataclass(frozen=True)
class Latency:
    """How long one prediction took, and on what: the median and the slowest of a hundred."""

    p50_ms: float
    p99_ms: float
    runs: int
    warm_up: int
    threads: int
    interpreter: str
    machine: str

    @property
    def how(self) -> str:
        """How it was measured, in one sentence."""
        threads = "1 thread" if self.threads == 1 else f"{self.threads} threads"
        return (
            f"Measured on this machine ({self.machine}): frame to answer, {self.runs} runs "
            f"after {self.warm_up} for warm-up, {threads}, {self.interpreter}."
        )


def measure_latency(classifier: Classifier, options: LatencyOptions = LatencyOptions()) -> Latency:
    """How long `classifier.predict` takes for a frame of the model's size; decoding photos is not in it."""
    frames = _frames(classifier, options.seed)
    for frame in itertools.islice(frames, options.warm_up):
        classifier.predict(frame)
    times = list(itertools.islice(_timed(classifier, frames, options.limit_s), options.runs))
    p50, p99 = np.percentile(times, [50, 99])
    return Latency(
        p50_ms=round(float(p50), 4),
        p99_ms=round(float(p99), 4),
        runs=len(times),
        warm_up=options.warm_up,
        threads=classifier.threads,
        interpreter=classifier.interpreter,
        machine=describe_machine(),
    )


def compressed_size(model: bytes) -> int:
    """The bytes that are left after gzip -9: what an update over the air carries."""
    return len(gzip.compress(model, compresslevel=9, mtime=0))


def describe_machine() -> str:
    """The board or processor, and its cores: "Raspberry Pi 4 Model B Rev 1.4, 4 cores"."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return f"{_board() or _processor()}, {cores} core{'s' if cores != 1 else ''}"


def _frames(classifier: Classifier, seed: int) -> Iterator[np.ndarray]:
    """Frames of noise, over and over: what is in a picture does not change how long it takes."""
    shape = (8, *classifier.manifest_size, 3)
    return itertools.cycle(np.random.default_rng(seed).integers(0, 256, shape, np.uint8))


def _timed(classifier: Classifier, frames: Iterator[np.ndarray], limit_s: float) -> Iterator[float]:
    """Milliseconds of one prediction after another, at least one, until the time is over."""
    end = time.perf_counter() + limit_s
    for frame in frames:
        start = time.perf_counter()
        classifier.predict(frame)
        finish = time.perf_counter()
        yield 1000 * (finish - start)
        if finish > end:
            return


def _board() -> str:
    try:
        return Path("/proc/device-tree/model").read_text(encoding="utf-8", errors="replace").strip("\0\n ")
    except OSError:
        return ""


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()
