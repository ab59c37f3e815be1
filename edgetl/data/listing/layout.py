"""Recognises how photos are laid out in folders: where the classes are, and which folders are splits.

A layout that can mean more than one thing is refused with a drawing of it: a guess would make classes out of
splits, or put test photos into training.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from edgetl.data.listing.folder_names import Parts, split_of, unsafe_split, without_copy_mark
from edgetl.data.listing.photo import normalized_label
from edgetl.errors import DataError

_SHOWN_FOLDERS = 4
"""Folders of each level in a drawing."""

EXPECTED = "expected CLASS/photo.jpg, or train/CLASS/photo.jpg and test/CLASS/photo.jpg"


class Place(NamedTuple):
    """Where a photo belongs."""

    folder: str
    """The name of its class folder, as the system returns it."""
    split: Optional[str]
    """"train", "val" or "test" if a folder assigns one, else None."""
    level: int
    """The position of the class folder in the photo's path."""


def recognise(source: object, photos: Sequence[Parts]) -> dict[Parts, Place]:
    """The class folder and the split of each photo; photos outside a class folder have no entry.

    Args:
        photos: paths relative to the root, as their parts.

    Raises:
        DataError: the layout is not one of the expected ones, or can mean more than one of them.
    """
    tops = _by_folder(photos, 0)
    splits = _split_folders(source, photos, tops)
    if not splits:
        return _places_in_classes(source, photos, tops)
    places = _places_in_splits(source, photos, splits)
    _refuse_hidden_splits(source, photos, places)
    return places


def classes_inside(source: object, photos: Sequence[Parts]) -> Optional[tuple[str, list[str]]]:
    """If one folder wraps everything: its path below the source, and the folders inside that may be the classes.

    Raises:
        DataError: the layout inside cannot be recognised either.
    """
    path: list[str] = []
    while len(tops := _by_folder(photos, 0)) == 1 and all(len(parts) > 2 for parts in photos):
        path += tops
        photos = [parts[1:] for parts in photos]
    if not path or len(tops) < 2:
        return None
    wrapper = "/".join(path)
    recognise(f"{source}/{wrapper}", photos)
    return wrapper, list(tops)


def refusal(source: object, photos: Sequence[Parts], fault: str, advice: str = "") -> DataError:
    """The error about a layout, with a drawing of it, in one line."""
    advice = f"; {advice}" if advice else ""
    return DataError(f"{source}: {fault}{advice}; found {drawing(photos)}; {EXPECTED}")


def drawing(photos: Sequence[Parts], depth: int = 3) -> str:
    """The folders down to a depth, with the photos in each, e.g. "train/(cat/ 5 photos, dog/ 5 photos)"."""
    own = sum(len(parts) == 1 for parts in photos)
    below = [parts for parts in photos if len(parts) > 1]
    if depth == 0 or not below:
        return _count(len(photos))
    folders = _by_folder(below, 0)
    first = list(folders.items())[:_SHOWN_FOLDERS]
    drawn = [_drawn(name, [parts[1:] for parts in inside], depth - 1) for name, inside in first]
    more = [f"{len(folders) - len(first)} more"] if len(folders) > len(first) else []
    return ", ".join([*drawn, *more, *([_count(own)] if own else [])])


def _drawn(name: str, photos: Sequence[Parts], depth: int) -> str:
    inside = drawing(photos, depth)
    return f"{shown(name)}/ {inside}" if inside == _count(len(photos)) else f"{shown(name)}/({inside})"


def shown(name: str) -> str:
    """A folder's name for a message, in which it can neither break the line nor the terminal."""
    escaped = name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(character if character.isprintable() else "�" for character in escaped[:60])


def _count(number: int) -> str:
    return f"{number} photo" + ("s" if number != 1 else "")


def _by_folder(photos: Sequence[Parts], level: int) -> dict[str, list[Parts]]:
    """The photos by the folder on a level; photos that are not inside one are left out."""
    folders: dict[str, list[Parts]] = defaultdict(list)
    for parts in photos:
        if len(parts) > level + 1:
            folders[parts[level]].append(parts)
    return dict(sorted(folders.items()))


def _names(names: Collection[str], conjunction: str = "and") -> str:
    listed = [shown(name) for name in sorted(names)]
    if len(listed) > _SHOWN_FOLDERS:
        return f"{', '.join(listed[:_SHOWN_FOLDERS])} {conjunction} {len(listed) - _SHOWN_FOLDERS} more"
    return f" {conjunction} ".join([", ".join(listed[:-1]), listed[-1]] if len(listed) > 1 else listed)


def _split_folders(source: object, photos: Sequence[Parts], tops: Mapping[str, Sequence[Parts]]) -> dict[str, str]:
    """The top folders that are splits, each with its split; empty if the top folders are the classes."""
    named = {name: split for name in tops if (split := split_of(name, tops))}
    deep = {name for name in named if _is_mostly_deeper(tops[name], 1)}
    others = [name for name in tops if name not in deep]
    if deep and others:
        raise refusal(
            source,
            photos,
            f"mixes split folders ({_names(deep)}) with other folders of photos ({_names(others)})",
            "put all class folders inside the split folders, or use no split folders",
        )
    if deep:
        return {name: named[name] for name in tops}
    if len(set(named.values())) > 1 or (len(tops) > 1 and any(unsafe_split(name, tops) for name in named)):
        raise refusal(
            source,
            photos,
            f"the photos in {_names(named)} are in no class folder",
            f"sort them into class folders, or, if {_names(named)} are classes, list the photos in a CSV file",
        )
    return {}


