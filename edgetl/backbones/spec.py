"""What is known of a backbone before anything is loaded: the families list it, the other rooms read it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Optional

from edgetl.errors import OptionError
from edgetl.workload import Workload

if TYPE_CHECKING:
    from edgetl.runtime.inference.preprocess import Preprocess

KERAS_APPLICATIONS = "https://storage.googleapis.com/tensorflow/keras-applications"
"""Where the authors of Keras publish weights."""

SMALLEST_INPUT = 32
"""Pixels: the five halvings of every family here leave nothing of a smaller image."""


@dataclass(frozen=True)
class WeightsSource:
    """Where pretrained weights come from, and how they are recognised.

    `filename` may hold `{size}`: MobileNet V1 and V2 were trained anew for each published input size.
    `package` is the Python package that carries the file, `url` the folder that it is downloaded from;
    a backbone with neither needs a file that the user names. `sha256` and `md5` are lower-case hex digests,
    as far as the publisher or the package fixes them.
    """

    filename: str
    package: Optional[str] = None
    url: Optional[str] = None
    sha256: Optional[str] = None
    md5: Optional[str] = None


@dataclass(frozen=True)
class Spec:
    """One backbone.

    `input_sizes` are the published ones in pixels, the default first; `embedding_size` is d;
    `parameters`, `macs` (multiply-accumulates for one image of the default size) and the `depthwise_macs` among
    them leave the classifier out.
    `normalization` is (offset, scale): the model's input is (pixel - offset) / scale.
    `top1` is the published ImageNet accuracy in percent of the float model at the default size, as
    `top1_source` has it. `coral` says that every operator of the int8 model maps to the Edge TPU.
    """

    name: str
    family: str
    input_sizes: tuple[int, ...]
    embedding_size: int
    parameters: int
    macs: int
    depthwise_macs: int
    licence: str
    source: str
    normalization: tuple[float, float]
    weights: WeightsSource
    coral: bool
    top1: Optional[float] = None
    top1_source: str = ""

    def input_size(self, size: Optional[int] = None) -> int:
        """`size` if the backbone can take it, the default size for None; OptionError otherwise."""
        if size is None:
            return self.input_sizes[0]
        if size < SMALLEST_INPUT:
            raise OptionError(
                f"input size {size} is too small for {self.name}: it takes {SMALLEST_INPUT} pixels or more; "
                f"published sizes: {', '.join(map(str, sorted(self.input_sizes)))}"
            )
        return size

    def workload(self, size: Optional[int] = None) -> Workload:
        """What a run on an image of `size` pixels square takes."""
        ratio = (self.input_size(size) / self.input_sizes[0]) ** 2
        return Workload(self.macs, self.depthwise_macs, self.parameters).resized(ratio)

    def preprocess(self, size: Optional[int] = None) -> Preprocess:
        """How a photo becomes this backbone's input of `size` pixels square."""
        from edgetl.runtime.inference.preprocess import Preprocess

        pixels = self.input_size(size)
        return Preprocess(height=pixels, width=pixels)
