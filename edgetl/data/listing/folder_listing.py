"""Lists the photos of a folder: one folder per class, with or without split folders above them."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from edgetl.data.findings import Finding
from edgetl.data.listing.content import has_photo_content, is_folder, is_regular_file
from edgetl.data.listing.encoding import check_encoding
from edgetl.data.listing.folder_names import Parts
from edgetl.data.listing.layout import Place, recognise, refusal
from edgetl.data.listing.photo import Listing, Photo, listing_error, normalized_label, suffix_of
from edgetl.errors import DataError
from edgetl.runtime.stream import IMAGE_EXTENSIONS

OUTSIDE_CLASSES = "beside the class folders"
"""The reason in `Listing.ignored` for photos that are not inside a class folder."""


def list_class_folders(root: Path) -> Listing:
    """The photos of a folder per class, or of such folders below train/, val/ and test/.

    Class folders may contain folders of their own.

    Raises:
        DataError: the folder has no class folders, or a layout that can mean more than one thing.
        OSError: a folder cannot be read.
    """
    tree = _walk(root)
    if not any(len(parts) > 1 for parts in tree.photos):
        raise DataError(_no_class_folders(root, tree))
    places = recognise(root, tree.photos)
    photos = tuple(_photo(root, parts, places[parts]) for parts in tree.photos if parts in places)
    loose = [root.joinpath(*parts) for parts in tree.photos if parts not in places]
    if len(loose) > len(photos):
        fault = f"{len(loose)} photos are beside the class folders, {len(photos)} inside"
        raise refusal(root, tree.photos, fault, "move them into class folders, or out of this folder")
    if loose:
        tree.ignored[OUTSIDE_CLASSES] = len(loose)
    class_folders = {parts[: place.level + 1] for parts, place in places.items()}
    return Listing(
        photos,
        _empty_labels(tree, class_folders, {photo.label for photo in photos}),
        dict(sorted(tree.ignored.items())),
        (*_loose_photos(loose), *check_encoding(root, {path[-1] for path in class_folders})),
    )


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


_SYSTEM_FILES = frozenset({"__macosx", "thumbs.db", "desktop.ini", "@eadir"})


@dataclass
class _Tree:
    """The photos and folders below a root, and how many files were ignored, by reason."""

    photos: list[Parts] = field(default_factory=list)
    folders: list[Parts] = field(default_factory=list)
    ignored: Counter[str] = field(default_factory=Counter)


def _walk(root: Path) -> _Tree:
    """Everything below the root; a folder that several links lead to is entered once."""
    tree = _Tree()
    seen: set[tuple[int, int]] = set()
    pending: list[Parts] = [()]
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


def _scan(folder: str, parts: Parts, tree: _Tree) -> list[Parts]:
    """Adds the files of one folder to the tree; returns its subfolders, sorted by name."""
    with os.scandir(folder) as entries:
        ordered = sorted(entries, key=lambda entry: entry.name)
    subfolders = []
    for entry in ordered:
        if entry.name.startswith(".") or entry.name.lower() in _SYSTEM_FILES:
            tree.ignored["hidden or system file"] += 1
        elif is_folder(entry):
            subfolders.append((*parts, entry.name))
        elif suffix_of(entry.name) not in IMAGE_EXTENSIONS and not has_photo_content(entry):
            tree.ignored[suffix_of(entry.name) or "no suffix"] += 1
        elif is_regular_file(entry):
            tree.photos.append((*parts, entry.name))
        else:
            tree.ignored["broken link or no regular file"] += 1
    return subfolders


def _photo(root: Path, parts: Parts, place: Place) -> Photo:
    return Photo(root.joinpath(*parts), "/".join(parts), normalized_label(place.folder), place.split)


def _empty_labels(tree: _Tree, class_folders: Collection[Parts], labels: Collection[str]) -> tuple[str, ...]:
    """The classes of folders beside the class folders that contain no photos, sorted."""
    parents = {path[:-1] for path in class_folders}
    beside = {normalized_label(parts[-1]) for parts in tree.folders if parts[:-1] in parents}
    return tuple(sorted(beside.difference(labels)))


def _loose_photos(paths: Sequence[Path]) -> list[Finding]:
    if not paths:
        return []
    detail = f"{len(paths)} photos beside the class folders are not used; move them into class folders"
    return [Finding("outside classes", tuple(paths), detail)]


def _no_class_folders(root: Path, tree: _Tree) -> str:
    layout = f"put the photos of each class in a folder of their own: {root}/CLASS/photo.jpg"
    if tree.photos:
        return f"{root} contains {len(tree.photos)} photos but no class folders; {layout}"
    ignored = ", ".join(f"{count} {reason}" for reason, count in tree.ignored.most_common(3))
    return f"no photos in {root}" + (f" (only {ignored})" if ignored else "") + f"; {layout}"
