"""Hides how photos lie on disk (folders per class and split, CSV files); the loader calls it."""

from __future__ import annotations

import csv
import os
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Optional

from edgetl.errors import DataError
from edgetl.runtime.stream.sources import IMAGE_EXTENSIONS

SPLIT_FOLDERS = {
    **dict.fromkeys(("train", "training"), "train"),
    **dict.fromkeys(("val", "valid", "validation"), "val"),
    **dict.fromkeys(("test", "testing"), "test"),
}
"""Folder names (and CSV values) that name a split, in lower case."""

BESIDE = "beside the class folders"
"""The reason given for photos that lie in no class folder."""


@dataclass(frozen=True)
class Photo:
    """One photo as listed: where it is, what it shows, and the split that its owner put it in, if any."""

    path: Path
    name: str
    """The path below the root, with forward slashes: the same on every machine."""
    label: str
    split: Optional[str]


@dataclass(frozen=True)
class Listing:
    """The photos sorted by name, the class folders that hold none, and what was passed over, by reason."""

    photos: tuple[Photo, ...]
    empty_labels: tuple[str, ...]
    ignored: Mapping[str, int]


def list_photos(source: Path) -> Listing:
    """Lists the photos of a folder per class, of such folders below train/ val/ test/, or of a CSV file.

    Class folders may have folders inside. A CSV has columns path, label and, if wanted, split; paths are
    relative to the file; a header is optional. No photo is opened.
    Raises DataError where the layout makes no sense.
    """
    try:
        if source.is_dir():
            return _list_folder(source)
        if not source.is_file():
            raise DataError(f"no such folder or CSV file: {source}; name a folder that holds one folder per class")
        if source.suffix.lower() in IMAGE_EXTENSIONS:
            raise DataError(f"{source} is a single photo; name a folder that holds one folder of photos per class")
        return _list_csv(source)
    except OSError as error:
        raise DataError(f"cannot list {error.filename or source}: {(error.strerror or str(error)).lower()}") from error


def list_pictures(root: Path) -> Listing:
    """Lists all photos below a folder, with an empty label, whatever folders they lie in. No photo is opened.

    Raises DataError where there is no such folder or no photo in it.
    """
    if not root.is_dir():
        raise DataError(f"no such folder: {root}; name a folder of pictures")
    try:
        tree = _walk(root)
    except OSError as error:
        raise DataError(f"cannot list {error.filename or root}: {(error.strerror or str(error)).lower()}") from error
    if not tree.photos:
        raise DataError(f"no pictures in {root}; name a folder of pictures")
    photos = tuple(Photo(root.joinpath(*parts), "/".join(parts), "", None) for parts in tree.photos)
    return Listing(photos, (), dict(sorted(tree.ignored.items())))


_CLUTTER = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})
_PATH_COLUMNS = frozenset(
    {
        "path",
        "file",
        "filename",
        "file_name",
        "filepath",
        "file_path",
        "image",
        "image_path",
        "img",
        "img_path",
        "photo",
    }
)
_LABEL_COLUMNS = frozenset({"label", "labels", "label_name", "class", "class_name", "category", "target"})
_SPLIT_COLUMNS = frozenset({"split", "set", "subset"})
_DELIMITERS = ",;\t"


@dataclass
class _Tree:
    """What a walk came by: photos and folders as the parts of their paths below the root."""

    photos: list[tuple[str, ...]] = field(default_factory=list)
    folders: list[tuple[str, ...]] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def _list_folder(root: Path) -> Listing:
    tree = _walk(root)
    by_top: dict[str, list[tuple[str, ...]]] = {}
    for parts in tree.photos:
        if len(parts) > 1:
            by_top.setdefault(parts[0], []).append(parts)
    if not by_top:
        raise DataError(_nothing_to_use(root, tree))
    splits = sorted(name for name, photos in by_top.items() if _is_split_folder(name, photos))
    others = sorted(by_top.keys() - set(splits))
    if splits and others:
        raise DataError(
            f"{root} mixes split folders ({', '.join(splits)}) with other folders of photos "
            f"({_some(others)}); either all classes lie below the split folders, or there are none"
        )
    depth = 1 if splits else 0
    photos = [_photo(root, parts, depth) for parts in tree.photos if len(parts) > depth + 1]
    if loose := len(tree.photos) - len(photos):
        tree.ignored[BESIDE] = loose
    filled = {photo.label for photo in photos}
    empty = {_label(parts[depth]) for parts in tree.folders if len(parts) == depth + 1} - filled
    return Listing(tuple(photos), tuple(sorted(empty)), dict(sorted(tree.ignored.items())))


