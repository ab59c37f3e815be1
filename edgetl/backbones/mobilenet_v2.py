"""MobileNet V2 (Sandler et al. 2018, arXiv 1801.04381): architecture and weights.

The weights are those of Keras Applications, trained separately for each published input size; other sizes use the
weights for 224 pixels.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Optional

from edgetl.backbones.blocks import (
    Bottleneck,
    backbone,
    bottlenecks,
    convolution,
    image_input,
    round_channels,
)
from edgetl.backbones.spec import KERAS_APPLICATIONS, SLIM_MOBILENETS, Spec, WeightsSource, mobilenet_spec

if TYPE_CHECKING:
    from tf_keras import Model

FAMILY = "mobilenet-v2"
_STAGES = (  # expansion, filters, repeats, stride; table 2
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)


def assemble(spec: Spec, input_size: int, weights: Optional[Path]) -> Model:
    """The backbone for images of `input_size` pixels; `weights` is a file that Keras wrote, None for random weights."""
    width = float(spec.name.rpartition("-")[2])
    image = image_input(input_size)
    x = convolution(image, "stem", round_channels(32 * width), kernel=3, stride=2, activation="relu6")
    x = bottlenecks(x, _scaled_stages(width))
    x = convolution(x, "head", spec.embedding_size, activation="relu6")
    return backbone(spec, image, x, weights)


def _scaled_stages(width: float) -> Iterator[list[Bottleneck]]:
    for expansion, filters, repeats, first_stride in _STAGES:
        scaled = round_channels(int(filters * width))
        strides = [first_stride] + [1] * (repeats - 1)
        yield [Bottleneck(3, stride, expansion, scaled) for stride in strides]


def _spec(width: str, parameters: int, macs: int, depthwise_macs: int, top1: float) -> Spec:
    return mobilenet_spec(
        name=f"mobilenet-v2-{width}",
        family=FAMILY,
        input_sizes=(224, 192, 160, 128, 96),
        embedding_size=round_channels(1280 * max(1.0, float(width))),
        parameters=parameters,
        macs=macs,
        depthwise_macs=depthwise_macs,
        weights=WeightsSource(
            filename=f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{width}_{{size}}_no_top.h5",
            url=f"{KERAS_APPLICATIONS}/mobilenet_v2",
        ),
        coral=True,
        top1=top1,
        top1_source=SLIM_MOBILENETS,
    )


SPECS = (
    _spec("1.4", 4_363_712, 580_403_824, 29_571_696, 75.0),
    _spec("1.3", 3_766_048, 507_710_560, 27_250_272, 74.4),
    _spec("1.0", 2_257_984, 299_494_272, 20_716_416, 71.8),
    _spec("0.75", 1_382_064, 207_789_792, 17_484_768, 69.8),
    _spec("0.5", 706_224, 95_851_840, 11_204_928, 65.4),
    _spec("0.35", 410_208, 58_005_808, 8_601_264, 60.3),
)
