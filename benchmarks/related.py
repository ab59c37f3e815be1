"""Measures what photos of other classes from the same domain add when few photos are labelled.

    python -m benchmarks.related [--data NAME] [--backbone NAME] [--photos N ...] [--seeds N ...] [--json]

Half of the classes, drawn by the seed, are the task, with the given number of training photos each; all photos of the
other half are given as related photos. A row is a complete build, whose report contains both results: the pretrained
backbone, and the backbone that has learned from related photos. Both last layers are solved on the labelled photos
alone. Photos and MobileNet weights are read under EDGETL_SHARED (default: ../shared next to the repository).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.accuracy import SHARED, WEIGHTS
from edgetl.data import DataOptions, list_photos
from edgetl.pipeline import BuildOptions, build

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")


def main() -> None:
    arguments = parse()
    rows = [measure(arguments, photos, seed) for photos in arguments.photos for seed in arguments.seeds]
    print(json.dumps(rows, indent=2) if arguments.json else table(arguments, rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="sign_digits")
    parser.add_argument("--backbone", default="mobilenet-v2-0.35")
    parser.add_argument("--photos", nargs="+", type=int, default=[5, 10, 20], help="training photos per class")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, photos: int, seed: int) -> dict[str, Any]:
    """The row of one random draw of classes and photos."""
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        labelled, related = deal(SHARED / "data" / arguments.data, photos, seed, folder)
        options = BuildOptions(
            backbone=arguments.backbone,
            weights=SHARED / WEIGHTS[arguments.backbone] if arguments.backbone in WEIGHTS else None,
            fine_tune="off",
            float_reference=False,
            related=related,
            data=DataOptions(seed=seed),
        )
        report = build(labelled, "generic", options, name="related", output=folder).report
    stages = {stage.name: stage for stage in report.training.stages}
    first, learned = stages["stage 1"], stages.get("related", stages["stage 1"])
    return {
        "photos": photos,
        "seed": seed,
        "held_out": [first.validation.value, learned.validation.value],
        "test": [first.test.value, learned.test.value],
        "points": 100 * (learned.test.value - first.test.value),
        "kept": learned.kept,
        "note": learned.note,
        "n": report.evaluation.n,
    }


def deal(source: Path, photos: int, seed: int, folder: Path) -> tuple[Path, Path]:
    """CSV files of half of the classes, with `photos` training photos each and all test photos, and of the rest."""
    listed = list_photos(source.resolve()).photos
    random = np.random.default_rng(seed)
    labels = random.permutation(sorted({one.label for one in listed}))
    task = set(labels[: len(labels) // 2].tolist())
    labelled = [one for one in listed if one.label in task and one.split == "test"]
    for label in sorted(task):
        training = [one for one in listed if one.label == label and one.split == "train"]
        labelled += [training[at] for at in random.permutation(len(training))[:photos]]
    related = [one for one in listed if one.label not in task]
    return (
        write(folder / "labelled.csv", [(one.path, one.label, one.split) for one in labelled]),
        write(folder / "related.csv", [(one.path, one.label) for one in related]),
    )


def write(path: Path, rows: list[tuple[Any, ...]]) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows(rows)
    return path


def table(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{arguments.data}, {arguments.backbone}: accuracy without and with related photos",
        f"{'a class':>8}{'seed':>5}{'cross-validated':>18}{'test':>18}{'points':>8}",
    ]
    for each in rows:
        held_out, test = (f"{before:.1%} > {after:.1%}" for before, after in (each["held_out"], each["test"]))
        lines.append(
            f"{each['photos']:8}{each['seed']:5}{held_out:>18}{test:>18}{each['points']:+8.1f}"
            f"{'' if each['kept'] else '  not kept'}  {each['note']}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
