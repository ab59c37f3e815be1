"""MobileNet V1 (Howard et al. 2017, arXiv 1704.04861): architecture and weights.

The weights are those of Keras Applications, trained separately for each published input size; other sizes use the
weights for 224 pixels.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Optional

from edgetl.backbones.blocks import backbone, convolution, depthwise, image_input
from edgetl.backbones.spec import KERAS_APPLICATIONS, Spec, WeightsSource, mobilenet_spec

if TYPE_CHECKING:
    from tf_keras import Model

FAMILY = "mobilenet-v1"
_BLOCKS = (  # stride and filters, table 1
    (1, 64), (2, 128), (1, 128), (2, 256), (1, 256), (2, 512),
    (1, 512), (1, 512), (1, 512), (1, 512), (1, 512), (2, 1024), (1, 1024),
)  # fmt: skip


def assemble(spec: Spec, input_size: int, weights: Optional[Path]) -> Model:
    """The backbone for images of `input_size` pixels; `weights` is a file that Keras wrote, None for random weights."""
    width = float(spec.name.rpartition("-")[2])
    image = image_input(input_size)
    x = convolution(image, "stem", int(32 * width), kernel=3, stride=2, activation="relu6")
    for number, (stride, filters) in enumerate(_BLOCKS, 1):
        x = depthwise(x, f"block{number}_depthwise", 3, stride, "relu6")
        x = convolution(x, f"block{number}_pointwise", int(filters * width), activation="relu6")
    return backbone(spec, image, x, weights)


def _spec(width: str, parameters: int, macs: int, depthwise_macs: int, top1: float) -> Spec:
    in_file_name = {"1.0": "1_0", "0.75": "7_5", "0.5": "5_0", "0.25": "2_5"}[width]
    return mobilenet_spec(
        name=f"mobilenet-v1-{width}",
        family=FAMILY,
        input_sizes=(224, 192, 160, 128),
        embedding_size=int(1024 * float(width)),
        parameters=parameters,
        macs=macs,
        depthwise_macs=depthwise_macs,
        weights=WeightsSource(
            filename=f"mobilenet_{in_file_name}_{{size}}_tf_no_top.h5", url=f"{KERAS_APPLICATIONS}/mobilenet"
        ),
        coral=True,
        top1=top1,
        top1_source="https://arxiv.org/abs/1704.04861",
    )


SPECS = (
    _spec("1.0", 3_228_864, 567_716_352, 17_385_984, 70.6),
    _spec("0.75", 1_832_976, 324_632_448, 13_039_488, 68.4),
    _spec("0.5", 829_536, 148_985_088, 8_692_992, 63.7),
    _spec("0.25", 218_544, 40_774_272, 4_346_496, 50.6),
)
