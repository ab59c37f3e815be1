"""MobileNet V3 (Howard et al. 2019, arXiv 1905.02244): architecture and weights.

The embedding is the average over positions after the last convolution, 960 numbers for large and 576 for small at
full width. The hidden layer after it belongs to the ImageNet classifier and is missing from the weights published
without one. Only the minimalistic variants map to the Edge TPU: they have no squeeze-and-excitation, no hard swish
and no 5 x 5 kernels. The weights are those of Keras Applications.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Optional

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

FAMILY = "mobilenet-v3"


class _Stage(NamedTuple):
    filters: int
    stride: int
    expansions: tuple[float, ...]
    kernel: int = 3
    squeeze: bool = False
    hard_swish: bool = True


_SMALL = (  # table 2
    _Stage(16, 2, (1,), squeeze=True, hard_swish=False),
    _Stage(24, 2, (72 / 16, 88 / 24), hard_swish=False),
    _Stage(40, 2, (4, 6, 6), kernel=5, squeeze=True),
    _Stage(48, 1, (3, 3), kernel=5, squeeze=True),
    _Stage(96, 2, (6, 6, 6), kernel=5, squeeze=True),
)
_LARGE = (  # table 1
    _Stage(16, 1, (1,), hard_swish=False),
    _Stage(24, 2, (4, 3), hard_swish=False),
    _Stage(40, 2, (3, 3, 3), kernel=5, squeeze=True, hard_swish=False),
    _Stage(80, 2, (6, 2.5, 2.3, 2.3)),
    _Stage(112, 1, (6, 6), squeeze=True),
    _Stage(160, 2, (6, 6, 6), kernel=5, squeeze=True),
)
_TABLES = {"small": _SMALL, "large": _LARGE}


class _Variant(NamedTuple):
    table: str
    width: float
    minimalistic: bool


def assemble(spec: Spec, input_size: int, weights: Optional[Path]) -> Model:
    """The backbone for images of `input_size` pixels; `weights` is a file that Keras wrote, None for random weights."""
    variant = _VARIANTS[spec.name]
    activation = "relu" if variant.minimalistic else "hard_swish"
    image = image_input(input_size)
    x = convolution(image, "stem", 16, kernel=3, stride=2, activation=activation)
    x = bottlenecks(x, _stages(variant))
    x = convolution(x, "head", spec.embedding_size, activation=activation)
    return backbone(spec, image, x, weights)


def _stages(variant: _Variant) -> Iterator[list[Bottleneck]]:
    full = not variant.minimalistic
    for stage in _TABLES[variant.table]:
        filters = round_channels(stage.filters * variant.width)
        yield [
            Bottleneck(
                kernel=stage.kernel if full else 3,
                stride=stage.stride if repeat == 0 else 1,
                expansion=expansion,
                filters=filters,
                squeeze=stage.squeeze and full,
                activation="hard_swish" if stage.hard_swish and full else "relu",
            )
            for repeat, expansion in enumerate(stage.expansions)
        ]


def _name(variant: _Variant) -> str:
    width = "" if variant.width == 1.0 else f"-{variant.width}"
    return f"mobilenet-v3-{variant.table}{width}{'-minimalistic' if variant.minimalistic else ''}"


def _spec(variant: _Variant, parameters: int, macs: int, depthwise_macs: int, top1: float, md5: str) -> Spec:
    kind = variant.table + ("_minimalistic" if variant.minimalistic else "")
    last_filters = round_channels(_TABLES[variant.table][-1].filters * variant.width)
    return mobilenet_spec(
        name=_name(variant),
        family=FAMILY,
        input_sizes=(224,),
        embedding_size=round_channels(last_filters * 6),
        parameters=parameters,
        macs=macs,
        depthwise_macs=depthwise_macs,
        weights=WeightsSource(
            filename=f"weights_mobilenet_v3_{kind}_224_{variant.width}_float_no_top_v2.h5",
            url=f"{KERAS_APPLICATIONS}/mobilenet_v3",
            md5=md5,
        ),
        coral=variant.minimalistic,
        top1=top1,
        top1_source=SLIM_MOBILENETS,
    )


# MD5 digests as in Keras Applications
_PUBLISHED = (
    (_Variant("large", 1.0, False), 2_996_352, 214_080_960, 18_392_640, 75.6, "07fb09a5933dd0c8eaafa16978110389"),
    (_Variant("large", 0.75, False), 1_808_736, 152_359_024, 15_967_728, 73.3, "40af19a13ebea4e2ee0c676887f69a2e"),
    (_Variant("large", 1.0, True), 1_437_608, 206_627_904, 12_446_784, 72.3, "ec5221f64a2f6d1ef965a614bdae7973"),
    (_Variant("small", 1.0, False), 939_120, 54_896_576, 7_460_544, 68.1, "d3e8ec802a04aa4fc771ee12a9a9b836"),
    (_Variant("small", 0.75, False), 583_160, 41_932_976, 6_343_344, 65.4, "ebdb5cc8e0b497cd13a7c275d475c819"),
    (_Variant("small", 1.0, True), 441_000, 50_674_624, 3_697_344, 61.9, "cde8136e733e811080d9fcd8a252f7e4"),
)
_VARIANTS = {_name(row[0]): row[0] for row in _PUBLISHED}
SPECS = tuple(_spec(*row) for row in _PUBLISHED)
