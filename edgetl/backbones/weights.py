"""Finds the file with a backbone's pretrained weights; called by `edgetl.backbones`."""
from __future__ import annotations
import hashlib, importlib.util
from pathlib import Path
from edgetl.backbones.spec import Spec
from edgetl.errors import WeightsError

def find_weights(spec: Spec, input_size: int, given: Path | None) -> Path:
    if given: return given
    found = importlib.util.find_spec(spec.weights.package) if spec.weights.package else None
    if found is None: raise WeightsError("missing")
    return Path(found.submodule_search_locations[0]) / "models" / spec.weights.filename

def file_digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()
