"""Measures the latency of a bundle on this machine, and the compressed size of a model."""

from __future__ import annotations

import gzip
import itertools
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Optional, Union

import numpy as np

from edgetl.bundle import Bundle
from edgetl.errors import OptionError
from edgetl.runtime.inference import Classifier, Engine, default_threads
from edgetl.runtime.system import describe_machine


@dataclass(frozen=True)
class LatencyOptions:
    """How long to measure: `runs` timed predictions after `warm_up` untimed ones, for at most `limit_s` seconds."""

    runs: int = 200
    warm_up: int = 10
    limit_s: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if self.runs < 1 or self.warm_up < 0 or not self.limit_s > 0:
            raise OptionError(f"runs must be 1 or more and limit_s above 0, received {self.runs} and {self.limit_s}")


@dataclass(frozen=True)
class Latency:
    """The latency of one prediction: the median and the 99th percentile, and what was measured where."""

    p50_ms: float
    p99_ms: float
    what: str
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
            f"Measured on this machine ({self.machine}): {self.what}, {self.runs} runs "
            f"after {self.warm_up} warm-up runs, {threads}, {self.interpreter}."
        )


def measure_latency(
    bundle: Union[Bundle, str, os.PathLike[str]],
    threads: Optional[int] = None,
    options: LatencyOptions = LatencyOptions(),
) -> Latency:
    """The time that a bundle's classifier takes from a frame of the model's size to its prediction.

    Decoding a photo is not included. For None, `threads` is the number of cores, as for `Classifier`.
    """
    threads = threads or default_threads()
    classifier = Classifier(bundle, threads=threads)
    preprocess = classifier.manifest.preprocess
    size = int(preprocess["height"]), int(preprocess["width"])
    interpreter = f"{classifier.interpreter} on {classifier.accelerator}"
    return _measure(classifier.predict, size, "frame to prediction", threads, interpreter, options)


def measure_model(model: bytes, threads: Optional[int] = None, options: LatencyOptions = LatencyOptions()) -> Latency:
    """The time that a compiled backbone alone takes from frame to embedding."""
    threads = threads or default_threads()
    engine = Engine(model, threads=threads)
    interpreter = f"{engine.interpreter} on {engine.accelerator}"
    return _measure(engine.invoke, engine.input_size, "the backbone alone", threads, interpreter, options)


def compressed_size(model: bytes) -> int:
    """The size in bytes after gzip -9: what an update over the air transfers."""
    return len(gzip.compress(model, compresslevel=9, mtime=0))


def _measure(
    call: Callable[[np.ndarray], object],
    size: tuple[int, int],
    what: str,
    threads: int,
    interpreter: str,
    options: LatencyOptions,
) -> Latency:
    # Noise is good enough: the content of an image does not change the latency.
    noise = np.random.default_rng(options.seed).integers(0, 256, (8, *size, 3), np.uint8)
    frames = itertools.cycle(noise)
    for frame in itertools.islice(frames, options.warm_up):
        call(frame)
    times = list(itertools.islice(_timed(call, frames, options.limit_s), options.runs))
    p50, p99 = np.percentile(times, [50, 99])
    return Latency(
        p50_ms=round(float(p50), 4),
        p99_ms=round(float(p99), 4),
        what=what,
        runs=len(times),
        warm_up=options.warm_up,
        threads=threads,
        interpreter=interpreter,
        machine=describe_machine(),
    )


def _timed(call: Callable[[np.ndarray], object], frames: Iterator[np.ndarray], limit_s: float) -> Iterator[float]:
    """The milliseconds of each call, at least one, until `limit_s` seconds are over."""
    end = time.perf_counter() + limit_s
    for frame in frames:
        start = time.perf_counter()
        call(frame)
        finish = time.perf_counter()
        yield 1000 * (finish - start)
        if finish > end:
            return
