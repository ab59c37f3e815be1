"""Plants a quantization failure in a backbone and checks that the accuracy gate finds and repairs it.

    python -m benchmarks.gate [--data NAME ...] [--backbone NAME ...] [--max-drop POINTS] [--every N] [--json]

Every Nth channel between the bottlenecks of a pretrained backbone is multiplied by 100, and the weights that read it
are divided by 100: the function is the same, but its activations collapse in int8. The gate must name those layers, and
must bring int8 within the allowed drop or refuse the build.
Reads the photo sets and MobileNet weights under EDGETL_SHARED (default: ../shared next to the repository).
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import SHARED, WEIGHTS
from edgetl.backbones import build as build_backbone
from edgetl.backbones import get_backbone
from edgetl.pipeline import BuildOptions, build

FACTOR = 100.0


def main() -> None:
    """Plants the failure, builds with the gate, and prints what it found and repaired."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["trashnet"])
    parser.add_argument("--backbone", nargs="+", default=["mobilenet-v2-0.35", "efficientnet-lite0"])
    parser.add_argument("--max-drop", type=float, default=1.0)
    parser.add_argument("--every", type=int, default=8, help="plant every Nth channel")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [
        measure(data, backbone, options.max_drop, options.every)
        for data in options.data
        for backbone in options.backbone
    ]
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        show(row)


def measure(data: str, name: str, max_drop: float, every: int) -> dict[str, Any]:
    """One build with a planted backbone."""
    started = time.perf_counter()
    spec = get_backbone(name)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "planted.keras"
        planted = plant(build_backbone(spec, weights=SHARED / WEIGHTS[name] if name in WEIGHTS else None), path, every)
        options = BuildOptions(
            backbone=str(path), normalization=spec.normalization, fine_tune="off", max_drop=max_drop, allow_drop=True
        )
        report = build(SHARED / "data" / data, "generic", options, name="planted", output=folder).report
    gate, tested = report.gate, report.quantization
    assert gate is not None
    assert tested is not None
    return {
        "data": data,
        "backbone": name,
        "max_drop": max_drop,
        "float32": gate.float_accuracy.value,
        "int8": gate.first_accuracy.value,
        "points": gate.first.points,
        "repairs": [
            {
                "name": repair.name,
                "after": repair.after and repair.after.value,
                "points": repair.difference and repair.difference.points,
                "kept": repair.kept,
                "seconds": repair.seconds,
                "note": repair.note,
            }
            for repair in gate.repairs
        ],
        "guilty": [layer.name for layer in gate.guilty],
        "planted_layers": planted,
        "named_planted": sum(layer.name in planted for layer in gate.guilty),
        "passed": gate.passed,
        "final_points": gate.final.points,
        "low": gate.final.low,
        "high": gate.final.high,
        "n": gate.final.n,
        "test_float32": tested.first_accuracy.value,
        "test_shipped": tested.second_accuracy.value,
        "seconds": time.perf_counter() - started,
    }


def plant(model: Any, path: Path, every: int) -> list[str]:
    """Writes the planted model; returns the layers that write, join or read the planted channels."""
    from edgetl.conversion.quantization import rescale, scale_groups
    from edgetl.training import fold

    folded = fold(model)
    groups = [group for group in scale_groups(folded) if not group.pinned and np.isinf(group.ceiling)]
    factors = [np.ones(folded.get_layer(group.tensors[0]).output_shape[-1]) for group in groups]
    for channels in factors:
        channels[::every] = FACTOR
    rescale(folded, list(zip(groups, factors))).save(path)
    return [name for group in groups for name in (*group.tensors, *group.readers)]


def show(row: dict[str, Any]) -> None:
    print(f"{row['data']}, {row['backbone']}: every planted channel {FACTOR:g} times as large")
    print(f"  {'':28}{'accuracy':>9}{'points':>8}{'s':>6}")
    print(f"  {'float32':28}{row['float32']:9.1%}")
    print(f"  {'int8':28}{row['int8']:9.1%}{row['points']:+8.1f}")
    for repair in row["repairs"]:
        measured = f"{repair['after']:9.1%}{repair['points']:+8.1f}" if repair["after"] is not None else f"{'–':>17}"
        verdict = "kept" if repair["kept"] else "not kept"
        print(f"  {repair['name']:28}{measured}{repair['seconds']:6.0f}  {verdict}")
    outcome = "passed" if row["passed"] else "a build without --allow-drop is refused"
    interval = f"{row['final_points']:+.1f} points, {row['low']:+.1f} to {row['high']:+.1f}, {row['n']} photos"
    print(f"  {outcome}: {interval}; at most {row['max_drop']:g} less allowed")
    print(f"  layers named: {', '.join(row['guilty'])} ({row['named_planted']} of {len(row['guilty'])} planted)")
    print(f"  on the test photos: float32 {row['test_float32']:.1%}, shipped {row['test_shipped']:.1%}")
    print(f"  {row['seconds']:.0f} s in all")


if __name__ == "__main__":
    main()
