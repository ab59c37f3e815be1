"""Lists the photos that a CSV file names, with their labels and, optionally, their splits."""

from __future__ import annotations

import csv
import re
import stat
from collections.abc import Sequence
from io import StringIO
from pathlib import Path, PurePosixPath
from typing import NamedTuple, Optional

from edgetl.data.listing.folder_names import split_of
from edgetl.data.listing.photo import Listing, Photo, normalized_label, suffix_of
from edgetl.errors import DataError
from edgetl.runtime.stream import IMAGE_EXTENSIONS

CSV_LIMIT_BYTES = 256 * 1024 * 1024
"""Larger files are not read as tables."""


def list_csv(source: Path) -> Listing:
    """The photos of a CSV file with the columns path, label and, optionally, split; the header is optional.

    Paths are relative to the file. Repeated lines count once.

    Raises:
        DataError: the file is not a CSV file in UTF-8 or UTF-16, or one of its lines cannot be used.
        OSError: the file cannot be read.
    """
    rows = _read_rows(source)
    columns = (_header_columns(rows[0].cells) if rows else None) or _DEFAULT_COLUMNS
    width = len(rows[0].cells) if rows else 0
    if columns is not _DEFAULT_COLUMNS:
        rows = rows[1:]
    elif rows:
        _require_photo(source, rows[0])
    photos = {_photo(source, row, columns, width): None for row in rows}
    if not photos:
        raise DataError(f"no photos in {source}; expected one line per photo: path,label or path,label,split")
    unsplit = [photo for photo in photos if photo.split is None]
    if unsplit and len(unsplit) < len(photos):
        raise DataError(f"{source} gives a split for some photos but not for {unsplit[0].name}; give all or none")
    repeated = len(rows) - len(photos)
    return Listing(
        tuple(sorted(photos, key=lambda photo: (photo.name, photo.label))),
        (),
        {"line repeated": repeated} if repeated else {},
    )


class _Row(NamedTuple):
    line: int
    cells: list[str]


class _Columns(NamedTuple):
    path: int
    label: int
    split: Optional[int]


_DEFAULT_COLUMNS = _Columns(0, 1, 2)
_PATH_COLUMNS = frozenset(
    (
        "path", "file", "filename", "file_name", "filepath", "file_path", "image", "image_path", "img", "img_path",
        "photo",
    )
)  # fmt: skip
_LABEL_COLUMNS = frozenset(("label", "labels", "label_name", "class", "class_name", "category", "target"))
_SPLIT_COLUMNS = frozenset(("split", "set", "subset"))
_DELIMITERS = ",;\t"
_DECLARED_DELIMITER = re.compile(r"sep=([,;\t|])")
"""The first line by which spreadsheets state the delimiter."""


def _read_rows(source: Path) -> list[_Row]:
    """The non-empty lines, cells stripped; a line "sep=;" or the first line determines the delimiter."""
    text = _text(source)
    try:
        first = next((line for line in text.splitlines() if line.strip()), "")
        declared = _DECLARED_DELIMITER.fullmatch(first.strip(' "\r\n'))
        delimiter = declared[1] if declared else max(_DELIMITERS, key=first.count)
        reader = csv.reader(StringIO(text, newline=""), delimiter=delimiter, skipinitialspace=True)
        lines = (_Row(reader.line_num, [cell.strip() for cell in cells]) for cells in reader)
        rows = [row for row in lines if any(row.cells)]
    except csv.Error as error:
        raise DataError(f"{source} is not a CSV file in UTF-8: {error}; expected lines of path,label") from error
    if any("\0" in cell for row in rows for cell in row.cells):
        raise DataError(f"{source} is not a CSV file in UTF-8: it contains NUL bytes; expected lines of path,label")
    return rows[1:] if declared else rows


def _text(source: Path) -> str:
    """The content of a file in UTF-8, or in UTF-16 as spreadsheets write it."""
    size = source.stat().st_size
    if size > CSV_LIMIT_BYTES:
        raise DataError(f"{source} has {size} bytes; at most {CSV_LIMIT_BYTES} are read as a CSV file")
    data = source.read_bytes()
    encoding = _utf_16(data)
    try:
        return data.decode(encoding or "utf-8-sig").removeprefix("\ufeff")
    except UnicodeDecodeError as error:
        expected = 'expected lines of path,label; save a table as "CSV UTF-8"'
        raise DataError(f"{source} is not a CSV file in UTF-8: {error}; {expected}") from error


def _utf_16(data: bytes) -> Optional[str]:
    """The form of UTF-16 that data is in, with or without a byte order mark; None if it is not UTF-16."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return "utf-16"
    even, odd = data[:1000:2].count(0), data[1:1000:2].count(0)
    if max(even, odd) < len(data[:1000]) / 8:
        return None
    return "utf-16-be" if even > odd else "utf-16-le"


def _header_columns(cells: Sequence[str]) -> Optional[_Columns]:
    """The columns that the header names; None if the first line is not a header."""
    names = [cell.lower() for cell in cells]
    paths, labels, splits = (
        [index for index, name in enumerate(names) if name in known]
        for known in (_PATH_COLUMNS, _LABEL_COLUMNS, _SPLIT_COLUMNS)
    )
    if not paths or not labels:
        return None
    return _Columns(paths[0], labels[0], splits[0] if splits else None)


def _require_photo(source: Path, first: _Row) -> None:
    """Refuses a first line without a photo: a header with unknown names, or columns in another order."""
    path = first.cells[0]
    if suffix_of(path) not in IMAGE_EXTENSIONS and not (source.parent / path).is_file():
        raise DataError(
            f"{source}, line {first.line}: expected path,label but {path!r} is not a photo; "
            "if the columns are in another order, name them in the first line, e.g. label,path"
        )


def _photo(source: Path, row: _Row, columns: _Columns, width: int) -> Photo:
    where, cells = f"{source}, line {row.line}", row.cells
    if len(cells) <= max(columns.path, columns.label) or not cells[columns.path] or not cells[columns.label]:
        raise DataError(f"{where}: expected path,label or path,label,split; received {','.join(cells)!r}")
    if any(cells[width:]):
        raise DataError(
            f"{where} has {len(cells)} cells, the first line {width}: {','.join(cells)!r}; "
            'put a cell that contains the delimiter in quotes: "cup, small"'
        )
    split = cells[columns.split] if columns.split is not None and len(cells) > columns.split else ""
    name = _portable_path(source.parent, cells[columns.path])
    path = source.parent / name
    _require_file(path, where)
    return Photo(path, PurePosixPath(name).as_posix(), normalized_label(cells[columns.label]), _split(split, where))


def _portable_path(folder: Path, cell: str) -> str:
    """The path with forward slashes, even if the file was written on Windows."""
    return cell if "\\" not in cell or (folder / cell).exists() else cell.replace("\\", "/")


def _require_file(path: Path, where: str) -> None:
    """Refuses devices and pipes, which may never end. What does not exist is reported when it is read."""
    try:
        mode = path.stat().st_mode
    except (OSError, ValueError):
        return
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):
        raise DataError(f"{where}: {path} is a device or a pipe; expected a photo")


def _split(value: str, where: str) -> Optional[str]:
    if not value:
        return None
    split = split_of(value)
    if split is None:
        raise DataError(f"{where}: unknown split '{value}'; choose train, val or test")
    return split
