"""Measures what a teacher and unlabelled pictures add to fine-tuning a small student alone.

    python -m benchmarks.distillation [--data NAME] [--student NAME] [--teachers NAME ...] [--labelled SHARE ...]
        [--input-size PIXELS] [--seeds N ...] [--json]

A row is a complete build, whose report contains both results: the student fine-tuned alone, and distilled from the
same start for as many epochs. `tuned` is a teacher that was fine-tuned on the same labelled photos (EfficientNet-Lite0)
and is given as a bundle; `itself` is the student's own fine-tuned model, which teaches only with unlabelled pictures.
If only a share of the training photos is labelled, the others are the unlabelled pictures. Finished trainings come
from the cache, so that an interrupted benchmark continues. A seed determines the validation photos and the training;
the test photos are those of the set. Photos and MobileNet weights are read under EDGETL_SHARED (default: ../shared
next to the repository).
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import tempfile
from pathlib import Path
from typing import Any, Optional

import numpy as np

from benchmarks.accuracy import SHARED, WEIGHTS
from edgetl.data import DataOptions, list_photos
from edgetl.evaluation import Stage
from edgetl.pipeline import BuildOptions, build

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
TUNED, ITSELF = "tuned", "itself"
TEACHER = "efficientnet-lite0"
TARGET_POINTS = 2.0
"""Target for the gain of the student on all labelled photos."""


def main() -> None:
    arguments = parse()
    rows = [row for share in arguments.labelled for seed in arguments.seeds for row in measure(arguments, share, seed)]
    print(json.dumps(rows, indent=2) if arguments.json else table(arguments, rows))


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", default="trashnet")
    parser.add_argument("--student", default="mobilenet-v2-0.35")
    parser.add_argument("--input-size", type=int, default=None)
    parser.add_argument("--teachers", nargs="+", default=["efficientnet-lite0", "efficientnet-lite2", TUNED, ITSELF])
    parser.add_argument("--labelled", nargs="+", type=float, default=[1.0, 0.5], metavar="SHARE")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--json", action="store_true")
    return parser.parse_args()


def measure(arguments: argparse.Namespace, share: float, seed: int) -> list[dict[str, Any]]:
    """The rows of one share of labelled photos: each teacher without and with the unlabelled pictures."""
    rows, student = [], arguments.student
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        photos, unlabelled = hide_labels(SHARED / "data" / arguments.data, share, folder)
        for teacher in arguments.teachers:
            source = tuned_teacher(photos, seed, folder) if teacher == TUNED else teacher
            for pictures in [None, unlabelled] if unlabelled else [None]:
                if teacher == ITSELF and pictures is None:
                    continue
                options = BuildOptions(
                    backbone=student,
                    input_size=arguments.input_size,
                    weights=SHARED / WEIGHTS[student] if student in WEIGHTS else None,
                    float_reference=False,
                    teacher=None if teacher == ITSELF else source,
                    unlabelled=pictures,
                    data=DataOptions(seed=seed),
                )
                report = build(photos, "generic", options, name="student", output=folder).report
                stages = {stage.name: stage for stage in report.training.stages}
                rows.append({"labelled": share, "seed": seed, "teacher": teacher, **row(stages, pictures)})
    return rows


def hide_labels(source: Path, share: float, folder: Path) -> tuple[Path, Optional[Path]]:
    """A CSV with the labels of this share of each class's training photos, and a folder of the others."""
    if share >= 1:
        return source, None
    photos, unlabelled = folder / "photos.csv", folder / "unlabelled"
    unlabelled.mkdir()
    listed = list_photos(source.resolve()).photos
    order = np.random.default_rng(0).permutation(len(listed))
    of_class: dict[str, list[int]] = {}
    for at in order:
        if listed[at].split == "train":
            of_class.setdefault(listed[at].label, []).append(int(at))
    hidden = {at for members in of_class.values() for at in members[round(share * len(members)) :]}
    for at in hidden:
        (unlabelled / f"{at}{listed[at].path.suffix}").symlink_to(listed[at].path)
    with photos.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerows((one.path, one.label, one.split) for at, one in enumerate(listed) if at not in hidden)
    return photos, unlabelled


def tuned_teacher(photos: Path, seed: int, folder: Path) -> str:
    """A bundle of the larger backbone, fine-tuned on the same labelled photos."""
    if not (folder / "teacher.edgetl").exists():
        options = BuildOptions(backbone=TEACHER, float_reference=False, data=DataOptions(seed=seed))
        build(photos, "generic", options, name="teacher", output=folder)
    return str(folder / "teacher.edgetl")


def row(stages: dict[str, Stage], unlabelled: Optional[Path]) -> dict[str, Any]:
    alone, distilled = stages.get("fine-tuned", stages["stage 1"]), stages["distilled"]
    return {
        "unlabelled": len(list(unlabelled.iterdir())) if unlabelled else 0,
        "alone_validation": alone.validation.value,
        "validation": distilled.validation.value,
        "alone": alone.test.value,
        "distilled": distilled.test.value,
        "points": 100 * (distilled.test.value - alone.test.value),
        "kept": next(name for name, stage in stages.items() if stage.kept),
        "seconds": distilled.seconds,
    }


def table(arguments: argparse.Namespace, rows: list[dict[str, Any]]) -> str:
    lines = [
        f"{arguments.data}, {arguments.student}: accuracy on validation and test photos, alone and distilled",
        f"{'labelled':>9}{'seed':>5}  {'teacher':20}{'unlabelled':>11}{'validation':>18}{'test':>18}{'points':>8}"
        f"{'s':>6}",
    ]
    for each in rows:
        validation = f"{each['alone_validation']:.1%} > {each['validation']:.1%}"
        test = f"{each['alone']:.1%} > {each['distilled']:.1%}"
        missed = each["labelled"] == 1 and each["points"] < TARGET_POINTS
        lines.append(
            f"{each['labelled']:9.0%}{each['seed']:5}  {each['teacher']:20}{each['unlabelled']:11}{validation:>18}"
            f"{test:>18}{each['points']:+8.1f}{each['seconds']:6.0f}  {each['kept']} kept"
            f"{'  under the target' if missed else ''}"
        )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
