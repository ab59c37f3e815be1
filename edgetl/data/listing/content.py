"""Says what a file is by its first bytes: a photo, an archive, a table."""

from __future__ import annotations

import os
from typing import Optional

from edgetl.data.listing.photo import suffix_of
from edgetl.data.reading.regular_file import read_prefix


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a folder or a link to one; False for a link to itself."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def is_regular_file(entry: os.DirEntry[str]) -> bool:
    """Whether an entry is a file or a link to one; False for a pipe, a device, or a link to itself."""
    try:
        return entry.is_file()
    except OSError:
        return False


def has_photo_content(entry: os.DirEntry[str]) -> bool:
    """Whether a file whose name has no photo's suffix is a photo. Backups and raw camera files are not.

    TIFF counts only without a suffix: the raw formats of cameras (.dng, .nef) begin in the same way.
    """
    suffix = suffix_of(entry.name)
    if suffix in _BACKUPS or entry.name.endswith("~") or not is_regular_file(entry):
        return False
    kind = kind_of_file(entry.path)
    return kind == "photo" or (kind == "TIFF" and not suffix)


def kind_of_file(path: str | os.PathLike[str]) -> Optional[str]:
    """ "photo", "TIFF", or another kind, e.g. "ZIP archive"; None if the kind is not known or it cannot be read."""
    head = read_prefix(path, 16)
    if head[4:8] == b"ftyp":
        return "photo" if head[8:12] in _PHOTO_BRANDS else "video"
    if head[:4] == b"RIFF":
        return "photo" if head[8:12] == b"WEBP" else None
    if head[:2] == b"BM":
        return "photo" if head[6:10] == b"\0\0\0\0" else None
    return next((kind for start, kind in _KINDS if head.startswith(start)), None)


_BACKUPS = frozenset((".bak", ".tmp", ".part", ".crdownload", ".orig", ".old", ".swp"))
_PHOTO_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1", b"avif", b"avis"))
_KINDS = (
    (b"\xff\xd8\xff", "photo"),
    (b"\x89PNG\r\n\x1a\n", "photo"),
    (b"GIF8", "photo"),
    (b"\0\0\0\x0cjP  ", "photo"),
    (b"II*\0", "TIFF"),
    (b"MM\0*", "TIFF"),
    (b"PK\x03\x04", "ZIP archive"),
    (b"PK\x05\x06", "ZIP archive"),
    (b"\x1f\x8b", "gzip archive"),
    (b"BZh", "bzip2 archive"),
    (b"\xfd7zXZ\0", "xz archive"),
    (b"7z\xbc\xaf\x27\x1c", "7z archive"),
    (b"Rar!", "RAR archive"),
    (b"%PDF", "PDF document"),
    (b"SQLite format 3\0", "database"),
    (b"PAR1", "Parquet table"),
)
