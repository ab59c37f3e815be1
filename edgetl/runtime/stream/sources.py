"""Finds images: a file, the files of a folder, or what comes on standard input."""

from __future__ import annotations

import os
import stat
import sys
from io import BufferedReader
from pathlib import Path
from typing import Callable, Iterator, NamedTuple, Optional, cast

from edgetl.errors import DataError
from edgetl.runtime.inference.preprocess import ImageSource
from edgetl.runtime.stream.stdin import is_image, read_piped

IMAGE_EXTENSIONS = frozenset(
    {
        ".avif",
        ".bmp",
        ".gif",
        ".heic",
        ".heif",
        ".jfif",
        ".jp2",
        ".jpe",
        ".jpeg",
        ".jpg",
        ".mpo",
        ".pgm",
        ".png",
        ".ppm",
        ".tif",
        ".tiff",
        ".webp",
    }
)
"""The file names of images, in lower case."""

STANDARD_INPUT = "-"


class Source(NamedTuple):
    """One image to classify: how to call it, and what `Classifier.predict` takes."""

    name: str
    image: ImageSource


def iterate(source: str, stdin: Optional[BufferedReader] = None) -> Iterator[Source]:
    """Yields the images of a source without opening them: an unreadable one fails when it is predicted.

    `source` is a file, a folder (all images below it, sorted by path, without hidden ones), or "-" for standard input:
    paths, one per line, or the images themselves, as they arrive. Raises DataError if the source does not exist or
    contains no images.
    """
    if source == STANDARD_INPUT:
        return _from_pipe(cast(BufferedReader, sys.stdin.buffer) if stdin is None else stdin)
    path = Path(source)
    if path.is_dir():
        return _from_folder(path)
    if not path.exists():
        raise DataError(f"no such source: '{source}'; give an image, a folder, or - for paths or images on stdin")
    return iter([Source(source, path)])


def find_images(folder: Path, on_error: Optional[Callable[[OSError], object]] = None) -> Iterator[Path]:
    """Yields the images below a folder, without hidden ones, sorted within each folder and without listing all first.

    An image is a regular file that is named or begins like one. A folder that cannot be listed is skipped, after a call
    of `on_error`.
    """
    return (path for path in find_files(folder, on_error) if _is_regular(path) and looks_like_image(path))


def find_files(folder: Path, on_error: Optional[Callable[[OSError], object]] = None) -> Iterator[Path]:
    """Yields what is below a folder and is no folder, without hidden names and those of unfinished downloads."""
    for parent, folders, files in os.walk(folder, onerror=on_error):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        yield from (Path(parent, name) for name in sorted(files) if not _is_ignored(name))


def looks_like_image(path: Path) -> bool:
    """Whether a regular file has the name of an image, or the first bytes of one."""
    if path.suffix.lower() in IMAGE_EXTENSIONS:
        return True
    try:
        with open(path, "rb") as file:
            return is_image(file.read(16))
    except OSError:
        return False


_UNFINISHED = (".part", ".partial", ".filepart", ".tmp", ".temp", ".crdownload", ".download", ".swp", "~")
"""Ends of the names that programs give to files that they are still writing, and to backups."""


def _is_ignored(name: str) -> bool:
    return name.startswith(".") or name.lower().endswith(_UNFINISHED)


def _is_regular(path: Path) -> bool:
    """Whether it is a file, or cannot be examined: then reading it says why."""
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except FileNotFoundError:
        return False
    except OSError:
        return path.suffix.lower() in IMAGE_EXTENSIONS


def _from_pipe(pipe: BufferedReader) -> Iterator[Source]:
    for number, found in enumerate(read_piped(pipe), 1):
        yield Source(found, Path(found)) if isinstance(found, str) else Source(f"stdin:{number}", found)


def _from_folder(folder: Path) -> Iterator[Source]:
    found = find_images(folder)
    first = next(found, None)
    if first is None:
        raise DataError(f"no images in '{folder}'; expected files with {', '.join(sorted(IMAGE_EXTENSIONS))}")
    return _chain(first, found)


def _chain(first: Path, rest: Iterator[Path]) -> Iterator[Source]:
    yield Source(str(first), first)
    for path in rest:
        yield Source(str(path), path)
