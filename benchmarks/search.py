"""Checks whether a search finds a better model than the default build: more accurate, and faster on the board.

    python -m benchmarks.search [--data NAME] [--target BOARD] [--time 20m] [--output DIR] [--json]

Both are built and measured on the test photos, which the search never sees, by the device runtime; the latency on the
board is the estimate in both reports. Finished trials are kept in the user's cache, so that an interrupted benchmark
continues; `search_s` is the time of all trials, in this run and in earlier ones. Photos and MobileNet weights are read
under EDGETL_SHARED (default: ../shared next to the repository).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.accuracy import SHARED
from edgetl.cli.build_output import DURATION
from edgetl.evaluation import Report, compare, render_search
from edgetl.pipeline import build
from edgetl.pipeline.search import SearchOptions, search

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as scratch:
        result = measure(arguments, Path(arguments.output or scratch))
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sign_digits")
    parser.add_argument("--target", default="rpi-zero2w")
    parser.add_argument("--time", default="20m", type=lambda text: DURATION.convert(text, None, None))
    parser.add_argument("--output", help="folder for the bundles")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, output: Path) -> dict[str, Any]:
    photos, started = SHARED / "data" / arguments.data, time.monotonic()
    options = SearchOptions(time_s=arguments.time, weights=SHARED / "weights")
    found = search(photos, arguments.target, options, name="found", output=output)
    seconds = time.monotonic() - started
    if not arguments.json:
        render_search(found.report)
    assert found.built is not None
    default = build(photos, arguments.target, name="default", output=output)
    mine, other = found.built.report, default.report
    difference = compare(
        other.evaluation.images, mine.evaluation.images, ("default", "found"), "run by the device runtime"
    ).difference
    rows = [row("default", other), row("found", mine)]
    return {
        "data": arguments.data,
        "target": arguments.target,
        "n": mine.evaluation.n,
        "rows": rows,
        "points": difference.points,
        "low": difference.low,
        "high": difference.high,
        "times_faster": rows[0]["latency_ms"] / rows[1]["latency_ms"],
        "times_smaller": rows[0]["bytes"] / rows[1]["bytes"],
        "trials": len(found.report.trials),
        "search_s": found.report.seconds,
        "this_run_s": seconds,
        "why": found.report.why,
    }


def row(name: str, report: Report) -> dict[str, Any]:
    summary = report.summary
    assert summary.latency_on_target is not None
    return {
        "row": name,
        "model": f"{summary.backbone} at {summary.input_size[0]}",
        "accuracy": report.evaluation.accuracy.value,
        "latency_ms": summary.latency_on_target.value,
        "bytes": summary.model_bytes,
    }


def table(result: dict[str, Any]) -> str:
    lines = [f"{result['data']}, {result['target']}, {result['n']} test photos, which the search never saw"]
    lines += [f"{'':10}{'model':30}{'accuracy':>9}{'ms, estimated':>15}{'kB':>8}"]
    lines += [
        f"{entry['row']:10}{entry['model']:30}{entry['accuracy']:9.1%}{entry['latency_ms']:15.1f}"
        f"{entry['bytes'] / 1e3:8.0f}"
        for entry in result["rows"]
    ]
    missed = "" if result["points"] >= 0 and result["times_faster"] > 1 else "  under the target: does not dominate"
    lines += [
        f"found against default: {result['points']:+.1f} points ({result['low']:+.1f} to {result['high']:+.1f}), "
        f"{result['times_faster']:.1f} times faster, {result['times_smaller']:.1f} times smaller{missed}",
        f"{result['trials']} trials in {result['search_s']:.0f} s; this run with the build of the pick: "
        f"{result['this_run_s']:.0f} s",
    ]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
