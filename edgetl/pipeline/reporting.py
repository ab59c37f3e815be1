"""How what a build came to becomes its report; `build` calls it last."""

from __future__ import annotations

import importlib.metadata
import platform
from dataclasses import replace
from typing import Optional

from edgetl import __version__
from edgetl.conversion.backbone_source import Origin
from edgetl.data import suspect_labels
from edgetl.evaluation import Comparison, Data, Epoch, Figure, Report, Summary, Training, compare
from edgetl.pipeline.bundle_packer import Measured, Shelf
from edgetl.pipeline.candidate import Candidate, known_photos
from edgetl.pipeline.model import Chosen
from edgetl.runtime import interpreters
from edgetl.targets import LatencyEstimate, Target


def tell(
    shelf: Shelf,
    first: Candidate,
    chosen: Chosen,
    shipped: Measured,
    reference: Optional[Measured],
    seconds: dict[str, float],
) -> Report:
    """The report of a build; `first` is stage 1, which doubts labels better than a trained model."""
    kept = chosen.candidate
    quantize = kept.artifact.quantize
    return Report(
        edgetl_version=__version__,
        summary=_summary(shelf, kept, shipped, reference),
        evaluation=shipped.evaluation,
        data=_data(shelf, first),
        training=Training(chosen.stages, tuple(_epoch(record) for record in kept.history)),
        quantization=_compare(reference, shipped, quantize),
        gate=chosen.gate,
        pruning=chosen.pruning,
        variants=(replace(shipped.variant, shipped=True), *([reference.variant] if reference else [])),
        seconds=seconds,
        environment=_environment(),
        determinism="The same photos, options and versions give the same bundle, byte for byte, on one machine.",
        licences=(f"backbone {shelf.origin.name}: {shelf.origin.description['licence']}",),
    )


def latency_figure(board: Target, origin: Origin, quantize: str) -> Optional[Figure]:
    """What is known of the backbone's latency on the board: measured there with this backbone, or an estimate."""
    estimate = board.estimate_latency(origin.workload, quantize)
    if estimate is None:
        return None
    reference = estimate.references[0]
    if estimate.is_own and (reference.model, reference.workload) == (origin.name, origin.workload):
        return Figure(round(estimate.latency_ms, 1), "ms", f"{reference.source}, with edgetl bench")
    return estimated(estimate)


def estimated(estimate: LatencyEstimate) -> Figure:
    """An estimate with its interval and what it was scaled from."""
    latency, low, high = (float(f"{value:.3g}") for value in (estimate.latency_ms, *estimate.interval_ms))
    return Figure(latency, "ms", estimate.explain(), low, high, estimate=True)


def _summary(shelf: Shelf, kept: Candidate, shipped: Measured, reference: Optional[Measured]) -> Summary:
    return Summary(
        name=shelf.name,
        target=shelf.board.name,
        target_title=shelf.board.title,
        backbone=shelf.origin.name,
        input_size=shelf.origin.preprocess.size,
        quantize=kept.artifact.quantize,
        solver=kept.selection.solver,
        labels=kept.last_layer.labels,
        accuracy=shipped.evaluation.accuracy,
        float_accuracy=reference.evaluation.accuracy if reference else None,
        model_bytes=len(kept.artifact.model),
        latency_here=shipped.latency,
        latency_on_target=latency_figure(shelf.board, shelf.origin, kept.artifact.quantize),
    )


def _compare(reference: Optional[Measured], shipped: Measured, quantize: str) -> Optional[Comparison]:
    if reference is None:
        return None
    answers = (reference.evaluation.images, shipped.evaluation.images)
    return compare(*answers, ("float32", quantize), "run by the device runtime")


def _data(shelf: Shelf, first: Candidate) -> Data:
    """What the checks found, and the labels that stage 1 doubts."""
    selection, dataset = first.selection, shelf.dataset
    indices = known_photos(dataset)[selection.out_of_fold_indices]
    suspects = suspect_labels(dataset, indices, selection.out_of_fold_probabilities, first.last_layer.labels)
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
