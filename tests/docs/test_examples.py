"""The marked commands of the documentation run as they are printed, and `--json` prints the keys that it lists.

A block below the line `<!-- run -->` is run in bash, one below `<!-- file: NAME -->` is written to a file. All of them
share one folder and one home, in the order of `PAGES`.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.conftest import REPOSITORY
from tests.docs.pages import DOCS, blocks, name_of, pages, table

PAGES = [
    "tutorials/first-model.md",
    "tutorials/raspberry-pi.md",
    "tutorials/teach.md",
    "tutorials/coral.md",
    "tutorials/fleet.md",
    "how-to/csv.md",
    "how-to/custom-target.md",
    "how-to/offline-device.md",
    "how-to/signing.md",
]
FEW_PHOTOS = "for n in 1 2; do mkdir -p few/$n; cp $(ls photos/train/$n/*.png | head -8) few/$n; done"
QUICK = "--input-size 96 --fine-tune off --no-float-reference"
PROTOCOL_VERSION = 1
JSON, PROTOCOL = DOCS / "reference/json.md", DOCS / "reference/protocol.md"

pytestmark = pytest.mark.slow


class Workshop:
    """A folder with a home of its own, in which `edgetl` and `python` are this checkout's."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "work"
        self._environment = {
            **{key: value for key, value in os.environ.items() if not key.startswith(("EDGETL_", "XDG_"))},
            "HOME": str(folder / "home"),
            "PATH": f"{folder / 'bin'}:{os.environ['PATH']}",
            "PYTHONPATH": str(REPOSITORY),
        }
        for path in (self.folder, folder / "home", folder / "bin"):
            path.mkdir()
        for name, module in (("python", ""), ("edgetl", " -m edgetl")):
            script = folder / "bin" / name
            script.write_text(f'#!/bin/sh\nexec "{sys.executable}"{module} "$@"\n', encoding="utf-8")
            script.chmod(0o755)

    def run(self, command: str) -> str:
        """What a command prints; a failure fails the test."""
        ran = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", command],
            cwd=self.folder,
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
        )
        assert ran.returncode == 0, f"{command}\n{ran.stdout}{ran.stderr}"
        return ran.stdout

    def json(self, command: str) -> Any:
        """The JSON value that a command prints."""
        return json.loads(self.run(command))


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Workshop:
    return Workshop(tmp_path_factory.mktemp("docs"))


def test_every_page_with_examples_is_run() -> None:
    marked = [name_of(page) for page in pages() for block in blocks(page) if block.marker]
    assert set(marked) == {f"docs/{page}" for page in PAGES}


@pytest.mark.parametrize("page", PAGES)
def test_the_examples_of_a_page_run(workshop: Workshop, page: str) -> None:
    for block in blocks(DOCS / page):
        if block.marker == "run":
            workshop.run(block.text)
        elif block.marker:
            path = workshop.folder / block.marker.removeprefix("file: ")
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")


@pytest.mark.parametrize(
    ("heading", "command"),
    [
        ("`edgetl build`", f"{FEW_PHOTOS}; edgetl build --data few {QUICK} --json"),
        ("`edgetl evaluate`", "edgetl evaluate field.edgetl --data photos --json"),
        ("`edgetl export`", "edgetl export coral.edgetl --json"),
        ("`edgetl show`", "edgetl show coral.edgetl --json"),
        ("`edgetl run`", "edgetl run coral.edgetl --source $(ls photos/test/3/*.png | head -1) --json"),
        ("`edgetl bench`", "edgetl bench coral.edgetl --seconds 0.2 --json"),
        ("`edgetl teach`", "edgetl teach field.edgetl 3 $(ls photos/test/3/*.png | head -1) --json"),
        ("`edgetl history`", "edgetl history field.edgetl --json"),
        ("`edgetl status`", "edgetl status field.edgetl --json"),
        ("`edgetl deploy`", "edgetl deploy coral.edgetl keyed/ --json"),
        ("`edgetl pull`", "edgetl pull fleet/barn/ -o again --json"),
        ("`edgetl trim`", "edgetl trim next.edgetl --status status.json -o stick2 --json"),
        ("`edgetl keys`", "edgetl keys new other --json"),
        ("`edgetl sign`", "edgetl sign coral.edgetl --key other --json"),
        ("`edgetl backbones`", "edgetl backbones --json"),
        ("`edgetl doctor`", "edgetl doctor --json"),
        ("`edgetl check`", "edgetl check coral.tflite --json"),
    ],
)
def test_json_has_the_keys_that_are_listed(workshop: Workshop, heading: str, command: str) -> None:
    assert set(table(JSON, heading)) == keys_of(workshop.json(command))


@pytest.mark.parametrize(
    ("heading", "verb"),
    [
        ("`status`", "status --root fleet/barn"),
        ("`snapshot`", "snapshot --root fleet/barn"),
        ("`configure`", "configure --root fleet/barn"),
        ("`install`", "install digits-2.edgetl --root fleet/barn"),
        ("`prove`", "prove digits.edgetl"),
        ("`rollback`", "rollback --root fleet/barn"),
    ],
)
def test_the_device_answers_with_the_keys_that_are_listed(workshop: Workshop, heading: str, verb: str) -> None:
    answer = workshop.json(f"python -m edgetl.runtime {verb} --json")
    assert answer.pop("protocol") == PROTOCOL_VERSION
    assert set(table(PROTOCOL, heading)) == keys_of(answer)


def keys_of(value: Any) -> set[str]:
    """The keys of an object, or of the first one in a list."""
    return set(value[0] if isinstance(value, list) else value)
