"""What a user may choose about fine-tuning, as values with units; imports no TensorFlow, so the CLI can fill them."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from edgetl.errors import OptionError


@dataclass(frozen=True)
class AugmentationOptions:
    """How far a training image may be moved, zoomed and recoloured each time it is seen; 0 switches a part off.

    `flip` mirrors half of the images left to right; None lets the validation images say whether a mirrored one
    still means the same (it does not for text and many hand signs). `smallest_area` is the smallest share of the
    image that a random crop keeps, `stretch` the largest change of its aspect ratio, `rotation_degrees` the
    largest turn; `brightness`, `contrast`, `saturation` and `tint` (each colour channel by itself) are the
    largest relative changes. `mixup` blends every image and its label with another one, by shares from a symmetric
    beta distribution with this parameter (Zhang et al. 2018, arXiv 1710.09412): it keeps a large network from
    learning a few hundred photos by heart.
    """

    flip: Optional[bool] = None
    smallest_area: float = 0.4
    stretch: float = 0.2
    rotation_degrees: float = 10.0
    brightness: float = 0.2
    contrast: float = 0.2
    saturation: float = 0.2
    tint: float = 0.05
    mixup: float = 0.4

    def __post_init__(self) -> None:
        _between(self, "smallest_area", 0.05, 1.0)
        _between(self, "rotation_degrees", 0.0, 180.0)
        _between(self, "mixup", 0.0, 10.0)
        for name in ("stretch", "brightness", "contrast", "saturation", "tint"):
            _between(self, name, 0.0, 0.9)


@dataclass(frozen=True)
class DistillationOptions:
    """What a student takes from its teacher; unused where there is none.

    `answers` is the share of the loss that comes from the teacher's answers instead of the labels. Where the student
    was made from the teacher, which then sees every varied image beside it, both are softened by `temperature`
    (Hinton et al. 2015, arXiv 1503.02531), and `embedding` weighs the squared distance between the L2-normalised
    embeddings: the last layer is solved anew on those.
    """

    answers: float = 0.5
    temperature: float = 2.0
    embedding: float = 4.0

    def __post_init__(self) -> None:
        _between(self, "answers", 0.0, 1.0)
        _between(self, "temperature", 0.1, 100.0)
        _between(self, "embedding", 0.0, 1000.0)


@dataclass(frozen=True)
class FineTuneOptions:
    """How the backbone is fine-tuned; the defaults suit hundreds to thousands of photos on two cores.

    `epochs_upper` epochs train the upper `upper_share` of the layers, then `epochs_all` train all.
    `learning_rate` is the largest step of the top layer, relative to the size of what it changes; the first layer
    takes `lowest_rate` times that, those between in geometric steps; the head takes `head_learning_rate`. All of
    them warm up over `warmup_share` of the steps and then fall along a cosine. The weights that are validated are
    averaged over the last `averaged_share` of all steps; what is kept lies `kept_share` of the way from the start to
    them (Wortsman et al. 2022, arXiv 2109.01903), which preserves more of what the backbone knew. Training runs at
    `train_scale` of the backbone's input size: random crops show objects larger, smaller images smaller again
    (Touvron et al. 2019, arXiv 1906.06423), in half the time. `patience` is the number of epochs without a better
    validation loss after which it stops; most of the gain comes last, on the way down the cosine, so a small one
    stops too soon. `checkpoint` names the file from which an interrupted run goes on.
    """

    epochs_upper: int = 2
    epochs_all: int = 8
    upper_share: float = 0.4
    learning_rate: float = 1e-2
    head_learning_rate: float = 1e-2
    lowest_rate: float = 0.1
    warmup_share: float = 0.1
    weight_decay: float = 1e-2
    label_smoothing: float = 0.1
    batch_size: int = 32
    train_scale: float = 0.75
    averaged_share: float = 0.05
    kept_share: float = 0.75
    patience: int = 10
    seed: int = 0
    checkpoint: Optional[Path] = None
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    distillation: DistillationOptions = field(default_factory=DistillationOptions)

    def __post_init__(self) -> None:
        _between(self, "epochs_upper", 0, 10_000)
        _between(self, "epochs_all", 0, 10_000)
        if self.epochs == 0:
            raise OptionError("fine-tuning needs an epoch, received epochs_upper=0 and epochs_all=0; give one of them")
        _between(self, "batch_size", 1, 65_536)
        _between(self, "patience", 1, 10_000)
        _between(self, "train_scale", 0.25, 1.0)
        _between(self, "kept_share", 0.05, 1.0)
        for name in ("upper_share", "warmup_share", "averaged_share", "label_smoothing"):
            _between(self, name, 0.0, 0.99)
        for name in ("learning_rate", "head_learning_rate", "lowest_rate"):
            _between(self, name, 1e-9, 1.0)
        _between(self, "weight_decay", 0.0, 1.0)

    @property
    def epochs(self) -> int:
        """Of both phases together."""
        return self.epochs_upper + self.epochs_all


@dataclass(frozen=True)
class CourseOptions:
    """How long a backbone learns to give known embeddings: `steps` batches of photos, varied a little each time.

    `learning_rate` is the largest step, relative to the size of what it changes; it falls along a cosine.
    """

    steps: int = 200
    batch_size: int = 16
    learning_rate: float = 5e-3
    seed: int = 0
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)

    def __post_init__(self) -> None:
        _between(self, "steps", 1, 1_000_000)
        _between(self, "batch_size", 1, 65_536)
        _between(self, "learning_rate", 1e-9, 1.0)


@dataclass(frozen=True)
class QuantizationAwareOptions(CourseOptions):
    """How a backbone is trained to stand int8; ranges of activations come from the first `calibration_images` photos.

    `weight_decay` pulls weights towards where they started.
    """

    steps: int = 150
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    calibration_images: int = 64

    def __post_init__(self) -> None:
        super().__post_init__()
        _between(self, "weight_decay", 0.0, 1.0)
        _between(self, "calibration_images", 1, 65_536)


@dataclass(frozen=True)
class ImitationOptions(CourseOptions):
    """How a changed backbone learns to give the original's embeddings again, at `train_scale` of its input size."""

    steps: int = 600
    train_scale: float = 0.75

    def __post_init__(self) -> None:
        super().__post_init__()
        _between(self, "train_scale", 0.25, 1.0)

    def epochs(self, steps_an_epoch: int) -> int:
        """So many, the last one perhaps broken off, that there are batches for all steps."""
        return -(-self.steps // steps_an_epoch)


def _between(options: Any, name: str, lowest: float, highest: float) -> None:
    value = getattr(options, name)
    if not lowest <= value <= highest:
        raise OptionError(f"{name} is {value}; choose {lowest} to {highest}")
