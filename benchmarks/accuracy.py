"""Measures the test accuracy of solved and fine-tuned models, int8 against float32, on the same photos.

    python benchmarks/accuracy.py [--data NAME ...] [--backbone NAME ...] [--fine-tune auto] [--json]

Reads the photo sets and MobileNet weights under EDGETL_SHARED (default: ../shared next to the repository).
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from pathlib import Path

from edgetl.pipeline import BuildOptions, BuildResult, build

SHARED = Path(os.environ.get("EDGETL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
WEIGHTS = {
    "mobilenet-v2-0.35": "weights/mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5",
}
TARGET_POINTS = -0.5
"""Percentage points: int8 may be at most half a point below float32."""


def main() -> None:
    """Builds every combination with and without fine-tuning, and prints the accuracies."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", nargs="+", default=["trashnet", "sign_digits"])
    parser.add_argument("--backbone", nargs="+", default=["efficientnet-lite0", "mobilenet-v2-0.35"])
    parser.add_argument("--fine-tune", default="auto")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = [
        measure(data, backbone, fine_tune)
        for data in options.data
        for backbone in options.backbone
        for fine_tune in dict.fromkeys(["off", options.fine_tune])
    ]
    if options.json:
        print(json.dumps(rows))
        return
    print(
        f"{'data':12}{'backbone':20}{'stage':12}{'float32':>9}{'int8':>8}{'points':>8}{'interval':>16}{'n':>6}{'s':>7}"
    )
    for row in rows:
        interval = f"{row['low']:+.1f} to {row['high']:+.1f}"
        print(
            f"{row['data']:12}{row['backbone']:20}{row['stage']:12}{row['float32']:9.1%}{row['int8']:8.1%}"
            f"{row['points']:+8.1f}{interval:>16}{row['n']:6}{row['seconds']:7.0f}"
            f"{'' if row['points'] >= TARGET_POINTS else '  under the target'}"
        )


def measure(data: str, backbone: str, fine_tune: str) -> dict[str, object]:
    """The row of one build."""
    weights = SHARED / WEIGHTS[backbone] if backbone in WEIGHTS else None
    options = BuildOptions(
        backbone=backbone, weights=weights, fine_tune=int(fine_tune) if fine_tune.isdigit() else fine_tune
    )
    with tempfile.TemporaryDirectory() as output:
        result: BuildResult = build(SHARED / "data" / data, "generic", options, output=output)
    report = result.report
    comparison = report.quantization
    assert comparison is not None
    assert report.training is not None
    return {
        "data": data,
        "backbone": backbone,
        "fine_tune": fine_tune,
        "stage": next(stage.name for stage in report.training.stages if stage.kept),
        "stages": {stage.name: stage.test and stage.test.value for stage in report.training.stages},
        "float32": comparison.first_accuracy.value,
        "int8": comparison.second_accuracy.value,
        "points": comparison.difference.points,
        "low": comparison.difference.low,
        "high": comparison.difference.high,
        "n": report.evaluation.n,
        "seconds": report.seconds["total"],
    }


if __name__ == "__main__":
    main()
