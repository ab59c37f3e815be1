"""Finds the frozen backbone to start from: by name, or in a Keras file, a .tflite file or an earlier bundle.

All of them become a `BackboneSource`, so that the rest of a build does not depend on where the backbone came from.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from edgetl import backbones
from edgetl.backbones import Spec
from edgetl.bundle import EDGETPU_MODEL, MODEL, open_bundle
from edgetl.conversion.keras.compile_cache import compile_backbone
from edgetl.conversion.tflite.artifact import Artifact
from edgetl.conversion.tflite.classifier_cut import cut_classifier
from edgetl.conversion.tflite.description import describe
from edgetl.conversion.tflite.pixel_input import take_raw_pixels
from edgetl.errors import ConversionError, OptionError, StorageError
from edgetl.runtime import Preprocess
from edgetl.workload import Workload

if TYPE_CHECKING:
    from tf_keras import Model

COMPILED_SUFFIXES = (".tflite", ".edgetl")


@dataclass(frozen=True)
class BackboneSource:
    """A backbone to start from.

    Attributes:
        description: what goes into the bundle's manifest: name, licence, source, and the workload if it is known.
        preprocess: how a photo becomes its input.
        compile: `compile(quantize)` returns the compiled backbone in a number format.
        assemble: returns the pretrained tf_keras model for fine-tuning; None if only a compiled file is available.
        assemble_untrained: the same with random weights.
        normalization: (offset, scale) of the tf_keras model's input, which is (pixel - offset) / scale.
        edgetpu_model: the same backbone compiled for the Edge TPU, if one was given. That the two match is not yet
            verified.
    """

    description: dict[str, Any]
    preprocess: Preprocess
    compile: Callable[[str], Artifact]
    assemble: Optional[Callable[[], Model]] = None
    assemble_untrained: Optional[Callable[[], Model]] = None
    normalization: tuple[float, float] = (0.0, 1.0)
    edgetpu_model: Optional[bytes] = None

    @property
    def name(self) -> str:
        """The backbone's name."""
        return str(self.description["name"])

    @property
    def workload(self) -> Optional[Workload]:
        """What one run on one image costs; None if unknown."""
        return Workload.of(self.description)


def find_backbone_source(
    backbone: str,
    input_size: Optional[int] = None,
    weights: Optional[Path] = None,
    cache: Optional[Path] = None,
    normalization: Optional[tuple[float, float]] = None,
    edgetpu_backbone: Optional[Path] = None,
) -> BackboneSource:
    """The backbone with the name `backbone`, one of `edgetl backbones`, or in the file `backbone`.

    `normalization` (offset, scale) is for a Keras file that does not include its own. `edgetpu_backbone` is the output
    of the Edge TPU compiler for the .tflite file `backbone`; a bundle includes its own.

    Raises:
        UnknownNameError: there is no such backbone, and no such file.
        OptionError: an option does not apply to this kind of backbone, or contradicts the file.
        StorageError: the file cannot be read.
        BundleError, ConversionError, WeightsError: the file is not a usable backbone.
    """
    path = Path(backbone)
    if edgetpu_backbone is not None and path.suffix != ".tflite":
        raise OptionError("--edgetpu-backbone needs --backbone FILE.tflite, the same model for the CPU")
    if path.suffix not in COMPILED_SUFFIXES:
        return _from_spec(backbones.get_backbone(backbone, normalization), input_size, weights, cache)
    if weights is not None:
        raise OptionError(f"--weights is only for the name of a backbone; {path} has its own, omit the option")
    if normalization is not None:
        raise OptionError(f"--normalization is only for Keras model files; {path} has its own, omit the option")
    if not path.exists():
        raise OptionError(f"no such backbone file: {path}; give a file, or a name from: edgetl backbones")
    source = _from_bundle(path) if path.suffix == ".edgetl" else _from_tflite(path, edgetpu_backbone)
    if input_size not in (None, source.preprocess.height):
        height = source.preprocess.height
        raise OptionError(f"{path} was compiled for {height} pixels, received {input_size}; omit --input-size")
    return source


