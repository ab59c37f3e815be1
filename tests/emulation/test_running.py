"""An emulated Raspberry Pi runs what this host built, and answers as this host does."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from PIL import Image

from edgetl.runtime import Classifier
from edgetl.runtime.inference.canaries import TOLERANCE
from tests.emulation.process import EmulatedPython
from tests.runtime.learning.states import MIXTURES, frame, pack_teachable

pytestmark = pytest.mark.slow

LOOK = """
import importlib.util, json, platform, sys
import edgetl.bundle, edgetl.errors, edgetl.learners, edgetl.runtime
from edgetl.runtime import *
print(json.dumps({
    "machine": platform.machine(),
    "home": edgetl.__file__,
    "interpreters": [name for name, version in interpreters()],
    "of the host": [name for name in ("tensorflow", "tf_keras", "sklearn") if importlib.util.find_spec(name)],
}))
"""


def test_the_device_rooms_import_without_anything_of_the_host(
    emulated: EmulatedPython, request: pytest.FixtureRequest
) -> None:
    seen = emulated.run("-c", LOOK)
    assert seen.returncode == 0, seen.stderr
    found = json.loads(seen.stdout)
    assert f"[{found['machine']}-{found['interpreters'][0]}]" in request.node.name
    assert len(found["interpreters"]) == 1
    assert found["of the host"] == []
    assert Path(found["home"]).is_relative_to(emulated.folder)


def test_run_names_pictures_as_the_host_does(emulated: EmulatedPython, teachable: Path, tmp_path: Path) -> None:
    for colour in ("red", "green", "blue"):
        Image.fromarray(frame(colour, 40)).save(tmp_path / f"{colour}.png")
    ran = emulated.run("-m", "edgetl", "run", teachable, "--source", tmp_path, "--json")
    assert ran.returncode == 0, ran.stderr
    answers = [json.loads(line) for line in ran.stdout.splitlines()]
    assert {Path(answer["source"]).stem for answer in answers} == {"red", "green", "blue"}
    for answer in answers:
        assert answer["label"] == Path(answer["source"]).stem == Classifier(teachable).predict(answer["source"]).label


def test_the_canaries_are_answered_as_by_the_host(emulated: EmulatedPython, tiny_model: bytes, tmp_path: Path) -> None:
    bundle = pack_teachable(tmp_path / "colours.edgetl", tiny_model, canaries=tuple(MIXTURES))
    ran = emulated.run("-m", "edgetl.runtime", "prove", bundle, "--json")
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["canaries"] == len(MIXTURES)
    assert found["cosine"] >= TOLERANCE["cosine"]
    assert found["probability_gap"] <= TOLERANCE["probability"]
