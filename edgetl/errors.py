"""The exceptions that edgetl raises on purpose.

    EdgetlError
    ├── OptionError              an option is out of range, or two options conflict
    │   └── UnknownNameError     a name is not in the list of known names
    ├── MissingExtraError        an optional package is not installed
    ├── DataError                the photos, or another source of images, cannot be used
    ├── ImageError               one image cannot be decoded
    ├── WeightsError             a backbone's weights are missing or wrong
    ├── TrainingError            fine-tuning failed
    ├── ConversionError          the model cannot be converted for the target
    ├── BundleError              a file is not a bundle that this edgetl can read
    │   ├── IntegrityError       the content of a bundle does not match its manifest
    │   └── SignatureError       a bundle has no valid signature of a trusted key
    ├── KeyFileError             a key file cannot be read, written or found
    ├── EngineError              no TFLite interpreter is installed, or it rejects the model
    ├── LearningError            a learning step is not possible
    ├── InstallError             a bundle was not installed, or there is none to return to
    │   └── CanaryError          a bundle's answers on this device differ from those of the host
    ├── DeviceError              a device cannot be reached, or reports a failure
    └── StorageError             a file cannot be written: disk full, read-only, no permission

The CLI prints an EdgetlError as one line and exits with its `exit_code`; any other exception is a bug in edgetl.
A message gives the fault, the value received, what would be right, and the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgetlError(Exception):
    """The base class of every exception that edgetl raises on purpose."""

    exit_code = 2
    """The exit code of the CLI."""


class OptionError(EdgetlError):
    """Raised when an option is out of range or malformed, or when two options conflict."""


class UnknownNameError(OptionError):
    """Raised when a name is not in the list of known names; the message suggests the nearest one.

    `listing` is the command that lists all of them.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], listing: str) -> None:
        known = sorted(known)
        nearest = difflib.get_close_matches(name, known, n=1)
        suggestion = f" (did you mean '{nearest[0]}'?)" if nearest else ""
        super().__init__(f"unknown {kind} '{name}'{suggestion}; choose {', '.join(known)}. List them: {listing}")
        self.nearest = nearest[0] if nearest else None
        """The known name that is most like it, or None."""


class MissingExtraError(EdgetlError):
    """Raised when an optional package is not installed; the message gives the command that installs it.

    `purpose` is the subject of the message, for example "a camera".
    """

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}. Install it: pip install 'edgetl[{extra}]'")
        self.package = package
        self.extra = extra


class DataError(EdgetlError):
    """Raised when a data set cannot be used, or when a source of images cannot be opened or is empty."""


class ImageError(EdgetlError):
    """Raised when one image cannot be decoded."""


class WeightsError(EdgetlError):
    """Raised when the weights of a backbone cannot be found or downloaded, or fail their checksum."""


class TrainingError(EdgetlError):
    """Raised when fine-tuning cannot start or cannot continue."""


class ConversionError(EdgetlError):
    """Raised when a model cannot be converted, compressed or compiled for the target."""


class BundleError(EdgetlError):
    """Raised when a file is missing, is not a .edgetl bundle, or is one that this version of edgetl cannot read."""


class IntegrityError(BundleError):
    """Raised when stored content fails a check: a digest, a size, or a claim of the manifest."""


class SignatureError(BundleError):
    """Raised when a bundle is unsigned, has a malformed or invalid signature, or is signed by an untrusted key."""


class KeyFileError(EdgetlError):
    """Raised when a key file is missing, unreadable, of the wrong kind, or already exists where a new one would go."""


class EngineError(EdgetlError):
    """Raised when no TFLite interpreter is installed, or when the interpreter cannot load the model."""


class LearningError(EdgetlError):
    """Raised when a learning step is not possible, for example because its picture or step does not exist."""


class InstallError(EdgetlError):
    """Raised when a bundle is refused or fails on the device, or when there is no bundle to return to.

    Unless the message says otherwise, the running bundle is unchanged.
    """


class CanaryError(InstallError):
    """Raised when a bundle's canaries crash, time out, or give other answers than on the host that built it."""


class DeviceError(EdgetlError):
    """Raised when a device cannot be reached, breaks the connection, or reports a failure."""


class StorageError(EdgetlError):
    """Raised when a file or folder cannot be written: the disk is full or read-only, or permission is missing."""
