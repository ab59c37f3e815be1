"""Hides ed25519: the host signs bundles with a private key, a device verifies them with the public keys it trusts.

A signature vouches for a bundle's digest, which covers all its content and the target it is for, and for a sequence
number, by which a device tells an older bundle from a newer one. It is deterministic (RFC 8032): the same key, bundle
and number give the same bytes.
"""

from __future__ import annotations

import base64
import hashlib
import json
import os
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Dict, Mapping

from edgetl.bundle import Bundle
from edgetl.durable import make_folder, replace_file
from edgetl.errors import KeyFileError, MissingExtraError, SignatureError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

PRIVATE, PUBLIC = ".key", ".pub"
SEQUENCE_LIMIT = 1 << 63


def make_key(path: Path) -> str:
    """Writes a new private key, for its owner's eyes only, and beside it the public key NAME.pub; returns its id.

    Raises KeyFileError where there is a key already, StorageError.
    """
    public = path.with_suffix(PUBLIC)
    if path.exists() or public.exists():
        raise KeyFileError(f"there is a key at {path} already; give another name, or move it away")
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
    """The private key in a file. Raises KeyFileError where it is none, or where others may read it."""
    serialization, ed25519 = _cryptography()
    content = _read(path)
    if path.stat().st_mode & 0o077:
        raise KeyFileError(f"others may read the private key {path}; make it yours alone: chmod 600 {path}")
    return _require_kind(path, ed25519.Ed25519PrivateKey, serialization.load_pem_private_key, content, None)


def read_public_key(path: Path) -> Ed25519PublicKey:
    """The public key in a file. Raises KeyFileError where it is none."""
    serialization, ed25519 = _cryptography()
    return _require_kind(path, ed25519.Ed25519PublicKey, serialization.load_pem_public_key, _read(path))


def key_id(key: Ed25519PublicKey) -> str:
    """What a key is called: 16 hexadecimal digits of the SHA-256 of its 32 bytes."""
    return hashlib.sha256(key.public_bytes_raw()).hexdigest()[:16]


def trust_key(source: Path, folder: Path) -> str:
    """Adds a public key to a folder of trusted ones; returns its id. Raises KeyFileError, StorageError."""
    key = read_public_key(source)
    make_folder(folder)
    replace_file(folder / f"{key_id(key)}{PUBLIC}", _public_pem(key))
    return key_id(key)


def distrust_key(identity: str, folder: Path) -> None:
    """Takes a public key out of a folder of trusted ones. Raises KeyFileError where there is none of this id."""
    path = folder / f"{identity}{PUBLIC}"
    if not _ID.fullmatch(identity) or not path.is_file():
        known = ", ".join(trusted_ids(folder)) or "none"
        raise KeyFileError(f"no key '{identity}' is trusted here; trusted are: {known}")
    path.unlink()


def trusted_ids(folder: Path) -> list[str]:
    """The ids of the keys in a folder of trusted ones; needs no cryptography."""
    return sorted(path.stem for path in folder.glob(f"*{PUBLIC}"))


def trusted_keys(folder: Path) -> Dict[str, Ed25519PublicKey]:
    """The keys in a folder of trusted ones, by id. Raises KeyFileError where one is damaged."""
    keys = [read_public_key(path) for path in sorted(folder.glob(f"*{PUBLIC}"))]
    return {key_id(key): key for key in keys}


def sign(bundle: Bundle, key: Ed25519PrivateKey, sequence: int) -> Bundle:
    """The bundle with a signature; devices refuse a bundle with a lower sequence number than the one they run."""
    if not 0 <= sequence < SEQUENCE_LIMIT:
        raise SignatureError(f"the sequence number is {sequence}; give 0 or more, and more than the last one")
    value = base64.b64encode(key.sign(_message(bundle, sequence))).decode()
    document = {"format": 1, "key": key_id(key.public_key()), "sequence": sequence, "signature": value}
    return replace(bundle, signature=json.dumps(document, sort_keys=True).encode())


def verify(bundle: Bundle, keys: Mapping[str, Ed25519PublicKey]) -> int:
    """The sequence number of a bundle that one of these keys has signed. Raises SignatureError."""
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
        raise SignatureError(f"the signature of '{bundle.manifest.name}' is not for this content; sign it") from None
    return sequence


_ID = re.compile("[0-9a-f]{16}")


def _message(bundle: Bundle, sequence: int) -> bytes:
    return f"edgetl bundle 1\n{bundle.digest}\n{sequence}\n".encode()


def _parse(bundle: Bundle) -> tuple[str, int, bytes]:
    try:
        document: Dict[str, Any] = json.loads(bundle.signature)
        if set(document) != {"format", "key", "sequence", "signature"} or document["format"] != 1:
            raise ValueError("unknown form")
        identity, sequence = document["key"], document["sequence"]
        if not isinstance(identity, str) or not _ID.fullmatch(identity):
            raise ValueError("the key is no id")
        if isinstance(sequence, bool) or not isinstance(sequence, int) or not 0 <= sequence < SEQUENCE_LIMIT:
            raise ValueError("the sequence is no number")
        return identity, sequence, base64.b64decode(document["signature"], validate=True)
    except (ValueError, TypeError, RecursionError) as error:
        raise SignatureError(f"the signature of '{bundle.manifest.name}' is none; sign it: edgetl sign") from error


def _public_pem(key: Ed25519PublicKey) -> bytes:
    serialization, _ = _cryptography()
    return bytes(key.public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo))


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        reason = os.strerror(error.errno or 0).lower()
        raise KeyFileError(f"cannot read the key {path}: {reason}; make one: edgetl keys new NAME") from error


def _require_kind(path: Path, kind: Any, load: Any, *arguments: Any) -> Any:
    from cryptography.exceptions import UnsupportedAlgorithm

    try:
        key = load(*arguments)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        key = None
    if not isinstance(key, kind):
        raise KeyFileError(f"{path} is not an ed25519 key of this kind; give one that edgetl keys new made")
    return key


def _cryptography() -> Any:
    try:
        from cryptography.hazmat.primitives import serialization
        from cryptography.hazmat.primitives.asymmetric import ed25519
    except ImportError:
        raise MissingExtraError("cryptography", "sign", "signing and verifying bundles") from None
    return serialization, ed25519
