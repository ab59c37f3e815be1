"""Hides how what was taught travels: merged from other states, as a patch, or in a new bundle; the Learner calls it."""

from __future__ import annotations

import base64
import json
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Callable, FrozenSet, Iterator, List, Mapping, NamedTuple, Optional, Tuple, Union

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
    is_label,
    open_bundle,
    pack,
)
from edgetl.errors import IntegrityError, LearningError
from edgetl.learners import LastLayer, Statistics
from edgetl.runtime.inference.bundle_entries import last_layer_entries
from edgetl.runtime.inference.canaries import answer_anew
from edgetl.runtime.learning.journal import Draft, Journal
from edgetl.runtime.learning.projection import FORGET_CLASS, MERGE, RENAME, TEACH, Contents


class Picture(NamedTuple):
    """One picture that was taught somewhere."""

    origin: str
    """The device that it was taught on, and its id there: "DEVICE:ID"."""
    label: str
    embedding: Optional[bytes] = None
    thumbnail: Optional[bytes] = None


@dataclass(frozen=True)
class Taught:
    """What is in effect somewhere on top of what was shipped."""

    source: str
    identity: Mapping[str, str]
    shipped: Mapping[str, Optional[str]]
    """The label that each class of the bundle has there now; None where it was forgotten."""
    pictures: Tuple[Picture, ...]
    lost: int = 0
    """Pictures that could not be carried over to another backbone."""
    is_patch: bool = False
    """Whether it comes without thumbnails, and so serves no other backbone."""


def read_taught(source: Union[str, os.PathLike[str]]) -> Taught:
    """What a state folder or a patch holds. Raises LearningError, BundleError or StorageError."""
    path = Path(source)
    if path.is_dir():
        journal = Journal(path)
        try:
            return _taught_in(journal, str(path))
        finally:
            journal.close()
    return _read_patch(path)


def carry_over(
    taught: Taught, identity: Mapping[str, str], embedding_bytes: int, embed: Callable[[bytes], bytes]
) -> Taught:
    """The same for the backbone of `identity`: of another one, only pictures with thumbnails, which `embed` takes.

    Raises IntegrityError where pictures are not what a Learner records, LearningError where a patch is of another one.
    """
    if not all(is_label(picture.label) for picture in taught.pictures):
        raise IntegrityError(f"{taught.source} holds labels that cannot be any; nothing was merged")
    if taught.identity.get("model") == identity["model"]:
        if any(len(picture.embedding or b"") != embedding_bytes for picture in taught.pictures):
            raise IntegrityError(f"{taught.source} holds embeddings of another size; nothing was merged")
        same_bundle = taught.identity.get("bundle") == identity["bundle"]
        return taught if same_bundle else replace(taught, shipped={})
    if taught.is_patch:
        raise LearningError(
            f"{taught.source} is a patch for another backbone, and of no use to this one; merge the state folder that "
            "it was exported from: pictures taught with --thumbnails are learned again from these"
        )
    carried = [picture._replace(embedding=embed(picture.thumbnail)) for picture in taught.pictures if picture.thumbnail]
    return replace(taught, shipped={}, pictures=tuple(carried), lost=len(taught.pictures) - len(carried))


def merged_rows(taught: Taught, contents: Contents, device: str) -> Iterator[Draft]:
    """What to append so that these contents hold everything that was taught there too.

    Of the classes that were shipped, a change there is taken over where nothing was changed here.
    """
    yield Draft(MERGE, source=taught.source)
    used = {*contents.pictures.values(), *(picture.label for picture in taught.pictures)}
    for name, label in taught.shipped.items():
        if contents.shipped.get(name) != name or label == name:
            continue
        if label is None and name not in used:
            yield Draft(FORGET_CLASS, name)
        elif label is not None and label not in contents.shipped.values():
            yield Draft(RENAME, label, former=name)
    for picture in taught.pictures:
        if picture.origin not in contents.origins and not picture.origin.startswith(f"{device}:"):
            yield Draft(
                TEACH,
                picture.label,
                origin=picture.origin,
                source=taught.source,
                embedding=picture.embedding,
                thumbnail=picture.thumbnail,
            )


def pack_patch(path: Path, bundle: Bundle, journal: Journal) -> Path:
    """Writes what is in effect in a journal, with a digest over all of it, and without thumbnails."""
    taught = _taught_in(journal, path.name)
    document = {
        "identity": dict(taught.identity),
        "shipped": dict(taught.shipped),
        "pictures": [
            {
                "origin": picture.origin,
                "label": picture.label,
                "embedding": base64.b64encode(picture.embedding or b"").decode(),
            }
            for picture in taught.pictures
        ],
    }
    manifest = replace(bundle.manifest, accuracy={}, entries={})
    return pack(path, manifest, {PATCH: json.dumps(document, ensure_ascii=False).encode()})


