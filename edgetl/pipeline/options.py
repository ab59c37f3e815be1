"""What a build may be told, and what it gives back; the CLI fills the one and prints the other."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from edgetl.conversion import ConversionOptions, PruningOptions, SparsityOptions
from edgetl.conversion.backbone_source import COMPILED_SUFFIXES
from edgetl.data import DataOptions
from edgetl.errors import OptionError
from edgetl.evaluation import Report
from edgetl.pipeline.budget import Budget
from edgetl.training import FineTuneOptions, ImitationOptions, QuantizationAwareOptions


@dataclass(frozen=True)
class BuildOptions:
    """What a build does otherwise than by default; each room has its own options nested here. Paths may be text.

    `backbone` is a name or a file, the target's default for None; `edgetpu_backbone` the file that the Edge TPU
    compiler made of it, where `backbone` is a .tflite file; `normalization` the (offset, scale) of a Keras
    file that does not hold its own: it takes (pixel - offset) / scale; `fine_tune` is "auto", "off" or a number
    of epochs; `teacher` a bundle or a backbone whose answers are learned too, on the photos and on the pictures in
    the folder `unlabelled`, which the build's own model teaches where there is no other; `related` photos of
    other classes from a related domain, a folder per class, for the backbone to learn from first; `pruning` makes the
    backbone smaller (None: it keeps its channels), `sparsity` its weights easier to compress; `max_drop` the points
    of accuracy that the final model may lose against float (None: no gate), which `allow_drop` only reports; `aware`
    adds quantization-aware training to int8; `cache` the folder for embeddings and compiled backbones, the user's
    cache for None; `budget` what the model may take on the board: a build refuses to exceed it, a search finds a
    model that keeps to it.
    """

    backbone: Optional[str] = None
    edgetpu_backbone: Optional[Path] = None
    weights: Optional[Path] = None
    input_size: Optional[int] = None
    normalization: Optional[tuple[float, float]] = None
    fine_tune: Union[str, int] = "auto"
    float_reference: bool = True
    compare_scratch: bool = False
    require_edgetpu: bool = False
    max_drop: Optional[float] = None
    allow_drop: bool = False
    aware: bool = False
    cache: Optional[Path] = None
    data: DataOptions = field(default_factory=DataOptions)
    conversion: ConversionOptions = field(default_factory=ConversionOptions)
    training: FineTuneOptions = field(default_factory=FineTuneOptions)
    teacher: Optional[str] = None
    unlabelled: Optional[Path] = None
    related: Optional[Path] = None
    pruning: Optional[PruningOptions] = None
    sparsity: Optional[SparsityOptions] = None
    imitation: ImitationOptions = field(default_factory=ImitationOptions)
    quantization_aware: QuantizationAwareOptions = field(default_factory=QuantizationAwareOptions)
    budget: Optional[Budget] = None

    def __post_init__(self) -> None:
        for name in ("edgetpu_backbone", "weights", "cache", "unlabelled", "related"):
            if isinstance(path := getattr(self, name), str):
                object.__setattr__(self, name, Path(path))
        epochs = self.fine_tune
        if epochs not in ("auto", "off") and not (type(epochs) is int and epochs > 0):
            raise OptionError(f"fine_tune must be auto, off or a number of epochs, received {epochs!r}")
        if self.max_drop is not None and not 0 <= self.max_drop <= 100:
            raise OptionError(f"max_drop must be 0 to 100 points of accuracy, received {self.max_drop:g}")
        if self.allow_drop and self.max_drop is None:
            raise OptionError("allow_drop goes with max_drop: say how many points less are all right: --max-drop 1")
        if self.aware and self.conversion.quantize != "int8":
            raise OptionError(f"quantization-aware training is for int8, received {self.conversion.quantize}")

    @property
    def names_one_model(self) -> bool:
        """Whether backbone, input size, length of training and pruning are all given, so that nothing is to choose."""
        if self.backbone is None:
            return False
        is_course_given = self.fine_tune == "off" or (self.fine_tune != "auto" and self.pruning is not None)
        is_compiled = Path(self.backbone).suffix in COMPILED_SUFFIXES
        return is_compiled or (self.input_size is not None and is_course_given)

    @property
    def needs_frames(self) -> bool:
        """Whether anything after stage 1 looks at the photos again."""
        trains = self.fine_tune != "off" or self.compare_scratch or self.aware
        taught = any(further is not None for further in (self.teacher, self.unlabelled, self.related))
        changes = self.pruning is not None or self.sparsity is not None
        return trains or taught or changes or self.float_reference or self.max_drop is not None


@dataclass(frozen=True)
class BuildResult:
    """The files that a build wrote, and its report."""

    bundle: Path
    report_html: Path
    report_json: Path
    report: Report
    note: str = ""
    """What is left to do, such as to compile for the Edge TPU; empty where nothing is."""

    def to_json(self) -> dict[str, Any]:
        """What `edgetl build --json` prints: paths, accuracies 0..1, seconds a step."""
        summary, training = self.report.summary, self.report.training
        return {
            "bundle": str(self.bundle),
            "report_html": str(self.report_html),
            "report_json": str(self.report_json),
            "target": summary.target,
            "backbone": summary.backbone,
            "accuracy": {
                "float": summary.float_accuracy and summary.float_accuracy.value,
                summary.quantize: summary.accuracy.value,
            },
            "n": self.report.evaluation.n,
            "stages": {
                stage.name: {
                    "kept": stage.kept,
                    "validation": stage.validation and stage.validation.value,
                    "test": stage.test and stage.test.value,
                }
                for stage in (training.stages if training else ())
            },
            "gate": self.report.gate and self.report.gate.summary(),
            "multiply_accumulates": self.report.pruning
            and {"before": self.report.pruning.macs_before, "after": self.report.pruning.macs_after},
            "note": self.note,
            "model_bytes": summary.model_bytes,
            "bundle_bytes": summary.bundle_bytes,
            "seconds": dict(self.report.seconds),
        }
