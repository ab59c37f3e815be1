"""Vets the configuration of a Keras model that a stranger may have written, and rewrites it so that only known layers
are built.

Keras builds what `registered_name` and `module` of a configuration say, not only what `class_name` says, so a check
of the class names alone does not keep code out. Here each object is written anew with its class, a module of Keras and
no other name. Initializers, regularizers, constraints and the compiled training are left out, because a backbone with
loaded weights needs none of them, and every number is float32.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, Dict, List

from edgetl.backbones.keras_rebuild import ARITHMETIC, LAYERS
from edgetl.errors import WeightsError

_MODELS = frozenset(("Functional", "Model", "Sequential"))
_STRUCTURE = frozenset(("InputLayer", "TFOpLambda", "__keras_tensor__", "__tuple__"))
_KERAS_MODULE = re.compile(r"(tf_)?keras(\.src)?(\.(layers|models|engine|ops|operations)(\.\w+)*)?")
_UNUSED_KEYS = re.compile(r"compile_config|\w*_(initializer|regularizer|constraint)")
_ACTIVATION_KEYS = ("activation", "recurrent_activation")
_SIZE_KEYS = ("filters", "units")
_WINDOW_KEYS = ("kernel_size", "pool_size", "strides", "dilation_rate", "padding", "depth_multiplier", "groups")
LARGEST_WINDOW = 1024
"""The largest kernel, stride or padding; the largest published backbones have kernels of 31."""
_DEEPEST = 200
_PREPROCESSING = {
    "GetItem": "'caffe' (blue first, minus a mean: ResNet50, VGG)",
    "SlicingOpLambda": "'caffe' (blue first, minus a mean: ResNet50, VGG)",
    "__tensor__": "'torch' (mean and deviation of ImageNet: DenseNet)",
    "nn.bias_add": "'torch' (mean and deviation of ImageNet: DenseNet)",
}


def vetted_config(path: Path, config: Any, sizes: frozenset[int]) -> Dict[str, Any]:
    """The configuration of a model, rewritten so that it contains supported layers and arithmetic only.

    Args:
        path: the file, for errors.
        config: the configuration as JSON values.
        sizes: every dimension of the weights in the file. A layer with another number of filters or units is refused
            before it takes memory.

    Raises:
        WeightsError: it contains anything else, names another class than it shows, or is nested too deeply.
    """
    if not isinstance(config, dict) or config.get("class_name") not in _MODELS:
        raise WeightsError(f"{path} does not describe a Keras model; save one with model.save('model.keras')")
    vetted = _Vetting(path, sizes).value(config, 0)
    assert isinstance(vetted, dict)
    return vetted


class _Vetting:
    def __init__(self, path: Path, sizes: frozenset[int]) -> None:
        self._path = path
        self._sizes = sizes

    def value(self, value: Any, depth: int) -> Any:
        if depth > _DEEPEST:
            raise WeightsError(f"{self._path} has a configuration nested deeper than {_DEEPEST} levels")
        if isinstance(value, list):
            return [self.value(item, depth + 1) for item in value]
        if not isinstance(value, dict):
            return value
        if "class_name" in value:
            self._check_class(value)
        content = {key: item for key, item in value.items() if not _UNUSED_KEYS.fullmatch(key)}
        if "dtype" in content:
            content["dtype"] = "float32"
        self._check_sizes(content)
        for key in _ACTIVATION_KEYS:
            if key in content:
                content[key] = self._activation(content[key])
        rewritten = {key: self.value(item, depth + 1) for key, item in content.items()}
        if "registered_name" in rewritten and rewritten["registered_name"] != rewritten.get("class_name"):
            rewritten["registered_name"] = None
        return rewritten

    def _check_class(self, described: Dict[str, Any]) -> None:
        name, module, registered = (described.get(key) for key in ("class_name", "module", "registered_name"))
        inside = described.get("config")
        function = inside.get("function") if name == "TFOpLambda" and isinstance(inside, dict) else None
        known: List[Any] = [*LAYERS, *ARITHMETIC, *_MODELS, *_STRUCTURE]
        if name not in known or (name == "TFOpLambda" and function not in ARITHMETIC):
            self._refuse(function or name)
        if module is not None and not _KERAS_MODULE.fullmatch(str(module)):
            self._refuse(f"{name} of the module {str(module)[:60]}")
        if registered not in (None, name):
            self._refuse(f"{name} registered as {str(registered)[:60]}")

    def _refuse(self, what: Any) -> None:
        advice = ", ".join(sorted(LAYERS))
        if what == "Lambda":
            advice = f"{advice}. Write preprocessing as a Rescaling layer, which is data, not code"
        if what in _PREPROCESSING:
            advice = (
                f"{advice}. It is probably preprocess_input in the mode {_PREPROCESSING[what]}; save the model without "
                "it, with a Rescaling or Normalization layer for RGB in its place"
            )
        raise WeightsError(
            f"{self._path} contains {what}, which edgetl does not support; supported are arithmetic and {advice}"
        )

    def _check_sizes(self, content: Dict[str, Any]) -> None:
        for key in _SIZE_KEYS:
            if key in content and content[key] not in self._sizes:
                raise WeightsError(
                    f"{self._path} has a layer with {key} = {str(content[key])[:20]}, but no weights of this size; "
                    "save the model again, as one file: model.save('model.keras')"
                )
        for key in _WINDOW_KEYS:
            if any(abs(number) > LARGEST_WINDOW for number in _numbers(content.get(key))):
                raise WeightsError(
                    f"{self._path} has a layer with {key} = {str(content[key])[:40]}; the largest is {LARGEST_WINDOW}"
                )

    def _activation(self, activation: Any) -> Any:
        """The name of an activation; Keras may write a built-in function as an object of its own."""
        if isinstance(activation, dict) and activation.get("class_name") == "function":
            activation = activation.get("config")
        if isinstance(activation, dict):
            return activation
        if activation is not None and not re.fullmatch(r"[a-z0-9_]{1,40}", str(activation)):
            self._refuse(f"the activation {str(activation)[:60]}")
        return activation


def _numbers(value: Any) -> List[float]:
    if isinstance(value, (list, tuple)):
        return [number for item in value for number in _numbers(item)]
    return [value] if isinstance(value, (int, float)) and not isinstance(value, bool) else []
