"""Creates and lists the user's signing keys, and signs bundles with them."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Optional, Union

from edgetl.bundle import open_bundle, signing, write_bundle
from edgetl.bundle.signing import PRIVATE, PUBLIC
from edgetl.runtime.system import config_folder


@dataclass(frozen=True)
class SigningKey:
    """A key pair of this user."""

    key: str
    """Its id: 16 hexadecimal digits."""
    name: str
    private: Path
    public: Path


@dataclass(frozen=True)
class Signed:
    """A signature that was added to a bundle."""

    bundle: Path
    key: str
    """The id of the key that signed it."""
    sequence: int


def sign(bundle: Union[str, Path], key: Union[str, Path], sequence: Optional[int] = None) -> Signed:
    """Sign a bundle, in place, so that devices that trust the key accept it.

    `key` is the name of a key or its file. Devices refuse a bundle with a lower `sequence` than that of the bundle they
    run; for None it is the seconds since 1970.

    Raises:
        KeyFileError: there is no such key, or others may read it.
        BundleError, SignatureError, StorageError: the bundle cannot be opened, signed or written.
    """
    private = signing.read_private_key(_path(key, PRIVATE))
    number = int(time.time()) if sequence is None else sequence
    write_bundle(Path(bundle), signing.sign(open_bundle(bundle), private, number))
    return Signed(Path(bundle), signing.key_id(private.public_key()), number)


def new_key(name: Union[str, Path]) -> SigningKey:
    """Create a signing key of this name, or in this file, for its owner's eyes only.

    Raises:
        KeyFileError: there is such a key already.
    """
    path = _path(name, PRIVATE)
    return SigningKey(signing.make_key(path), path.stem, path, path.with_suffix(PUBLIC))


def list_keys() -> list[SigningKey]:
    """This user's keys, by name."""
    public = sorted(_folder().glob(f"*{PUBLIC}"))
    return [SigningKey(_id(path), path.stem, path.with_suffix(PRIVATE), path) for path in public]


def find_public_key(key: Union[str, Path]) -> Path:
    """The public file of a key, by the key's name or as that file; it is read to see that it is one.

    Raises:
        KeyFileError: there is no such key.
    """
    path = _path(key, PUBLIC)
    signing.read_public_key(path)
    return path


def _folder() -> Path:
    return config_folder() / "keys"


def _path(name: Union[str, Path], suffix: str) -> Path:
    """A key by its name among the user's, or by its file."""
    text = str(name)
    return Path(text) if "/" in text or text.endswith(suffix) else _folder() / f"{text}{suffix}"


def _id(public: Path) -> str:
    return signing.key_id(signing.read_public_key(public))
