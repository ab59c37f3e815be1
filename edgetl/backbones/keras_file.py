"""Uses a user's own Keras model, from a .keras or .h5 file, as a backbone.

Models of Keras 2 (tf_keras) and Keras 3 are supported. The file is checked before any of it is built: it may only
contain the layers in `keras_rebuild.LAYERS` and plain arithmetic, so that it cannot run code of its own.
"""

from __future__ import annotations

import importlib
import json
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from edgetl.backbones.keras_rebuild import ARITHMETIC, LAYERS, rebuild
from edgetl.backbones.spec import Spec, WeightsSource
from edgetl.backbones.structure import count_workload
from edgetl.backbones.tf_keras_import import tf_keras
from edgetl.backbones.weights import file_digest
from edgetl.errors import MissingExtraError, OptionError, WeightsError

if TYPE_CHECKING:
    from tf_keras import Model

FAMILY = "keras-file"
SPECS: tuple[Spec, ...] = ()
SUFFIXES = (".keras", ".h5", ".hdf5")
DEFAULT_INPUT_SIZE = 224
"""Pixels, for a model that accepts any input size."""

_MAX_CONFIG_BYTES = 64 << 20


def is_keras_file(name: str) -> bool:
    """Whether the name of a backbone is the path of a model file or a SavedModel folder."""
    return name.endswith(SUFFIXES) or (Path(name) / "saved_model.pb").is_file()


def describe(path: Path, normalization: Optional[tuple[float, float]] = None) -> Spec:
    """The spec of the model in a file, with the SHA-256 of the file.

    The classifier is omitted: the embedding is the output of the last layer that sees more than one position.

    Args:
        normalization: (offset, scale) for a model whose input is (pixel - offset) / scale; None reads it from the
            model's first layers (Rescaling, or arithmetic as in preprocess_input).

    Raises:
        WeightsError: the file cannot be read, or contains layers that are not supported.
        OptionError: the normalization is neither given nor in the model, or the two differ.
    """
    source = _load(path)
    size = _input_size(path, source)
    rebuilt = rebuild(source, size, path.stem)
    own, workload = rebuilt.normalization, count_workload(rebuilt.model)
    if own is not None and normalization is not None and own != normalization:
        raise OptionError(f"{path} normalises its input by {own}, received {normalization}; omit the normalization")
    if own is None and normalization is None:
        raise OptionError(
            f"{path} does not specify the normalization of its input; add a Rescaling layer and save it again, "
            "or give the normalization (offset, scale): (127.5, 127.5) for -1..1, (0, 255) for 0..1"
        )
    return Spec(
        name=path.stem,
        family=FAMILY,
        input_sizes=(size,),
        embedding_size=rebuilt.model.output_shape[-1],
        parameters=workload.parameters,
        macs=workload.macs,
        depthwise_macs=workload.depthwise_macs,
        licence="as the file's own",
        source=str(path),
        normalization=own or normalization or (0.0, 1.0),
        weights=WeightsSource(
            filename=str(path.resolve()).replace("{", "{{").replace("}", "}}"), sha256=file_digest(path)
        ),
        coral=rebuilt.is_plain,
    )


def assemble(spec: Spec, input_size: int, weights: Optional[Path]) -> Model:
    """The backbone in the file that `spec` describes, for images of `input_size` pixels.

    `weights` is that file, or another one with the same layers; None leaves the weights random. Raises WeightsError
    if the file cannot be read or contains another model.
    """
    rebuilt = rebuild(_load(weights or Path(spec.weights.filename.format())), input_size, spec.name)
    if rebuilt.model.output_shape[-1] != spec.embedding_size:
        raise WeightsError(
            f"{weights} produces embeddings of {rebuilt.model.output_shape[-1]} numbers, "
            f"{spec.name} of {spec.embedding_size}; choose a file of the same model"
        )
    if weights is not None:
        rebuilt.copy_weights()
    return rebuilt.model


