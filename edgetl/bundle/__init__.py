"""The .edgetl file: its format, the names of its entries, and its signature (`edgetl.bundle.signing`)."""

from __future__ import annotations

from edgetl.bundle.format import LABEL_LIMIT, Bundle, Manifest, is_label, open_bundle, pack, write_bundle
from edgetl.bundle.labels import distinguishable, look_alike, look_alike_key, look_alikes
from edgetl.bundle.layout import (
    CANARIES,
    CANARY_FOLDER,
    EDGETPU_MODEL,
    GUARD_EMBEDDINGS,
    GUARD_LABELS,
    LAST_LAYER_FOLDER,
    MANIFEST,
    MODEL,
    ORIGINS,
    PATCH,
    REPORT,
    SIGNATURE,
    STATISTICS,
)

__all__ = [
    "CANARIES",
    "CANARY_FOLDER",
    "EDGETPU_MODEL",
    "GUARD_EMBEDDINGS",
    "GUARD_LABELS",
    "LABEL_LIMIT",
    "LAST_LAYER_FOLDER",
    "MANIFEST",
    "MODEL",
    "ORIGINS",
    "PATCH",
    "REPORT",
    "SIGNATURE",
    "STATISTICS",
    "Bundle",
    "Manifest",
    "distinguishable",
    "is_label",
    "look_alike",
    "look_alike_key",
    "look_alikes",
    "open_bundle",
    "pack",
    "write_bundle",
]
