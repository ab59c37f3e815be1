"""Lists the photos of a folder: one folder per class, with or without split folders above them."""

from __future__ import annotations

import os
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgetl.data.listing.photo import SPLIT_NAMES, Listing, Photo, listing_error, normalized_label, suffix_of
from edgetl.errors import DataError
from edgetl.runtime.stream import IMAGE_EXTENSIONS

OUTSIDE_CLASSES = "beside the class folders"
"""The reason in `Listing.ignored` for photos that are not inside a class folder."""


def list_class_folders(root: Path) -> Listing:
    """The photos of a folder per class, or of such folders below train/, val/ and test/.

    Class folders may contain folders of their own.

    Raises:
        DataError: the folder has no class folders, or mixes split folders with class folders.
        OSError: a folder cannot be read.
    """
    tree = _walk(root)
    by_top_folder: dict[str, list[_Parts]] = defaultdict(list)
    for parts in tree.photos:
        if len(parts) > 1:
            by_top_folder[parts[0]].append(parts)
    if not by_top_folder:
        raise DataError(_no_class_folders(root, tree))
    splits = sorted(name for name, photos in by_top_folder.items() if _is_split_folder(name, photos))
    others = sorted(by_top_folder.keys() - set(splits))
    if splits and others:
        raise DataError(
            f"{root} mixes split folders ({', '.join(splits)}) with other folders of photos ({_abridged(others)}); "
            "put all class folders inside the split folders, or use no split folders"
        )
    class_depth = 1 if splits else 0
    photos = tuple(_photo(root, parts, class_depth) for parts in tree.photos if len(parts) > class_depth + 1)
    if outside := len(tree.photos) - len(photos):
        tree.ignored[OUTSIDE_CLASSES] = outside
    class_folders = {normalized_label(parts[class_depth]) for parts in tree.folders if len(parts) == class_depth + 1}
    empty = class_folders - {photo.label for photo in photos}
    return Listing(photos, tuple(sorted(empty)), dict(sorted(tree.ignored.items())))


def list_pictures(root: Path) -> Listing:
    """All photos below a folder, at any depth, with an empty label. No photo is opened.

    Raises:
        DataError: the folder does not exist, cannot be read, or contains no photo.
    """
    if not root.is_dir():
        raise DataError(f"no such folder: {root}; expected a folder of pictures")
    try:
        tree = _walk(root)
    except OSError as error:
        raise listing_error(root, error) from error
    if not tree.photos:
        raise DataError(f"no pictures in {root}; expected a folder of pictures")
    photos = tuple(Photo(root.joinpath(*parts), "/".join(parts), "", None) for parts in tree.photos)
    return Listing(photos, (), dict(sorted(tree.ignored.items())))


_Parts = tuple[str, ...]
"""A path relative to the root, as its parts."""

_SYSTEM_FILES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})


@dataclass
class _Tree:
    """The photos and folders below a root, and how many files were ignored, by reason."""

    photos: list[_Parts] = field(default_factory=list)
    folders: list[_Parts] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def _walk(root: Path) -> _Tree:
    """Everything below the root; a folder that several links lead to is entered once."""
    tree = _Tree()
    seen: set[tuple[int, int]] = set()
    pending: list[_Parts] = [()]
    while pending:
        parts = pending.pop()
        folder = os.path.join(root, *parts)
        status = os.stat(folder)
        if (status.st_dev, status.st_ino) in seen:
            tree.ignored["linked folder, already seen"] += 1
            continue
        seen.add((status.st_dev, status.st_ino))
        if parts:
            tree.folders.append(parts)
        pending.extend(reversed(_scan(folder, parts, tree)))
    tree.photos.sort()
    return tree


def _scan(folder: str, parts: _Parts, tree: _Tree) -> list[_Parts]:
    """Adds the files of one folder to the tree; returns its subfolders, sorted by name."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    subfolders = []
    for entry in ordered:
        if entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FILES:
            tree.ignored["hidden or system file"] += 1
        elif entry.is_dir():
            subfolders.append((*parts, entry.name))
        elif suffix_of(entry.name) not in IMAGE_EXTENSIONS:
            tree.ignored[suffix_of(entry.name) or "no suffix"] += 1
        elif entry.is_file():
            tree.photos.append((*parts, entry.name))
        else:
            tree.ignored["broken link or no regular file"] += 1
    return subfolders


def _is_split_folder(name: str, photos: Sequence[_Parts]) -> bool:
    """Whether a top-level folder is a split and not a class named e.g. "train": most photos are one level deeper."""
    deeper = sum(len(parts) > 2 for parts in photos)
    return name.lower() in SPLIT_NAMES and 2 * deeper > len(photos)


def _photo(root: Path, parts: _Parts, class_depth: int) -> Photo:
    split = SPLIT_NAMES[parts[0].lower()] if class_depth else None
    return Photo(root.joinpath(*parts), "/".join(parts), normalized_label(parts[class_depth]), split)


def _no_class_folders(root: Path, tree: _Tree) -> str:
    layout = f"put the photos of each class in a folder of their own: {root}/CLASS/photo.jpg"
    if tree.photos:
        return f"{root} contains {len(tree.photos)} photos but no class folders; {layout}"
    ignored = ", ".join(f"{count} {reason}" for reason, count in tree.ignored.most_common(3))
    return f"no photos in {root}" + (f" (only {ignored})" if ignored else "") + f"; {layout}"


def _abridged(names: Sequence[str], limit: int = 5) -> str:
    return ", ".join(names[:limit]) + (f" and {len(names) - limit} more" if len(names) > limit else "")
