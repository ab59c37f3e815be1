"""The options and the result of a build."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional, Union

from edgetl.conversion import COMPILED_SUFFIXES, ConversionOptions, PruningOptions, SparsityOptions
from edgetl.data import DataOptions
from edgetl.errors import OptionError
from edgetl.evaluation import Report
from edgetl.pipeline.budget import Budget
from edgetl.training import FineTuneOptions, ImitationOptions, QuantizationAwareOptions


@dataclass(frozen=True)
class BuildOptions:
    """The options of a build; each room's own options are nested here. Paths may be strings.

    Attributes:
        backbone: a name or a file; the target's default for None.
        edgetpu_backbone: the file that the Edge TPU compiler made from the .tflite file `backbone`.
        weights: the file with the backbone's weights.
        input_size: pixels per side; the backbone's default for None.
        normalization: (offset, scale) for a Keras file that does not include it: the model takes
            (pixel - offset) / scale.
        fine_tune: "auto", "off" or a number of epochs.
        float_reference: also measure the model in float32.
        compare_scratch: also train the same architecture from random weights, for comparison.
        require_edgetpu: fail if no Edge TPU compiler is available.
        max_drop: points of accuracy (0..100) that the final model may lose against float; None for no gate.
        allow_drop: report a larger drop instead of failing.
        aware: train the backbone for int8 (quantization-aware training).
        cache: the folder for embeddings, compiled backbones and checkpoints; the user's cache for None.
        data, conversion, training, imitation, quantization_aware: options of the rooms that do the work.
        teacher: a bundle or a backbone whose predictions are learned too.
        unlabelled: a folder of pictures that the teacher labels; without a teacher, the build's own model does.
        related: photos of other classes from a related domain, one folder per class, to train the backbone on first.
        pruning: removes channels from the backbone; None to keep all.
        sparsity: makes the weights easier to compress; None to leave them as they are.
        budget: limits for the model on the board: a build fails if it exceeds them, a search finds a model within
            them.

    Raises:
        OptionError: a value is out of range, or two options contradict each other.
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
            raise OptionError("allow_drop needs max_drop, the points of accuracy that may be lost, e.g. --max-drop 1")
        if self.aware and self.conversion.quantize != "int8":
            raise OptionError(f"quantization-aware training is for int8, received {self.conversion.quantize}")

    @property
    def names_one_model(self) -> bool:
        """Whether backbone, input size, epochs and pruning are all fixed, so that a search has nothing to choose."""
        if self.backbone is None:
            return False
        is_training_fixed = self.fine_tune == "off" or (self.fine_tune != "auto" and self.pruning is not None)
        is_compiled = Path(self.backbone).suffix in COMPILED_SUFFIXES
        return is_compiled or (self.input_size is not None and is_training_fixed)

    @property
    def needs_frames(self) -> bool:
        """Whether any stage after stage 1 needs the decoded photos."""
        trains = self.fine_tune != "off" or self.compare_scratch or self.aware
        learns_more = any(further is not None for further in (self.teacher, self.unlabelled, self.related))
        changes = self.pruning is not None or self.sparsity is not None
        return trains or learns_more or changes or self.float_reference or self.max_drop is not None


@dataclass(frozen=True)
class BuildResult:
    """The files that a build wrote, and its report."""

    bundle: Path
    report_html: Path
    report_json: Path
    report: Report
    note: str = ""
    """What the user can do next, e.g. compile for the Edge TPU; empty if there is nothing."""

    def to_json(self) -> dict[str, Any]:
        """What `edgetl build --json` prints: paths, accuracies 0..1, seconds per step."""
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
