"""Packs a last layer into entries of a bundle, and reads it back."""

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
    """The manifest's `last_layer` object, and the arrays as entries {name: .npy bytes}.

    `parameters` are the parameters of the solver.
    """
    description = {
        "solver": last_layer.solver,
        "parameters": dict(parameters),
        "temperature": float(np.float32(last_layer.temperature)),
        "novelty_threshold": float(np.float32(last_layer.novelty_threshold)),
    }
    entries = {f"{LAST_LAYER_FOLDER}{name}.npy": _npy_bytes(array) for name, array in last_layer.to_arrays().items()}
    return description, entries


def read_last_layer(bundle: Bundle) -> LastLayer:
    """The last layer of a bundle. Raises IntegrityError if it does not match the manifest."""
    description = bundle.manifest.last_layer
    if set(description) != _DESCRIPTION_KEYS:
        raise IntegrityError(
            f"{bundle.path}: the manifest's last_layer must have the keys {sorted(_DESCRIPTION_KEYS)}, "
            f"received {sorted(description)}; build it again"
        )
    arrays = {
        name[len(LAST_LAYER_FOLDER) :].rpartition(".npy")[0]: read_npy(name, bundle.read(name))
        for name in bundle.names
        if name.startswith(LAST_LAYER_FOLDER)
    }
    last_layer = LastLayer.from_arrays(arrays, bundle.manifest.labels, str(description["solver"]))
    claimed, actual = bundle.manifest.embedding["size"], last_layer.weights.shape[0]
    if claimed != actual:
        raise IntegrityError(
            f"{bundle.path}: the manifest says embedding size {claimed}, the last layer has {actual}; build it again"
        )
    for name in ("temperature", "novelty_threshold"):
        if not _is_close(description[name], getattr(last_layer, name)):
            raise IntegrityError(
                f"{bundle.path}: the manifest says {name} {description[name]}, "
                f"the last layer has {getattr(last_layer, name):g}; build it again"
            )
    return last_layer


def read_npy(name: str, data: bytes, dtype: str = "float32") -> np.ndarray:
    """The array (n,) or (n, m) of an entry; it shares the memory of `data`.

    Raises IntegrityError if the header is not one that edgetl writes, or if the dtype or the size is another one.
    """
    expected = np.dtype(dtype).newbyteorder("<")
    header = _NPY.match(data)
    shape = tuple(int(side) for side in header.groups()[1:] if side is not None) if header else ()
    fits = header is not None and header[1].decode() == expected.str
    if header is None or not fits or len(data) - header.end() != expected.itemsize * math.prod(shape):
        raise IntegrityError(f"'{name}' is not an array of {dtype} as edgetl writes it; build the bundle again")
    return np.frombuffer(data, expected, offset=header.end()).reshape(shape)


_DESCRIPTION_KEYS = {"solver", "parameters", "temperature", "novelty_threshold"}


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
"""The header that numpy writes for numbers in one or two axes. numpy's own reader accepts, and trusts, far more."""