def _is_mostly_deeper(photos: Sequence[Parts], level: int) -> bool:
    return 2 * sum(len(parts) > level + 1 for parts in photos) > len(photos)


def _places_in_splits(source: object, photos: Sequence[Parts], splits: Mapping[str, str]) -> dict[Parts, Place]:
    tops = _by_folder(photos, 0)
    inner = {name: _by_folder(tops[name], 1) for name in splits}
    known = {folder for folders in inner.values() if len(folders) > 1 for folder in folders}
    places: dict[Parts, Place] = {}
    for name, split in splits.items():
        level = _class_level(tops[name], known)
        _refuse_several_meanings(source, photos, tops[name], level)
        places.update((parts, Place(parts[level], split, level)) for parts in tops[name] if len(parts) > level + 1)
    _refuse_foreign_splits(source, photos, places.values())
    return places


def _refuse_foreign_splits(source: object, photos: Sequence[Parts], places: Iterable[Place]) -> None:
    """Refuses held-back photos in folders none of which is a class of the training photos, e.g. test/images."""
    folders: dict[Optional[str], set[str]] = defaultdict(set)
    for place in set(places):
        folders[place.split].add(normalized_label(place.folder))
    for split in ("val", "test"):
        if folders["train"] and folders[split] and folders["train"].isdisjoint(folders[split]):
            fault = f"class '{shown(min(folders[split]))}' has no training photos"
            raise refusal(source, photos, fault, f"give {split} the same class folders as train, or remove it")


def _class_level(photos: Sequence[Parts], known: Collection[str]) -> int:
    """The level of the class folders in a split folder: below folders that only wrap them (train/train/CLASS).

    `known` are the folders in split folders that have several: one of these is a class even if it is alone.
    """
    level = 1
    while True:
        folders = _by_folder(photos, level)
        is_wrapper = len(folders) == 1 and all(len(parts) > level + 2 for parts in photos)
        if not is_wrapper or not folders.keys().isdisjoint(known):
            return level
        level += 1


def _places_in_classes(
    source: object, photos: Sequence[Parts], tops: Mapping[str, Sequence[Parts]]
) -> dict[Parts, Place]:
    inner = {name: _by_folder(inside, 1) for name, inside in tops.items()}
    if tops and all(_are_all_splits(tops[name], folders) for name, folders in inner.items()):
        return {
            parts: Place(parts[0], split_of(parts[1], inner[parts[0]]), 0)
            for inside in tops.values()
            for parts in inside
        }
    places = {parts: Place(parts[0], None, 0) for inside in tops.values() for parts in inside}
    if len(tops) > 1:
        _refuse_splits_in_names(source, photos, tops)
        _refuse_hidden_splits(source, photos, places)
        _refuse_several_meanings(source, photos, photos, 0)
    return places


def _are_all_splits(photos: Sequence[Parts], folders: Mapping[str, object]) -> bool:
    """Whether a class folder contains split folders with its photos (CLASS/train/photo.jpg), and nothing else."""
    is_inside = all(len(parts) > 2 for parts in photos) and not _is_mostly_deeper(photos, 2)
    return bool(folders) and is_inside and all(split_of(name, folders) for name in folders)


def _refuse_splits_in_names(source: object, photos: Sequence[Parts], tops: Mapping[str, object]) -> None:
    """Refuses cat_train beside cat_test, and copies ("cat (1)") beside their originals."""
    originals = {name.strip().casefold(): name for name in tops}
    for name in tops:
        original = originals.get(without_copy_mark(name).strip().casefold())
        if original is not None and without_copy_mark(name) != name:
            raise refusal(
                source,
                photos,
                f"'{shown(name)}' looks like a copy of '{shown(original)}'",
                "merge the two folders, remove one, or rename it if it is another class",
            )
    halves = [name for name in tops if unsafe_split(name, tops, in_class_name=True)]
    if halves:
        raise refusal(
            source,
            photos,
            f"{_names(halves)} seem to be held back for testing",
            "move their photos into split folders, or rename the folders if they are classes",
        )


def _refuse_several_meanings(source: object, photos: Sequence[Parts], inside: Sequence[Parts], level: int) -> None:
    """Refuses class folders that all hold the same folders: either of the two levels may be the classes."""
    folders = _by_folder(inside, level)
    nested = [parts for parts in inside if len(parts) > level + 2]
    if len(folders) < 2 or 2 * len(nested) <= len(inside):
        return
    pairs = {(parts[level], parts[level + 1].casefold()) for parts in nested}
    uses = Counter(inner for _, inner in pairs)
    shared = [name for name, count in uses.items() if count > 1]
    if len(shared) > 1 and 2 * len(shared) > len(uses):
        raise refusal(
            source,
            photos,
            f"{_names(folders)} all have the same folders inside ({_names(shared)}), so either may be the classes",
            "keep one level of folders, the classes, or list the photos in a CSV file",
        )


def _refuse_hidden_splits(source: object, photos: Sequence[Parts], places: Mapping[Parts, Place]) -> None:
    """Refuses photos for testing that would count as training photos, because their split folder is not understood."""
    folders = {parts[:-1]: place for parts, place in places.items()}
    siblings: dict[Parts, set[str]] = defaultdict(set)
    for path in folders:
        for level, name in enumerate(path):
            siblings[path[:level]].add(name)
    for path, place in folders.items():
        for level, name in enumerate(path):
            split = split_of(name, siblings[path[:level]])
            if split not in (None, "train", place.split) and name != place.folder:
                raise refusal(
                    source,
                    photos,
                    f"the split folder '{shown(name)}' is not understood inside '{shown(path[level - 1])}'",
                    "put the split folders at the top, with the same classes inside each",
                )
