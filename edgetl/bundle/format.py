"""Writes and reads the .edgetl file: a zip whose every entry is verified before any of it is used.

The same content gives the same bytes, and nothing in a bundle is ever unpickled or executed.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import struct
import zipfile
import zlib
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any, BinaryIO, Container, Dict, List, Mapping, Tuple, Union

from edgetl.bundle.layout import MANIFEST, SIGNATURE
from edgetl.durable import replace_file
from edgetl.errors import BundleError, IntegrityError

FORMAT = 1
ENTRY_LIMIT = 10_000
ENTRY_LIMIT_BYTES = 512 * 1024 * 1024
TOTAL_LIMIT_BYTES = 1024 * 1024 * 1024
MANIFEST_LIMIT_BYTES = 4 * 1024 * 1024
SIGNATURE_LIMIT_BYTES = 4096
LABEL_LIMIT = 10_000

EDGETPU_STATES = ("not requested", "not compiled", "compiled")
QUANTIZATIONS = ("int8", "int16x8", "float32", "float16", "dynamic")
EMBEDDING_DTYPES = ("int8", "uint8", "float32")


@dataclass(frozen=True)
class Manifest:
    """The description of a bundle. `pack` fills in `entries`: {name: {"sha256": hex, "size": bytes}}.

    Raises BundleError if a value has the wrong type or is out of range.
    """

    name: str
    edgetl_version: str
    backbone: Dict[str, Any]
    preprocess: Dict[str, Any]
    target: str
    quantize: str
    labels: List[str]
    embedding: Dict[str, Any]
    """{"size": d, "dtype": "int8", "scale": float, "zero_point": int}"""
    last_layer: Dict[str, Any]
    accuracy: Dict[str, Any]
    edgetpu: str = "not requested"
    licences: List[Any] = field(default_factory=list)
    entries: Dict[str, Dict[str, Any]] = field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        _check_manifest(self)

    def to_json(self) -> str:
        """The manifest as JSON with sorted keys: the same manifest gives the same text."""
        try:
            return json.dumps(asdict(self), indent=1, sort_keys=True, allow_nan=False) + "\n"
        except (TypeError, ValueError) as error:
            raise BundleError(f"the manifest contains a value that is not JSON: {error}") from error

    @classmethod
    def from_json(cls, text: Union[str, bytes]) -> Manifest:
        """The inverse of `to_json`. Raises BundleError for anything unknown, missing or invalid."""
        try:
            values = json.loads(text, object_pairs_hook=_unique_keys, parse_constant=_refuse_constant)
        except (ValueError, RecursionError) as error:
            raise BundleError(f"the manifest is not JSON: {error}") from error
        if not isinstance(values, dict):
            raise BundleError(f"the manifest must be a JSON object, not {type(values).__name__}")
        if values.get("format") != FORMAT:
            raise BundleError(
                f"unknown bundle format {values.get('format')!r}; this edgetl reads {FORMAT}. "
                "Update it: pip install -U edgetl"
            )
        _require_keys("the manifest", values, [known.name for known in fields(cls)])
        return cls(**values)


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory, independent of its file. `open_bundle` has verified every entry."""

    path: Path
    manifest: Manifest
    digest: str
    """SHA-256 of the manifest, which lists the digests of all other entries: it identifies the content."""
    _entries: Mapping[str, bytes] = field(repr=False)
    _manifest_bytes: bytes = field(repr=False)
    signature: bytes = field(default=b"", repr=False)
    """The content of `signature.json`, which the manifest does not list; empty if unsigned. Not verified yet."""

    @property
    def names(self) -> Tuple[str, ...]:
        """The sorted names of all entries except the manifest and the signature."""
        return tuple(sorted(self._entries))

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def read(self, name: str) -> bytes:
        """The bytes of an entry. Raises BundleError if there is no entry of this name."""
        try:
            return self._entries[name]
        except KeyError:
            raise BundleError(f"{self.path} has no entry '{name}'; build it again: edgetl build") from None


def pack(path: Union[str, os.PathLike[str]], manifest: Manifest, entries: Mapping[str, bytes]) -> Path:
    """Writes a bundle and returns its path; the same manifest and entries give the same bytes.

    At any moment `path` is the old file or the complete new one.
    Raises BundleError if a name or a size would be refused on opening, StorageError if the file cannot be written.
    """
    path = Path(path)
    contents = {name: bytes(entries[name]) for name in sorted(entries)}
    listed = {name: {"sha256": _sha256(data), "size": len(data)} for name, data in contents.items()}
    text = replace(manifest, entries=listed).to_json().encode()
    if len(text) > MANIFEST_LIMIT_BYTES:
        raise BundleError(f"the manifest has {len(text)} bytes; at most {MANIFEST_LIMIT_BYTES} are accepted")
    return _write(path, {MANIFEST: text, **contents})


