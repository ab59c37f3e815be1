"""Exchanges what was taught: reads it from other states and patches, and writes it as a patch or a new bundle."""

from __future__ import annotations

import base64
import contextlib
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, Dict, FrozenSet, Iterable, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

from edgetl.bundle import (
    CANARIES,
    EDGETPU_MODEL,
    GUARD_LABELS,
    LAST_LAYER_FOLDER,
    MODEL,
    ORIGINS,
    PATCH,
    REPORT,
    STATISTICS,
    Bundle,
    Manifest,
    is_label,
    open_bundle,
    pack,
)
from edgetl.errors import ImageError, IntegrityError, LearningError
from edgetl.learners import LastLayer, Statistics
from edgetl.runtime.inference.bundle_entries import last_layer_entries
from edgetl.runtime.inference.canaries import updated_canaries
from edgetl.runtime.learning.journal import Draft, Journal
from edgetl.runtime.learning.projection import FORGET_CLASS, MERGE, RENAME, TEACH, Projection


class Picture(NamedTuple):
    """A picture that was taught on some device."""

    origin: str
    """The device that it was first taught on, and its id there: "DEVICE:ID"."""
    label: str
    embedding: Optional[bytes] = None
    """The raw output of the backbone."""
    thumbnail: Optional[bytes] = None
    """A JPEG file."""


@dataclass(frozen=True)
class Contribution:
    """What a state or a patch adds to its bundle."""

    source: str
    """The folder or file that it was read from."""
    identity: Mapping[str, str]
    """The identity of its bundle; see `state.identity_of`."""
    shipped: Mapping[str, Optional[str]]
    """The present label of each class of the bundle; None for a class that was forgotten."""
    pictures: Tuple[Picture, ...]
    lost: int = 0
    """The number of pictures that could not be converted to another backbone."""
    is_patch: bool = False
    """Whether it was read from a patch. A patch has no thumbnails, so another backbone cannot use it."""


def read_contribution(source: Union[str, os.PathLike[str]]) -> Contribution:
    """Read what was taught from a state folder or a patch.

    Raises:
        LearningError: the folder has no state, or the file is not a patch.
        BundleError: the file is not a bundle, or it is damaged.
        StorageError: the journal cannot be read.
    """
    path = Path(source)
    if path.is_dir():
        journal = Journal(path)
        try:
            return _contribution_of(journal, str(path))
        finally:
            journal.close()
    return _read_patch(path)


def convert(
    contribution: Contribution, identity: Mapping[str, str], embedding_bytes: int, embed: Callable[[bytes], bytes]
) -> Contribution:
    """Convert a contribution to the bundle with this identity.

    If the bundle has another backbone, only pictures with an intact thumbnail are kept, and embedded again.

    Args:
        contribution: what to convert.
        identity: the identity of the bundle.
        embedding_bytes: the size of one raw embedding of the bundle.
        embed: returns the raw embedding of a thumbnail.

    Raises:
        IntegrityError: the pictures' labels or embeddings are invalid.
        LearningError: a patch for another backbone.
    """
    if not all(is_label(picture.label) for picture in contribution.pictures):
        raise IntegrityError(f"{contribution.source} contains invalid labels; nothing was merged")
    if contribution.identity.get("model") == identity["model"]:
        if any(len(picture.embedding or b"") != embedding_bytes for picture in contribution.pictures):
            raise IntegrityError(f"{contribution.source} contains embeddings of another size; nothing was merged")
        is_same_bundle = contribution.identity.get("bundle") == identity["bundle"]
        return contribution if is_same_bundle else replace(contribution, shipped={})
    if contribution.is_patch:
        raise LearningError(
            f"{contribution.source} is a patch for another backbone, which this one cannot use; merge the state folder "
            "that it was exported from instead: pictures taught with --thumbnails are embedded again"
        )
    converted = tuple(_embedded(contribution.pictures, embed))
    return replace(contribution, shipped={}, pictures=converted, lost=len(contribution.pictures) - len(converted))


def _embedded(pictures: Iterable[Picture], embed: Callable[[bytes], bytes]) -> Iterator[Picture]:
    """The pictures with an intact thumbnail, embedded again; the others are skipped."""
    for picture in pictures:
        if picture.thumbnail:
            with contextlib.suppress(ImageError):
                yield picture._replace(embedding=embed(picture.thumbnail))


def merge_drafts(contribution: Contribution, projection: Projection, device: str) -> Iterator[Draft]:
    """Draft the rows that add a contribution to what is in effect on this device.

    A shipped class that was renamed or forgotten there is renamed or forgotten here, unless it was changed here too.
    Pictures that were first taught on this device, or that it already has, are left out.
    """
    yield Draft(MERGE, source=contribution.source)
    used = {*projection.pictures.values(), *(picture.label for picture in contribution.pictures)}
    for name, label in contribution.shipped.items():
        if projection.shipped.get(name) != name or label == name:
            continue
        if label is None and name not in used:
            yield Draft(FORGET_CLASS, name)
        elif label is not None and label not in projection.shipped.values():
            yield Draft(RENAME, label, former=name)
    for picture in contribution.pictures:
        if picture.origin not in projection.origins and not picture.origin.startswith(f"{device}:"):
            yield Draft(
                TEACH,
                picture.label,
                origin=picture.origin,
                source=contribution.source,
                embedding=picture.embedding,
                thumbnail=picture.thumbnail,
            )


