"""Bundles with canaries and a device in a folder, for the tests of installs."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Optional

import pytest

from edgetl.bundle import open_bundle, pack
from edgetl.runtime import Learner
from edgetl.runtime.device.slots import Slots
from tests.models import COLOURS
from tests.runtime.learning.states import pack_teachable


@dataclass(frozen=True)
class Releases:
    """Three bundles of one backbone and one of another, each with a canary of every class."""

    first: Path
    second: Path
    third: Path
    other_backbone: Path


@pytest.fixture(scope="session")
def releases(tiny_models: dict[str, bytes], tmp_path_factory: pytest.TempPathFactory) -> Releases:
    folder = tmp_path_factory.mktemp("releases")
    models = {"first": "int8", "second": "int8", "third": "int8", "other_backbone": "float32"}
    return Releases(
        **{
            name: pack_teachable(folder / f"{name}.edgetl", tiny_models[model], seed=100 * number, canaries=COLOURS)
            for number, (name, model) in enumerate(models.items())
        }
    )


def repacked(bundle: Path, path: Path, entries: Optional[dict[str, Any]] = None, **manifest: Any) -> Path:
    """The bundle with other entries (None leaves one out) and values of the manifest, and right digests."""
    opened = open_bundle(bundle)
    contents = {**{name: opened.read(name) for name in opened.names}, **(entries or {})}
    kept = {name: data for name, data in contents.items() if data is not None}
    return pack(path, replace(opened.manifest, **manifest), kept)


def renormalised(model: bytes) -> bytes:
    """The same model with its input divided by twice the standard deviation."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    content = schema.ModelT.InitFromObj(schema.Model.GetRootAs(model, 0))
    graph = content.subgraphs[0]
    graph.tensors[graph.inputs[0]].quantization.scale = [0.5]
    builder = flatbuffers.Builder(0)
    builder.Finish(content.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def digest_of(bundle: Path) -> str:
    return open_bundle(bundle).digest


def on_device(root: Path, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Runs a verb in a process of its own, as a host does."""
    command = [sys.executable, "-m", "edgetl.runtime", *map(str, arguments), "--root", str(root)]
    return subprocess.run(command, capture_output=True, text=True, timeout=120)


def answer_of(root: Path, *arguments: object) -> dict[str, Any]:
    done = on_device(root, *arguments, "--json")
    assert done.returncode == 0, done.stderr
    return dict(json.loads(done.stdout))


def teach_running(root: Path, **options: Any) -> Learner:
    """A learner of the bundle that runs."""
    return Learner(Slots(root).running, threads=1, **options)
