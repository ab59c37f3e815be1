"""Measures support for Coral without its compiler: a precompiled backbone, and where each layer would run.

    python -m benchmarks.coral extractor [--data NAME ...] [--json]
    python -m benchmarks.coral backbones [--backbone NAME ...] [--json]

`extractor` builds on an embedding extractor that Coral publishes in compiled form, and measures it through its
uncompiled twin on the CPU. `backbones` converts every backbone offered for Coral at its default size and predicts the
placement of its operators. It uses published weights if a package contains them, else random ones: placement and
bytes are the same. The photo sets and the extractor are read under EDGETL_SHARED (default: ../shared next to the
repository).
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import tempfile
import time
from pathlib import Path

from edgetl.backbones import Spec, build, get_backbone, list_backbones
from edgetl.bundle import EDGETPU_MODEL, MODEL, open_bundle
from edgetl.conversion import ConversionOptions, compile_backbone, convert, recipe_frames
from edgetl.conversion.edgetpu import analyse, read_package, verify
from edgetl.pipeline import BuildOptions
from edgetl.pipeline import build as build_bundle

SHARED = Path(os.environ.get("EDGETL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
EXTRACTOR = SHARED / "coral" / "pairs" / "mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = parser.add_subparsers(dest="part", required=True)
    extractor = parts.add_parser("extractor", help="accuracy on a precompiled backbone")
    extractor.add_argument("--data", nargs="+", default=["sign_digits", "trashnet"], help="photo sets")
    backbones = parts.add_parser("backbones", help="where the layers of the built-in backbones would run")
    backbones.add_argument("--backbone", nargs="+", default=[spec.name for spec in list_backbones() if spec.coral])
    for part in (extractor, backbones):
        part.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args()
    if options.part == "extractor":
        rows = [measure_extractor(name) for name in options.data]
        print(json.dumps(rows)) if options.json else print_extractor(rows)
    else:
        rows = [measure_backbone(get_backbone(name)) for name in options.backbone]
        print(json.dumps(rows)) if options.json else print_backbones(rows)


def measure_extractor(data: str) -> dict[str, object]:
    """One build on the extractor, with the check that the two models of the bundle are equivalent."""
    twin = EXTRACTOR.with_name(f"{EXTRACTOR.stem}_edgetpu.tflite")
    options = BuildOptions(backbone=str(EXTRACTOR), edgetpu_backbone=twin, require_edgetpu=True)
    with tempfile.TemporaryDirectory() as output:
        result = build_bundle(SHARED / "data" / data, "coral", options, output=output)
        bundle = open_bundle(result.bundle)
    package = read_package(bundle.read(EDGETPU_MODEL))
    summary = result.report.summary
    return {
        "data": data,
        "accuracy": summary.accuracy.value,
        "low": summary.accuracy.low,
        "high": summary.accuracy.high,
        "n": result.report.evaluation.n,
        "seconds": result.report.seconds["total"],
        "twins": verify(bundle.read(MODEL), bundle.read(EDGETPU_MODEL)).match,
        "cached_bytes": package.cached_bytes,
        "streamed_bytes": package.streamed_bytes,
        "min_runtime_version": package.min_runtime_version,
    }


def measure_backbone(spec: Spec) -> dict[str, object]:
    """The row of one backbone: how many operators would run where, and how much on-chip memory they need."""
    begin = time.monotonic()
    has_weights = spec.weights.package is not None and importlib.util.find_spec(spec.weights.package) is not None
    model = compile_backbone(spec).model if has_weights else convert_untrained(spec)
    analysis = analyse(model)
    return {
        "backbone": spec.name,
        "input_size": spec.input_size(),
        "weights": "published" if has_weights else "random",
        "operators": len(analysis.ops),
        "on_cpu": [f"{op.op} {op.index}" for op in analysis.cpu_ops],
        "refused": analysis.refused,
        "cached_bytes": analysis.parameter_bytes.cached,
        "streamed_bytes": analysis.parameter_bytes.streamed,
        "activation_bytes": analysis.activation_bytes,
        "min_runtime_version": analysis.min_runtime_version,
        "seconds": round(time.monotonic() - begin, 1),
    }


def convert_untrained(spec: Spec) -> bytes:
    size = spec.input_size()
    options = ConversionOptions(calibration_images=1)
    frames = recipe_frames(size, size, count=1)
    return convert(build(spec, pretrained=False), spec.normalization, spec.preprocess(size), options, frames).model


def print_extractor(rows: list[dict]) -> None:
    print(f"{'data':12}{'accuracy':>9}{'95 % interval':>18}{'n':>6}{'s':>6}{'twins':>7}{'cached':>10}{'streamed':>10}")
    for row in rows:
        interval = f"{row['low']:.1%} to {row['high']:.1%}"
        print(
            f"{row['data']:12}{row['accuracy']:9.1%}{interval:>18}{row['n']:6}{row['seconds']:6.0f}"
            f"{'yes' if row['twins'] else 'NO':>7}"
            f"{mib(row['cached_bytes']):>10}{mib(row['streamed_bytes']):>10}"
        )


def mib(size_bytes: int) -> str:
    return f"{size_bytes / (1 << 20):.2f} MiB"


def print_backbones(rows: list[dict]) -> None:
    print(
        f"{'backbone':34}{'size':>5}{'weights':>11}{'operators':>10}{'on TPU':>8}{'cached':>11}{'streamed':>11}"
        f"{'activations':>13}{'s':>6}"
    )
    for row in rows:
        mapped = 0 if row["refused"] else row["operators"] - len(row["on_cpu"])
        remark = row["refused"] or ", ".join(row["on_cpu"])
        print(
            f"{row['backbone']:34}{row['input_size']:5}{row['weights']:>11}{row['operators']:10}"
            f"{mapped / row['operators']:8.0%}{mib(row['cached_bytes']):>11}{mib(row['streamed_bytes']):>11}"
            f"{mib(row['activation_bytes']):>13}{row['seconds']:6.0f}{'  ' + remark if remark else ''}"
        )
    whole = sum(not row["refused"] and not row["on_cpu"] for row in rows)
    print(f"{whole} of {len(rows)} wholly on the Edge TPU; bytes are estimates, nothing was compiled")


if __name__ == "__main__":
    main()