def write_bundle(path: Union[str, os.PathLike[str]], bundle: Bundle, at_hand: Container[str] = ()) -> Path:
    """Writes an opened bundle with its signature, but without the entries whose SHA-256 is in `at_hand`.

    The digest stays the same; `open_bundle` needs the entries that were left out. Raises StorageError.
    """
    included = {name: bundle.read(name) for name in bundle.names if _listed_digest(bundle, name) not in at_hand}
    signature = {SIGNATURE: bundle.signature} if bundle.signature else {}
    return _write(Path(path), {MANIFEST: bundle._manifest_bytes, **signature, **included})


def is_label(text: object) -> bool:
    """Whether a text is a valid name of a class: 1 to 200 characters without control characters."""
    return _is_text(text)


def open_bundle(path: Union[str, os.PathLike[str]], at_hand: Mapping[str, bytes] = MappingProxyType({})) -> Bundle:
    """Reads a bundle and verifies every digest before anything in it can be used.

    Entries that the file leaves out are taken from `at_hand`, {SHA-256: content}. Sizes, names and counts are checked
    against limits before and while they are read.
    Raises BundleError if the file is not a bundle, and its subclass IntegrityError if its content does not match the
    manifest.
    """
    path = Path(path)
    try:
        with path.open("rb") as file:
            return _read_bundle(path, file, at_hand)
    except FileNotFoundError:
        raise BundleError(f"there is no bundle at {path}; give a file that edgetl build wrote") from None
    except OSError as error:
        raise BundleError(
            f"cannot read {path}: {error.strerror or error}; give a file that edgetl build wrote"
        ) from error


_SPECIAL_LIMITS = {MANIFEST: MANIFEST_LIMIT_BYTES, SIGNATURE: SIGNATURE_LIMIT_BYTES}
_DATE = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_REGULAR_FILE = 0o100644 << 16
_REGULAR, _TYPE_MASK = 0o100000, 0o170000
_ENCRYPTED = 0x1
_METHODS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
_DEFLATE_RATIO_LIMIT = 1100
"""Deflate compresses by a factor of 1032 at most (zlib's technical notes); a higher ratio is forged."""
_BLOCK_BYTES = 1 << 20
_TAIL = struct.Struct("<4s4H2LH")
"""The end of central directory record; its last three fields: directory size, directory start, comment size."""
_LOCATOR_BYTES = 20
_DIRECTORY_LIMIT_BYTES = 512
"""More than the size of a directory entry with the longest accepted name."""
_ENTRY_NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}(/[A-Za-z0-9_][A-Za-z0-9_.\-]{0,99}){0,3}")
_TEXT = re.compile("[^\x00-\x1f\x7f-\x9f\ud800-\udfff]{1,200}")
_TEXT_EXPECTED = "a text of 1 to 200 characters without control characters"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def _listed_digest(bundle: Bundle, name: str) -> str:
    return str(bundle.manifest.entries[name]["sha256"])


def _write(path: Path, contents: Mapping[str, bytes]) -> Path:
    replace_file(path, lambda file: _write_zip(file, contents))
    return path


def _write_zip(file: BinaryIO, contents: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED, compresslevel=6) as archive:
        for name, data in contents.items():
            info = zipfile.ZipInfo(name, _DATE)
            info.create_system = _UNIX
            info.external_attr = _REGULAR_FILE
            archive.writestr(info, data, zipfile.ZIP_DEFLATED, compresslevel=6)


def _read_bundle(path: Path, file: BinaryIO, at_hand: Mapping[str, bytes]) -> Bundle:
    try:
        _check_tail(path, file)
        with zipfile.ZipFile(file) as archive:
            infos = _checked_infos(path, archive.infolist())
            text = _read_entry(path, archive, infos.pop(MANIFEST))
            manifest = Manifest.from_json(text)
            signature = _read_entry(path, archive, infos.pop(SIGNATURE)) if SIGNATURE in infos else b""
            left_out = _left_out(manifest, infos, at_hand)
            sizes = {name: info.file_size for name, info in infos.items()}
            _check_listing(path, {**sizes, **{name: len(data) for name, data in left_out.items()}}, manifest)
            contents = {name: _read_entry(path, archive, info) for name, info in infos.items()}
    except _ZIP_FAULTS as error:
        raise BundleError(f"{path} is not a complete bundle ({_one_line(error)}); copy it again") from error
    contents.update(left_out)
    for name, data in contents.items():
        if _sha256(data) != manifest.entries[name]["sha256"]:
            raise IntegrityError(f"{path}: '{name}' was changed after packing; copy or build it again")
    return Bundle(path, manifest, _sha256(text), MappingProxyType(contents), text, signature)


