"""For each operator of the rules: a small model that maps, and for each condition one that breaks only it."""

from __future__ import annotations

from typing import Any

from tests.conversion.edgetpu.graphs import one_operator, options


def image(*shape: int, **more: Any) -> dict[str, Any]:
    return {"shape": shape or (1, 8, 8, 4), **more}


def numbers(*values: int, shape: tuple[int, ...] | None = None) -> dict[str, Any]:
    return {"shape": (len(values),) if shape is None else shape, "kind": "INT32", "values": values}


def weights(*shape: int) -> dict[str, Any]:
    return {"shape": shape, "values": 3}


def bias(count: int) -> dict[str, Any]:
    return {"shape": (count,), "kind": "INT32", "values": 7}


def _same(count: int = 1) -> dict[str, Any]:
    return {"inputs": [image()] * count, "outputs": [image()]}


def _conv(**fields: Any) -> Any:
    return options("Conv2DOptions", strideW=1, strideH=1, **fields)


def _depthwise(**fields: Any) -> Any:
    return options("DepthwiseConv2DOptions", strideW=1, strideH=1, depthMultiplier=1, **fields)


_FOLD = {"inputs": [image(), numbers(1, 2)], "outputs": [image(1, 4)]}
_LSTM_GATE = [weights(8, 4)] * 4 + [weights(8, 8)] * 4 + [{}] * 3 + [bias(8)] * 4 + [{}] * 2
_STATES = [
    {"shape": (1, 8), "variable": True},
    {"shape": (1, 8), "kind": "INT16", "variable": True},
]

MAPPED: dict[str, dict[str, Any]] = {
    **{name: _same(2) for name in ("ADD", "SUB", "MUL", "MAXIMUM", "MINIMUM", "SQUARED_DIFFERENCE")},
    **{name: _same() for name in ("RSQRT", "RELU", "RELU6", "RELU_N1_TO_1", "LOGISTIC", "TANH")},
    **{name: _same() for name in ("L2_NORMALIZATION", "QUANTIZE")},
    "SPACE_TO_DEPTH": {"inputs": [image()], "outputs": [image(1, 4, 4, 16)]},
    "EXPAND_DIMS": {"inputs": [image(8, 8, 4), numbers(0)], "outputs": [image()]},
    "SLICE": {"inputs": [image(), numbers(0, 0, 0, 0), numbers(1, 4, 4, 4)], "outputs": [image(1, 4, 4, 4)]},
    "RESHAPE": {"inputs": [image(), numbers(1, 256)], "outputs": [image(1, 256)]},
    "TILE": {"inputs": [image(1, 1, 1, 4), numbers(1, 8, 8, 1)], "outputs": [image()]},
    "UNIDIRECTIONAL_SEQUENCE_LSTM": {
        "inputs": [image(1, 6, 4), *_LSTM_GATE, {}, *_STATES, *[{}] * 4],
        "outputs": [image(1, 6, 8)],
    },
    "AVERAGE_POOL_2D": {
        "inputs": [image()],
        "outputs": [image(1, 1, 1, 4)],
        "table": options("Pool2DOptions", filterHeight=8, filterWidth=8),
    },
    "MAX_POOL_2D": {
        "inputs": [image()],
        "outputs": [image(1, 4, 4, 4)],
        "table": options("Pool2DOptions", filterHeight=2, filterWidth=2),
    },
    "CONCATENATION": {
        "inputs": [image(), image()],
        "outputs": [image(1, 8, 8, 8)],
        "table": options("ConcatenationOptions", axis=3),
    },
    "CONV_2D": {"inputs": [image(), weights(8, 3, 3, 4), bias(8)], "outputs": [image(1, 8, 8, 8)], "table": _conv()},
    "DEPTHWISE_CONV_2D": {
        "inputs": [image(), weights(1, 3, 3, 4), bias(4)],
        "outputs": [image()],
        "table": _depthwise(dilationWFactor=2, dilationHFactor=2),
    },
    "TRANSPOSE_CONV": {
        "inputs": [numbers(1, 16, 16, 8), weights(8, 2, 2, 4), image()],
        "outputs": [image(1, 16, 16, 8)],
    },
    "FULLY_CONNECTED": {
        "inputs": [image(1, 16), weights(10, 16), bias(10)],
        "outputs": [image(1, 10)],
        "table": options("FullyConnectedOptions"),
    },
    "SOFTMAX": {"inputs": [image(1, 10)], "outputs": [image(1, 10)]},
    **dict.fromkeys(("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN"), _FOLD),
    "PACK": {
        "inputs": [image(1, 8, 4), image(1, 8, 4)],
        "outputs": [image(1, 8, 2, 4)],
        "table": options("PackOptions", valuesCount=2, axis=2),
    },
    "SPLIT": {"inputs": [numbers(3, shape=()), image()], "outputs": [image(1, 8, 8, 2)] * 2},
    "PAD": {"inputs": [image(), numbers(0, 0, 1, 1, 1, 1, 0, 0, shape=(4, 2))], "outputs": [image(1, 10, 10, 4)]},
    "PRELU": {"inputs": [image(), weights(1, 1, 4)], "outputs": [image()]},
    "RESIZE_BILINEAR": {"inputs": [image(), numbers(16, 16)], "outputs": [image(1, 16, 16, 4)]},
    "RESIZE_NEAREST_NEIGHBOR": {"inputs": [image(), numbers(16, 16)], "outputs": [image(1, 16, 16, 4)]},
    "SQUEEZE": {"inputs": [image(1, 1, 8, 4)], "outputs": [image(8, 4)]},
    "STRIDED_SLICE": {
        "inputs": [image(), numbers(0, 0, 0, 0), numbers(1, 4, 4, 4), numbers(1, 1, 1, 1)],
        "outputs": [image(1, 4, 4, 4)],
        "table": options("StridedSliceOptions"),
    },
    "TRANSPOSE": {"inputs": [image(), numbers(0, 2, 1, 3)], "outputs": [image()]},
}

