"""Reports for the tests of this folder: complete or bare, with any number of classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from edgetl.evaluation import (
    Data,
    DataFinding,
    Epoch,
    Figure,
    ImageResult,
    Latency,
    LeftOut,
    Report,
    Stage,
    Summary,
    Training,
    Variant,
    compare,
    score,
)


def predictions(labels: Sequence[str], images: int, skill: float, seed: int = 0) -> list[ImageResult]:
    """What a model of some skill might predict for `images` images of each label."""
    random = np.random.default_rng(seed)
    results = []
    for column, label in enumerate(labels):
        for i in range(images):
            scores = random.normal(size=len(labels))
            scores[column] += skill
            probabilities = np.exp(2 * scores) / np.exp(2 * scores).sum()
            best = int(probabilities.argmax())
            results.append(
                ImageResult(
                    source=f"{label}/{i}.jpg",
                    label=label,
                    predicted=labels[best],
                    probability=float(probabilities[best]),
                    probability_of_label=float(probabilities[column]),
                    novelty=float(random.random()),
                    is_novel=bool(random.random() < 0.05),
                )
            )
    return results


def bare_report(labels: Sequence[str], images: int = 10, skill: float = 2.0) -> Report:
    """A report without optional sections."""
    evaluation = score(predictions(labels, images, skill), labels, "int8 through the device runtime")
    summary = Summary(
        name="leaves",
        target="rpi4",
        target_title="Raspberry Pi 4",
        backbone="efficientnet-lite0",
        input_size=(224, 224),
        quantize="int8",
        solver="ridge",
        labels=tuple(labels),
        accuracy=evaluation.accuracy,
        float_accuracy=None,
        model_bytes=4_012_345,
    )
    return Report("0.1.0", summary, evaluation)


def full_report(labels: Sequence[str] = ("birch", "maple", "oak")) -> Report:
    """A report with every section."""
    report = bare_report(labels)
    shipped = list(report.evaluation.images)
    before = [replace(shipped[0], predicted=labels[1]), *shipped[1:]]
    latency = Latency(3.1, 5.2, "frame to prediction", 200, 10, 2, "ai-edge-litert 2.3.0 on cpu", "a CPU, 2 cores")
    accuracy = report.evaluation.accuracy
    return replace(
        report,
        summary=replace(
            report.summary,
            bundle_bytes=5_000_000,
            latency_here=latency,
            latency_on_target=Figure(17.0, "ms", "Scaled from MobileNet v2", 14.0, 20.7, estimate=True),
            float_accuracy=accuracy,
        ),
        evaluation=replace(report.evaluation, unreadable=(LeftOut("oak/torn.jpg", "it is truncated"),)),
        data=Data(
            source="/home/ada/leaves",
            photos=33,
            used=32,
            counts={label: {"train": 6, "val": 2, "test": 3} for label in labels},
            properties={"rotated": 1},
            ignored={".txt": 1},
            findings=(
                DataFinding("leakage", ("/home/ada/leaves/a.jpg",), "a.jpg is on both sides"),
                DataFinding("suspected label", ("/home/ada/leaves/b.jpg",), "labelled oak, looks like birch"),
            ),
            left_out={"/home/ada/leaves/torn.jpg": "truncated"},
            split="Split by class, seed 0.",
        ),
        training=Training(
            stages=(
                Stage("stage 1", False, accuracy, accuracy, 4.4),
                Stage("fine-tuned", True, accuracy, None, 212.0, "12 epochs"),
            ),
            history=tuple(Epoch("all blocks", i, 0.7 + i / 20, 1 / i, 0.7 + i / 30, 1 / i) for i in range(1, 5)),
        ),
        quantization=compare(before, shipped, ("float32", "int8"), "test photos"),
        variants=(
            Variant("int8", True, 4_012_345, 3_400_000, accuracy, latency),
            Variant("float32", False, 14_600_000, 13_300_000),
        ),
        seconds={"photos": 3.2, "evaluation": 1.8},
        environment={"python": "3.11.2"},
        determinism="The same command gives the same bundle.",
        licences=("Apache-2.0",),
    )


@pytest.fixture
def report() -> Report:
    return full_report()
