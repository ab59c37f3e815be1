"""Measures a bundle on this machine: latency, throughput, start-up time and memory."""

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
"""(width, height) in pixels of the JPEG that is decoded: the frame size of small cameras."""

WARM_UP = 10
"""Predictions before the measurement."""

STARTS = 3
"""Fresh processes, of which the median is reported."""

Location = Union[str, "os.PathLike[str]"]


@dataclass(frozen=True)
class Timing:
    """Percentiles of the milliseconds of one prediction, over `runs` predictions."""

    p50: float
    p95: float
    p99: float
    runs: int


@dataclass(frozen=True)
class Benchmark:
    """The measurements of one bundle on one machine."""

    bundle: str
    target: str
    """The target that it was built for."""
    model: str
    """The backbone's name."""
    macs: int
    """Multiply-accumulates of the backbone for one image; 0 if the bundle does not state them."""
    depthwise_macs: int
    """Those of them in depthwise convolutions; 0 if the bundle does not state them."""
    parameters: int
    """Parameters of the backbone; 0 if the bundle does not state them."""
    quantize: str
    accelerator: str
    """"cpu" or "edgetpu"."""
    note: str
    """Why the CPU runs a bundle that has a model for the Edge TPU; empty otherwise."""
    interpreter: str
    threads: int
    machine: str
    architecture: str
    frame_ms: Timing
    """From a frame of the model's size to the prediction."""
    jpeg_ms: Timing
    """From the bytes of a JPEG of JPEG_SIZE to the prediction."""
    images_per_second: float
    """Throughput for such JPEGs, decoded ahead."""
    startup_ms: float
    """From the start of a fresh process to its first prediction."""
    startup_above_bare_ms: float
    """The same, minus that of a process with the bare interpreter."""
    peak_bytes: int
    """The peak resident memory of that process."""
    peak_above_bare_bytes: int
    """The same, minus that of a process with the bare interpreter."""
    celsius_before: Optional[float]
    """The temperature of the hottest sensor before the measurements; None without sensors."""
    celsius_after: Optional[float]
    """The same, after the measurements."""
    throttling: Optional[Tuple[str, ...]]
    """What limits the board now or has limited it since it booted; None on other machines than a Raspberry Pi."""

    def to_dict(self) -> Dict[str, Any]:
        """The measurements as a JSON object."""
        return asdict(self)


def bench(
    bundle: Location, seconds: float = 10.0, threads: Optional[int] = None, state: Optional[Location] = None
) -> Benchmark:
    """Measures a bundle on this machine, with what it was taught if `state` names the state folder.

    The two latencies and the throughput take a third of `seconds` each; a few fresh processes come on top. `threads`
    is as for the Classifier. Nothing else should run on the machine meanwhile.
    Raises OptionError if `seconds` is not above 0, BundleError and EngineError as the Classifier does.
    """
    if not seconds > 0:
        raise OptionError(f"invalid seconds {seconds:g}: expected more than 0")
    threads = default_threads() if threads is None else threads
    classifier = _classifier(bundle, threads, state)
    manifest = classifier.manifest
    celsius_before = temperature()
    frame, jpeg = _picture((manifest.preprocess["width"], manifest.preprocess["height"])), _jpeg()
    frame_ms = _timing(partial(classifier.predict, np.asarray(frame)), seconds / 3)
    jpeg_ms = _timing(partial(classifier.predict, jpeg), seconds / 3)
    images_per_second = _throughput(classifier, jpeg, seconds / 3)
    celsius_after = temperature()
    edgetl_start = _median_start(lambda: start_classifier(bundle, threads, state))
    model = open_bundle(bundle).read(MODEL)
    bare_start = _median_start(lambda: start_interpreter(model, threads))
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
        startup_ms=round(edgetl_start.ms, 1),
        startup_above_bare_ms=round(edgetl_start.ms - bare_start.ms, 1),
        peak_bytes=edgetl_start.peak_bytes,
        peak_above_bare_bytes=edgetl_start.peak_bytes - bare_start.peak_bytes,
        celsius_before=celsius_before,
        celsius_after=celsius_after,
        throttling=throttling(),
    )


def _classifier(bundle: Location, threads: int, state: Optional[Location]) -> Classifier:
    if state is None:
        return Classifier(bundle, threads=threads)
    return Learner(bundle, state=state, threads=threads, observe=False).classifier()


def _count(stated: Any) -> int:
    return stated if isinstance(stated, int) and stated > 0 else 0


def _picture(size: Tuple[int, int]) -> Image.Image:
    """Soft colours with the noise of a sensor, which take as long to decode as a photo; `size` is (width, height)."""
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
    """Yields the same picture until the clock reads `end`, at least once."""
    yield jpeg
    while perf_counter() < end:
        yield jpeg


def _median_start(start: Callable[[], StartUp]) -> StartUp:
    starts = [astuple(start()) for _ in range(STARTS)]
    ms, processor_ms, peak_bytes = map(median, zip(*starts))
    return StartUp(ms, processor_ms, int(peak_bytes))