def _left_out(manifest: Manifest, infos: Container[str], at_hand: Mapping[str, bytes]) -> Dict[str, bytes]:
    """The entries that are in `at_hand` instead of the file."""
    return {
        name: at_hand[entry["sha256"]]
        for name, entry in manifest.entries.items()
        if name not in infos and entry["sha256"] in at_hand
    }


_ZIP_FAULTS = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    EOFError,
    NotImplementedError,
    RuntimeError,
    ValueError,
    KeyError,
    OverflowError,
)
"""Exceptions that the zip reader was seen to raise for damaged files."""


def _check_tail(path: Path, file: BinaryIO) -> None:
    """Checks that the file ends as `pack` writes it: with a directory of bounded size and nothing after it.

    Therefore neither a huge directory nor one hidden behind a zip64 locator or a comment is ever parsed.
    """
    length = file.seek(0, os.SEEK_END)
    file.seek(max(0, length - _LOCATOR_BYTES - _TAIL.size))
    locator, tail = file.read(_LOCATOR_BYTES), file.read(_TAIL.size)
    if len(tail) != _TAIL.size or not tail.startswith(b"PK\5\6"):
        raise BundleError(f"{path} is not a complete bundle (its end is missing); copy or build it again")
    directory_bytes, directory_start, comment_bytes = _TAIL.unpack(tail)[-3:]
    if (
        directory_start + directory_bytes + _TAIL.size != length
        or directory_bytes > (ENTRY_LIMIT + 1) * _DIRECTORY_LIMIT_BYTES
        or comment_bytes
        or locator.startswith(b"PK\6\7")
    ):
        raise BundleError(f"{path} is a zip, but not one that edgetl wrote; build it again: edgetl build")


def _checked_infos(path: Path, infos: List[zipfile.ZipInfo]) -> Dict[str, zipfile.ZipInfo]:
    """The directory of the zip by name, checked against every limit before any content is read."""
    if len(infos) > ENTRY_LIMIT + 1:
        raise BundleError(f"{path} has {len(infos)} entries; at most {ENTRY_LIMIT} are accepted")
    for info in infos:
        _check_info(path, info)
    by_name = {info.filename: info for info in infos}
    if len(by_name) != len(infos):
        raise BundleError(f"{path} has two entries of one name; it was not packed by edgetl build")
    total = sum(info.file_size for info in infos)
    if total > TOTAL_LIMIT_BYTES:
        raise BundleError(f"{path} unpacks to {total} bytes; at most {TOTAL_LIMIT_BYTES} are accepted")
    if MANIFEST not in by_name:
        raise BundleError(f"{path} has no {MANIFEST}; give a file that edgetl build wrote")
    return by_name


def _check_info(path: Path, info: zipfile.ZipInfo) -> None:
    limit = _SPECIAL_LIMITS.get(info.filename, ENTRY_LIMIT_BYTES)
    kind = (info.external_attr >> 16) & _TYPE_MASK
    faults = {
        "its name is not a plain relative path": not _is_entry_name(info.orig_filename),
        "it is not a regular file": kind not in (0, _REGULAR),
        "it is encrypted": info.flag_bits & _ENCRYPTED,
        f"its compression method, {info.compress_type}, is not accepted": info.compress_type not in _METHODS,
        f"it has {info.file_size} bytes, at most {limit} are accepted": info.file_size > limit,
        "its sizes are impossible": info.file_size > info.compress_size * _DEFLATE_RATIO_LIMIT,
    }
    for fault, is_so in faults.items():
        if is_so:
            raise BundleError(f"{path} refused: entry {info.filename[:80]!r}: {fault}")


def _check_listing(path: Path, sizes: Mapping[str, int], manifest: Manifest) -> None:
    faults = [f"'{name}' is missing" for name in sorted(set(manifest.entries) - set(sizes))]
    faults += [f"'{name}' is not listed" for name in sorted(set(sizes) - set(manifest.entries))]
    if faults:
        raise IntegrityError(f"{path} does not match its manifest: {', '.join(faults)[:200]}; copy it again")
    for name, size in sizes.items():
        if size != manifest.entries[name]["size"]:
            raise IntegrityError(
                f"{path}: '{name}' has {size} bytes where the manifest says "
                f"{manifest.entries[name]['size']}; copy or build it again"
            )


