"""Signs bundles with ed25519 on the host, and verifies them with the trusted public keys of a device.

A signature covers a bundle's digest, and with it all its content and its target, and a sequence number, by which a
device distinguishes an older bundle from a newer one. It is deterministic (RFC 8032): the same key, bundle and number
give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Callable, Dict, List, Mapping, Type, TypeVar, cast

from edgetl.bundle import Bundle
from edgetl.durable import make_folder, replace_file
from edgetl.errors import KeyFileError, MissingExtraError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE, PUBLIC = ".key", ".pub"
SEQUENCE_LIMIT = 1 << 63


def make_key(path: Path) -> str:
    """Writes a new private key, readable by its owner only, and the public key NAME.pub beside it; returns its id.

    Raises KeyFileError if one of the files exists, StorageError.
    """
    public = path.with_suffix(PUBLIC)
    if path.exists() or public.exists():
        raise KeyFileError(f"there is already a key at {path}; give another name, or move it")
    serialization, ed25519 = _cryptography()
    key = ed25519.Ed25519PrivateKey.generate()
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    make_folder(path.parent, mode=0o700)
    replace_file(path, private, mode=0o600)
    replace_file(public, _public_pem(key.public_key()))
    return key_id(key.public_key())


def read_private_key(path: Path) -> Ed25519PrivateKey:
    """The private key in a file. Raises KeyFileError if it is not one, or if other users may read it."""
    serialization, ed25519 = _cryptography()
    content = _read(path)
    if path.stat().st_mode & 0o077:
        raise KeyFileError(f"other users may read the private key {path}; make it private: chmod 600 {path}")
    load = partial(serialization.load_pem_private_key, content, None)
    return _load_key(path, "private", cast("Type[Ed25519PrivateKey]", ed25519.Ed25519PrivateKey), load)


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a file. Raises KeyFileError if it is not one."""
    serialization, ed25519 = _cryptography()
    load = partial(serialization.load_pem_public_key, _read(path))
    return _load_key(path, "public", cast("Type[Ed25519PublicKey]", ed25519.Ed25519PublicKey), load)


def key_id(key: Ed25519PublicKey) -> str:
    """The id of a key: the first 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def trust_key(source: Path, folder: Path) -> str:
    """Adds a public key to a folder of trusted keys; returns its id. Raises KeyFileError, StorageError."""
    key = read_public_key(source)
    make_folder(folder)
    replace_file(folder / f"{key_id(key)}{PUBLIC}", _public_pem(key))
    return key_id(key)


def distrust_key(identity: str, folder: Path) -> None:
    """Removes a public key from a folder of trusted keys. Raises KeyFileError if there is none with this id."""
    path = folder / f"{identity}{PUBLIC}"
    if not _ID.fullmatch(identity) or not path.is_file():
        known = ", ".join(trusted_ids(folder)) or "none"
        raise KeyFileError(f"no key '{identity}' is trusted here; trusted are: {known}")
    path.unlink()


def trusted_ids(folder: Path) -> list[str]:
    """The ids of the keys in a folder of trusted keys; does not need the package cryptography.

    Raises KeyFileError if the folder exists and cannot be read.
    """
    return [path.stem for path in _key_files(folder)]


def trusted_keys(folder: Path) -> Dict[str, Ed25519PublicKey]:
    """The keys in a folder of trusted keys, by id. Raises KeyFileError if the folder or a key cannot be read."""
    keys = [read_public_key(path) for path in _key_files(folder)]
    return {key_id(key): key for key in keys}


def sign(bundle: Bundle, key: Ed25519PrivateKey, sequence: int) -> Bundle:
    """Returns the bundle with a signature.

    Devices refuse a bundle with a lower sequence number than the running one's. Raises SignatureError if it is not
    0 to 2**63 - 1.
    """
    if not 0 <= sequence < SEQUENCE_LIMIT:
        raise SignatureError(f"invalid sequence number {sequence}: expected 0 or more, and more than the last one")
    value = base64.b64encode(key.sign(_message(bundle, sequence))).decode()
    document = {"format": 1, "key": key_id(key.public_key()), "sequence": sequence, "signature": value}
    return replace(bundle, signature=json.dumps(document, sort_keys=True).encode())


def verify(bundle: Bundle, keys: Mapping[str, Ed25519PublicKey]) -> int:
    """Verifies that one of these keys, {id: key}, signed the bundle; returns its sequence number.

    Raises SignatureError if it is unsigned, or if the signature is malformed, invalid, or by another key.
    """
    if not bundle.signature:
        raise SignatureError(f"'{bundle.manifest.name}' is not signed; sign it: edgetl sign BUNDLE --key NAME")
    identity, sequence, value = _parse(bundle)
    if identity not in keys:
        raise SignatureError(
            f"'{bundle.manifest.name}' is signed by the key {identity}, which is not trusted here; trusted are: "
            f"{', '.join(keys) or 'none'}. Sign it with one of these, or trust the key: edgetl keys trust"
        )
    from cryptography.exceptions import InvalidSignature

    try:
        keys[identity].verify(value, _message(bundle, sequence))
    except InvalidSignature:
        raise SignatureError(
            f"the signature of '{bundle.manifest.name}' is not for this content; sign it again: edgetl sign"
        ) from None
    return sequence


_ID = re.compile("[0-9a-f]{16}")


def _key_files(folder: Path) -> List[Path]:
    """The files of the public keys in a folder; none if it does not exist. An unreadable folder is not an empty one."""
    try:
        return sorted(folder / name for name in os.listdir(folder) if name.endswith(PUBLIC))
    except OSError as error:
        if isinstance(error, FileNotFoundError) and not os.path.lexists(folder):
            return []
        reason = os.strerror(error.errno or 0).lower()
        raise KeyFileError(
            f"cannot read the trusted keys in {folder}: {reason}; give this user permission to read the folder"
        ) from error


def _message(bundle: Bundle, sequence: int) -> bytes:
    return f"edgetl bundle 1\n{bundle.digest}\n{sequence}\n".encode()


def _parse(bundle: Bundle) -> tuple[str, int, bytes]:
    try:
        document: Dict[str, Any] = json.loads(bundle.signature)
        if set(document) != {"format", "key", "sequence", "signature"} or document["format"] != 1:
            raise ValueError("unknown format")
        identity, sequence = document["key"], document["sequence"]
        if not isinstance(identity, str) or not _ID.fullmatch(identity):
            raise ValueError("invalid key id")
        if isinstance(sequence, bool) or not isinstance(sequence, int) or not 0 <= sequence < SEQUENCE_LIMIT:
            raise ValueError("invalid sequence number")
        return identity, sequence, base64.b64decode(document["signature"], validate=True)
    except (ValueError, TypeError, RecursionError) as error:
        raise SignatureError(
            f"'{bundle.manifest.name}' has a malformed signature; sign it again: edgetl sign"
        ) from error


def _public_pem(key: Ed25519PublicKey) -> bytes:
    serialization, _ = _cryptography()
    return bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise KeyFileError(f"cannot read the key {path}: {reason}; make one: edgetl keys new NAME") from error


_Key = TypeVar("_Key")


def _load_key(path: Path, name: str, kind: Type[_Key], load: Callable[[], object]) -> _Key:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = load()
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, kind):
        raise KeyFileError(f"{path} is not an ed25519 {name} key; give one that edgetl keys new wrote")
    return key


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError("cryptography", "sign", "signing and verifying bundles") from None
    return serialization, ed25519
