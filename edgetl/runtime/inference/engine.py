"""Runs a TFLite model in an installed interpreter, on the CPU or the Edge TPU."""

from __future__ import annotations

import ctypes
import importlib
import os
import re
import struct
import time
from pathlib import Path
from typing import Any, List, Optional, Tuple, Union

import numpy as np

from edgetl.errors import EngineError

PACKAGES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}
"""The supported interpreters, the preferred one first: package -> module."""

EDGETPU_LIBRARY = "libedgetpu.so.1"
RETRY_SECONDS = 60.0
"""Time between two attempts to use an Edge TPU that failed."""
MODEL_LIMIT_BYTES = 512 * 1024 * 1024


def interpreters() -> List[Tuple[str, str]]:
    """The (name, version) of every installed interpreter, the preferred one first.

    Raises EngineError, with the command that installs one, if there is none.
    """
    installed = [(name, version) for name in PACKAGES for version in [_version(name)] if version is not None]
    if not installed:
        raise EngineError(_NONE_INSTALLED)
    return installed


class Engine:
    """One model in one interpreter: a uint8 RGB frame in, one embedding out.

    `model` is the bytes of a .tflite file or its path. `edgetpu_model` is the same model compiled for the Edge TPU:
    it runs if an Edge TPU can be used, else `model` runs on the CPU and `note` says why.
    Not thread-safe; `invoke` releases the GIL while the model runs.
    Raises EngineError if no interpreter is installed, or if the model does not map one frame to one vector.
    """

    def __init__(
        self,
        model: Union[bytes, str, os.PathLike[str]],
        threads: int = 1,
        edgetpu_model: Optional[bytes] = None,
    ) -> None:
        if not isinstance(threads, int) or threads < 1:
            raise EngineError(f"invalid threads {threads!r}: expected a whole number of 1 or more")
        self.accelerator = "cpu"
        """"edgetpu" or "cpu"."""
        self.note = ""
        """Why the Edge TPU is not used although there is a model for it; empty otherwise."""
        module, self._package = _load_package()
        self._module = module
        self._model = model if edgetpu_model is not None else b""
        self._threads, self._edgetpu_model = threads, edgetpu_model
        self._retry_at = float("inf")
        if edgetpu_model is not None:
            self._use_edgetpu(module, edgetpu_model)
        if self.accelerator == "cpu":
            self._interpreter = _create(module, _read(model), threads, [])
        self._read_details()

    @property
    def interpreter(self) -> str:
        """The interpreter's name and version."""
        return " ".join(filter(None, [self._package, _version(self._package)]))

    @property
    def input_size(self) -> Tuple[int, int]:
        """(height, width) of the frame."""
        return self._frame_shape[0], self._frame_shape[1]

    def invoke(self, frame: np.ndarray) -> np.ndarray:
        """The raw embedding (d,) of a frame, uint8 (height, width, 3) RGB; a new array each time.

        If the Edge TPU fails, e.g. because it was unplugged, the CPU runs this frame and the next ones, `accelerator`
        and `note` change, and the Edge TPU is tried again every `RETRY_SECONDS`.
        Raises EngineError if the CPU cannot run the model either.
        """
        if frame.shape != self._frame_shape or frame.dtype != np.uint8:
            raise EngineError(
                f"a frame must be uint8 {self._frame_shape}, received {frame.dtype} {frame.shape}; "
                "convert it with Preprocess.frame"
            )
        if time.monotonic() >= self._retry_at:
            self._return_to_edgetpu()
        try:
            return self._run(frame)
        except (RuntimeError, ValueError, OSError) as error:
            if self.accelerator == "cpu":
                raise EngineError(f"the interpreter cannot run the model: {_one_line(error)}") from error
            self._fall_back(error)
        return self.invoke(frame)

    def _run(self, frame: np.ndarray) -> np.ndarray:
        interpreter = self._interpreter
        interpreter.set_tensor(self._input_index, frame[np.newaxis])
        interpreter.invoke()
        embedding: np.ndarray = interpreter.get_tensor(self._output_index).reshape(-1)
        return embedding

    def _fall_back(self, error: Exception) -> None:
        """Goes on with the CPU twin of a model whose Edge TPU failed."""
        self.accelerator = "cpu"
        self._failure_note = (
            f"runs on the CPU: the Edge TPU failed ({_one_line(error)}); it is tried again every {RETRY_SECONDS:g} s"
        )
        self.note = self._failure_note
        self._retry_at = time.monotonic() + RETRY_SECONDS
        self._replace(_create(self._module, _read(self._model), self._threads, []))

    def _return_to_edgetpu(self) -> None:
        """Uses the Edge TPU again if it works; else keeps the CPU."""
        cpu, frame = self._interpreter, np.zeros(self._frame_shape, np.uint8)
        self.note = ""
        self._use_edgetpu(self._module, self._edgetpu_model or b"")
        if self.accelerator == "edgetpu":
            try:
                self._replace(self._interpreter)
                self._run(frame)
                self._retry_at = float("inf")
                return
            except (RuntimeError, ValueError, OSError, EngineError):
                self.accelerator = "cpu"
        self._replace(cpu)
        self.note, self._retry_at = self._failure_note, time.monotonic() + RETRY_SECONDS

    def _replace(self, interpreter: Any) -> None:
        """Continues with another interpreter. Raises EngineError if its embedding would mean something else."""
        before = self._described()
        self._interpreter = interpreter
        self._read_details()
        if self._described() != before:
            raise EngineError(f"the models for the Edge TPU and the CPU differ: {before} and {self._described()}")

    def _described(self) -> Tuple[Any, ...]:
        return self._frame_shape, self.output_size, self.output_dtype, float(np.float32(self.scale)), self.zero_point

    def require_input_size(self, size: Tuple[int, int]) -> None:
        """Raises EngineError if the model's frame does not have this (height, width)."""
        if self.input_size != size:
            raise EngineError(
                f"the model takes frames of {self.input_size}, preprocessing gives {size}; build it again"
            )

    def _use_edgetpu(self, module: Any, model: bytes) -> None:
        try:
            library = ctypes.CDLL(EDGETPU_LIBRARY)  # without it, load_delegate leaves an object that raises later
            if _would_crash(library, self.interpreter):
                self.note = f"runs on the CPU: {_CRASHES.format(interpreter=self.interpreter)}"
                return
            delegate = module.load_delegate(EDGETPU_LIBRARY)
        except (ValueError, OSError, RuntimeError, AttributeError) as error:
            self.note = f"runs on the CPU: no Edge TPU can be used ({_one_line(error) or EDGETPU_LIBRARY})"
            return
        try:
            self._interpreter = _create(module, _checked(model, "the Edge TPU model"), 1, [delegate])
        except EngineError as error:
            self.note = f"runs on the CPU: the Edge TPU refuses the model ({error})"
            return
        self.accelerator = "edgetpu"

    def _read_details(self) -> None:
        """Reads and checks shapes, dtypes and quantization once, so that `invoke` need not."""
        try:
            inputs, outputs = self._interpreter.get_input_details(), self._interpreter.get_output_details()
        except ValueError as error:  # a name that is not UTF-8
            raise EngineError(f"the interpreter cannot describe the model: {_one_line(error)}") from error
        if len(inputs) != 1 or len(outputs) != 1:
            raise EngineError(
                f"the model must have one input and one output, received {len(inputs)} and {len(outputs)}"
            )
        self._input_index, input_shape = inputs[0]["index"], _shape(inputs[0])
        self._output_index, output_shape = outputs[0]["index"], _shape(outputs[0])
        self.input_dtype = np.dtype(inputs[0]["dtype"])
        self.output_dtype = np.dtype(outputs[0]["dtype"])
        if len(input_shape) != 4 or input_shape[0] != 1 or input_shape[3] != 3 or min(input_shape) < 1:
            raise EngineError(f"the model must take one RGB frame (1, height, width, 3), not {input_shape}")
        if self.input_dtype != np.uint8:
            raise EngineError(
                f"the model must take uint8 RGB 0..255, with normalisation inside, not {self.input_dtype}; "
                "convert it with edgetl build"
            )
        if len(output_shape) < 2 or any(side != 1 for side in output_shape[:-1]) or output_shape[-1] < 1:
            raise EngineError(f"the model must give one embedding, (1, d) or (1, 1, 1, d), not {output_shape}")
        if self.output_dtype not in (np.dtype(np.int8), np.dtype(np.uint8), np.dtype(np.float32)):
            raise EngineError(f"the embedding must be int8, uint8 or float32, not {self.output_dtype}")
        self._frame_shape = input_shape[1:]
        self.output_size = output_shape[-1]
        self.scale, self.zero_point = _quantization(outputs[0])


