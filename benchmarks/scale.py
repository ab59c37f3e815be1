"""Measures time and peak memory of builds on growing numbers of photos, against proportional growth.

    python -m benchmarks.scale [--sizes 2500 5000 10000 20000] [--json]

Each build is `edgetl build --fine-tune off --no-float-reference` in a separate process, on generated photos that are
not in the cache, with the backbone compiled beforehand. --weights defaults to those of MobileNetV2 0.35 under
EDGETL_SHARED (default: ../shared next to the repository).
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

SHARED = Path(os.environ.get("EDGETL_SHARED", Path(__file__).resolve().parents[2] / "shared"))
WEIGHTS = SHARED / "weights" / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
CLASSES, PHOTO_SIZE, PATCHES = 10, (320, 240), 8
MEMORY_LIMIT_MIB = 2048


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--sizes", type=int, nargs="+", default=[2500, 5000, 10000, 20000], help="photos per build")
    parser.add_argument("--backbone", default="mobilenet-v2-0.35")
    parser.add_argument("--weights", type=Path, default=WEIGHTS, help="file with the backbone's weights")
    parser.add_argument("--input-size", type=int, default=96)
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    photos = write_photos(folder / "photos", max(arguments.sizes))
    build(arguments, folder, photos[: 10 * CLASSES])
    rows = [build(arguments, folder, photos[:size]) for size in sorted(arguments.sizes)]
    first = rows[0]
    for row in rows:
        row["to_linear"] = (row["seconds"] / row["photos"]) / (first["seconds"] / first["photos"])
        row["cpu_to_linear"] = (row["cpu_seconds"] / row["photos"]) / (first["cpu_seconds"] / first["photos"])
    return {"backbone": arguments.backbone, "input_size": arguments.input_size, "rows": rows}


def build(arguments: argparse.Namespace, folder: Path, photos: list[Path]) -> dict[str, Any]:
    """One build without cached photos; seconds, processor seconds and peak memory of the process."""
    for path in (folder / "cache").glob("*.sqlite*"):
        path.unlink()
    table = folder / "photos.csv"
    table.write_text("".join(f"{path},{path.parent.name}\n" for path in photos))
    command = [sys.executable, "-m", "edgetl", "build", "--data", str(table), "--fine-tune", "off"]
    command += ["--no-float-reference", "--backbone", arguments.backbone, "--weights", str(arguments.weights)]
    command += ["--input-size", str(arguments.input_size), "--output", str(folder / "built"), "--json"]
    started = time.monotonic()
    process = subprocess.Popen(
        command, stdout=subprocess.PIPE, text=True, env={**os.environ, "EDGETL_CACHE": str(folder / "cache")}
    )
    assert process.stdout is not None
    printed = process.stdout.read()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"the build of {len(photos)} photos failed")
    return {
        "photos": len(photos),
        "seconds": time.monotonic() - started,
        "cpu_seconds": usage.ru_utime + usage.ru_stime,
        "peak_mib": usage.ru_maxrss / 1024,
        "steps": json.loads(printed)["seconds"],
    }


def write_photos(folder: Path, count: int) -> list[Path]:
    """Generated photos of soft patches: each class has a colour, each photo its own patches."""
    generator = np.random.default_rng(0)
    colours = generator.integers(64, 192, (CLASSES, 3))
    paths = []
    for number in range(count):
        label = number % CLASSES
        patches = colours[label] + generator.integers(-64, 64, (PATCHES, PATCHES, 3))
        path = folder / f"class{label}" / f"{number:06d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(patches.astype(np.uint8)).resize(PHOTO_SIZE, Image.Resampling.BICUBIC).save(path, quality=90)
        paths.append(path)
    return paths


def table(result: dict[str, Any]) -> str:
    steps = list(result["rows"][0]["steps"])
    lines = [
        f"{result['backbone']} at {result['input_size']} pixels",
        f"{'photos':>8}{'seconds':>9}{'to linear':>11}{'CPU s':>8}{'to linear':>11}{'peak MiB':>10}  "
        + ", ".join(steps),
    ]
    lines += [
        f"{row['photos']:8}{row['seconds']:9.1f}{row['to_linear']:11.2f}{row['cpu_seconds']:8.1f}"
        f"{row['cpu_to_linear']:11.2f}{row['peak_mib']:10.0f}  "
        + ", ".join(f"{row['steps'].get(step, 0):.1f}" for step in steps)
        for row in result["rows"]
    ]
    peak = max(row["peak_mib"] for row in result["rows"])
    return "\n".join([*lines, f"peak memory {peak:.0f} MiB (at most {MEMORY_LIMIT_MIB})"])


if __name__ == "__main__":
    main()
