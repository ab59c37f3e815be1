"""Uses a user's own Keras model, from a .keras or .h5 file, as a backbone.

Models of Keras 2 (tf_keras) and Keras 3 are supported. The configuration in the file is vetted
and rewritten before anything is built (`keras_config`), and the weights are read as HDF5 arrays, so that a file cannot
run code of its own.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Optional

from edgetl.backbones.keras_config import vetted_config
from edgetl.backbones.keras_rebuild import Rebuilt, rebuild
from edgetl.backbones.spec import Spec, WeightsSource
from edgetl.backbones.structure import count_workload
from edgetl.backbones.tf_keras_import import tf_keras
from edgetl.backbones.weights import file_digest
from edgetl.errors import EdgetlError, MissingExtraError, OptionError, WeightsError

if TYPE_CHECKING:
    from tf_keras import Model

FAMILY = "keras-file"
SPECS: tuple[Spec, ...] = ()
SUFFIXES = (".keras", ".h5", ".hdf5")
DEFAULT_INPUT_SIZE = 224
"""Pixels, for a model that accepts any input size."""

_MAX_CONFIG_BYTES = 64 << 20
_MAX_WEIGHT_BYTES = 4 << 30


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
    rebuilt = _rebuild(path, source, size, path.stem)
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
    path = weights or Path(spec.weights.filename.format())
    rebuilt = _rebuild(path, _load(path), input_size, spec.name)
    if rebuilt.model.output_shape[-1] != spec.embedding_size:
        raise WeightsError(
            f"{weights} produces embeddings of {rebuilt.model.output_shape[-1]} numbers, "
            f"{spec.name} of {spec.embedding_size}; choose a file of the same model"
        )
    if weights is not None:
        rebuilt.copy_weights()
    return rebuilt.model


def _load(path: Path) -> Any:
    """The model in a file, built by the version of Keras that saved it from a vetted configuration.

    `load_model` is never called: it would build whatever the file names.
    """
    if path.is_dir():
        raise WeightsError(
            f"{path} is a SavedModel, which can contain code; save the model as one file: model.save('model.keras')"
        )
    try:
        with _opened(path) as (config, version, weights):
            library = _library(version)
            model = _build(library, version, vetted_config(path, config, _weight_sizes(path, weights)))
            model.load_weights(str(weights))
            return model
    except EdgetlError:
        raise
    except FileNotFoundError as error:
        raise WeightsError(f"no such model file: {path}; check the path") from error
    except _IncompleteFileError as error:
        raise WeightsError(
            f"{path} is not a complete Keras model ({_one_line(error)}); save one with model.save('model.keras')"
        ) from error
    except Exception as error:  # Keras raises many kinds of exceptions for a damaged file
        raise WeightsError(
            f"{path} cannot be loaded: {_one_line(error)}; save it again, as one file: model.save('model.keras')"
        ) from error


class _IncompleteFileError(ValueError):
    """Raised when a file is neither a zip nor an HDF5 file of a whole model."""


def _build(library: Any, version: str, config: dict[str, Any]) -> Any:
    """The model of a vetted configuration, with random weights."""
    if version.startswith("3"):
        module = "keras" if config["class_name"] == "Sequential" else "keras.src.models.functional"
        return library.saving.deserialize_keras_object({"module": module, **config}, safe_mode=True)
    return library.models.model_from_config(config)


def _library(version: str) -> Any:
    keras_2 = tf_keras()
    if not version.startswith("3"):
        return keras_2
    try:
        keras = importlib.import_module("keras")
    except ImportError as error:
        if error.name in ("keras", None):
            raise MissingExtraError("keras 3", "host", "a model file of Keras 3") from error
        raise WeightsError(f"Keras 3 is installed but cannot be imported: {_one_line(error)}") from error
    keras.config.set_image_data_format("channels_last")
    keras.config.set_floatx("float32")
    return keras


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[tuple[Any, str, Path]]:
    """The configuration of a model file, the version of Keras that saved it, and an HDF5 file with its weights.

    The content decides how the file is read, not its suffix.
    """
    with path.open("rb") as file:
        start = file.read(8)
    with tempfile.TemporaryDirectory(prefix="edgetl-") as folder:
        if start.startswith(b"PK"):
            weights = Path(folder) / "model.weights.h5"
            config, version = _read_zip(path, weights)
        else:
            weights = Path(folder) / "model.h5"
            weights.symlink_to(path.resolve())
            config, version = _read_hdf5(path)
        yield config, version, weights


def _read_zip(path: Path, weights: Path) -> tuple[Any, str]:
    """The configuration and the version in a .keras file; its weights are extracted to `weights`."""
    try:
        with zipfile.ZipFile(path) as archive:
            documents = {}
            for name in ("config.json", "metadata.json"):
                if archive.getinfo(name).file_size > _MAX_CONFIG_BYTES:
                    raise ValueError(f"{name} has more than {_MAX_CONFIG_BYTES} bytes")
                documents[name] = json.loads(archive.read(name))
            if archive.getinfo("model.weights.h5").file_size > _MAX_WEIGHT_BYTES:
                raise ValueError(f"its weights have more than {_MAX_WEIGHT_BYTES} bytes")
            with archive.open("model.weights.h5") as source, weights.open("wb") as target:
                shutil.copyfileobj(source, target)
        return documents["config.json"], str(documents["metadata.json"]["keras_version"])
    except (OSError, ValueError, KeyError, TypeError, RuntimeError, zipfile.BadZipFile, zlib.error) as error:
        raise _IncompleteFileError(_one_line(error)) from error


def _read_hdf5(path: Path) -> tuple[Any, str]:
    tf_keras()  # it depends on h5py
    h5py = importlib.import_module("h5py")
    try:
        with h5py.File(path, "r") as file:
            if "model_config" not in file.attrs:
                raise ValueError("it contains weights without a model")
            return json.loads(file.attrs["model_config"]), str(file.attrs.get("keras_version", "2"))
    except (OSError, ValueError, KeyError, TypeError, RuntimeError) as error:
        raise _IncompleteFileError(_one_line(error)) from error


def _weight_sizes(path: Path, weights: Path) -> frozenset[int]:
    """Every dimension of the arrays in a weights file.

    Raises:
        WeightsError: the arrays are too large, or the file refers to other files.
    """
    h5py = importlib.import_module("h5py")
    sizes: set[int] = set()
    total_bytes = 0
    with h5py.File(weights, "r") as file:
        pending = [file]
        while pending:
            group = pending.pop()
            for name in group:
                if not isinstance(group.get(name, getlink=True), h5py.HardLink):
                    raise WeightsError(
                        f"{path} refers to other files or places, at {name[:60]}; a model file needs none"
                    )
                item = group[name]
                if isinstance(item, h5py.Dataset):
                    total_bytes += item.size * item.dtype.itemsize
                    sizes.update(item.shape)
                    if item.external or item.is_virtual:
                        raise WeightsError(f"{path} keeps the array {name[:60]} in another file; save it as one file")
                else:
                    pending.append(item)
                if total_bytes > _MAX_WEIGHT_BYTES:
                    raise WeightsError(f"{path} has weights of more than {_MAX_WEIGHT_BYTES} bytes")
    if not sizes:
        raise _never_built(path)
    return frozenset(sizes)


def _rebuild(path: Path, source: Any, size: int, name: str) -> Rebuilt:
    try:
        return rebuild(source, size, name)
    except EdgetlError:
        raise
    except Exception as error:  # a layer used in a way that this version of tf_keras cannot build
        raise WeightsError(f"{path} cannot be rebuilt as a backbone: {_one_line(error)}") from error


def _input_size(path: Path, source: Any) -> int:
    try:
        shape = source.input_shape
    except (AttributeError, ValueError, RuntimeError) as error:
        raise _never_built(path) from error
    if not isinstance(shape, tuple) or len(shape) != 4 or shape[-1] != 3 or shape[1] != shape[2]:
        raise WeightsError(f"{path} has the input shape {shape}; expected one square RGB image (None, size, size, 3)")
    return shape[1] or DEFAULT_INPUT_SIZE


def _never_built(path: Path) -> WeightsError:
    return WeightsError(
        f"{path} has no input shape or no weights, because the model was never built; begin it with "
        "keras.Input((224, 224, 3)), train it and save it again"
    )


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