_NONE_INSTALLED = (
    "no TFLite interpreter is installed. Install one: pip install ai-edge-litert "
    "(32-bit Raspberry Pi OS with Python 3.11: pip install tflite-runtime 'numpy<2')"
)

_CRASHES = (
    "Google's libedgetpu of 2021 crashes with {interpreter}; "
    "install one built for TensorFlow 2.12 or newer, e.g. from github.com/feranick/libedgetpu"
)
_GOOGLES_BUILD = re.compile(rb"COMPILER=[56]\.")
"""Part of `edgetpu_version` in every binary that Google published; the source was fixed in 2024."""


def _would_crash(library: Any, interpreter: str) -> bool:
    """Whether the library is built for interpreters before 2.12 and this is a newer one.

    See google-coral/edgetpu, issue 812.
    """
    version = re.fullmatch(r"tflite-runtime (\d+)\.(\d+).*", interpreter)
    if version is not None and (int(version[1]), int(version[2])) < (2, 12):
        return False
    library.edgetpu_version.restype = ctypes.c_char_p
    return _GOOGLES_BUILD.search(library.edgetpu_version() or b"") is not None


def _version(name: str) -> Optional[str]:
    from importlib import metadata  # takes 10 ms, and starting a Classifier needs no version

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def _load_package() -> Tuple[Any, str]:
    """The module of the first interpreter that can be imported, and its package."""
    failures = {}
    for name, module in PACKAGES.items():
        try:
            return importlib.import_module(module), name
        except (ImportError, OSError, AttributeError) as error:
            failures[name] = _one_line(error)
    installed = [f"{name} {version}: {failures[name]}" for name, version in interpreters()]
    raise EngineError(f"cannot load any installed interpreter ({'; '.join(installed)}); reinstall one")


