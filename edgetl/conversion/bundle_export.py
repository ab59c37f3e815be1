"""Exports a bundle as a .tflite classifier that runs without edgetl."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

from edgetl.bundle import EDGETPU_MODEL, MODEL, open_bundle
from edgetl.conversion.tflite.appended_last_layer import append_last_layer
from edgetl.durable import replace_file
from edgetl.errors import OptionError
from edgetl.runtime.inference import read_last_layer


def export(bundle: Union[str, Path], output: Optional[Union[str, Path]] = None, edgetpu: bool = False) -> Path:
    """Write a bundle as a .tflite classifier: uint8 RGB (1, h, w, 3) in, probabilities (1, K) float32 out.

    With `edgetpu`, the backbone runs on the Edge TPU and the last layer on the CPU. The labels are included as standard
    TFLite metadata. The default `output` is NAME.tflite, or NAME_edgetpu.tflite, in the working folder. Returns the
    path of the file.

    Raises:
        OptionError: the bundle is not compiled for the Edge TPU.
        BundleError, ConversionError: the bundle or its model is damaged.
        StorageError: the file cannot be written.
    """
    opened = open_bundle(bundle)
    if edgetpu and EDGETPU_MODEL not in opened:
        raise OptionError(
            f"the bundle '{opened.manifest.name}' is not compiled for the Edge TPU; first run: edgetl compile BUNDLE"
        )
    manifest, layer = opened.manifest, read_last_layer(opened)
    accuracy = manifest.accuracy.get(manifest.quantize)
    measured = f", {accuracy:.1%} correct on {manifest.accuracy.get('n')} test photos" if accuracy else ""
    content = append_last_layer(
        opened.read(EDGETPU_MODEL if edgetpu else MODEL),
        layer.weights,
        layer.bias,
        layer.labels,
        temperature=layer.temperature,
        name=manifest.name,
        description=f"{manifest.backbone.get('name', 'image')} classifier made with edgetl{measured}",
        version=manifest.edgetl_version,
        licence="; ".join(f"{entry['what']}: {entry['licence']}" for entry in manifest.licences),
    )
    path = Path(output) if output else Path(f"{manifest.name}{'_edgetpu' if edgetpu else ''}.tflite")
    replace_file(path, content, remedy="choose another place with -o")
    return path
