"""Reads the tensors of a PyTorch checkpoint without torch and without executing the pickle.

A pickle is a program. `read_checkpoint` interprets only the few harmless instructions that a dictionary of tensors
needs and refuses all others, so that a malicious file can neither import nor call anything.
"""

from __future__ import annotations

import io
import pickletools
import struct
import zipfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgetl.errors import WeightsError

MAX_FILE_BYTES = 1 << 30
"""Far more than any backbone needs; a larger file is a mistake."""

_LEGACY_MAGIC = 0x1950A86A20F9469CFC6C
_LEGACY_PROTOCOL = 1001
_MAX_AXES = 32
_WRAPPERS = ("state_dict", "model_state_dict", "model")


def read_checkpoint(path: Path) -> dict[str, np.ndarray]:
    """The tensors of a checkpoint in the order they were saved, as read-only views of the file's bytes.

    Both formats of torch.save are supported, the zip archive of version 1.6 and later and the older stream. The
    file contains a state dict, or a dictionary with one as `state_dict`, `model_state_dict` or `model`. bfloat16
    tensors are returned as float32.

    Raises:
        WeightsError: the file cannot be read, is truncated, or is not such a checkpoint.
    """
    try:
        size = path.stat().st_size
        if size > MAX_FILE_BYTES:
            raise WeightsError(f"{path} has {size} bytes; expected a checkpoint of at most {MAX_FILE_BYTES} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise WeightsError(f"cannot read the weights {path}: {error.strerror}; check the path") from error
    try:
        read = _read_zip if content.startswith(b"PK\x03\x04") else _read_legacy
        return _named_tensors(*read(content))
    except _RefusedError as error:
        reason = " ".join(str(error).split())  # it may contain text from the file
        raise WeightsError(
            f"{path} is not a PyTorch checkpoint of plain tensors: {reason}; "
            "save it as torch.save(model.state_dict(), path)"
        ) from error


class _RefusedError(Exception):
    """The file contains something that a dictionary of tensors does not need, or is truncated."""


@dataclass(frozen=True)
class _Global:
    """A name that the pickle would import; it is never imported here."""

    module: str
    name: str


@dataclass(frozen=True)
class _Storage:
    """A flat array of numbers, stored elsewhere in the file."""

    key: str
    type_name: str
    elements: int


@dataclass(frozen=True)
class _Tensor:
    """A strided view of a storage; offset and strides count elements."""

    storage: _Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]


_DTYPES = {
    "DoubleStorage": "<f8",
    "FloatStorage": "<f4",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
}


_ZIP_ERRORS = (zipfile.BadZipFile, KeyError, ValueError, RuntimeError, EOFError, OSError, struct.error)