def _read(model: Union[bytes, str, os.PathLike[str]]) -> bytes:
    if isinstance(model, bytes):
        return _checked(model, "the model")
    try:
        return _checked(Path(model).read_bytes(), os.fspath(model))
    except OSError as error:
        raise EngineError(f"cannot read the model {os.fspath(model)}: {error.strerror}") from error


def _checked(model: bytes, name: str) -> bytes:
    """Checks the outermost offset of a model, because the interpreter trusts all of them."""
    if len(model) > MODEL_LIMIT_BYTES:
        raise EngineError(f"{name} has {len(model)} bytes; at most {MODEL_LIMIT_BYTES} are accepted")
    if len(model) < 16 or model[4:8] != b"TFL3" or struct.unpack_from("<I", model)[0] > len(model) - 4:
        raise EngineError(f"{name} is not a TFLite model (no 'TFL3' at byte 4); give a .tflite file")
    return model


def _create(module: Any, model: bytes, threads: int, delegates: List[Any]) -> Any:
    try:
        interpreter = module.Interpreter(model_content=model, num_threads=threads, experimental_delegates=delegates)
        interpreter.allocate_tensors()
    except (ValueError, RuntimeError, TypeError, MemoryError) as error:
        raise EngineError(f"the interpreter refuses the model: {_one_line(error)}") from error
    return interpreter


def _shape(details: Any) -> Tuple[int, ...]:
    return tuple(int(side) for side in details["shape"])


def _quantization(details: Any) -> Tuple[float, int]:
    """(scale, zero point) of an output; (1.0, 0) if it is not quantized."""
    scales = details["quantization_parameters"]["scales"]
    zero_points = details["quantization_parameters"]["zero_points"]
    if len(scales) == 0:
        return 1.0, 0
    if len(scales) != 1:
        raise EngineError(f"the embedding must have one scale for all its values, not {len(scales)}")
    return float(scales[0]), int(zero_points[0])


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:200]
