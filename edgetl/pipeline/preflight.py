"""Checks a build or a search before any time is spent: names, boards, photos, and output files."""

from __future__ import annotations

import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Optional

from edgetl.bundle import is_label
from edgetl.conversion import BackboneSource, find_backbone_source
from edgetl.data import ValueRange, find_value_range, list_photos, list_pictures
from edgetl.errors import OptionError, StorageError
from edgetl.pipeline.options import BuildOptions
from edgetl.targets import Target

NAME_LIMIT_BYTES = 200
"""Limit for a bundle's name: file systems allow 255 bytes, and temporary files have longer names."""


def default_name(source: Path) -> str:
    """The name of the folder, dots included, or of the file without its suffix."""
    source = source.resolve()
    return source.stem if source.is_file() else source.name


def check_name(name: str) -> str:
    """Return `name`; raise OptionError if it cannot be the name of a bundle."""
    plain = is_label(name) and not name.startswith(".") and not any(character in name for character in "/\\")
    if not plain or len(os.fsencode(name)) > NAME_LIMIT_BYTES:
        raise OptionError(f"'{name}' cannot be the name of a bundle; choose a plain name, e.g. --name leaves")
    return name


def check_board(board: Target, options: BuildOptions) -> None:
    """Raise OptionError if the options ask for something that the board does not support."""
    quantize = options.conversion.quantize
    if quantize not in board.quantize:
        raise OptionError(f"{board.name} supports {', '.join(board.quantize)}, not --quantize {quantize}")
    if options.edgetpu_backbone is not None and not board.edgetpu:
        raise OptionError(f"{board.name} has no Edge TPU; leave --edgetpu-backbone out")


def require_float_model(backbone: BackboneSource, options: BuildOptions) -> None:
    """Raise OptionError if an option needs the float backbone, and only a compiled one is available."""
    if backbone.assemble is not None:
        return
    if options.max_drop is not None:
        raise OptionError(f"{backbone.name} is compiled: there is no float model to compare with; leave --max-drop out")
    if options.aware:
        raise OptionError(f"{backbone.name} is compiled, so it cannot be trained; use --quantize int8")


def check_output(output: Path, name: str) -> None:
    """Raise StorageError if the output files cannot be written: better now than after an hour of training."""
    for path in output_files(output, name):
        if path.is_dir():
            raise StorageError(f"cannot write {path}: it is a folder; choose another --name or --output")
    existing = next(folder for folder in (output.absolute(), *output.absolute().parents) if folder.exists())
    try:
        with tempfile.TemporaryDirectory(prefix=".edgetl-", dir=existing):
            pass
    except OSError as error:
        complaint = f"cannot write to {output}: no file can be created in {existing} ({error.strerror})"
        raise StorageError(f"{complaint}; choose another --output") from error


def check_sources(source: Path, options: BuildOptions) -> None:
    """Raise EdgetlError if the photos or the teacher cannot be used, before anything is compiled."""
    list_photos(source)
    if options.unlabelled is not None:
        list_pictures(options.unlabelled)
    if options.related is not None:
        list_photos(options.related)
    if options.teacher is not None:
        find_backbone_source(options.teacher, cache=options.cache)


def fit_to_values(backbone: BackboneSource, source: Path) -> tuple[BackboneSource, Optional[ValueRange]]:
    """The backbone with the white level of the photos, and their range, if they are grey with more than 8 bits."""
    found = find_value_range([photo.path for photo in list_photos(source).photos])
    if found is None:
        return backbone, None
    return replace(backbone, preprocess=replace(backbone.preprocess, white_level=found.white_level)), found


def output_files(output: Path, name: str) -> list[Path]:
    """The paths of the bundle, the HTML report and the JSON report."""
    return [output / f"{name}{ending}" for ending in (".edgetl", "-report.html", "-report.json")]
