"""Hides how a last layer lies in a bundle; the host's build packs it so, the Classifier reads it back."""

from __future__ import annotations

import io
import math
import re
from typing import Any, Dict, Mapping, Tuple

import numpy as np

from edgetl.bundle import LAST_LAYER_FOLDER, Bundle
from edgetl.errors import IntegrityError
from edgetl.learners import LastLayer


def last_layer_entries(last_layer: LastLayer, parameters: Mapping[str, Any]) -> Tuple[Dict[str, Any], Dict[str, bytes]]:
    """What the manifest says of a last layer, and its arrays as entries {name: .npy bytes}.

    `parameters` are those that its solver was given.
    """
    described = {
        "solver": last_layer.solver,
        "parameters": dict(parameters),
        "temperature": float(np.float32(last_layer.temperature)),
        "novelty_threshold": float(np.float32(last_layer.novelty_threshold)),
    }
    entries = {f"{LAST_LAYER_FOLDER}{name}.npy": _npy_bytes(array) for name, array in last_layer.to_arrays().items()}
    return described, entries


def read_last_layer(bundle: Bundle) -> LastLayer:
    """The last layer of a bundle. Raises IntegrityError where it is not what the manifest says."""
    described = bundle.manifest.last_layer
    if set(described) != {"solver", "parameters", "temperature", "novelty_threshold"}:
        raise IntegrityError(f"{bundle.path}: the manifest describes its last layer by {sorted(described)}")
    arrays = {
        name[len(LAST_LAYER_FOLDER) :].rpartition(".npy")[0]: read_npy(name, bundle.read(name))
        for name in bundle.names
        if name.startswith(LAST_LAYER_FOLDER)
    }
    last_layer = LastLayer.from_arrays(arrays, bundle.manifest.labels, str(described["solver"]))
    claimed, actual = bundle.manifest.embedding["size"], last_layer.weights.shape[0]
    if claimed != actual:
        raise IntegrityError(f"{bundle.path}: the last layer takes {actual} numbers, not {claimed}")
    for name in ("temperature", "novelty_threshold"):
        if not _is_close(described[name], getattr(last_layer, name)):
            raise IntegrityError(f"{bundle.path}: the manifest's {name} is not that of the last layer")
    return last_layer


def read_npy(name: str, data: bytes, dtype: str = "float32") -> np.ndarray:
    """An array of one or two axes that shares `data`'s memory. Raises IntegrityError where it is of another kind."""
    kind = np.dtype(dtype).newbyteorder("<")
    header = _NPY.match(data)
    shape = tuple(int(side) for side in header.groups()[1:] if side is not None) if header else ()
    fits = header is not None and header[1].decode() == kind.str
    if header is None or not fits or len(data) - header.end() != kind.itemsize * math.prod(shape):
        raise IntegrityError(f"'{name}' is no array of {dtype} as edgetl packs it; build the bundle again")
    return np.frombuffer(data, kind, offset=header.end()).reshape(shape)


def _is_close(claimed: Any, actual: float) -> bool:
    return isinstance(claimed, float) and math.isclose(claimed, actual, rel_tol=1e-6)


def _npy_bytes(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.lib.format.write_array(stream, np.ascontiguousarray(array), version=(1, 0), allow_pickle=False)
    return stream.getvalue()


_NPY = re.compile(
    rb"\x93NUMPY\x01\x00..\{'descr': '([|<][a-z]\d)', 'fortran_order': False, "
    rb"'shape': \((\d{1,9}),(?: (\d{1,9}))?\), \} *\n",
    re.DOTALL,
)
"""The only header that numpy writes for one or two axes of numbers; its own reader takes, and trusts, far more."""
