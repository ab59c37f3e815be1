"""Compiles pretrained backbones and caches the results: a backbone compiled before is read in milliseconds."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Optional

from edgetl import backbones
from edgetl.backbones import Spec
from edgetl.conversion.keras.number_formats import NUMBER_FORMATS
from edgetl.conversion.keras.options import ConversionOptions
from edgetl.conversion.keras.representative_frames import RECIPE_IMAGES, RECIPE_VERSION, recipe_frames
from edgetl.conversion.tflite.artifact import Artifact
from edgetl.durable import make_folder, replace_file
from edgetl.errors import IntegrityError, StorageError
from edgetl.runtime.system import cache_folder

CONVERSION_VERSION = 1
"""Part of the cache key. Increase it with any change to `conversion` that changes the compiled bytes."""


def compile_backbone(
    spec: Spec,
    input_size: Optional[int] = None,
    weights: Optional[Path] = None,
    quantize: str = "int8",
    cache: Optional[Path] = None,
) -> Artifact:
    """The pretrained backbone as a TFLite file, from the folder `cache` if it was compiled before.

    Formats that need calibration use generated frames, so no photo is needed. float32 is compiled along with any other
    format: TensorFlow is loaded already, and evaluation compares against float32. A damaged entry is compiled again.

    Raises:
        WeightsError: the weights are missing or wrong.
        ConversionError: the backbone cannot be converted.
        MissingExtraError: TensorFlow or another package is not installed.
        StorageError: the cache cannot be read or written.
    """
    ConversionOptions(quantize)
    cache = cache or cache_folder() / "compiled"
    size = spec.input_size(input_size)
    digest = backbones.weights_digest(spec, weights, size)
    path = _entry(cache, spec, size, digest, quantize)
    cached = _load(path)
    if cached is not None:
        return cached
    missing = {quantize: path}
    float_path = _entry(cache, spec, size, digest, "float32")
    if _load(float_path) is None:
        missing["float32"] = float_path
    artifacts = _compile(spec, size, weights, list(missing))
    for number_format, artifact in artifacts.items():
        _store(missing[number_format], artifact.to_bytes())
    return artifacts[quantize]


def _compile(spec: Spec, size: int, weights: Optional[Path], number_formats: list[str]) -> dict[str, Artifact]:
    from edgetl.conversion.keras.converter import convert
    from edgetl.conversion.keras.quiet import quiet_tensorflow

    with quiet_tensorflow():
        model = backbones.build(spec, size, weights)
    calibrated = any(NUMBER_FORMATS[name].calibrated for name in number_formats)
    frames = recipe_frames(size, size) if calibrated else []
    preprocess = spec.preprocess(size)
    return {
        name: convert(model, spec.normalization, preprocess, ConversionOptions(name, RECIPE_IMAGES), frames)
        for name in number_formats
    }


def _entry(cache: Path, spec: Spec, size: int, weights_digest: str, quantize: str) -> Path:
    key = {
        "backbone": spec.name,
        "size": size,
        "normalization": spec.normalization,
        "weights": weights_digest,
        "quantize": quantize,
        "recipe": [RECIPE_VERSION, RECIPE_IMAGES],
        "tensorflow": tensorflow_version(),
        "conversion": CONVERSION_VERSION,
    }
    digest = hashlib.sha256(json.dumps(key, sort_keys=True).encode()).hexdigest()
    return cache / f"{spec.name}-{size}-{quantize}-{digest[:16]}.artifact"


def tensorflow_version() -> str:
    """The version of TensorFlow, read without importing it; "" if it is not installed."""
    for package in ("tensorflow", "tensorflow-cpu"):
        try:
            return metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    return ""


def _load(path: Path) -> Optional[Artifact]:
    try:
        return Artifact.from_bytes(path.read_bytes())
    except (FileNotFoundError, IntegrityError):
        return None
    except OSError as error:
        raise StorageError(f"cannot read {path}: {error.strerror}; set EDGETL_CACHE to another folder") from error


def _store(path: Path, content: bytes) -> None:
    remedy = "set EDGETL_CACHE to another folder"
    make_folder(path.parent, remedy=remedy)
    replace_file(path, content, remedy=remedy)
