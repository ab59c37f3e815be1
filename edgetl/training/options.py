"""The options of training. This module does not import TensorFlow, so that the CLI can create them quickly."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Optional

from edgetl.errors import OptionError


@dataclass(frozen=True)
class AugmentationOptions:
    """How much a training image is changed each time it is shown; 0 switches a change off."""

    flip: Optional[bool] = None
    """Mirror half of the images left to right. None tests on the validation images whether a mirrored image keeps its
    class, which is not so for text and many hand signs."""
    smallest_area: float = 0.4
    """The smallest fraction of the image that a random crop keeps."""
    stretch: float = 0.2
    """The largest relative change of the aspect ratio."""
    rotation_degrees: float = 10.0
    """The largest rotation."""
    brightness: float = 0.2
    """The largest relative change, as for the next three."""
    contrast: float = 0.2
    saturation: float = 0.2
    tint: float = 0.05
    """Like brightness, but for each colour channel separately."""
    mixup: float = 0.4
    """Parameter of a symmetric beta distribution: every image and its label are blended with another one, with a
    random share (Zhang et al. 2018, arXiv 1710.09412). It keeps a large network from memorizing a few hundred photos.
    """

    def __post_init__(self) -> None:
        _between(self, "smallest_area", 0.05, 1.0)
        _between(self, "rotation_degrees", 0.0, 180.0)
        _between(self, "mixup", 0.0, 10.0)
        for name in ("stretch", "brightness", "contrast", "saturation", "tint"):
            _between(self, name, 0.0, 0.9)


@dataclass(frozen=True)
class DistillationOptions:
    """What a student learns from its teacher; ignored without a teacher."""

    answers: float = 0.5
    """The share of the loss that comes from the teacher's answers instead of the labels."""
    temperature: float = 2.0
    """Softens the answers of a teacher that the student was derived from, and the student's (Hinton et al. 2015,
    arXiv 1503.02531)."""
    embedding: float = 4.0
    """The weight of the squared distance between the L2-normalised embeddings of the student and such a teacher."""

    def __post_init__(self) -> None:
        _between(self, "answers", 0.0, 1.0)
        _between(self, "temperature", 0.1, 100.0)
        _between(self, "embedding", 0.0, 1000.0)


@dataclass(frozen=True)
class FineTuneOptions:
    """How the backbone is fine-tuned; the defaults suit hundreds to thousands of photos on two cores."""

    epochs_upper: int = 2
    """Epochs that train only the upper layers."""
    epochs_all: int = 8
    """Epochs, after those, that train all layers."""
    upper_share: float = 0.4
    """The fraction of the layers that are upper layers."""
    learning_rate: float = 1e-2
    """The largest step of the top layer, relative to the size of its weights; it warms up, then falls as a cosine."""
    head_learning_rate: float = 1e-2
    """The same for the head."""
    lowest_rate: float = 0.1
    """The learning rate of the first layer relative to the top layer; the layers between take geometric steps."""
    warmup_share: float = 0.1
    """The fraction of the steps over which the learning rates rise."""
    weight_decay: float = 1e-2
    """Pulls weights towards their initial values."""
    label_smoothing: float = 0.1
    batch_size: int = 32
    train_scale: float = 0.75
    """The input size during training relative to the backbone's. Random crops show objects larger, a smaller input
    shows them smaller again (Touvron et al. 2019, arXiv 1906.06423), in half the time."""
    averaged_share: float = 0.05
    """The validated weights are the average over this fraction of all steps."""
    kept_share: float = 0.75
    """The result lies this far from the initial to the best weights (Wortsman et al. 2022, arXiv 2109.01903), which
    preserves more of what the backbone has learned before."""
    patience: int = 10
    """Epochs without a better validation loss after which training stops. Most of the gain comes at the end of the
    cosine, so that a small value stops too early."""
    seed: int = 0
    checkpoint: Optional[Path] = None
    """The file that an interrupted training continues from."""
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)
    distillation: DistillationOptions = field(default_factory=DistillationOptions)

    def __post_init__(self) -> None:
        _between(self, "epochs_upper", 0, 10_000)
        _between(self, "epochs_all", 0, 10_000)
        if self.epochs == 0:
            raise OptionError("fine-tuning needs 1 epoch or more, received epochs_upper=0 and epochs_all=0")
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
        """The number of epochs of both phases."""
        return self.epochs_upper + self.epochs_all


@dataclass(frozen=True)
class EmbeddingTrainingOptions:
    """How a backbone is trained to give known embeddings, without labels."""

    steps: int = 200
    """The number of batches."""
    batch_size: int = 16
    learning_rate: float = 5e-3
    """The largest step relative to the size of the weights; it falls along a cosine."""
    seed: int = 0
    augmentation: AugmentationOptions = field(default_factory=AugmentationOptions)

    def __post_init__(self) -> None:
        _between(self, "steps", 1, 1_000_000)
        _between(self, "batch_size", 1, 65_536)
        _between(self, "learning_rate", 1e-9, 1.0)


@dataclass(frozen=True)
class QuantizationAwareOptions(EmbeddingTrainingOptions):
    """How a backbone is trained for int8."""

    steps: int = 150
    learning_rate: float = 1e-4
    weight_decay: float = 0.0
    """Pulls weights towards their initial values."""
    calibration_images: int = 64
    """The number of training photos, from the first, that determine the ranges of activations."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _between(self, "weight_decay", 0.0, 1.0)
        _between(self, "calibration_images", 1, 65_536)


@dataclass(frozen=True)
class ImitationOptions(EmbeddingTrainingOptions):
    """How a modified backbone is trained to give the embeddings of the original."""

    steps: int = 600
    train_scale: float = 0.75
    """The input size during training relative to the backbone's."""

    def __post_init__(self) -> None:
        super().__post_init__()
        _between(self, "train_scale", 0.25, 1.0)


def _between(options: Any, name: str, lowest: float, highest: float) -> None:
    value = getattr(options, name)
    if not lowest <= value <= highest:
        raise OptionError(f"{name} must be {lowest} to {highest}, received {value}")
