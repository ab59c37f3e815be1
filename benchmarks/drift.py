"""Measures how often familiar pictures raise a drift alarm, and how often changed conditions do.

    python -m benchmarks.drift --data photos/ [--data sessions/] [--backbone NAME] [--windows 20] [--json]

A model is built on the photos of one folder with `train/` and `test/` (a folder of such folders counts as several),
with its validation photos as the guard set. Then windows of 20, 50 and 100 test photos are classified: unchanged (five
times as many windows; every alarm is a false one), darkened to 30 percent, blurred, with a colour cast, slightly
darkened, and with the test photos of the other folders in their place. The figures are the shares of windows that
were reported as drifting or changed and, in brackets, as changed alone.

The limits were chosen on TrashNet and the groceries; sign digits only confirm them.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageEnhance, ImageFilter
from threadpoolctl import threadpool_limits

from benchmarks.embedded import add_arguments
from edgetl.backbones import get_backbone
from edgetl.conversion import compile_backbone
from edgetl.data import load_folder
from edgetl.learners import Baseline, Window, assess_drift, choose, relearn, to_grid
from edgetl.learners.drift import CHANGED, STABLE
from edgetl.runtime.inference.embedder import Embedder

SIZES = (20, 50, 100)
FOLDS = 5
AS_THEY_ARE = "as they are"
FALSE_ALARM_WINDOWS = 5


def blur(picture: Image.Image) -> Image.Image:
    return picture.filter(ImageFilter.GaussianBlur(picture.width / 64))


def cast(picture: Image.Image) -> Image.Image:
    return Image.fromarray(np.clip(np.asarray(picture) * np.array([0.6, 0.9, 1.3]), 0, 255).astype(np.uint8))


CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    AS_THEY_ARE: lambda picture: picture,
    "slightly darker (80 %)": lambda picture: ImageEnhance.Brightness(picture).enhance(0.8),
    "dark (30 %)": lambda picture: ImageEnhance.Brightness(picture).enhance(0.3),
    "blurred": blur,
    "colour cast": cast,
}


@dataclass(frozen=True)
class Place:
    """Embeddings of the photos of one folder, with the test photos under every change."""

    name: str
    known: np.ndarray
    labels: list[str]
    folds: np.ndarray
    is_guard: np.ndarray
    tests: dict[str, np.ndarray]
    test_labels: np.ndarray


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add_arguments(parser)
    parser.add_argument("--windows", type=int, default=20)
    arguments = parser.parse_args()
    artifact = compile_backbone(get_backbone(arguments.backbone), weights=arguments.weights)
    embedder = Embedder(artifact.model, artifact.preprocess)
    places = [read(part, embedder) for folder in arguments.data for part in parts(folder)]
    with threadpool_limits(1, "blas"):
        rows = [row for place in places for row in measure(place, places, arguments.windows)]
    result = {"backbone": arguments.backbone, "windows": arguments.windows, "rows": rows}
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def parts(folder: Path) -> list[Path]:
    return [folder] if (folder / "train").is_dir() else sorted(path.parent for path in folder.glob("*/train"))


def read(folder: Path, embedder: Embedder) -> Place:
    dataset = load_folder(folder, preprocess=embedder.preprocess, embedder=embedder)
    known = np.sort(np.concatenate([dataset.indices("train"), dataset.indices("val")]))
    test = dataset.indices("test")
    frames = [Image.fromarray(dataset.frame(index)) for index in test]
    changed = {
        name: np.stack([embedder.embed(np.asarray(change(frame))) for frame in frames])
        for name, change in CHANGES.items()
    }
    return Place(
        name=folder.name,
        known=to_grid(dataset.embeddings[known], embedder.zero_point),
        labels=list(dataset.labels_of(known)),
        folds=dataset.folds(known, FOLDS),
        is_guard=np.isin(known, dataset.indices("val")),
        tests={name: to_grid(raw, embedder.zero_point) for name, raw in changed.items()},
        test_labels=np.array(dataset.labels_of(test)),
    )


def measure(place: Place, places: list[Place], windows: int) -> Iterator[dict[str, Any]]:
    built = choose(place.known, place.labels, place.folds)
    layer, parameters = built.last_layer, built.parameters
    guard = place.known[place.is_guard]
    rest = built.statistics.copy()
    rest.remove(guard, np.array(place.labels)[place.is_guard].tolist())
    baseline = Baseline.of(relearn(layer, rest, parameters), rest, parameters, guard)
    others = {f"photos of {other.name}": other.tests[AS_THEY_ARE] for other in places if other is not place}
    for change, rows in {**place.tests, **others}.items():
        chance = np.random.default_rng(0)
        count = windows * (FALSE_ALARM_WINDOWS if change == AS_THEY_ARE else 1)
        found: dict[int, Counter[str]] = {}
        for size in (size for size in SIZES if size <= len(rows)):
            drawn = (rows[chance.choice(len(rows), size, replace=False)] for _ in range(count))
            verdicts = (assess_drift(window(layer, d), built.statistics, parameters, baseline).verdict for d in drawn)
            found[size] = Counter(verdicts)
        right = np.array(layer.labels)[layer.scores(rows).argmax(axis=1)]
        yield {
            "data": place.name,
            "change": change,
            "accuracy": round(float((right == place.test_labels).mean()), 3) if change in place.tests else None,
            "alarms": {size: round(1 - verdicts[STABLE] / count, 3) for size, verdicts in found.items()},
            "changed": {size: round(verdicts[CHANGED] / count, 3) for size, verdicts in found.items()},
        }


def window(layer: Any, rows: np.ndarray) -> Window:
    """The sums that a classifier's observer would have recorded."""
    probabilities = layer.probabilities(rows)
    found = np.array(layer.labels)[probabilities.argmax(axis=1)]
    return Window(
        counts=Counter(found.tolist()),
        sums={label: rows[found == label].sum(axis=0, dtype=np.int64) for label in set(found.tolist())},
        novelty=float(layer.novelty(rows).sum()),
        confidence=float(probabilities.max(axis=1).sum()),
    )


def table(result: dict[str, Any]) -> str:
    lines = [
        f"Windows found drifting or changed (changed), {result['backbone']}",
        f"{'built on':16}{'tested on':28}{'accuracy':>9}" + "".join(f"{f'{size} photos':>18}" for size in SIZES),
    ]
    for row in result["rows"]:
        accuracy = "" if row["accuracy"] is None else f"{row['accuracy']:.1%}"
        cells = [
            f"{row['alarms'][size]:.0%} ({row['changed'][size]:.0%})" if size in row["alarms"] else "" for size in SIZES
        ]
        lines.append(f"{row['data']:16}{row['change']:28}{accuracy:>9}" + "".join(f"{cell:>18}" for cell in cells))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
