"""Hides that pretrained backbones are compiled once and kept; `pipeline` asks, and mostly waits milliseconds."""

from __future__ import annotations

import hashlib
import json
from importlib import metadata
from pathlib import Path
from typing import Optional

from edgetl import backbones
from edgetl.backbones import Spec
from edgetl.conversion.keras.representative_frames import RECIPE_IMAGES, RECIPE_VERSION, recipe_frames
from edgetl.conversion.tflite.artifact import Artifact, ConversionOptions
from edgetl.durable import make_folder, replace_file
from edgetl.errors import IntegrityError, StorageError
from edgetl.runtime.system import cache_folder

CONVERSION_VERSION = 1
"""Part of the cache key: raise it with any change to this room that changes the compiled bytes."""


def compile_backbone(
    spec: Spec,
    input_size: Optional[int] = None,
    weights: Optional[Path] = None,
    quantize: str = "int8",
    cache: Optional[Path] = None,
) -> Artifact:
    """The pretrained backbone as a TFLite file, from the folder `cache` where it was compiled before.

    int8 is calibrated on frames made by recipe, so no photo is needed. The float32 variant is compiled
    along with any other: TensorFlow is loaded by then, and evaluation compares against it.
    A damaged entry is compiled anew. Raises WeightsError, ConversionError, MissingExtraError, StorageError.
    """
    ConversionOptions(quantize)
    cache = cache or cache_folder() / "compiled"
    size = spec.input_size(input_size)
    digest = backbones.weights_digest(spec, weights, size)
    path = _entry(cache, spec, size, digest, quantize)
    kept = _load(path)
    if kept is not None:
        return kept
    wanted = {quantize: path}
    beside = _entry(cache, spec, size, digest, "float32")
    if _load(beside) is None:
        wanted["float32"] = beside
    artifacts = _compile(spec, size, weights, list(wanted))
    for kind, artifact in artifacts.items():
        _store(wanted[kind], artifact.to_bytes())
    return artifacts[quantize]


def _compile(spec: Spec, size: int, weights: Optional[Path], kinds: list[str]) -> dict[str, Artifact]:
    from edgetl.conversion.keras.converter import convert
    from edgetl.conversion.keras.quiet import quiet_tensorflow

    with quiet_tensorflow():
        model = backbones.build(spec, size, weights)
    frames = recipe_frames(size, size) if {"int8", "int16x8"} & set(kinds) else []
    options = {kind: ConversionOptions(kind, RECIPE_IMAGES) for kind in kinds}
    return {kind: convert(model, spec.normalization, spec.preprocess(size), options[kind], frames) for kind in kinds}


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
    """Of the package's record, which is read without importing it; empty where TensorFlow is not installed."""
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
