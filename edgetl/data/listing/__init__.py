"""Lists the photos of a folder or a CSV file, with their labels and splits, without opening them."""

from __future__ import annotations

from pathlib import Path

from edgetl.data.listing.content import kind_of_file
from edgetl.data.listing.csv_listing import list_csv
from edgetl.data.listing.folder_listing import list_class_folders, list_pictures
from edgetl.data.listing.layout import classes_inside
from edgetl.data.listing.photo import Listing, Photo, listing_error
from edgetl.errors import DataError
from edgetl.runtime.stream import IMAGE_EXTENSIONS

__all__ = ["Listing", "Photo", "classes_inside", "list_photos", "list_pictures"]


def list_photos(source: Path) -> Listing:
    """The photos of a folder per class, of such folders below train/, val/ and test/, or of a CSV file.

    No photo is opened.

    Raises:
        DataError: the source does not exist, cannot be read, or has a layout that cannot be used.
    """
    try:
        if source.is_dir():
            return list_class_folders(source)
        if not source.is_file():
            raise DataError(f"no such folder or CSV file: {source}; expected a folder with one folder per class")
        _require_table(source)
        return list_csv(source)
    except OSError as error:
        raise listing_error(source, error) from error


def _require_table(source: Path) -> None:
    """Refuses a file that is no table, by its content."""
    kind = kind_of_file(source)
    if kind in ("photo", "TIFF") or (kind is None and source.suffix.lower() in IMAGE_EXTENSIONS):
        raise DataError(f"{source} is a single photo; expected a folder with one folder of photos per class")
    if kind and "archive" in kind:
        raise DataError(f"{source} is a {kind}; unpack it, and give the folder with one folder of photos per class")
    if kind:
        raise DataError(f"{source} is a {kind}; expected a folder with one folder of photos per class, or a CSV file")
