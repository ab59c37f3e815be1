"""Compares ways to make a model smaller with the plain int8 build of the same photos.

    python -m benchmarks.compression [--data NAME ...] [--backbone NAME ...] [--rows NAME ...] [--json]

A row is a complete build, measured on the test photos by the device runtime. `int8` is always built, because the others
are compared with it photo by photo. Latency is that of the compiled backbones on one thread, all measured in turns in
one run, as ratios of the medians. Finished trainings come from the cache, so that a row can be measured alone. Photo
sets and MobileNet weights are read under EDGETL_SHARED (default: ../shared next to the repository).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from typing import Any

import numpy as np

from benchmarks.accuracy import SHARED, WEIGHTS
from edgetl.bundle import MODEL, open_bundle
from edgetl.conversion import PruningOptions, SparsityOptions
from edgetl.evaluation import Report, compare, compressed_size
from edgetl.pipeline import BuildOptions, build
from edgetl.runtime import Engine

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
BASELINE = "int8"
ROWS: dict[str, dict[str, Any]] = {
    BASELINE: {},
    "structured-30": {"pruning": PruningOptions(0.3)},
    "structured-50": {"pruning": PruningOptions(0.5)},
    "structured-70": {"pruning": PruningOptions(0.7)},
    "int8-qat": {"aware": True},
    "magnitude-50": {"sparsity": SparsityOptions(sparsity=0.5)},
    "magnitude-80": {"sparsity": SparsityOptions(sparsity=0.8)},
    "2:4": {"sparsity": SparsityOptions(sparsity="2:4")},
    "clusters-16": {"sparsity": SparsityOptions(clusters=16)},
    "50-clusters-16": {"sparsity": SparsityOptions(sparsity=0.5, clusters=16)},
    "magnitude-50-qat": {"sparsity": SparsityOptions(sparsity=0.5), "aware": True},
    "clusters-16-qat": {"sparsity": SparsityOptions(clusters=16), "aware": True},
    "50-clusters-16-qat": {"sparsity": SparsityOptions(sparsity=0.5, clusters=16), "aware": True},
    "distilled": {"teacher": "efficientnet-lite2"},
}
"""The build options of each row that differ from the baseline."""

TARGETS = {"structured-50": {"points": -1.0, "times_faster": 1.6}}
"""The minimum gain of the rows that have a target."""

TURNS, CALLS = 15, 20


def main() -> None:
    arguments = parse()
    results = [measure(data, backbone, arguments.rows) for data in arguments.data for backbone in arguments.backbone]
    print(json.dumps(results, indent=2) if arguments.json else "\n\n".join(map(table, results)))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["trashnet", "sign_digits"])
    parser.add_argument("--backbone", nargs="+", default=["efficientnet-lite0", "mobilenet-v2-0.35"])
    parser.add_argument("--rows", nargs="+", default=list(ROWS), choices=list(ROWS))
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(data: str, backbone: str, names: list[str]) -> dict[str, Any]:
    """The table of one photo set and backbone."""
    names = list(dict.fromkeys([BASELINE, *names]))
    reports, models, macs = {}, {}, {}
    with tempfile.TemporaryDirectory() as output:
        for name in names:
            started = time.monotonic()
            result = build(SHARED / "data" / data, "generic", options(backbone, name), name=name, output=output)
            reports[name] = result.report, time.monotonic() - started
            bundle = open_bundle(result.bundle)
            models[name], macs[name] = bundle.read(MODEL), bundle.manifest.backbone["macs"]
    latencies = interleaved(models)
    rows = [
        {**row(name, *reports[name], models[name], latencies, reports[BASELINE][0]), "macs": macs[name]}
        for name in names
    ]
    return {"data": data, "backbone": backbone, "n": reports[BASELINE][0].evaluation.n, "rows": rows}


def options(backbone: str, name: str) -> BuildOptions:
    weights = SHARED / WEIGHTS[backbone] if backbone in WEIGHTS else None
    return BuildOptions(backbone=backbone, weights=weights, float_reference=False, **ROWS[name])


def row(
    name: str, report: Report, seconds: float, model: bytes, latencies: dict[str, np.ndarray], baseline: Report
) -> dict[str, Any]:
    images = baseline.evaluation.images, report.evaluation.images
    difference = compare(*images, (BASELINE, name), "run by the device runtime").difference
    return {
        "row": name,
        "accuracy": report.evaluation.accuracy.value,
        "points": difference.points,
        "low": difference.low,
        "high": difference.high,
        "bytes": len(model),
        "gzip_bytes": compressed_size(model),
        "latency_ms": float(np.median(latencies[name])),
        "times_faster": float(np.median(latencies[BASELINE] / latencies[name])),
        "build_seconds": seconds,
    }


def interleaved(models: dict[str, bytes]) -> dict[str, np.ndarray]:
    """Milliseconds per frame of each model in each turn, (TURNS,); every turn runs all models."""
    engines = {name: Engine(model, threads=1) for name, model in models.items()}
    noise = np.random.default_rng(0)
    frames = {name: noise.integers(0, 256, (*engine.input_size, 3), np.uint8) for name, engine in engines.items()}
    for name, engine in engines.items():
        engine.invoke(frames[name])
    times: dict[str, list[float]] = {name: [] for name in engines}
    for _ in range(TURNS):
        for name, engine in engines.items():
            times[name].append(np.median([timed(engine, frames[name]) for _ in range(CALLS)]))
    return {name: np.array(values) for name, values in times.items()}


def timed(engine: Engine, frame: np.ndarray) -> float:
    started = time.perf_counter()
    engine.invoke(frame)
    return 1000 * (time.perf_counter() - started)


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['data']}, {result['backbone']}, {result['n']} test photos",
        f"{'':20}{'accuracy':>9}{'points':>8}{'interval':>16}{'M MACs':>8}{'kB':>7}{'gzip kB':>9}{'ms':>7}{'faster':>8}"
        f"{'build s':>9}",
    ]
    return "\n".join([*lines, *map(line, result["rows"])])


def line(entry: dict[str, Any]) -> str:
    missed = [key for key, least in TARGETS.get(entry["row"], {}).items() if entry[key] < least]
    interval = f"{entry['low']:+.1f} to {entry['high']:+.1f}"
    return (
        f"{entry['row']:20}{entry['accuracy']:9.1%}{entry['points']:+8.1f}{interval:>16}{entry['macs'] / 1e6:8.0f}"
        f"{entry['bytes'] / 1e3:7.0f}{entry['gzip_bytes'] / 1e3:9.0f}{entry['latency_ms']:7.2f}"
        f"{entry['times_faster']:7.2f}x{entry['build_seconds']:9.0f}"
        f"{'  under the target: ' + ', '.join(missed) if missed else ''}"
    )


if __name__ == "__main__":
    main()
