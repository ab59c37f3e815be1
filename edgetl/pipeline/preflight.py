"""What can be refused before any time is spent: names, boards, photos, outputs; build and search call it."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from edgetl.bundle import is_label
from edgetl.conversion.backbone_source import find_origin
from edgetl.data import list_photos, list_pictures
from edgetl.errors import OptionError, StorageError
from edgetl.pipeline.options import BuildOptions
from edgetl.targets import Target

NAME_LIMIT_BYTES = 200
"""Of a bundle's name: file systems take 255 bytes, and the names of files that are being written are longer."""


def name_of(source: Path) -> str:
    """A folder may have dots in its name; a file leaves its suffix."""
    source = source.resolve()
    return source.stem if source.is_file() else source.name


def checked_name(name: str) -> str:
    """The name itself; raises OptionError where it cannot be that of a bundle."""
    plain = is_label(name) and not name.startswith(".") and not any(character in name for character in "/\\")
    if not plain or len(os.fsencode(name)) > NAME_LIMIT_BYTES:
        raise OptionError(f"'{name}' cannot be the name of a bundle; give a plain one: --name leaves")
    return name


def check_board(board: Target, options: BuildOptions) -> None:
    """Raises OptionError where the options ask for what the board has not."""
    quantize = options.conversion.quantize
    if quantize not in board.quantize:
        raise OptionError(f"{board.name} takes {', '.join(board.quantize)}, not --quantize {quantize}")
    if options.edgetpu_backbone is not None and not board.edgetpu:
        raise OptionError(f"{board.name} has no Edge TPU; leave --edgetpu-backbone out")


def check_output(output: Path, name: str) -> None:
    """Raises StorageError where the files cannot be written: better now than after an hour of training."""
    for path in files_of(output, name):
        if path.is_dir():
            raise StorageError(f"cannot write {path}: it is a folder; choose another --name or --output")
    existing = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".edgetl-", dir=existing):
            pass
    except OSError as error:
        complaint = f"cannot write to {output}: nothing can be made in {existing} ({error.strerror})"
        raise StorageError(f"{complaint}; choose another --output") from error


def check_sources(source: Path, options: BuildOptions) -> None:
    """Raises EdgetlError where photos or a teacher cannot be used, before anything is compiled."""
    list_photos(source)
    if options.unlabelled is not None:
        list_pictures(options.unlabelled)
    if options.related is not None:
        list_photos(options.related)
    if options.teacher is not None:
        find_origin(options.teacher, cache=options.cache)


def files_of(output: Path, name: str) -> list[Path]:
    """The bundle and its two reports."""
    return [output / f"{name}{ending}" for ending in (".edgetl", "-report.html", "-report.json")]