def pack_patch(path: Path, bundle: Bundle, journal: Journal) -> Path:
    """Write what is in effect in a journal to a patch, without thumbnails. A digest protects its contents."""
    contribution = _contribution_of(journal, path.name)
    document = {
        "identity": dict(contribution.identity),
        "shipped": dict(contribution.shipped),
        "pictures": [
            {
                "origin": picture.origin,
                "label": picture.label,
                "embedding": base64.b64encode(picture.embedding or b"").decode(),
            }
            for picture in contribution.pictures
        ],
    }
    manifest = replace(bundle.manifest, accuracy={}, entries={})
    return pack(path, manifest, {PATCH: json.dumps(document, ensure_ascii=False).encode()})


def shipped_origins(bundle: Bundle) -> FrozenSet[str]:
    """The origins of those pictures in a bundle's statistics that were taught on devices.

    Raises:
        IntegrityError: the bundle's list of origins is invalid.
    """
    if ORIGINS not in bundle:
        return frozenset()
    try:
        return frozenset(str(origin) for origin in json.loads(bundle.read(ORIGINS)))
    except (ValueError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{bundle.path}: '{ORIGINS}' is not a list of origins; write the bundle again") from error


def taught_origins(projection: Projection, journal: Journal) -> FrozenSet[str]:
    """The origins of the pictures in effect."""
    return frozenset(picture.origin for picture in _pictures(projection, journal.identity()["device"]))


def pack_learned(
    path: Path,
    bundle: Bundle,
    layer: LastLayer,
    statistics: Statistics,
    names: Mapping[str, str],
    origins: FrozenSet[str],
) -> Path:
    """Write a bundle with another last layer and its statistics. The report no longer applies and is left out.

    Args:
        path: the file to write.
        bundle: gives the backbone, the guard set and the canaries.
        layer: the new last layer.
        statistics: the statistics that it was solved from.
        names: the name in these statistics of each class that the bundle was shipped with.
        origins: the origins of all pictures in the statistics that were taught on a device.
    """
    manifest, arrays = _with_last_layer(bundle, layer)
    unchanged = {
        name: bundle.read(name) for name in bundle.names if name != REPORT and not name.startswith(LAST_LAYER_FOLDER)
    }
    entries = {**unchanged, **arrays, STATISTICS: statistics.to_bytes(), ORIGINS: json.dumps(sorted(origins)).encode()}
    if GUARD_LABELS in bundle:
        guard_labels = [names[label] for label in json.loads(bundle.read(GUARD_LABELS))]
        entries[GUARD_LABELS] = json.dumps(guard_labels, ensure_ascii=False).encode()
    if CANARIES in bundle:
        entries[CANARIES] = updated_canaries(bundle, layer)
    return pack(path, manifest, entries)


def pack_frozen(path: Path, bundle: Bundle, layer: LastLayer) -> Path:
    """Write a bundle with another last layer that only classifies: without statistics, it cannot learn."""
    manifest, arrays = _with_last_layer(bundle, layer)
    models = {name: bundle.read(name) for name in (MODEL, EDGETPU_MODEL) if name in bundle}
    return pack(path, manifest, {**models, **arrays})


def _with_last_layer(bundle: Bundle, layer: LastLayer) -> Tuple[Manifest, Dict[str, bytes]]:
    """The manifest of the bundle with another last layer, without measured accuracies; and the layer's entries."""
    description, arrays = last_layer_entries(layer, bundle.manifest.last_layer["parameters"])
    labels = list(layer.labels)
    return replace(bundle.manifest, labels=labels, last_layer=description, accuracy={}, entries={}), arrays


def _contribution_of(journal: Journal, source: str) -> Contribution:
    identity = journal.identity()
    try:
        shipped = [str(label) for label in json.loads(identity["labels"])]
    except (KeyError, ValueError, TypeError) as error:
        raise IntegrityError(f"{source} does not list its bundle's classes; it was not written by edgetl") from error
    projection = Projection(shipped, journal.rows_after(0))
    ids = list(projection.pictures)
    embeddings, thumbnails = journal.embeddings(ids), journal.thumbnails(ids)
    pictures = tuple(
        picture._replace(embedding=embeddings[key], thumbnail=thumbnails.get(key))
        for key, picture in zip(ids, _pictures(projection, identity["device"]))
    )
    return Contribution(source, identity, projection.shipped, pictures)


def _pictures(projection: Projection, device: str) -> List[Picture]:
    """The pictures in effect, in the order of `projection.pictures`, without embeddings and thumbnails."""
    origins = {row.id: row.origin for row in projection.rows}
    return [Picture(origins[key] or f"{device}:{key}", label) for key, label in projection.pictures.items()]


def _read_patch(path: Path) -> Contribution:
    bundle = open_bundle(path)
    if PATCH not in bundle:
        raise LearningError(
            f"{path} is not a patch; give a state folder, or a file written by: edgetl export --format patch"
        )
    try:
        document = json.loads(bundle.read(PATCH))
        pictures = tuple(
            Picture(str(entry["origin"]), entry["label"], base64.b64decode(entry["embedding"], validate=True))
            for entry in document["pictures"]
        )
        shipped = {str(name): label for name, label in document["shipped"].items()}
        identity = {str(key): str(value) for key, value in document["identity"].items()}
        if not all(label is None or is_label(label) for label in shipped.values()):
            raise ValueError("a label is invalid")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{path} is not a patch that edgetl can read: {error}") from error
    return Contribution(str(path), identity, shipped, pictures, is_patch=True)
