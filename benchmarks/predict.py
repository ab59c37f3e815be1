"""Measures the overhead of `Classifier.predict` over the bare interpreter: time per prediction, start-up, memory.

    python -m benchmarks.predict [--bundle FILE] [--runs 2000] [--starts 15] [--processor-time] [--json]

Predictions alternate with the bare interpreter's set_tensor, invoke and get_tensor: the same model, frame and process,
in changing order. Start-up is a new process, from its creation to its first prediction; memory is its peak resident
size. The peer is a script of ten lines that needs NumPy and the interpreter. The fastest tenth of the predictions and
the fastest start count, because other programs can only slow them down; medians are shown as well. --processor-time
is for a machine that is always busy: it measures the processor time of one thread.
Without --bundle, one is built from the built-in digits with EfficientNet-Lite0 at 224 pixels.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from statistics import median
from time import perf_counter, thread_time

import numpy as np

from edgetl.bundle import MODEL, open_bundle
from edgetl.runtime.bench.cold_start import start_classifier, start_interpreter
from edgetl.runtime.inference.classifier import Classifier, default_threads
from edgetl.runtime.inference.engine import PACKAGES
from edgetl.runtime.system import describe_machine

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
OVERHEAD_LIMIT_SHARE, OVERHEAD_LIMIT_MS = 0.05, 0.2
START_LIMIT_MS, MEMORY_LIMIT_MB = 150, 30
WARM_UP = 50
FASTEST = 10
"""The percentile of the prediction times that counts."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundle", type=Path, help="a bundle to measure instead of building one")
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--starts", type=int, default=15)
    parser.add_argument("--processor-time", action="store_true", help="measure processor time, of one thread")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bundle = options.bundle or build_digits(Path(folder))
        result = measure(bundle, options.runs, options.starts, options.processor_time)
    print(json.dumps(result) if options.json else table(result))


def build_digits(folder: Path) -> Path:
    from edgetl.data import write_digits
    from edgetl.pipeline import BuildOptions, build

    result = build(write_digits(folder / "digits"), "generic", BuildOptions(fine_tune="off"), output=folder)
    return result.bundle


def measure(bundle: Path, runs: int, starts: int, processor_time: bool) -> dict[str, object]:
    counts = [1] if processor_time else sorted({1, default_threads()})
    rows = [row for threads in counts for row in measure_threads(bundle, threads, runs, starts, processor_time)]
    clock = "processor time" if processor_time else "wall clock"
    return {"machine": describe_machine(), "load_average": os.getloadavg()[0], "clock": clock, "rows": rows}


def measure_threads(
    bundle: Path, threads: int, runs: int, starts: int, processor_time: bool
) -> list[dict[str, object]]:
    model = open_bundle(bundle).read(MODEL)
    times = predictions(bundle, model, threads, runs, thread_time if processor_time else perf_counter)
    limit = min(OVERHEAD_LIMIT_MS, OVERHEAD_LIMIT_SHARE * float(np.percentile(times[0], FASTEST)))
    begun = [(start_interpreter(model, threads), start_classifier(bundle, threads)) for _ in range(starts)]
    start_ms = [[pair[side].processor_ms if processor_time else pair[side].ms for pair in begun] for side in (0, 1)]
    peak_mb = [[pair[side].peak_bytes / 1e6 for pair in begun] for side in (0, 1)]
    return [
        row("a prediction, ms", threads, times, FASTEST, limit),
        row("start to first prediction, ms", threads, start_ms, 0, START_LIMIT_MS),
        row("peak memory, MB", threads, peak_mb, 50, MEMORY_LIMIT_MB),
    ]


def row(what: str, threads: int, both: Sequence[Sequence[float]], percentile: float, limit: float) -> dict[str, object]:
    bare, ours = (float(np.percentile(values, percentile)) for values in both)
    medians = [median(values) for values in both]
    return {
        "what": what,
        "threads": threads,
        "bare": bare,
        "edgetl": ours,
        "more": ours - bare,
        "limit": limit,
        "medians": medians,
    }


def predictions(bundle: Path, model: bytes, threads: int, runs: int, clock: Callable[[], float]) -> list[list[float]]:
    """Milliseconds of the bare interpreter and of the Classifier, which alternate."""
    classifier = Classifier(bundle, threads=threads)
    size = classifier.manifest.preprocess
    frame = np.random.default_rng(0).integers(0, 256, (size["height"], size["width"], 3), np.uint8)
    calls = [bare_interpreter(model, threads, classifier), classifier.predict]
    times: list[list[float]] = [[], []]
    for turn in range(-WARM_UP, runs):
        for side in (0, 1) if turn % 2 else (1, 0):
            started = clock()
            calls[side](frame)
            elapsed = 1000 * (clock() - started)
            if turn >= 0:
                times[side].append(elapsed)
    return times


def bare_interpreter(model: bytes, threads: int, classifier: Classifier) -> Callable[[np.ndarray], object]:
    module = import_module(PACKAGES[classifier.interpreter.split()[0]])
    interpreter = module.Interpreter(model_content=model, num_threads=threads)
    interpreter.allocate_tensors()
    input_index = interpreter.get_input_details()[0]["index"]
    output_index = interpreter.get_output_details()[0]["index"]

    def run(frame: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(input_index, frame[np.newaxis])
        interpreter.invoke()
        return interpreter.get_tensor(output_index)

    return run


def table(result: dict) -> str:  # type: ignore[type-arg]
    lines = [
        f"{result['machine']}, load {result['load_average']:.1f}, {result['clock']}",
        f"{'':32}{'threads':>8}{'bare':>10}{'edgetl':>10}{'more':>9}{'at most':>9}{'ratio':>7}{'medians':>20}",
    ]
    for entry in result["rows"]:
        lines.append(
            f"{entry['what']:32}{entry['threads']:8}{entry['bare']:10.3f}{entry['edgetl']:10.3f}{entry['more']:+9.3f}"
            f"{entry['limit']:9.3f}{entry['edgetl'] / entry['bare']:7.2f}"
            f"{entry['medians'][0]:10.3f}{entry['medians'][1]:10.3f}"
            f"{'' if entry['more'] <= entry['limit'] else '  over'}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