def _walk(root: Path) -> _Tree:
    """Every photo below the root; a folder that links lead to more than once is entered once."""
    tree = _Tree()
    seen: set[tuple[int, int]] = set()
    pending: list[tuple[str, ...]] = [()]
    while pending:
        parts = pending.pop()
        here = os.path.join(root, *parts)
        status = os.stat(here)
        if (status.st_dev, status.st_ino) in seen:
            tree.ignored["linked folder, already seen"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        if parts:
            tree.folders.append(parts)
        with os.scandir(here) as entries:
            found = sorted(entries, key=lambda entry: entry.name)
        deeper = []
        for entry in found:
            if entry.name.startswith(".") or entry.name.lower() in _CLUTTER:
                tree.ignored["hidden or system file"] += 1
            elif entry.is_dir():
                deeper.append((*parts, entry.name))
            elif _suffix(entry.name) not in IMAGE_EXTENSIONS:
                tree.ignored[_suffix(entry.name) or "no suffix"] += 1
            elif entry.is_file():
                tree.photos.append((*parts, entry.name))
            else:
                tree.ignored["broken link or no regular file"] += 1
        pending.extend(reversed(deeper))
    tree.photos.sort()
    return tree


def _suffix(name: str) -> str:
    return os.path.splitext(name)[1].lower()


def _is_split_folder(name: str, photos: Sequence[tuple[str, ...]]) -> bool:
    """A class may be called "train" too; a split folder has its photos one level deeper."""
    deeper = sum(len(parts) > 2 for parts in photos)
    return name.lower() in SPLIT_FOLDERS and 2 * deeper > len(photos)


def _photo(root: Path, parts: tuple[str, ...], depth: int) -> Photo:
    split = SPLIT_FOLDERS[parts[0].lower()] if depth else None
    return Photo(root.joinpath(*parts), "/".join(parts), _label(parts[depth]), split)


def _label(name: str) -> str:
    """One spelling of a class name, whichever file system it comes from (macOS decomposes accents)."""
    return unicodedata.normalize("NFC", os.fsencode(name).decode("utf-8", "replace")).strip()


def _nothing_to_use(root: Path, tree: _Tree) -> str:
    layout = f"put the photos of each class into a folder of their own: {root}/CLASS/photo.jpg"
    if tree.photos:
        return f"{root} holds {len(tree.photos)} photos but no class folders; {layout}"
    passed_over = ", ".join(f"{count} {reason}" for reason, count in tree.ignored.most_common(3))
    return f"no photos in {root}" + (f" (only {passed_over})" if passed_over else "") + f"; {layout}"


def _some(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")


def _list_csv(source: Path) -> Listing:
    rows = _csv_rows(source)
    columns = _header_columns(rows[0][1]) if rows else None
    width = len(rows[0][1]) if rows else 0
    if columns is not None:
        rows = rows[1:]
    elif rows:
        _require_photo(source, *rows[0])
    path_at, label_at, split_at = columns or (0, 1, 2)
    photos: dict[tuple[str, str, Optional[str]], Photo] = {}
    for number, row in rows:
        where = f"{source}, line {number}"
        if len(row) <= max(path_at, label_at) or not row[path_at] or not row[label_at]:
            raise DataError(f"{where}: expected path,label or path,label,split; received {','.join(row)!r}")
        if any(row[width:]):
            raise DataError(
                f"{where} has {len(row)} cells, the first line {width}: {','.join(row)!r}; "
                'put what holds the delimiter into quotes: "cup, small"'
            )
        split = _csv_split(row[split_at] if split_at is not None and len(row) > split_at else "", where)
        path = _csv_path(source.parent, row[path_at])
        photo = Photo(source.parent / path, path, _label(row[label_at]), split)
        photos[photo.name, photo.label, split] = photo
    if not photos:
        raise DataError(f"no photos in {source}; each line is path,label or path,label,split")
    unsplit = [photo for photo in photos.values() if photo.split is None]
    if unsplit and len(unsplit) < len(photos):
        raise DataError(f"{source} gives a split for some photos but none for {unsplit[0].name}; give all or none")
    repeated = len(rows) - len(photos)
    return Listing(
        tuple(sorted(photos.values(), key=lambda photo: (photo.name, photo.label))),
        (),
        {"line repeated": repeated} if repeated else {},
    )


def _csv_rows(source: Path) -> list[tuple[int, list[str]]]:
    """The filled lines with their numbers, cells stripped; the first of them shows which delimiter it is."""
    try:
        with source.open(encoding="utf-8-sig", newline="") as file:
            first = next((line for line in file if line.strip()), "")
            file.seek(0)
            reader = csv.reader(file, delimiter=max(_DELIMITERS, key=first.count), skipinitialspace=True)
            lines = ((reader.line_num, [cell.strip() for cell in row]) for row in reader)
            rows = [(number, row) for number, row in lines if any(row)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{source} is no CSV file in UTF-8: {error}; each line is path,label") from error
    if any("\0" in cell for _, row in rows for cell in row):
        raise DataError(f"{source} is no CSV file in UTF-8: it holds NUL bytes; each line is path,label")
    return rows


def _header_columns(row: Sequence[str]) -> Optional[tuple[int, int, Optional[int]]]:
    """Where path, label and split stand by the header's names; None where the first line is no header."""
    names = [cell.lower() for cell in row]
    paths, labels, splits = (
        [index for index, name in enumerate(names) if name in known]
        for known in (_PATH_COLUMNS, _LABEL_COLUMNS, _SPLIT_COLUMNS)
    )
    if not paths or not labels:
        return None
    return paths[0], labels[0], splits[0] if splits else None


def _require_photo(source: Path, number: int, row: Sequence[str]) -> None:
    """A first line that names no photo is a header in other words, or has its columns the other way round."""
    if _suffix(row[0]) not in IMAGE_EXTENSIONS and not (source.parent / row[0]).is_file():
        raise DataError(
            f"{source}, line {number}: expected path,label and {row[0]!r} is no photo; where the columns are others, "
            "name them in the first line: path,label"
        )


def _csv_path(folder: Path, cell: str) -> str:
    """A path with forward slashes, also where the file was written on Windows."""
    return cell if "\\" not in cell or (folder / cell).exists() else cell.replace("\\", "/")


def _csv_split(value: str, where: str) -> Optional[str]:
    if not value:
        return None
    if value.lower() not in SPLIT_FOLDERS:
        raise DataError(f"{where}: unknown split '{value}'; choose train, val or test")
    return SPLIT_FOLDERS[value.lower()]
