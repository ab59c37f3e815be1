"""Every error edgetl raises on purpose; the CLI prints one as a single line and exits with its code.

    EdgetlError
    ├── OptionError              an option is out of range, or two of them disagree
    │   └── UnknownNameError     a name that is none of the known ones; suggests the nearest
    ├── MissingExtraError        a package that this verb needs is not installed
    ├── DataError                the photos as a whole cannot be used
    ├── ImageError               one image cannot be read
    ├── WeightsError             a backbone's weights are missing, or not what they should be
    ├── TrainingError            fine-tuning cannot go on
    ├── ConversionError          the model cannot become what the target takes
    ├── BundleError              the file is not a bundle that edgetl can use
    │   ├── IntegrityError       the file is not what its manifest says
    │   └── SignatureError       nobody who is trusted here vouches for it
    ├── KeyFileError             a key cannot be read, written or found
    ├── EngineError              no interpreter, or it refuses the model
    ├── LearningError            a learning step cannot be done
    ├── InstallError             a bundle may not become the running one, or there is none to go back to
    │   └── CanaryError          a bundle does not answer here as it did where it was built
    ├── DeviceError              a device cannot be reached, or does not do what it was told
    └── StorageError             the disk is full, read-only, or not ours to write

A message gives the fault, the value received, what would be right, and the next step.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class EdgetlError(Exception):
    """The base of all; `exit_code` is what the CLI ends with."""

    exit_code = 2


class OptionError(EdgetlError):
    """An option is out of range, or two options disagree."""


class UnknownNameError(OptionError):
    """A name that is none of the known ones, with the nearest one and where to see them all."""

    def __init__(self, kind: str, name: str, known: Iterable[str], listing: str) -> None:
        known = sorted(known)
        nearest = difflib.get_close_matches(name, known, n=1)
        guess = f" (did you mean '{nearest[0]}'?)" if nearest else ""
        super().__init__(f"unknown {kind} '{name}'{guess}; choose {', '.join(known)}. List them: {listing}")
        self.nearest = nearest[0] if nearest else None


class MissingExtraError(EdgetlError):
    """A package that this verb needs is not installed; the message holds the line that installs it."""

    def __init__(self, package: str, extra: str, purpose: str) -> None:
        super().__init__(f"{purpose} needs {package}. Install it: pip install 'edgetl[{extra}]'")
        self.package = package
        self.extra = extra


class DataError(EdgetlError):
    """The photos as a whole cannot be used."""


class ImageError(EdgetlError):
    """One image cannot be read."""


class WeightsError(EdgetlError):
    """A backbone's weights are missing, or not what they should be."""


class TrainingError(EdgetlError):
    """Fine-tuning cannot go on."""


class ConversionError(EdgetlError):
    """The model cannot become what the target takes."""


class BundleError(EdgetlError):
    """The file is not a bundle that edgetl can use."""


class IntegrityError(BundleError):
    """The file is not what its manifest says."""


class SignatureError(BundleError):
    """Nobody who is trusted here vouches for the bundle."""


class KeyFileError(EdgetlError):
    """A key cannot be read, written or found."""


class EngineError(EdgetlError):
    """There is no interpreter, or it refuses the model."""


class LearningError(EdgetlError):
    """A learning step cannot be done."""


class InstallError(EdgetlError):
    """A bundle may not become the running one, or there is none to go back to; what runs is untouched."""


class CanaryError(InstallError):
    """A bundle does not answer here as it did where it was built."""


class DeviceError(EdgetlError):
    """A device cannot be reached, or does not do what it was told."""


class StorageError(EdgetlError):
    """The disk is full, read-only, or not ours to write."""
