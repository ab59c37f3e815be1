"""Describes the content of a bundle or a .tflite file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Union

from edgetl.bundle import open_bundle
from edgetl.conversion.edgetpu import is_compiled, read_package
from edgetl.conversion.tflite.description import describe
from edgetl.errors import BundleError, OptionError


def show(file: Union[str, Path]) -> dict[str, Any]:
    """The content of a bundle or a .tflite file, as `edgetl show --json` prints it.

    Raises:
        OptionError: there is no such file.
        BundleError: it is neither a bundle nor a .tflite file.
        ConversionError: the .tflite file cannot be read.
    """
    path = Path(file)
    if not path.is_file():
        raise OptionError(f"no such file: {path}; expected a bundle (.edgetl) or a .tflite file")
    if path.suffix.lower() == ".tflite":
        return {"name": path.stem, "kind": "tflite", **_describe_tflite(path.read_bytes())}
    try:
        bundle = open_bundle(path)
    except BundleError as error:
        raise BundleError(f"{path} is neither a bundle nor a .tflite file: {error}") from error
    manifest = bundle.manifest
    return {
        "name": manifest.name,
        "kind": "bundle",
        "target": manifest.target,
        "labels": list(manifest.labels),
        "accuracy": dict(manifest.accuracy),
        "backbone": dict(manifest.backbone),
        "quantize": manifest.quantize,
        "preprocess": dict(manifest.preprocess),
        "embedding": dict(manifest.embedding),
        "last_layer": dict(manifest.last_layer),
        "edgetpu": manifest.edgetpu,
        "edgetl_version": manifest.edgetl_version,
        "digest": bundle.digest,
        "entries": {name: entry["size"] for name, entry in manifest.entries.items()},
        "licences": list(manifest.licences),
    }


def _describe_tflite(model: bytes) -> dict[str, Any]:
    """A description of a .tflite file; of a compiled one also its Edge TPU package and the operators on the CPU."""
    described = describe(model)
    return {**described, **read_package(model).to_json()} if is_compiled(model) else described
