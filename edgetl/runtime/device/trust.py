"""Decides whether a device may run a bundle: its signature, and the sequence number that the device has reached.

The number lasts: neither the removal of a key, nor a damaged running bundle, nor a rollback lowers it, and it belongs
to the role of the signers, not to one key. Only an allowed downgrade lowers it, which also recovers a device from a
bundle that was signed under a clock far in the future.
"""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Dict, Optional

from edgetl.bundle import Bundle, open_bundle
from edgetl.bundle.signing import distrust_key, trust_key, trusted_ids, trusted_keys, verify
from edgetl.durable import replace_file
from edgetl.errors import BundleError, InstallError, KeyFileError, OptionError, SignatureError
from edgetl.runtime.device.settings import read_settings, write_settings
from edgetl.runtime.device.slots import Slots

SEQUENCES = "sequences.json"
"""The file in the device root with the sequence number reached, by the role of the signers."""
RELEASE = "release"
"""The role of the keys that sign bundles."""


def requires_signatures(slots: Slots) -> bool:
    """Whether only signed bundles may run here. Raises KeyFileError or OptionError if that cannot be read."""
    return bool(trusted_ids(slots.keys)) or read_settings(slots.root).require_signatures


def add_trusted_key(slots: Slots, source: Path) -> None:
    """Trusts a public key; from now on this device requires signatures. Raises KeyFileError, StorageError."""
    trust_key(source, slots.keys)
    _require_signatures(slots)


def remove_trusted_key(slots: Slots, identity: str) -> None:
    """No longer trusts a key. The device goes on requiring signatures, and keeps the number that it has reached.

    Raises KeyFileError if there is no such key, StorageError.
    """
    if requires_signatures(slots):
        _require_signatures(slots)
        with suppress(KeyFileError, InstallError):  # a key can be removed though another file is damaged
            _write_sequence(slots, sequence_reached(slots))
    distrust_key(identity, slots.keys)


def check_requirement_can_end(slots: Slots) -> None:
    """Raises OptionError if the device trusts keys: it then requires signatures whatever the setting."""
    if known := trusted_ids(slots.keys):
        raise OptionError(
            f"cannot accept unsigned bundles while keys are trusted ({', '.join(known)}); remove them first: "
            "python -m edgetl.runtime trust --remove ID"
        )


def check_signature(slots: Slots, bundle: Bundle) -> Optional[int]:
    """Verifies that a trusted key signed the bundle; returns its sequence number, None if no signature is required.

    Raises SignatureError, or KeyFileError if the trusted keys cannot be read.
    """
    if not requires_signatures(slots):
        return None
    keys = trusted_keys(slots.keys)
    if not keys:
        raise SignatureError(
            f"'{bundle.manifest.name}' cannot be verified: this device requires signatures and trusts no key. Trust "
            "one: edgetl keys trust; or accept unsigned bundles: python -m edgetl.runtime configure "
            "--require-signatures no"
        )
    return verify(bundle, keys)


def check_sequence(slots: Slots, bundle: Bundle, sequence: int) -> None:
    """Raises InstallError if a newer bundle has run here. The running bundle itself is never too old."""
    reached, current = sequence_reached(slots), slots.current
    if sequence < reached and (current is None or current.digest != bundle.digest):
        raise InstallError(
            f"'{bundle.manifest.name}' was signed as number {sequence}, and number {reached} runs here or has run "
            "here; sign a newer one, go back with rollback, or allow it: --allow-downgrade"
        )


def sequence_reached(slots: Slots) -> int:
    """The highest number that was installed here, or that runs here. Raises InstallError if the file is damaged."""
    return max(_read_sequence(slots), _running_sequence(slots))


def record_sequence(slots: Slots, sequence: int, allow_downgrade: bool = False) -> None:
    """Stores the number of the bundle that was made the running one; lower than before only if that is allowed."""
    _write_sequence(slots, sequence if allow_downgrade else max(sequence, _read_sequence(slots)))


def _require_signatures(slots: Slots) -> None:
    settings = read_settings(slots.root)
    if not settings.require_signatures:
        write_settings(slots.root, replace(settings, require_signatures=True))


def _read_sequence(slots: Slots) -> int:
    path = slots.root / SEQUENCES
    try:
        number = json.loads(path.read_bytes())[RELEASE]
        if isinstance(number, bool) or not isinstance(number, int):
            raise ValueError("it has no number")
        return number
    except FileNotFoundError:
        return 0
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise InstallError(
            f"cannot read the sequence number in {path}: {error}; install the bundle that you want with "
            "--allow-downgrade, which writes the file again"
        ) from error


def _write_sequence(slots: Slots, sequence: int) -> None:
    roles: Dict[str, int] = {RELEASE: sequence}
    replace_file(slots.root / SEQUENCES, json.dumps(roles).encode() + b"\n")


def _running_sequence(slots: Slots) -> int:
    """The number of the running bundle; 0 if it is damaged, or older than the first trusted key."""
    if slots.current is None:
        return 0
    try:
        return verify(open_bundle(slots.current.bundle), trusted_keys(slots.keys))
    except BundleError:
        return 0