def _read_entry(path: Path, archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """The content of an entry. Stops after the declared size, which may be forged."""
    blocks, remaining = [], info.file_size
    with archive.open(info) as stream:
        while remaining >= 0:
            block = stream.read(min(_BLOCK_BYTES, remaining + 1))
            if not block:
                break
            blocks.append(block)
            remaining -= len(block)
    if remaining:
        raise IntegrityError(f"{path}: '{info.filename}' does not have the size it declares; copy it again")
    return b"".join(blocks)


def _is_entry_name(name: str) -> bool:
    return _ENTRY_NAME.fullmatch(name) is not None


def _check_manifest(manifest: Manifest) -> None:
    is_known = _is_integer(manifest.format) and manifest.format == FORMAT
    _require(is_known, "format", manifest.format, str(FORMAT))
    for name in ("name", "edgetl_version", "target"):
        _require(_is_text(getattr(manifest, name)), name, getattr(manifest, name), _TEXT_EXPECTED)
    for name in ("backbone", "preprocess", "last_layer", "accuracy", "embedding", "entries"):
        _require(isinstance(getattr(manifest, name), dict), name, getattr(manifest, name), "an object")
    _require(isinstance(manifest.licences, list), "licences", manifest.licences, "a list")
    _require(manifest.quantize in QUANTIZATIONS, "quantize", manifest.quantize, f"one of {QUANTIZATIONS}")
    _require(manifest.edgetpu in EDGETPU_STATES, "edgetpu", manifest.edgetpu, f"one of {EDGETPU_STATES}")
    _check_labels(manifest.labels)
    _check_embedding(manifest.embedding)
    _check_entries(manifest.entries)


def _check_labels(labels: Any) -> None:
    is_list = isinstance(labels, list) and 1 <= len(labels) <= LABEL_LIMIT
    _require(is_list, "labels", labels, f"a list of 1 to {LABEL_LIMIT}")
    for label in labels:
        _require(_is_text(label), "label", label, _TEXT_EXPECTED)
    _require(len(set(labels)) == len(labels), "labels", labels, "all different")


def _check_embedding(embedding: Dict[str, Any]) -> None:
    _require_keys("embedding", embedding, ["size", "dtype", "scale", "zero_point"])
    size, dtype, scale, zero = (embedding[key] for key in ("size", "dtype", "scale", "zero_point"))
    _require(_is_integer(size) and 1 <= size <= 65536, "embedding size", size, "1 to 65536")
    _require(dtype in EMBEDDING_DTYPES, "embedding dtype", dtype, f"one of {EMBEDDING_DTYPES}")
    is_number = isinstance(scale, (int, float)) and not isinstance(scale, bool)
    _require(is_number and 0 < scale < 1e9, "embedding scale", scale, "a number above 0")
    _require(_is_integer(zero) and -128 <= zero <= 255, "embedding zero_point", zero, "-128 to 255")


def _check_entries(entries: Dict[str, Any]) -> None:
    _require(len(entries) <= ENTRY_LIMIT, "number of entries", len(entries), f"at most {ENTRY_LIMIT}")
    for name, entry in entries.items():
        allowed = isinstance(name, str) and _is_entry_name(name) and name not in (MANIFEST, SIGNATURE)
        _require(allowed, "entry name", name, "a plain relative path, e.g. guard/labels.json")
        right_keys = isinstance(entry, dict) and set(entry) == {"sha256", "size"}
        _require(right_keys, f"entry '{name}'", entry, 'an object of "sha256" and "size"')
        digest, size = entry["sha256"], entry["size"]
        is_digest = isinstance(digest, str) and _DIGEST.fullmatch(digest) is not None
        _require(is_digest, f"sha256 of '{name}'", digest, "64 hexadecimal digits")
        is_size = _is_integer(size) and 0 <= size <= ENTRY_LIMIT_BYTES
        _require(is_size, f"size of '{name}'", size, f"0 to {ENTRY_LIMIT_BYTES} bytes")
    total = sum(entry["size"] for entry in entries.values())
    _require(total <= TOTAL_LIMIT_BYTES, "size of all entries", total, f"at most {TOTAL_LIMIT_BYTES}")


def _require(is_valid: bool, name: str, received: Any, expected: str) -> None:
    if not is_valid:
        raise BundleError(f"the manifest's {name} must be {expected}, received {_short(received)}")


def _require_keys(name: str, values: Mapping[str, Any], keys: List[str]) -> None:
    if set(values) != set(keys):
        missing, unknown = sorted(set(keys) - set(values)), sorted(map(str, set(values) - set(keys)))
        raise BundleError(f"{name} has the wrong keys: missing {missing}, unknown {_short(unknown)}")


def _unique_keys(pairs: List[Tuple[str, Any]]) -> Dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a key appears twice")
    return values


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not a number")


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and _TEXT.fullmatch(value) is not None


def _is_integer(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 100 else f"{text[:100]}..."


def _one_line(error: BaseException) -> str:
    return " ".join(str(error).split())[:120] or type(error).__name__
