"""Rebuilds a model of Keras 2 or 3 as a flat tf_keras backbone.

Nested models are flattened, and layers without effect at inference (dropout, augmentation) are omitted. Arithmetic
on the raw image becomes the normalisation, and the layers after the embedding are omitted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Optional, Union

import numpy as np

from edgetl.backbones.blocks import hard_sigmoid, hard_swish, image_input
from edgetl.backbones.tf_keras_import import tf_keras
from edgetl.errors import WeightsError
from edgetl.text import for_identifier

if TYPE_CHECKING:
    from tf_keras import Model

_WINDOW = ("strides", "padding", "dilation_rate", "activation", "use_bias")
_POOL = ("pool_size", "strides", "padding")
_IGNORED = frozenset(
    (
        "ActivityRegularization", "AlphaDropout", "AugMix", "CutMix", "Dropout", "GaussianDropout", "GaussianNoise",
        "Identity", "MixUp", "RandAugment", "RandomBrightness", "RandomColorDegeneration", "RandomColorJitter",
        "RandomContrast", "RandomCrop", "RandomElasticTransform", "RandomErasing", "RandomFlip", "RandomGaussianBlur",
        "RandomGrayscale", "RandomHeight", "RandomHue", "RandomInvert", "RandomPerspective", "RandomPosterization",
        "RandomRotation", "RandomSaturation", "RandomSharpness", "RandomShear", "RandomTranslation", "RandomWidth",
        "RandomZoom", "SpatialDropout2D",
    )
)  # fmt: skip
_REBUILT = {  # each layer with the arguments that it is rebuilt from
    "Activation": ("activation",),
    "Add": (),
    "AveragePooling2D": _POOL,
    "BatchNormalization": ("axis", "momentum", "epsilon", "center", "scale"),
    "Concatenate": ("axis",),
    "Conv2D": ("filters", "kernel_size", "groups", *_WINDOW),
    "Dense": ("units", "activation", "use_bias"),
    "DepthwiseConv2D": ("kernel_size", "depth_multiplier", *_WINDOW),
    "Flatten": (),
    "GlobalAveragePooling2D": ("keepdims",),
    "GlobalMaxPooling2D": ("keepdims",),
    "MaxPooling2D": _POOL,
    "Multiply": (),
    "ReLU": ("max_value", "negative_slope", "threshold"),
    "Reshape": ("target_shape",),
    "SeparableConv2D": ("filters", "kernel_size", "depth_multiplier", *_WINDOW),
    "Softmax": ("axis",),
    "ZeroPadding2D": ("padding",),
}
_SCALING = frozenset(("Normalization", "Rescaling"))
LAYERS = frozenset(_REBUILT) | _IGNORED | _SCALING
"""The layers that a model file may contain."""

_OPERATORS: dict[str, Callable[[Any, Any], Any]] = {
    "add": lambda a, b: a + b,
    "subtract": lambda a, b: a - b,
    "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b,
}
_SPELLINGS = {  # in TFOpLambda of Keras 2, and of the operations in Keras 3
    "add": ("__operators__.add", "math.add", "Add"),
    "subtract": ("__operators__.sub", "math.subtract", "Subtract"),
    "multiply": ("__operators__.mul", "math.multiply", "Multiply"),
    "divide": ("__operators__.truediv", "math.truediv", "math.divide", "TrueDivide", "Divide"),
}
ARITHMETIC = {spelling: name for name, spellings in _SPELLINGS.items() for spelling in spellings}
"""The four operations by the names that model files use."""

_ACTIVATIONS: dict[str, Any] = {
    "relu6": lambda x: tf_keras().activations.relu(x, max_value=6.0),
    "hard_swish": hard_swish,
    "hard_silu": hard_swish,
    "silu": "swish",
}
_PLAIN = frozenset(("linear", "relu", "relu6"))


@dataclass(frozen=True)
class Rebuilt:
    """A flat backbone, with random weights until `copy_weights`."""

    model: Model
    normalization: Optional[tuple[float, float]]
    """(offset, scale) that the source applies to its pixels: (pixel - offset) / scale; None if it applies none."""
    source_weights: dict[str, list[np.ndarray]]
    """The weights in the source, by the name of the layer in `model`."""

    @property
    def is_plain(self) -> bool:
        """Whether the model has only layers with ReLU activations and no arithmetic, as the Edge TPU requires."""
        layers = self.model.layers
        return all(_activation_of(layer) in _PLAIN and hasattr(tf_keras().layers, _kind(layer)) for layer in layers)

    def copy_weights(self) -> None:
        """Copies the weights of the source into the backbone."""
        for layer in self.model.layers:
            if layer.weights:
                layer.set_weights(self.source_weights[layer.name])


def rebuild(source: Any, input_size: int, name: str) -> Rebuilt:
    """The flat backbone of `source`, a functional or sequential model of Keras 2 or 3.

    Raises:
        WeightsError: the model is of another kind, or uses a layer in a way that is not supported.
    """
    return _Rebuilding(input_size).run(source, name)


@dataclass(frozen=True)
class _Pixels:
    """The raw image times `factor` plus `shift`, before the first layer."""

    factor: float = 1.0
    shift: float = 0.0

    def after(self, operator: str, number: float, swapped: bool) -> _Pixels:
        """The image after `image operator number`, or after `number operator image` if swapped."""
        apply = _OPERATORS[operator]
        if operator in ("add", "subtract"):
            sign = -1.0 if swapped and operator == "subtract" else 1.0
            shift = apply(number, self.shift) if swapped else apply(self.shift, number)
            return _Pixels(sign * self.factor, shift)
        return _Pixels(apply(self.factor, number), apply(self.shift, number))


_Value = Union[_Pixels, Any]


class _Rebuilding:
    """One traversal of a source model."""

    def __init__(self, input_size: int) -> None:
        self._image = image_input(input_size)
        self._pixels: Optional[_Pixels] = None
        self._source_weights: dict[str, list[np.ndarray]] = {}

    def run(self, source: Any, name: str) -> Rebuilt:
        output = self._walk(source, [_Pixels()])
        if isinstance(output, _Pixels) or len(getattr(output, "shape", ())) not in (2, 4):
            raise WeightsError(f"{name} does not turn an image into a vector; choose a model that classifies images")
        model = tf_keras().Model(self._image, _embedding(output), name=for_identifier(name))
        return Rebuilt(model, self._normalization(), self._source_weights)

    def _normalization(self) -> Optional[tuple[float, float]]:
        if self._pixels is None or self._pixels == _Pixels():
            return None
        return -self._pixels.shift / self._pixels.factor, 1.0 / self._pixels.factor

    def _walk(self, model: Any, inputs: list[_Value]) -> _Value:
        model = getattr(model, "_functional", None) or model  # Keras 3 wraps a Sequential's graph
        if not hasattr(model, "_nodes_by_depth") or len(model.outputs) != 1 or len(model.inputs) != len(inputs):
            raise WeightsError(f"{model.name} is not a functional or sequential model with one input and one output")
        values = {id(tensor): value for tensor, value in zip(model.inputs, inputs)}
        for layer, arguments, output in _calls(model):
            operands = [values.get(id(item), item) for item in arguments]
            values[id(output)] = self._apply(layer, operands)
        return values[id(model.outputs[0])]

    def _apply(self, layer: Any, operands: list[_Value]) -> _Value:
        kind = _kind(layer)
        if hasattr(layer, "_nodes_by_depth") or hasattr(layer, "_functional"):
            return self._walk(layer, operands)
        if kind in _IGNORED:
            return operands[0]
        if kind == "TFOpLambda" or not hasattr(layer, "get_weights"):
            return self._arithmetic(ARITHMETIC[getattr(layer, "symbol", kind)], layer.name, operands)
        if kind in _SCALING:
            return self._scaled(layer, operands[0])
        return self._layer(layer, kind, [self._tensor(operand) for operand in operands])

    def _layer(self, layer: Any, kind: str, operands: list[Any]) -> Any:
        config = layer.get_config()
        arguments = {key: config[key] for key in _REBUILT[kind] if key in config}
        if "activation" in arguments:
            arguments["activation"] = _activation(layer, arguments["activation"])
        if kind == "BatchNormalization" and config["axis"] in (-1, 3, [3], [-1]):
            arguments["axis"] = -1
        rebuilt = getattr(tf_keras().layers, kind)(name=self._unused(layer.name), **arguments)
        self._source_weights[rebuilt.name] = layer.get_weights()
        return rebuilt(operands if len(operands) > 1 else operands[0])

    def _arithmetic(self, operator: str, name: str, operands: list[Any]) -> _Value:
        left, right = operands[:2]
        numbers = [isinstance(side, (int, float)) for side in (left, right)]
        if not all(number or _is_symbolic(side) for side, number in zip(operands, numbers)):
            raise WeightsError(f"layer {name} computes with an array; use a Rescaling or Normalization layer")
        if isinstance(left, _Pixels) and numbers[1]:
            return left.after(operator, right, swapped=False)
        if isinstance(right, _Pixels) and numbers[0] and operator != "divide":
            return right.after(operator, left, swapped=True)
        if operator in ("add", "multiply") and not any(numbers):
            kind = tf_keras().layers.Add if operator == "add" else tf_keras().layers.Multiply
            return kind(name=self._unused(name))([self._tensor(left), self._tensor(right)])
        sides = [side if number else self._tensor(side) for side, number in zip((left, right), numbers)]
        return _OPERATORS[operator](*sides)

    def _scaled(self, layer: Any, operand: _Value) -> _Value:
        """Rescaling and Normalization: one factor and shift for the image, or one per channel."""
        factor, shift = _factor_and_shift(layer)
        if isinstance(operand, _Pixels) and factor.size == shift.size == 1:
            scaled = operand.after("multiply", factor.item(), swapped=False)
            return scaled.after("add", shift.item(), swapped=False)
        x = self._tensor(operand)
        channels = x.shape[-1]
        scaling = tf_keras().layers.DepthwiseConv2D(1, name=self._unused(layer.name))
        kernel = np.broadcast_to(factor, channels).reshape(1, 1, channels, 1)
        self._source_weights[scaling.name] = [kernel, np.broadcast_to(shift, channels)]
        return scaling(x)

    def _tensor(self, value: _Value) -> Any:
        """The operand of a layer; the first layer that uses the image determines its normalisation."""
        if not isinstance(value, _Pixels):
            return value
        if self._pixels is None:
            self._pixels = value
        if self._pixels != value:
            raise WeightsError("the model uses its image with two different normalisations; use one for all layers")
        return self._image

    def _unused(self, name: str) -> str:
        """`name` as an identifier, with a number appended if it is used already."""
        name = for_identifier(name)
        number, unused = 1, name
        while unused in self._source_weights:
            number += 1
            unused = f"{name}_{number}"
        self._source_weights[unused] = []
        return unused


def _calls(model: Any) -> Iterator[tuple[Any, list[Any], Any]]:
    """(layer, arguments, output) of every call in a model, in order."""
    for depth in sorted(model._nodes_by_depth, reverse=True):
        for node in model._nodes_by_depth[depth]:
            layer = getattr(node, "operation", None) or node.layer
            if _kind(layer) == "InputLayer":
                continue
            if hasattr(node, "operation"):
                yield layer, _flat(node.arguments.args, node.arguments.kwargs), node.outputs[0]
            else:
                yield layer, _flat(node.call_args, node.call_kwargs), node.outputs


def _flat(positional: Any, named: dict[str, Any]) -> list[Any]:
    """The operands of a call; other named arguments, e.g. `training`, have no effect at inference."""
    operands = [*positional, *(named[key] for key in ("x", "y", "x1", "x2", "inputs") if key in named)]
    return list(operands[0]) if operands and isinstance(operands[0], (list, tuple)) else operands


def _factor_and_shift(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    config = layer.get_config()
    if _kind(layer) == "Rescaling":
        return np.asarray(config["scale"], np.float64).ravel(), np.asarray(config["offset"], np.float64).ravel()
    mean, variance = (np.asarray(value, np.float64).ravel() for value in (layer.mean, layer.variance))
    deviation = np.maximum(np.sqrt(variance), 1e-7)
    return 1.0 / deviation, -mean / deviation


def _activation(layer: Any, name: Any) -> Any:
    """The activation in tf_keras; hard_sigmoid is another function in Keras 3 than in Keras 2."""
    if not isinstance(name, str):
        raise WeightsError(f"layer {layer.name} has the activation {name!r}; use a built-in activation of Keras")
    if name == "hard_sigmoid" and not type(layer).__module__.startswith("tf_keras"):
        return hard_sigmoid
    return _ACTIVATIONS.get(name, name)


def _kind(layer: Any) -> str:
    return type(layer).__name__


def _activation_of(layer: Any) -> str:
    return getattr(getattr(layer, "activation", None), "__name__", "linear")


def _embedding(output: Any) -> Any:
    """The output of the last layer that sees more than one position, as a vector.

    A Flatten over many positions would give far too long a vector; it is replaced by their average.
    """
    layers = tf_keras().layers
    x = output
    while _positions(x) == 1:
        layer = x._keras_history.layer
        source = layer.inbound_nodes[0].keras_inputs
        if any(_positions(tensor) > 1 for tensor in source):
            if "Global" in _kind(layer):
                return x if len(x.shape) == 2 else layers.Reshape((x.shape[-1],), name="embedding")(x)
            x = source[0]
        elif len(source) != 1 or _kind(layer) == "InputLayer":
            return x
        else:
            x = source[0]
    return layers.GlobalAveragePooling2D(name="embedding")(x)


def _is_symbolic(value: Any) -> bool:
    return isinstance(value, _Pixels) or hasattr(value, "_keras_history")


def _positions(x: Any) -> int:
    return math.prod(x.shape[1:-1])