def _read_zip(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            pickles = [name for name in archive.namelist() if name.endswith("data.pkl")]
            if len(pickles) != 1:
                raise _RefusedError("the zip archive does not contain exactly one data.pkl")
            root = pickles[0][: -len("data.pkl")]
            if archive.namelist().count(root + "byteorder") and _entry(archive, root + "byteorder") != b"little":
                raise _RefusedError("its numbers are big-endian")
            value, storages = _interpret(io.BytesIO(_entry(archive, pickles[0])))
            return value, {
                key: _numbers(storage, _entry(archive, f"{root}data/{key}"), 0) for key, storage in storages.items()
            }
    except _ZIP_ERRORS as error:
        raise _RefusedError(f"the zip archive is damaged ({error})") from error


def _entry(archive: zipfile.ZipFile, name: str) -> bytes:
    """An entry of the archive; torch.save does not compress, so that no entry is larger than the file."""
    if archive.getinfo(name).compress_type != zipfile.ZIP_STORED:
        raise _RefusedError(f"its entry {name} is compressed")
    return archive.read(name)


def _read_legacy(content: bytes) -> tuple[Any, dict[str, np.ndarray]]:
    stream = io.BytesIO(content)
    if _interpret(stream)[0] != _LEGACY_MAGIC or _interpret(stream)[0] != _LEGACY_PROTOCOL:
        raise _RefusedError("it does not start with the header of torch.save")
    system = _interpret(stream)[0]
    if not isinstance(system, dict) or system.get("little_endian") is not True:
        raise _RefusedError("its numbers are not little-endian")
    value, storages = _interpret(stream)
    keys = _interpret(stream)[0]
    if not isinstance(keys, list) or not all(isinstance(key, str) for key in keys) or set(keys) != set(storages):
        raise _RefusedError("its list of storages does not match its tensors")
    position, arrays = stream.tell(), {}
    for key in keys:
        storage = storages[key]
        if content[position : position + 8] != struct.pack("<q", storage.elements):
            raise _RefusedError(f"storage {key} is truncated or has another size than declared")
        arrays[key] = _numbers(storage, content, position + 8)
        position += 8 + storage.elements * np.dtype(_DTYPES[storage.type_name]).itemsize
    return value, arrays


def _numbers(storage: _Storage, content: bytes, position: int) -> np.ndarray:
    dtype = np.dtype(_DTYPES[storage.type_name])
    if position + storage.elements * dtype.itemsize > len(content):
        raise _RefusedError(f"storage {storage.key} is truncated")
    if storage.elements == 0:
        return np.empty(0, dtype)
    flat = np.frombuffer(content, dtype, storage.elements, position)
    if storage.type_name != "BFloat16Storage":
        return flat
    widened = (flat.astype(np.uint32) << 16).view(np.float32)
    widened.flags.writeable = False
    return widened


def _named_tensors(value: Any, storages: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    if not isinstance(value, dict):
        raise _RefusedError("it does not contain a dictionary")
    for wrapper in _WRAPPERS:
        if isinstance(value.get(wrapper), dict):
            value = value[wrapper]
            break
    tensors = {name: item for name, item in value.items() if isinstance(item, _Tensor)}
    if not tensors or not all(isinstance(name, str) for name in tensors):
        raise _RefusedError("it does not contain named tensors")
    return {name: _view(tensor, storages[tensor.storage.key]) for name, tensor in tensors.items()}


def _view(tensor: _Tensor, flat: np.ndarray) -> np.ndarray:
    elements = 1
    for length in tensor.shape:
        elements *= length
    if elements == 0:
        return np.empty(tensor.shape, flat.dtype)
    last = tensor.offset + sum((n - 1) * stride for n, stride in zip(tensor.shape, tensor.strides))
    if elements > flat.size or last >= flat.size:
        raise _RefusedError("a tensor extends beyond its storage")
    return np.lib.stride_tricks.as_strided(
        flat[tensor.offset :],
        tensor.shape,
        tuple(stride * flat.itemsize for stride in tensor.strides),
        writeable=False,
    )


def _interpret(stream: io.BytesIO) -> tuple[Any, dict[str, _Storage]]:
    """The value of the next pickle in `stream`, and the storages that it refers to."""
    machine = _Machine()
    try:
        for opcode, argument, _ in pickletools.genops(stream):
            if opcode.name == "STOP":
                return machine.result(), machine.storages
            machine.step(opcode.name, argument)
    except _RefusedError:
        raise
    except (ValueError, IndexError, KeyError, TypeError, RecursionError, struct.error) as error:
        raise _RefusedError(f"its pickle is damaged or truncated ({error})") from error
    raise _RefusedError("its pickle has no end")


_MARK = object()
_CONSTANTS: dict[str, Any] = {"NONE": None, "NEWTRUE": True, "NEWFALSE": False}
_EMPTY: dict[str, Any] = {"EMPTY_DICT": dict, "EMPTY_LIST": list, "EMPTY_TUPLE": tuple}
_LITERALS = frozenset(
    ("BININT", "BININT1", "BININT2", "LONG1", "BINFLOAT", "BINUNICODE", "SHORT_BINUNICODE", "BINSTRING",
     "SHORT_BINSTRING")
)  # fmt: skip
_KEYS = (str, int, float, type(None))
_SMALL_TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}


class _Machine:
    """The stack machine of the pickle format, without the instructions that import or call anything."""

    def __init__(self) -> None:
        self.storages: dict[str, _Storage] = {}
        self._stack: list[Any] = []
        self._memo: dict[int, Any] = {}

    def result(self) -> Any:
        """The value on the stack when the program stops."""
        if len(self._stack) != 1:
            raise _RefusedError("its pickle does not end with a single value")
        return self._stack[0]

    def step(self, name: str, argument: Any) -> None:
        """Executes one instruction."""
        stack = self._stack
        if name in ("PROTO", "FRAME"):
            return
        if name in _LITERALS:
            stack.append(argument)
        elif name in _CONSTANTS:
            stack.append(_CONSTANTS[name])
        elif name in _EMPTY:
            stack.append(_EMPTY[name]())
        elif name in _SMALL_TUPLES:
            stack[-_SMALL_TUPLES[name] :] = [tuple(self._top(_SMALL_TUPLES[name]))]
        elif name == "MARK":
            stack.append(_MARK)
        elif name == "GLOBAL":
            stack.append(_Global(*argument.split(" ", 1)))
        else:
            self._step_on_stack(name, argument)

    def _step_on_stack(self, name: str, argument: Any) -> None:
        stack = self._stack
        if name in ("BINPUT", "LONG_BINPUT"):
            self._memo[argument] = stack[-1]
        elif name == "MEMOIZE":
            self._memo[len(self._memo)] = stack[-1]
        elif name in ("BINGET", "LONG_BINGET"):
            stack.append(self._memo[argument])
        elif name == "TUPLE":
            stack.append(tuple(self._since_mark()))
        elif name in ("SETITEM", "SETITEMS"):
            pairs = self._pop(2) if name == "SETITEM" else self._since_mark()
            for key in pairs[::2]:
                _expect(_KEYS, key)  # the hash of a deeply nested tuple would exhaust the stack
            _expect(dict, stack[-1]).update(zip(pairs[::2], pairs[1::2]))
        elif name in ("APPEND", "APPENDS"):
            items = self._pop(1) if name == "APPEND" else self._since_mark()
            _expect(list, stack[-1]).extend(items)
        elif name == "STACK_GLOBAL":
            module, attribute = self._pop(2)
            stack.append(_Global(_expect(str, module), _expect(str, attribute)))
        elif name == "BINPERSID":
            stack.append(self._storage(stack.pop()))
        elif name == "REDUCE":
            callee, arguments = self._pop(2)
            stack.append(_construct(_expect(_Global, callee), _expect(tuple, arguments)))
        elif name == "BUILD":
            self._pop(1)  # the attributes of a state dict: torch's version numbers, which are not needed
            _expect(dict, stack[-1])
        else:
            raise _RefusedError(f"its pickle uses the instruction {name}")

    def _top(self, count: int) -> list[Any]:
        if len(self._stack) < count:
            raise _RefusedError("its pickle pops more than it has pushed")
        return self._stack[-count:]

    def _pop(self, count: int) -> list[Any]:
        items = self._top(count)
        del self._stack[-count:]
        return items

    def _since_mark(self) -> list[Any]:
        stack, mark = self._stack, len(self._stack) - 1
        while mark >= 0 and stack[mark] is not _MARK:
            mark -= 1
        if mark < 0:
            raise _RefusedError("its pickle has no matching mark")
        items = stack[mark + 1 :]
        del stack[mark:]
        return items

    def _storage(self, identity: Any) -> _Storage:
        if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
            raise _RefusedError("it refers to something that is not a storage")
        kind, key, elements = _expect(_Global, identity[1]), _expect(str, identity[2]), _count(identity[4])
        if kind.module != "torch" or kind.name not in _DTYPES:
            raise _RefusedError(f"it contains numbers of the type {kind.module}.{kind.name}")
        if identity[5:] not in ((), (None,)):
            raise _RefusedError("it contains a storage that is a view of another")
        storage = _Storage(key, kind.name, elements)
        if self.storages.setdefault(key, storage) != storage:
            raise _RefusedError(f"storage {key} is described in two ways")
        return storage


def _construct(callee: _Global, arguments: tuple[Any, ...]) -> Any:
    """The value of one of the three calls that a state dict contains."""
    if callee == _Global("collections", "OrderedDict") and arguments in ((), ([],)):
        return {}
    if callee == _Global("torch._utils", "_rebuild_tensor_v2") and len(arguments) >= 4:
        storage, offset, shape, strides = arguments[:4]
        lengths = tuple(_count(length) for length in _expect(tuple, shape))
        steps = tuple(_count(step) for step in _expect(tuple, strides))
        if len(lengths) != len(steps):
            raise _RefusedError("the strides of a tensor do not match its shape")
        if len(lengths) > _MAX_AXES:
            raise _RefusedError(f"a tensor has {len(lengths)} axes")
        return _Tensor(_expect(_Storage, storage), _count(offset), lengths, steps)
    if callee == _Global("torch._utils", "_rebuild_parameter") and len(arguments) == 3:
        return _expect(_Tensor, arguments[0])
    raise _RefusedError(f"it calls {callee.module}.{callee.name}")


def _expect(kind: type | tuple[type, ...], value: Any) -> Any:
    if not isinstance(value, kind):
        expected = " or ".join(each.__name__ for each in (kind if isinstance(kind, tuple) else (kind,)))
        raise _RefusedError(f"its pickle has a {type(value).__name__} in place of a {expected}")
    return value


def _count(value: Any) -> int:
    if type(value) is not int or not 0 <= value <= MAX_FILE_BYTES:
        shown = value if isinstance(value, (int, float)) else f"a {type(value).__name__}"
        raise _RefusedError(f"{shown} is not a valid size")
    return value