_POOLED = {"table": options("Pool2DOptions", fusedActivationFunction=3)}
_UPSCALED = [image(1, 8, 8, 4), numbers(64, 64)]
_NOT_ONE_IMAGE = {"inputs": [image(8, 4), numbers(16)], "outputs": [image(16, 4)]}
_OVER_BATCH = {"inputs": [image(), numbers(0)], "outputs": [image(8, 8, 4)]}
_LONG = image(1, 16385)

BROKEN: dict[tuple[str, str], dict[str, Any]] = {
    ("ADD", "static_shapes"): {"inputs": [image(0, 8, 8, 4)] * 2, "outputs": [image(0, 8, 8, 4)]},
    ("ADD", "eight_bit"): {"inputs": [image(1, 4, kind="INT16"), image(1, 4)], "outputs": [image(1, 4)]},
    ("ADD", "three_inner_dimensions"): {"inputs": [image(2, 8, 8, 4)] * 2, "outputs": [image(2, 8, 8, 4)]},
    ("QUANTIZE", "from_float"): {"inputs": [image(kind="FLOAT32")]},
    ("AVERAGE_POOL_2D", "fused_activation"): _POOLED,
    ("MAX_POOL_2D", "fused_activation"): _POOLED,
    ("CONCATENATION", "fused_activation"): {"table": options("ConcatenationOptions", fusedActivationFunction=1)},
    ("CONCATENATION", "const_input"): {"inputs": [image(), weights(1, 8, 8, 4)]},
    ("CONV_2D", "weights_bias_constant"): {"inputs": [image(), image(1, 3, 3, 4), bias(1)]},
    ("CONV_2D", "dilation_equal_xy"): {"table": _conv(dilationWFactor=2, dilationHFactor=1)},
    ("DEPTHWISE_CONV_2D", "weights_bias_constant"): {"inputs": [image(), image(1, 3, 3, 4), bias(4)]},
    ("DEPTHWISE_CONV_2D", "dilation_equal_xy"): {"table": _depthwise(dilationWFactor=1, dilationHFactor=4)},
    ("TRANSPOSE_CONV", "weights_bias_constant"): {
        "inputs": [numbers(1, 16, 16, 8), image(1, 2, 2, 4), image()],
    },
    ("FULLY_CONNECTED", "weights_bias_constant"): {"inputs": [image(1, 16), image(10, 16), bias(10)]},
    ("FULLY_CONNECTED", "weights_format"): {"table": options("FullyConnectedOptions", weightsFormat=1)},
    ("FULLY_CONNECTED", "output_1d"): {"inputs": [image(5, 16), weights(10, 16), bias(10)], "outputs": [image(5, 10)]},
    ("SOFTMAX", "input_1d"): {"inputs": [image(1, 5, 10)], "outputs": [image(1, 5, 10)]},
    ("SOFTMAX", "max_elements"): {"inputs": [_LONG], "outputs": [_LONG]},
    **{(name, "no_batch_reduction"): _OVER_BATCH for name in ("MEAN", "SUM", "REDUCE_MAX", "REDUCE_MIN")},
    ("MEAN", "z_reduction_multiple_of"): {
        "inputs": [image(1, 8, 8, 3), numbers(-1)],
        "outputs": [image(1, 8, 8)],
    },
    ("MEAN", "reduced_positions"): {"inputs": [image(1, 256, 128, 3), numbers(1, 2)], "outputs": [image(1, 3)]},
    ("PACK", "no_batch_packing"): {"table": options("PackOptions", valuesCount=2, axis=0)},
    ("SPLIT", "no_batch_split"): {"inputs": [numbers(0, shape=()), image()]},
    ("PAD", "no_batch_padding"): {"inputs": [image(), numbers(0, 1, 0, 0, 0, 0, 0, 0, shape=(4, 2))]},
    ("PRELU", "alpha_1d"): {"inputs": [image(), weights(8, 8, 4)]},
    ("RESIZE_BILINEAR", "tensor_is_3d"): _NOT_ONE_IMAGE,
    ("RESIZE_BILINEAR", "interpolation"): {"inputs": _UPSCALED, "outputs": [image(1, 64, 64, 4)]},
    ("RESIZE_NEAREST_NEIGHBOR", "tensor_is_3d"): _NOT_ONE_IMAGE,
    ("RESIZE_NEAREST_NEIGHBOR", "interpolation"): {"inputs": _UPSCALED, "outputs": [image(1, 64, 64, 4)]},
    ("STRIDED_SLICE", "strides_all"): {
        "inputs": [image(), numbers(0, 0, 0, 0), numbers(1, 8, 8, 4), numbers(1, 2, 2, 1)],
    },
    ("STRIDED_SLICE", "ellipsis_mask"): {"table": options("StridedSliceOptions", ellipsisMask=2)},
    ("STRIDED_SLICE", "new_axis_mask"): {"table": options("StridedSliceOptions", newAxisMask=1)},
    ("TRANSPOSE", "rank_max"): {
        "inputs": [image(1, 1, 8, 8, 4), numbers(0, 1, 3, 2, 4)],
        "outputs": [image(1, 1, 8, 8, 4)],
    },
}


def mapped_model(name: str, **changes: Any) -> bytes:
    return one_operator(name, **{**MAPPED[name], **changes})


def broken_model(name: str, rule: str) -> bytes:
    return mapped_model(name, **BROKEN[name, rule])