def _load(path: Path) -> Any:
    """The model, loaded by the version of Keras that saved it, after a check of the file."""
    if path.is_dir():
        raise WeightsError(
            f"{path} is a SavedModel, which can contain code; save the model as one file: model.save('model.keras')"
        )
    config, version = _read_config(path)
    _check_layers(path, config)
    library = _library(version)
    try:
        return library.models.load_model(path, compile=False, safe_mode=True)
    except Exception as error:  # Keras raises many kinds of exceptions for a damaged file
        raise WeightsError(
            f"Keras {version} cannot load {path}: {_one_line(error)}; "
            "save it again, as one file: model.save('model.keras')"
        ) from error


def _library(version: str) -> Any:
    if not version.startswith("3"):
        return tf_keras()
    tf_keras()
    try:
        return importlib.import_module("keras")
    except ImportError as error:
        raise MissingExtraError("keras 3", "host", "a model file of Keras 3") from error


def _read_config(path: Path) -> tuple[Any, str]:
    """The configuration of the model as JSON values, and the version of Keras that saved it."""
    try:
        return _read_zip_config(path) if path.suffix == ".keras" else _read_hdf5_config(path)
    except FileNotFoundError as error:
        raise WeightsError(f"no such model file: {path}; check the path") from error
    except (OSError, ValueError, KeyError, RuntimeError, zipfile.BadZipFile) as error:
        raise WeightsError(
            f"{path} is not a complete Keras model ({_one_line(error)}); save one with model.save('model.keras')"
        ) from error


def _read_zip_config(path: Path) -> tuple[Any, str]:
    with zipfile.ZipFile(path) as archive:
        for name in ("config.json", "metadata.json"):
            if archive.getinfo(name).file_size > _MAX_CONFIG_BYTES:
                raise ValueError(f"{name} has more than {_MAX_CONFIG_BYTES} bytes")
        config = json.loads(archive.read("config.json"))
        return config, str(json.loads(archive.read("metadata.json"))["keras_version"])


def _read_hdf5_config(path: Path) -> tuple[Any, str]:
    tf_keras()  # it depends on h5py
    h5py = importlib.import_module("h5py")
    with h5py.File(path, "r") as file:
        if "model_config" not in file.attrs:
            raise ValueError("it contains weights without a model")
        return json.loads(file.attrs["model_config"]), str(file.attrs.get("keras_version", "2"))


_OTHER_CLASSES = frozenset(
    (
        "Constant", "Functional", "GlorotNormal", "GlorotUniform", "HeNormal", "HeUniform", "InputLayer", "L1",
        "L1L2", "L2", "LecunNormal", "LecunUniform", "Model", "Ones", "Orthogonal", "RandomNormal",
        "RandomUniform", "Sequential", "TruncatedNormal", "VarianceScaling", "Zeros", "DTypePolicy", "Policy",
        "TFOpLambda", "__keras_tensor__", "__tuple__",
    )
)  # fmt: skip
_TRUSTED_MODULES = ("keras", "tf_keras")


def _check_layers(path: Path, config: Any) -> None:
    """Raises WeightsError if the configuration contains anything but supported layers and arithmetic."""
    for described in _descriptions(config):
        name, module = described["class_name"], described.get("module")
        inside = described.get("config")
        function = inside.get("function") if name == "TFOpLambda" and isinstance(inside, dict) else None
        known = name in LAYERS or name in _OTHER_CLASSES or name in ARITHMETIC
        trusted = module is None or str(module).split(".")[0] in _TRUSTED_MODULES
        if not known or not trusted or (name == "TFOpLambda" and function not in ARITHMETIC):
            raise WeightsError(
                f"{path} contains {function or name}, which edgetl does not support; supported are "
                f"{', '.join(sorted(LAYERS))} and arithmetic"
            )


def _descriptions(value: Any) -> Iterator[dict[str, Any]]:
    """Every object that the configuration describes, at any depth."""
    pending = [value]
    while pending:
        item = pending.pop()
        if isinstance(item, dict):
            if "class_name" in item:
                yield item
            pending.extend(item.values())
        elif isinstance(item, list):
            pending.extend(item)


def _input_size(path: Path, source: Any) -> int:
    shape = source.input_shape
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3 or shape[1] != shape[2]:
        raise WeightsError(f"{path} has the input shape {shape}; expected one square RGB image (None, size, size, 3)")
    return shape[1] or DEFAULT_INPUT_SIZE


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
