"""The spec of a backbone: what is known about it before anything is loaded."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Optional

from edgetl.errors import OptionError
from edgetl.workload import Workload

if TYPE_CHECKING:
    from edgetl.runtime import Preprocess

KERAS_APPLICATIONS = "https://storage.googleapis.com/tensorflow/keras-applications"
"""Where the authors of Keras publish weights."""

SLIM_MOBILENETS = "https://github.com/tensorflow/models/tree/master/research/slim/nets/mobilenet"
"""Where the authors of MobileNet V2 and V3 publish their accuracy."""

SMALLEST_INPUT = 32
"""Pixels. Every built-in family halves the resolution five times, which leaves one position of 32 pixels."""


@dataclass(frozen=True)
class WeightsSource:
    """Where pretrained weights come from, and their digests. Without package and URL, the user must name a file."""

    filename: str
    """May contain `{size}`: MobileNet V1 and V2 were trained separately for each published input size."""
    package: Optional[str] = None
    """The Python package that contains the file."""
    url: Optional[str] = None
    """The folder that the file is downloaded from."""
    sha256: Optional[str] = None
    """In lower-case hex, if the package or the publisher fixes the content."""
    md5: Optional[str] = None
    """In lower-case hex, if the publisher gives it."""


@dataclass(frozen=True)
class Spec:
    """One backbone, without its classifier."""

    name: str
    family: str
    """The `FAMILY` of the file that builds it."""
    input_sizes: tuple[int, ...]
    """The published input sizes in pixels, the default first."""
    embedding_size: int
    """The length d of the embedding."""
    parameters: int
    macs: int
    """Multiply-accumulates for one image of the default size."""
    depthwise_macs: int
    """How many of the `macs` are in depthwise convolutions."""
    licence: str
    """Of the weights."""
    source: str
    """The URL of the publisher, or the path of a model file."""
    normalization: tuple[float, float]
    """(offset, scale): the model's input is (pixel - offset) / scale."""
    weights: WeightsSource
    coral: bool
    """Whether every operator of the int8 model maps to the Edge TPU."""
    top1: Optional[float] = None
    """Published ImageNet top-1 accuracy, in percent, of the float model at the default size."""
    top1_source: str = ""
    """The URL that `top1` is from."""

    def input_size(self, size: Optional[int] = None) -> int:
        """`size`, or the default size for None, in pixels.

        Raises:
            OptionError: the size is too small for the backbone.
        """
        if size is None:
            return self.input_sizes[0]
        if size < SMALLEST_INPUT:
            raise OptionError(
                f"input size {size} is too small for {self.name}; choose {SMALLEST_INPUT} pixels or more, "
                f"published sizes: {', '.join(map(str, sorted(self.input_sizes)))}"
            )
        return size

    def workload(self, size: Optional[int] = None) -> Workload:
        """The cost of one run on an image of `size` x `size` pixels, scaled from the default size."""
        ratio = (self.input_size(size) / self.input_sizes[0]) ** 2
        return Workload(self.macs, self.depthwise_macs, self.parameters).resized(ratio)

    def preprocess(self, size: Optional[int] = None) -> Preprocess:
        """How a photo becomes this backbone's input of `size` x `size` pixels."""
        from edgetl.runtime import Preprocess

        pixels = self.input_size(size)
        return Preprocess(height=pixels, width=pixels)


mobilenet_spec = partial(
    Spec,
    licence="Apache-2.0",
    source="https://keras.io/api/applications/mobilenet/",
    normalization=(127.5, 127.5),
)
"""A Spec with what all MobileNets of Keras Applications have in common."""
