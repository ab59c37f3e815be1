"""Small pictures of photos for the HTML report, limited in number and size."""

from __future__ import annotations

import base64
import io
from dataclasses import dataclass
from pathlib import Path
from typing import Optional

from PIL import Image, ImageOps

from edgetl.errors import ImageError
from edgetl.runtime import decode


@dataclass(frozen=True)
class AlbumOptions:
    """How many pictures the report may contain, their side in pixels, JPEG quality, and total size."""

    pictures: int = 120
    side: int = 160
    quality: int = 72
    size_bytes: int = 1_500_000


class Album:
    """The pictures of one report; photos that are missing, unreadable or over the limits have none."""

    def __init__(self, root: Optional[Path] = None, options: AlbumOptions = AlbumOptions()) -> None:
        self._root = root or Path()
        self._options = options
        self._pictures: dict[str, str] = {}
        self._used_bytes = 0

    def picture(self, source: str) -> Optional[str]:
        """The photo as a square JPEG in a data URI; None if it has no picture."""
        if source not in self._pictures and len(self._pictures) < self._options.pictures:
            self._pictures[source] = self._make(source)
        return self._pictures.get(source) or None

    def _make(self, source: str) -> str:
        side = self._options.side
        try:
            photo = decode(self._root / source, size_hint=(side, side))
        except (ImageError, OSError, ValueError):
            return ""
        square = ImageOps.fit(photo, (side, side), Image.Resampling.LANCZOS)
        stream = io.BytesIO()
        square.save(stream, "JPEG", quality=self._options.quality, optimize=True)
        if self._used_bytes + stream.tell() > self._options.size_bytes:
            return ""
        self._used_bytes += stream.tell()
        return f"data:image/jpeg;base64,{base64.b64encode(stream.getvalue()).decode('ascii')}"