def _from_spec(spec: Spec, input_size: Optional[int], weights: Optional[Path], cache: Optional[Path]) -> BackboneSource:
    size = spec.input_size(input_size)
    description = {
        "name": spec.name,
        "family": spec.family,
        **spec.workload(size).to_dict(),
        "embedding_size": spec.embedding_size,
        "licence": spec.licence,
        "source": spec.source,
        "weights_sha256": backbones.weights_digest(spec, weights, size),
    }
    return BackboneSource(
        description=description,
        preprocess=spec.preprocess(size),
        compile=lambda quantize: compile_backbone(spec, size, weights, quantize, cache and cache / "compiled"),
        assemble=lambda: backbones.build(spec, size, weights),
        assemble_untrained=lambda: backbones.build(spec, size, pretrained=False),
        normalization=spec.normalization,
    )


def _from_bundle(path: Path) -> BackboneSource:
    bundle = open_bundle(path)
    manifest = bundle.manifest
    preprocess = Preprocess.from_dict(manifest.preprocess)
    artifact = Artifact.from_model(bundle.read(MODEL), manifest.quantize, preprocess)
    edgetpu_model = bundle.read(EDGETPU_MODEL) if EDGETPU_MODEL in bundle else None
    return BackboneSource(
        dict(manifest.backbone), preprocess, _single_format(artifact, path), edgetpu_model=edgetpu_model
    )


def _from_tflite(path: Path, edgetpu_path: Optional[Path]) -> BackboneSource:
    content = _read(path)
    model = take_raw_pixels(content)
    described = describe(model)
    if described["edgetpu"]:
        raise OptionError(
            f"{path} is compiled for the Edge TPU; give it as --edgetpu-backbone, "
            "and the model that it was compiled from as --backbone"
        )
    shapes = [tensor["shape"] for tensor in described["inputs"]]
    if len(shapes) != 1 or len(shapes[0]) != 4:
        raise ConversionError(f"{path} has inputs of shape {shapes}, expected one image: [1, height, width, 3]")
    if edgetpu_path is None:
        model = _without_classifier(model, path)
        described = describe(model)
    elif cut_classifier(model) != model:
        raise ConversionError(
            f"{path} ends in probabilities, not in an embedding; compile the model for the Edge TPU without its "
            "classifier (include_top=False, pooling='avg')"
        )
    preprocess = Preprocess(height=shapes[0][1], width=shapes[0][2])
    quantized = all(tensor["dtype"] in ("int8", "uint8") for tensor in described["outputs"])
    artifact = Artifact.from_model(model, "int8" if quantized else "float32", preprocess)
    description = {
        "name": path.stem,
        **{name: described[name] for name in ("macs", "depthwise_macs", "parameters")},
        "embedding_size": artifact.embedding["size"],
        "licence": "as its owner gives it",
        "source": path.name,
        "weights_sha256": hashlib.sha256(content).hexdigest(),
    }
    edgetpu_model = None if edgetpu_path is None else take_raw_pixels(_read(edgetpu_path))
    return BackboneSource(description, preprocess, _single_format(artifact, path), edgetpu_model=edgetpu_model)


def _without_classifier(model: bytes, path: Path) -> bytes:
    embedding = cut_classifier(model)
    if embedding is None:
        raise ConversionError(
            f"{path} ends in probabilities, and no embedding was found below them; give the model without its "
            "classifier (include_top=False, pooling='avg')"
        )
    return embedding


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise StorageError(f"cannot read the backbone {path}: {error.strerror}; give a .tflite file") from error


def _single_format(artifact: Artifact, path: Path) -> Callable[[str], Artifact]:
    """The `compile` of a file that exists in one number format only."""

    def compile(quantize: str) -> Artifact:
        if quantize != artifact.quantize:
            available = artifact.quantize
            raise OptionError(f"{path} is a backbone in {available}, not in {quantize}; use --quantize {available}")
        return artifact

    return compile
