"""Pretrained backbones: what there is, what it needs, and a tf_keras model of it with the published
weights.

`pipeline`, `training` and `conversion` call it. Importing it, listing and looking up load no TensorFlow. A
family is one file in this folder with `FAMILY`, `SPECS` and `assemble(spec, input_size, weights)`, found by
being there.
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
    """Every backbone that edgetl knows, family by family."""
    return [spec for family in _families().values() for spec in family.SPECS]


def get_backbone(name: str, normalization: Optional[tuple[float, float]] = None) -> Spec:
    """The backbone of that name, or the one in the Keras model file of that path.

    `normalization`, (offset, scale), is for a file that does not hold its own. Raises UnknownNameError with the
    nearest name where there is none, WeightsError for a file that is no backbone. A file takes TensorFlow to read.
    """
    if keras_file.is_keras_file(name):
        return keras_file.describe(Path(name), normalization)
    if normalization is not None:
        raise OptionError(f"--normalization goes with a Keras model file; {name} brings its own")
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
    """The backbone as a flat tf_keras model: normalised float32 (None, h, w, 3) -> embedding (None, d).

    `input_size` is in pixels, None for the default. `weights` names a file instead of the published ones;
    `pretrained=False` leaves the weights random, for training from scratch. `progress` hears of a download.
    Raises WeightsError where the weights are missing or do not fit, MissingExtraError without TensorFlow.
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
    """SHA-256, in hex, of the weights file that `build` would load; needs no TensorFlow."""
    return file_digest(find_weights(spec, spec.input_size(input_size), weights, progress))


@functools.cache
def _families() -> dict[str, ModuleType]:
    modules = (importlib.import_module(f"{__name__}.{found.name}") for found in pkgutil.iter_modules(__path__))
    return {module.FAMILY: module for module in modules if hasattr(module, "SPECS")}