def shipped_origins(bundle: Bundle) -> FrozenSet[str]:
    """Where those pictures in a bundle's statistics came from that were taught on devices."""
    if ORIGINS not in bundle:
        return frozenset()
    try:
        return frozenset(str(origin) for origin in json.loads(bundle.read(ORIGINS)))
    except (ValueError, TypeError, RecursionError) as error:
        raise IntegrityError(f"{bundle.path}: '{ORIGINS}' is not a list of origins; write the bundle again") from error


def origins_in(contents: Contents, journal: Journal) -> FrozenSet[str]:
    """Where the pictures in effect came from."""
    return frozenset(picture.origin for picture in _pictures(contents, journal.identity()["device"]))


def pack_learned(
    path: Path,
    bundle: Bundle,
    layer: LastLayer,
    statistics: Statistics,
    names: Mapping[str, str],
    origins: FrozenSet[str],
) -> Path:
    """Writes the bundle with another last layer and its statistics; what was measured of the old one is left out.

    `names` are what the statistics call the classes that the bundle was shipped with; `origins` are those of all
    pictures in the statistics that were taught on a device.
    """
    described, arrays = last_layer_entries(layer, bundle.manifest.last_layer["parameters"])
    kept = {
        name: bundle.read(name) for name in bundle.names if name != REPORT and not name.startswith(LAST_LAYER_FOLDER)
    }
    entries = {**kept, **arrays, STATISTICS: statistics.to_bytes(), ORIGINS: json.dumps(sorted(origins)).encode()}
    if GUARD_LABELS in bundle:
        truths = [names[label] for label in json.loads(bundle.read(GUARD_LABELS))]
        entries[GUARD_LABELS] = json.dumps(truths, ensure_ascii=False).encode()
    if CANARIES in bundle:
        entries[CANARIES] = answer_anew(bundle, layer)
    manifest = replace(bundle.manifest, labels=list(layer.labels), last_layer=described, accuracy={}, entries={})
    return pack(path, manifest, entries)


def pack_frozen(path: Path, bundle: Bundle, layer: LastLayer) -> Path:
    """Writes what classifies like the bundle with another last layer, and cannot learn."""
    described, arrays = last_layer_entries(layer, bundle.manifest.last_layer["parameters"])
    models = {name: bundle.read(name) for name in (MODEL, EDGETPU_MODEL) if name in bundle}
    manifest = replace(bundle.manifest, labels=list(layer.labels), last_layer=described, accuracy={}, entries={})
    return pack(path, manifest, {**models, **arrays})


def _taught_in(journal: Journal, source: str) -> Taught:
    identity = journal.identity()
    try:
        shipped = [str(label) for label in json.loads(identity["labels"])]
    except (KeyError, ValueError, TypeError) as error:
        raise IntegrityError(f"{source} does not say which classes it began with; it was not made by edgetl") from error
    contents = Contents(shipped, journal.rows_after(0))
    pictures = _pictures(contents, identity["device"])
    ids = list(contents.pictures)
    embeddings, thumbnails = journal.embeddings(ids), journal.thumbnails(ids)
    complete = (
        picture._replace(embedding=embeddings[key], thumbnail=thumbnails.get(key))
        for key, picture in zip(ids, pictures)
    )
    return Taught(source, identity, contents.shipped, tuple(complete))


def _pictures(contents: Contents, device: str) -> List[Picture]:
    """The pictures in effect, in the order of `contents.pictures`, still without what was stored of them."""
    origins = {row.id: row.origin for row in contents.rows}
    return [Picture(origins[key] or f"{device}:{key}", label) for key, label in contents.pictures.items()]


def _read_patch(path: Path) -> Taught:
    bundle = open_bundle(path)
    if PATCH not in bundle:
        raise LearningError(f"{path} is no patch; give a state folder, or what edgetl export --format patch wrote")
    try:
        document = json.loads(bundle.read(PATCH))
        pictures = tuple(
            Picture(str(entry["origin"]), entry["label"], base64.b64decode(entry["embedding"], validate=True))
            for entry in document["pictures"]
        )
        shipped = {str(name): label for name, label in document["shipped"].items()}
        identity = {str(key): str(value) for key, value in document["identity"].items()}
        if not all(label is None or is_label(label) for label in shipped.values()):
            raise ValueError("a label is none")
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise IntegrityError(f"{path} is not a patch that edgetl can read: {error}") from error
    return Taught(str(path), identity, shipped, pictures, is_patch=True)
