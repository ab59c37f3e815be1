"""Hides how pictures get to a device to be taught there: packed into one file, which does not stay."""

from __future__ import annotations

import tempfile
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Optional

from edgetl.deployment.transport.base import Transport
from edgetl.errors import DataError
from edgetl.progress import Progress


def teach(
    transport: Transport,
    label: str,
    images: Sequence[Path],
    guard: Optional[float] = None,
    thumbnails: bool = False,
    threads: Optional[int] = None,
    progress: Optional[Progress] = None,
) -> dict[str, Any]:
    """Teach the bundle that a device runs that images show a class, in one step; its service follows by itself.

    `guard`, `thumbnails` and `threads` are those of `Learner`; without images, those of the class that the guard
    refused before are tried again. Returns the step, as `edgetl teach --json` tells it.

    Raises:
        DataError: an image cannot be read here.
        DeviceError: the device cannot be reached, has nothing installed, or cannot learn; nothing was taught, unless
            only its answer got lost.
    """
    options = [f"--label={label}"]
    options += [] if guard is None else [f"--guard={guard}"]
    options += [] if threads is None else [f"--threads={threads}"]
    options += ["--thumbnails"] if thumbnails else []
    if not images:
        return {"where": transport.where, **transport.tell("teach", *options)}
    with tempfile.TemporaryDirectory(prefix="edgetl-") as folder:
        archive = _packed(images, Path(folder, "pictures.zip"))
        sent = transport.send(archive, transport.tell("status")["root"], progress)
    try:
        return {"where": transport.where, **transport.tell("teach", sent, *options)}
    finally:
        transport.remove(sent)


def _packed(images: Sequence[Path], path: Path) -> Path:
    """An archive of files, each with its path here as comment; the same files give the same bytes to go on with."""
    with zipfile.ZipFile(path, "w") as archive:
        for number, image in enumerate(images):
            try:
                entry = zipfile.ZipInfo(f"{number}{image.suffix}")
                entry.comment = str(image).encode(errors="replace")
                archive.writestr(entry, image.read_bytes())
            except OSError as error:
                raise DataError(f"cannot read {image}: {error.strerror or error}; leave it out") from error
    return path
