"""Makes the report of a build."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import replace
from typing import Optional

from edgetl import __version__
from edgetl.conversion import BackboneSource
from edgetl.data import Dataset, suspect_labels
from edgetl.evaluation import Comparison, Data, Epoch, Figure, Report, Summary, Training, compare
from edgetl.pipeline.bundle_packer import BundlePacker, Measurement
from edgetl.pipeline.candidate import Candidate, known_photos
from edgetl.pipeline.model import Model
from edgetl.runtime import interpreters
from edgetl.targets import LatencyEstimate, Target


def make_report(
    packer: BundlePacker,
    stage_1: Candidate,
    model: Model,
    shipped: Measurement,
    reference: Optional[Measurement],
    seconds: dict[str, float],
) -> Report:
    """The report of a build.

    Labels that look wrong are found with `stage_1`: a backbone that was trained on wrong labels may have learned
    them. `shipped` and `reference` are the measurements of the model and of its float twin, `seconds` the duration
    of each step.
    """
    kept = model.candidate
    quantize = kept.artifact.quantize
    return Report(
        edgetl_version=__version__,
        summary=_summary(packer, kept, shipped, reference),
        evaluation=shipped.evaluation,
        data=_data(packer.dataset, stage_1),
        training=Training(model.stages, tuple(_epoch(record) for record in kept.history)),
        quantization=_compare(reference, shipped, quantize),
        gate=model.gate,
        pruning=model.pruning,
        variants=(replace(shipped.variant, shipped=True), *([reference.variant] if reference else [])),
        seconds=seconds,
        environment=_environment(),
        determinism="The same photos, options and versions give the same bundle, byte for byte, on one machine.",
        licences=(f"backbone {packer.backbone.name}: {packer.backbone.description['licence']}",),
    )


def latency_figure(board: Target, backbone: BackboneSource, quantize: str) -> Optional[Figure]:
    """The backbone's latency on the board, measured with this backbone or estimated; None if it is not known."""
    estimate = board.estimate_latency(backbone.workload, quantize)
    if estimate is None:
        return None
    reference = estimate.references[0]
    if estimate.is_own and (reference.model, reference.workload) == (backbone.name, backbone.workload):
        return Figure(round(estimate.latency_ms, 1), "ms", f"{reference.source}, with edgetl bench")
    return estimate_figure(estimate)


def estimate_figure(estimate: LatencyEstimate) -> Figure:
    """The figure for an estimated latency, with its interval and the measurements that it was scaled from."""
    latency, low, high = (float(f"{value:.3g}") for value in (estimate.latency_ms, *estimate.interval_ms))
    return Figure(latency, "ms", estimate.explain(), low, high, estimate=True)


def _summary(packer: BundlePacker, kept: Candidate, shipped: Measurement, reference: Optional[Measurement]) -> Summary:
    return Summary(
        name=packer.name,
        target=packer.board.name,
        target_title=packer.board.title,
        backbone=packer.backbone.name,
        input_size=packer.backbone.preprocess.size,
        quantize=kept.artifact.quantize,
        solver=kept.selection.solver,
        labels=kept.last_layer.labels,
        accuracy=shipped.evaluation.accuracy,
        float_accuracy=reference.evaluation.accuracy if reference else None,
        model_bytes=len(kept.artifact.model),
        latency_here=shipped.latency,
        latency_on_target=latency_figure(packer.board, packer.backbone, kept.artifact.quantize),
    )


def _compare(reference: Optional[Measurement], shipped: Measurement, quantize: str) -> Optional[Comparison]:
    if reference is None:
        return None
    answers = (reference.evaluation.images, shipped.evaluation.images)
    return compare(*answers, ("float32", quantize), "run by the device runtime")


def _data(dataset: Dataset, stage_1: Candidate) -> Data:
    """The findings of the checks, and the labels that look wrong to stage 1."""
    selection = stage_1.selection
    indices = known_photos(dataset)[selection.out_of_fold_indices]
    suspects = suspect_labels(dataset, indices, selection.out_of_fold_probabilities, stage_1.last_layer.labels)
    report = replace(dataset.report, findings=(*dataset.report.findings, *suspects))
    return Data.from_json(report.to_json())


def _epoch(record: object) -> Epoch:
    assert isinstance(record, dict)
    return Epoch(
        phase=str(record.get("phase", "fine-tuning")),
        epoch=int(record["epoch"]),
        accuracy=record.get("accuracy"),
        loss=record.get("loss"),
        validation_accuracy=record.get("validation_accuracy"),
        validation_loss=record.get("validation_loss"),
    )


def _environment() -> dict[str, str]:
    versions = {"edgetl": __version__, "python": platform.python_version()}
    for package in ("numpy", "pillow", "tensorflow", "tf_keras"):
        try:
            versions[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {**versions, **{str(name): str(version) for name, version in interpreters()[:1]}}
