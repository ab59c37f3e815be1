"""Measures the seconds of every stage from command to bundle, with a compiled backbone and no fine-tuning.

    python -m benchmarks.steps --data photos/ [--photos 1000] [--backbone NAME] [--weights FILE] [--json]

The command is `edgetl build --fine-tune off --no-float-reference` on this number of photos of the folder, an equal
share of each class, in a separate process: first with photos that are not in the cache, then again, as after an edit.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from itertools import chain, islice, zip_longest
from pathlib import Path
from typing import Any

from edgetl.data import list_photos


def main() -> None:
    arguments = parse()
    with tempfile.TemporaryDirectory() as folder:
        result = measure(arguments, Path(folder))
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", type=Path, required=True, help="folder with a folder per class")
    parser.add_argument("--photos", type=int, default=1000)
    parser.add_argument("--backbone", default="efficientnet-lite0")
    parser.add_argument("--weights", type=Path, help="file with the backbone's weights")
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, folder: Path) -> dict[str, Any]:
    build(arguments, folder, 60)  # compiles the backbone
    for path in (folder / "cache").glob("*.sqlite*"):
        path.unlink()
    return {
        "backbone": arguments.backbone,
        "rows": [
            {"what": what, **build(arguments, folder, arguments.photos)}
            for what in ("new photos", "the same photos again")
        ],
    }


def build(arguments: argparse.Namespace, folder: Path, count: int) -> dict[str, Any]:
    photos = write_list(arguments.data, folder / "photos.csv", count)
    command = [sys.executable, "-m", "edgetl", "build", "--data", str(folder / "photos.csv"), "--fine-tune", "off"]
    command += ["--no-float-reference", "--backbone", arguments.backbone, "--output", str(folder / "built"), "--json"]
    command += ["--weights", str(arguments.weights)] if arguments.weights else []
    environment = {**os.environ, "EDGETL_CACHE": str(folder / "cache")}
    started = time.monotonic()
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return {"photos": photos, "seconds": time.monotonic() - started, "steps": json.loads(done.stdout)["seconds"]}


def write_list(data: Path, table: Path, count: int) -> int:
    """Writes a CSV of path,label, alternating between the classes; returns the number of photos."""
    lines: dict[str, list[str]] = {}
    for photo in list_photos(data).photos:
        lines.setdefault(photo.label, []).append(f"{photo.path.absolute()},{photo.label}\n")
    in_turn = filter(None, chain.from_iterable(zip_longest(*lines.values())))
    chosen = list(islice(in_turn, count))
    table.write_text("".join(chosen))
    return len(chosen)


def table(result: dict[str, Any]) -> str:
    lines = [result["backbone"]]
    for row in result["rows"]:
        lines.append(f"{row['what']} ({row['photos']}): {row['seconds']:.1f} s from command to bundle")
        lines += [f"  {step:28}{seconds:7.2f}" for step, seconds in row["steps"].items()]
        lines.append(f"  {'start of the process, and end':28}{row['seconds'] - row['steps']['total']:7.2f}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
