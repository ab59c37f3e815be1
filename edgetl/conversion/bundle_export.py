"""Writes a bundle as a file that other programs run; `edgetl export` is this."""

from __future__ import annotations

from pathlib import Path
from typing import Optional, Union

from edgetl.bundle import EDGETPU_MODEL, MODEL, open_bundle
from edgetl.conversion.tflite import appended_last_layer
from edgetl.durable import replace_file
from edgetl.errors import OptionError
from edgetl.runtime.inference import read_last_layer


def export(bundle: Union[str, Path], output: Optional[Union[str, Path]] = None, edgetpu: bool = False) -> Path:
    """Write the bundle as a .tflite classifier: uint8 RGB (1, h, w, 3) in, probabilities (1, K) float32 out.

    With `edgetpu` it is the one for the Edge TPU: the backbone runs there, the last layer on the CPU.
    Labels are inside, in the standard metadata. `output` is NAME.tflite, or NAME_edgetpu.tflite, in the working
    folder for None. Raises OptionError where the bundle is not compiled for the Edge TPU, BundleError,
    ConversionError, StorageError.
    """
    opened = open_bundle(bundle)
    if edgetpu and EDGETPU_MODEL not in opened:
        raise OptionError(
            f"the bundle '{opened.manifest.name}' is not compiled for the Edge TPU; first: edgetl compile BUNDLE"
        )
    manifest, layer = opened.manifest, read_last_layer(opened)
    accuracy = manifest.accuracy.get(manifest.quantize)
    measured = f", {accuracy:.1%} right on {manifest.accuracy.get('n')} test photos" if accuracy else ""
    content = appended_last_layer.export(
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
