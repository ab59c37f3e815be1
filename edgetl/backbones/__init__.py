"""Pretrained backbones: their specs, and tf_keras models of them with the published weights.

A family of backbones is one file in this folder that defines `FAMILY`, `SPECS` and
`assemble(spec, input_size, weights)`; a new file is found without being registered. Importing this module, listing
backbones and looking one up do not import TensorFlow.
"""

from __future__ import annotations

import functools
import importlib
import pkgutil
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Optional

from edgetl.backbones import keras_file
from edgetl.backbones.spec import SMALLEST_INPUT, Spec, WeightsSource
from edgetl.backbones.structure import count_macs, count_workload, layer_macs, stages
from edgetl.backbones.tf_keras_import import tf_keras
from edgetl.backbones.weights import file_digest, find_weights
from edgetl.errors import OptionError, UnknownNameError
from edgetl.progress import Progress

if TYPE_CHECKING:
    from tf_keras import Model

__all__ = [
    "SMALLEST_INPUT",
    "Spec",
    "WeightsSource",
    "build",
    "count_macs",
    "count_workload",
    "file_digest",
    "find_weights",
    "get_backbone",
    "layer_macs",
    "list_backbones",
    "stages",
    "tf_keras",
    "weights_digest",
]


def list_backbones() -> list[Spec]:
    """All built-in backbones, family by family."""
    return [spec for family in _families().values() for spec in family.SPECS]


def get_backbone(name: str, normalization: Optional[tuple[float, float]] = None) -> Spec:
    """The spec of a built-in backbone, by name, or of a Keras model file, by path; reading a file needs TensorFlow.

    >>> spec = get_backbone("efficientnet-lite0")
    >>> spec.input_sizes, spec.embedding_size, spec.licence
    ((224,), 1280, 'Apache-2.0')

    Args:
        normalization: (offset, scale) for a file whose model does not normalise its input itself.

    Raises:
        UnknownNameError: no backbone has this name; the message suggests the nearest one.
        WeightsError: the file is not a model that can serve as a backbone.
        OptionError: the normalization is missing, or given although the backbone has its own.
    """
    if keras_file.is_keras_file(name):
        return keras_file.describe(Path(name), normalization)
    if normalization is not None:
        raise OptionError(f"--normalization is only for Keras model files; {name} has its own, omit the option")
    known = {spec.name: spec for spec in list_backbones()}
    if name not in known:
        raise UnknownNameError("backbone", name, known, "edgetl backbones")
    return known[name]


def build(
    spec: Spec,
    input_size: Optional[int] = None,
    weights: Optional[Path] = None,
    *,
    pretrained: bool = True,
    progress: Optional[Progress] = None,
) -> Model:
    """The backbone as a flat tf_keras model: normalised float32 (None, h, w, 3) -> embedding float32 (None, d).

    Args:
        input_size: in pixels; None means the default size.
        weights: a file to load instead of the published weights.
        pretrained: False leaves the weights random, for training from scratch.
        progress: receives (what, bytes done, bytes in all) during a download.

    Raises:
        WeightsError: the weights are missing or do not fit the backbone.
        OptionError: the backbone does not take this input size.
        MissingExtraError: TensorFlow is not installed.
    """
    size = spec.input_size(input_size)
    path = find_weights(spec, size, weights, progress) if pretrained else None
    return _families()[spec.family].assemble(spec, size, path)


def weights_digest(
    spec: Spec,
    weights: Optional[Path] = None,
    input_size: Optional[int] = None,
    *,
    progress: Optional[Progress] = None,
) -> str:
    """SHA-256, in hex, of the weights file that `build` would load; does not need TensorFlow.

    Raises:
        WeightsError: the weights are missing or cannot be read.
    """
    return file_digest(find_weights(spec, spec.input_size(input_size), weights, progress))


@functools.cache
def _families() -> dict[str, ModuleType]:
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {module.FAMILY: module for module in modules if hasattr(module, "SPECS")}
