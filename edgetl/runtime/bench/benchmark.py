"""Hides how a bundle is measured on the machine at hand; `edgetl bench` calls it."""

from __future__ import annotations

import io
import os
from dataclasses import asdict, astuple, dataclass
from functools import partial
from statistics import median
from time import perf_counter
from typing import Any, Callable, Dict, Iterator, List, Optional, Tuple, Union

import numpy as np
from PIL import Image

from edgetl.bundle import MODEL, open_bundle
from edgetl.errors import OptionError
from edgetl.runtime.bench.cold_start import StartUp, start_classifier, start_interpreter
from edgetl.runtime.inference.classifier import Classifier, default_threads
from edgetl.runtime.learning import Learner
from edgetl.runtime.system import architecture, describe_machine, temperature, throttling

JPEG_SIZE = (640, 480)
"""(width, height) in pixels of the JPEG that is decoded: what small cameras give."""

WARM_UP = 10
"""Predictions before those that count."""

STARTS = 3
"""Fresh processes, of which the median counts."""

Location = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Timing:
    """Milliseconds of one prediction: so many of a hundred took less."""

    p50: float
    p95: float
    p99: float
    runs: int


@dataclass(frozen=True)
class Benchmark:
    """What a bundle did on one machine."""

    bundle: str
    target: str
    """That it was built for."""
    model: str
    """The backbone's name."""
    macs: int
    depthwise_macs: int
    parameters: int
    """What a run of the backbone takes: multiply-accumulates, the depthwise ones among them, and parameters."""
    """Multiply-accumulates of the backbone for one image; 0 where the bundle does not say."""
    quantize: str
    accelerator: str
    """"cpu" or "edgetpu"."""
    note: str
    """Why the CPU runs a bundle that has a model for the Edge TPU; else empty."""
    interpreter: str
    threads: int
    machine: str
    architecture: str
    frame_ms: Timing
    """From a frame of the model's size to the answer."""
    jpeg_ms: Timing
    """From the bytes of a JPEG of JPEG_SIZE to the answer."""
    images_per_second: float
    """Such JPEGs one after the other, the next ones decoded meanwhile."""
    startup_ms: float
    """From nothing to the first prediction of a fresh process."""
    startup_above_bare_ms: float
    """The same, less that of a process with the bare interpreter."""
    peak_bytes: int
    """The most memory that was resident in that fresh process."""
    peak_above_bare_bytes: int
    """The same, less that of a process with the bare interpreter."""
    celsius_before: Optional[float]
    """Of the hottest sensor, before the measurements and after; None where there is none."""
    celsius_after: Optional[float]
    throttling: Optional[Tuple[str, ...]]
    """What holds the board back, or has; None where it cannot say."""

    def to_dict(self) -> Dict[str, Any]:
        """As JSON takes it."""
        return asdict(self)


def bench(
    bundle: Location, seconds: float = 10.0, threads: Optional[int] = None, state: Optional[Location] = None
) -> Benchmark:
    """Measures a bundle, with what it was taught where a `state` is given, on this machine.

    Latencies and throughput take `seconds` together, a third each; a few fresh processes come on top. `threads`
    is the number of cores, as for the Classifier. Nothing else should run meanwhile.
    Raises OptionError where `seconds` is not above 0, BundleError and EngineError as the Classifier does.
    """
    if not seconds > 0:
        raise OptionError(f"measure for more than 0 seconds, received {seconds}")
    threads = default_threads() if threads is None else threads
    classifier = _classifier(bundle, threads, state)
    manifest = classifier.manifest
    celsius_before = temperature()
    frame, jpeg = _picture((manifest.preprocess["width"], manifest.preprocess["height"])), _jpeg()
    frame_ms = _timing(partial(classifier.predict, np.asarray(frame)), seconds / 3)
    jpeg_ms = _timing(partial(classifier.predict, jpeg), seconds / 3)
    images_per_second = _throughput(classifier, jpeg, seconds / 3)
    celsius_after = temperature()
    ours = _median_start(lambda: start_classifier(bundle, threads, state))
    bare = _median_start(lambda: start_interpreter(open_bundle(bundle).read(MODEL), threads))
    return Benchmark(
        bundle=manifest.name,
        target=manifest.target,
        model=str(manifest.backbone.get("name", "")),
        macs=_count(manifest.backbone.get("macs")),
        depthwise_macs=_count(manifest.backbone.get("depthwise_macs")),
        parameters=_count(manifest.backbone.get("parameters")),
        quantize=manifest.quantize,
        accelerator=classifier.accelerator,
        note=classifier.note,
        interpreter=classifier.interpreter,
        threads=threads,
        machine=describe_machine(),
        architecture=architecture(),
        frame_ms=frame_ms,
        jpeg_ms=jpeg_ms,
        images_per_second=round(images_per_second, 2),
        startup_ms=round(ours.ms, 1),
        startup_above_bare_ms=round(ours.ms - bare.ms, 1),
        peak_bytes=ours.peak_bytes,
        peak_above_bare_bytes=ours.peak_bytes - bare.peak_bytes,
        celsius_before=celsius_before,
        celsius_after=celsius_after,
        throttling=throttling(),
    )


def _classifier(bundle: Location, threads: int, state: Optional[Location]) -> Classifier:
    if state is None:
        return Classifier(bundle, threads=threads)
    return Learner(bundle, state=state, threads=threads, observe=False).classifier()


def _count(claimed: Any) -> int:
    return claimed if isinstance(claimed, int) and claimed > 0 else 0


def _picture(size: Tuple[int, int]) -> Image.Image:
    """Soft colours of (width, height) pixels with a sensor's noise: as hard to decode as a photo."""
    generator = np.random.default_rng(0)
    coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), np.uint8))
    soft = np.asarray(coarse.resize(size, Image.Resampling.BICUBIC), np.float32)
    noisy = soft + generator.normal(0, 4, soft.shape)
    return Image.fromarray(np.clip(noisy, 0, 255).astype(np.uint8))


def _jpeg() -> bytes:
    file = io.BytesIO()
    _picture(JPEG_SIZE).save(file, "JPEG", quality=90)
    return file.getvalue()


def _timing(predict: Callable[[], object], seconds: float) -> Timing:
    for _ in range(WARM_UP):
        predict()
    times: List[float] = []
    end = perf_counter() + seconds
    while not times or perf_counter() < end:
        started = perf_counter()
        predict()
        times.append(1000 * (perf_counter() - started))
    p50, p95, p99 = (round(float(value), 4) for value in np.percentile(times, [50, 95, 99]))
    return Timing(p50, p95, p99, len(times))


def _throughput(classifier: Classifier, jpeg: bytes, seconds: float) -> float:
    started = perf_counter()
    count = sum(1 for _ in classifier.predict_many(_repeated(jpeg, started + seconds)))
    return count / (perf_counter() - started)


def _repeated(jpeg: bytes, end: float) -> Iterator[bytes]:
    """The same picture until the time is over, at least once."""
    yield jpeg
    while perf_counter() < end:
        yield jpeg


def _median_start(start: Callable[[], StartUp]) -> StartUp:
    starts = [astuple(start()) for _ in range(STARTS)]
    ms, processor_ms, peak_bytes = map(median, zip(*starts))
    return StartUp(ms, processor_ms, int(peak_bytes))
