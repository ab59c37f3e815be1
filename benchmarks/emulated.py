"""Compares a bundle's canaries on emulated Raspberry Pis, with each interpreter, with those on this host.

    python -m benchmarks.emulated BUNDLE... [--json]

Each row is `python -m edgetl.runtime prove BUNDLE` on an emulated machine, with the real wheel of the interpreter: the
lowest cosine similarity of an embedding with the host's, the largest difference of a probability, and both limits.
Emulated times say nothing about a Raspberry Pi, so they are not shown.
"""

from __future__ import annotations

import argparse
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path

from edgetl.runtime.inference.canaries import TOLERANCE
from tests.emulation.machines import ARM64, ARMHF, Machine
from tests.emulation.process import EmulatedPython

HEADINGS = ("bundle", "machine", "interpreter", "canaries", "cosine", "at least", "probability", "at most")
WIDTHS = (24, 10, 24, 10, 9, 10, 13, 9)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundles", type=Path, nargs="+", metavar="BUNDLE")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    bundles = [bundle.resolve() for bundle in options.bundles]
    machines = [(machine, interpreter) for machine in (ARM64, ARMHF) for interpreter in machine.interpreters]
    rows = [row for machine, interpreter in machines for row in measure(machine, interpreter, bundles)]
    print(json.dumps(rows) if options.json else table(rows))


def measure(machine: Machine, interpreter: str, bundles: list[Path]) -> list[dict[str, object]]:
    """One row per bundle; "fault" is the reason why it cannot run on the machine."""
    with tempfile.TemporaryDirectory() as folder:
        python = EmulatedPython.in_folder(Path(folder), machine, interpreter)
        rows = []
        for bundle in bundles:
            ran = python.run("-m", "edgetl.runtime", "prove", bundle, "--json")
            found = {"fault": ran.stderr.strip()} if ran.returncode else json.loads(ran.stdout)
            rows.append({"bundle": bundle.name, "machine": machine.name, "interpreter": interpreter, **found})
    return rows


def table(rows: list[dict[str, object]]) -> str:
    lines = [_line(HEADINGS)]
    for row in rows:
        where = (row["bundle"], row["machine"], row["interpreter"])
        if "fault" in row:
            lines.append(f"{_line(where)}  {row['fault']}")
        else:
            off = (row["cosine"], TOLERANCE["cosine"], row["probability_gap"], TOLERANCE["probability"])
            lines.append(_line((*where, row["canaries"], *off)))
    return "\n".join(lines)


def _line(cells: Sequence[object]) -> str:
    return "".join(f"{cell!s:>{width}}" for cell, width in zip(cells, WIDTHS))


if __name__ == "__main__":
    main()
