"""The report of a build, as a value that is stored as JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Optional

from edgetl.errors import BundleError
from edgetl.evaluation.gate import Gate
from edgetl.evaluation.latency import Latency
from edgetl.evaluation.scoring import Comparison, Evaluation
from edgetl.evaluation.values import Figure, decode, encode
from edgetl.text import for_json

SCHEMA = 1
"""The version of report.json; reports with another version are rejected."""

SUSPECTED_LABEL = "suspected label"
"""The kind of finding that the renderers show as pictures."""


@dataclass(frozen=True)
class Summary:
    """What was built, at a glance: sizes in bytes, and the accuracy of the shipped model on the test photos."""

    name: str
    target: str
    target_title: str
    backbone: str
    input_size: tuple[int, int]
    """(height, width) in pixels."""
    quantize: str
    solver: str
    labels: tuple[str, ...]
    accuracy: Figure
    float_accuracy: Optional[Figure]
    model_bytes: int
    bundle_bytes: Optional[int] = None
    latency_here: Optional[Latency] = None
    latency_on_target: Optional[Figure] = None


@dataclass(frozen=True)
class DataFinding:
    """A finding of the data checks: its kind, the photos that it concerns, and a sentence for people."""

    kind: str
    paths: tuple[str, ...]
    detail: str


@dataclass(frozen=True)
class Data:
    """The photos: how many of each class are in each split, and what the checks found.

    The fields are those of `DatasetReport.to_json`; `counts` maps label -> split -> photos.
    """

    source: str
    photos: int
    used: int
    counts: Mapping[str, Mapping[str, int]]
    properties: Mapping[str, int]
    ignored: Mapping[str, int]
    findings: tuple[DataFinding, ...]
    left_out: Mapping[str, str]
    split: str

    @staticmethod
    def from_json(content: Mapping[str, Any]) -> Data:
        """The section from `DatasetReport.to_json()`; raises BundleError if `content` is anything else."""
        return decode(Data, dict(content), "data")

    def suspects(self) -> list[DataFinding]:
        """The findings about labels that look wrong, the most doubtful first."""
        return [finding for finding in self.findings if finding.kind == SUSPECTED_LABEL]

    def other_findings(self) -> list[DataFinding]:
        """All other findings."""
        return [finding for finding in self.findings if finding.kind != SUSPECTED_LABEL]


@dataclass(frozen=True)
class Stage:
    """The record of one stage of a build, e.g. "stage 1", "fine-tuned" or "from scratch".

    `kept` is true for the stage whose model ships. `validation` is the accuracy that stages are compared by, `test`
    the accuracy on the test photos, and `seconds` the duration of the training.
    """

    name: str
    kept: bool
    validation: Optional[Figure]
    test: Optional[Figure]
    seconds: Optional[float] = None
    note: str = ""


@dataclass(frozen=True)
class Epoch:
    """One epoch of the learning curve; accuracies are shares (0..1), losses are in nats."""

    phase: str
    epoch: int
    accuracy: Optional[float] = None
    loss: Optional[float] = None
    validation_accuracy: Optional[float] = None
    validation_loss: Optional[float] = None


@dataclass(frozen=True)
class Training:
    """The stages side by side, and the epochs of the training of the model that ships."""

    stages: tuple[Stage, ...]
    history: tuple[Epoch, ...] = ()
    note: str = ""


@dataclass(frozen=True)
class PrunedLayer:
    """A layer that lost channels: its name, and its number of channels before and after."""

    name: str
    before: int
    after: int


@dataclass(frozen=True)
class Pruning:
    """What structured pruning removed: multiply-accumulates per image, parameters, and channels."""

    macs_before: int
    macs_after: int
    parameters_before: int
    parameters_after: int
    layers: tuple[PrunedLayer, ...]

    @property
    def share(self) -> float:
        """The share (0..1) of the multiply-accumulates that was removed."""
        return 1 - self.macs_after / self.macs_before


@dataclass(frozen=True)
class Variant:
    """The model in one number format: sizes in bytes, `compressed_bytes` after gzip -9."""

    name: str
    shipped: bool
    model_bytes: int
    compressed_bytes: int
    accuracy: Optional[Figure] = None
    latency: Optional[Latency] = None


@dataclass(frozen=True)
class Report:
    """Everything known about one build. A section that does not apply is None or empty.

    `quantization` compares the float model with the shipped one on the test photos; `gate` is the decision of the
    accuracy gate; `seconds` has the duration of each step, `environment` the versions of packages, and `determinism`
    a sentence on whether the same command gives the same bundle.
    """

    edgetl_version: str
    summary: Summary
    evaluation: Evaluation
    data: Optional[Data] = None
    training: Optional[Training] = None
    quantization: Optional[Comparison] = None
    gate: Optional[Gate] = None
    variants: tuple[Variant, ...] = ()
    pruning: Optional[Pruning] = None
    seconds: Mapping[str, float] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    determinism: str = ""
    licences: tuple[str, ...] = ()
    schema: int = SCHEMA

    def to_json(self) -> str:
        """The report as JSON text; equal reports give equal texts."""
        return for_json(encode(self), indent=1) + "\n"

    @staticmethod
    def from_json(text: str) -> Report:
        """The report from the text that `to_json` returned; raises BundleError if the text is anything else."""
        try:
            content = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the report is not JSON: {error}; build the bundle again") from error
        schema = content.get("schema") if isinstance(content, dict) else None
        if schema != SCHEMA:
            raise BundleError(f"the report has schema {schema!r}, this edgetl reads schema {SCHEMA}; update edgetl")
        return decode(Report, content, "report")

    def proof(self) -> Report:
        """The part that goes into the bundle: the same photos and options give the same proof.

        It leaves out measured times, and the names of photos and folders, because bundles are copied to devices.
        """
        return replace(
            self,
            summary=replace(self.summary, bundle_bytes=None, latency_here=None),
            evaluation=replace(self.evaluation, images=(), unreadable=()),
            data=self.data and _without_names(self.data),
            training=self.training and _without_seconds(self.training),
            quantization=self.quantization and replace(self.quantization, flips=()),
            gate=self.gate and self.gate.without_seconds(),
            variants=tuple(replace(variant, latency=None) for variant in self.variants),
            seconds={},
        )


def _without_names(data: Data) -> Data:
    findings = tuple(DataFinding(finding.kind, (), "") for finding in data.findings)
    return replace(data, source="", findings=findings, left_out={})


def _without_seconds(training: Training) -> Training:
    return replace(training, stages=tuple(replace(stage, seconds=None) for stage in training.stages))
