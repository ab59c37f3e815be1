"""Kills installs and rollbacks at random moments, and counts devices that are left without a working bundle.

    python -m benchmarks.install_kill BUNDLE --kills 500

BUNDLE is any bundle from a build. Two good bundles are made from it that were taught a class each, and one with a
flipped byte in its model, which its canaries refuse. Every trial forks a process that installs one of them or rolls
back, and kills it (SIGKILL, with all its children): half of them after a random time, half before a random file
operation. Afterwards the running bundle must be complete and good, and must know what the device was taught.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import multiprocessing
import os
import random
import signal
import sys
import tempfile
import threading
import time
from dataclasses import replace
from pathlib import Path

from edgetl.bundle import open_bundle, pack
from edgetl.errors import EdgetlError
from edgetl.runtime import Learner
from edgetl.runtime.device.installation import install, rollback
from edgetl.runtime.device.slots import Slots
from edgetl.runtime.learning import read_contribution

TAUGHT = 3
LONGEST_SECONDS = 60.0
STEPS = ("open", "os.", "shutil.", "fcntl.", "sqlite3.", "subprocess.")
"""Prefixes of the audit events before which a process may be killed."""


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("--kills", type=int, default=500)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=Path.cwd()) as folder:
        found = run(options.bundle, Path(folder), options.kills, options.seed)
    if options.json:
        print(json.dumps(found))
    else:
        print(
            f"{found['kills']} kills, {found['finished']} processes had finished before, {found['switches']} switches: "
            f"{found['broken']} devices without a working bundle, {found['unproven']} bundles run that fail their "
            f"canaries, {found['forgotten']} that lost what was taught"
        )
    return 1 if found["broken"] or found["unproven"] or found["forgotten"] else 0


def run(bundle: Path, folder: Path, kills: int, seed: int = 0) -> dict[str, int]:
    """Counts of kills, of processes that had already finished, of switches, and of failures."""
    good, bad = _make_bundles(bundle, folder)
    root, chance = folder / "device", random.Random(seed)
    digests = {path: open_bundle(path).digest for path in good}
    seconds, steps = _measure(root, good)
    counts = {"kills": kills, "finished": 0, "switches": 0, "broken": 0, "unproven": 0, "forgotten": 0}
    for _ in range(kills):
        before = Slots(root).current
        others = [path for path, digest in digests.items() if before is None or digest != before.digest]
        source = chance.choices([*others, bad, None], weights=[4] * len(others) + [2, 1])[0]
        by_time = chance.random() < 0.5
        child = _start(root, source, None if by_time else chance.randrange(steps))
        counts["finished"] += _kill(child, chance.uniform(0, 1.5 * seconds) if by_time else LONGEST_SECONDS)
        after = Slots(root).current
        counts["switches"] += after != before
        fault = _fault(root, set(digests.values()))
        if fault:
            counts[fault] += 1
            print(f"{fault}: {after}", file=sys.stderr)
    return counts


def _make_bundles(bundle: Path, folder: Path) -> tuple[list[Path], Path]:
    """Three good bundles and a bad one, made in a separate process, so that no interpreter threads are forked."""
    good = [bundle, folder / "second.edgetl", folder / "third.edgetl"]
    maker = multiprocessing.get_context("spawn").Process(target=_teach_and_export, args=(bundle, good[1:]))
    maker.start()
    maker.join()
    opened = open_bundle(bundle)
    model = bytearray(opened.read("model.tflite"))
    model[len(model) // 2] ^= 1
    entries = {**{name: opened.read(name) for name in opened.names}, "model.tflite": bytes(model)}
    return good, pack(folder / "bad.edgetl", replace(opened.manifest, entries={}), entries)


def _teach_and_export(bundle: Path, paths: list[Path]) -> None:
    picture = open_bundle(bundle).read("canaries/00.jpg")
    for path in paths:
        with Learner(bundle, state=path.with_suffix(".state")) as learner:
            learner.teach(picture, path.stem)
            learner.export_bundle(path)


def _teach_device(bundle: Path) -> None:
    picture = open_bundle(bundle).read("canaries/00.jpg")
    with Learner(bundle) as learner:
        learner.teach_many([picture] * TAUGHT, "taught here")


def _measure(root: Path, good: list[Path]) -> tuple[float, int]:
    """The duration of an install and its number of steps; the device starts with a bundle that was taught."""
    install(good[0], root)
    teacher = multiprocessing.get_context("spawn").Process(target=_teach_device, args=(Slots(root).running,))
    teacher.start()
    teacher.join()
    steps = 0

    def count(event: str, _: object) -> None:
        nonlocal steps
        steps += event.startswith(STEPS) and threading.current_thread() is threading.main_thread()

    child, start = os.fork(), time.monotonic()
    if not child:
        try:
            sys.addaudithook(count)
            install(good[1], root)
            (root / "steps").write_text(str(steps))
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    return time.monotonic() - start, int((root / "steps").read_text())


def _start(root: Path, source: Path | None, step: int | None) -> int:
    """A process that installs `source`, or rolls back, and dies before its `step`-th step if that is given."""
    child = os.fork()
    if child:
        return child
    try:
        os.setsid()
        if step is not None:
            _die_before(step)
        install(source, root) if source else rollback(root)
    finally:
        os._exit(0)


def _die_before(step: int) -> None:
    left = step

    def die(event: str, _: object) -> None:
        nonlocal left
        if event.startswith(STEPS):
            left -= 1
            if left == -1:  # once, for killing is an event itself
                os.killpg(0, signal.SIGKILL)

    sys.addaudithook(die)


def _kill(child: int, seconds: float) -> bool:
    """Kills a process and its group after some time; returns whether it had already ended."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.WIFEXITED(status)
        time.sleep(0.001)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(child, signal.SIGKILL)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, signal.SIGKILL)  # where it was killed before it had a group of its own
    os.waitpid(child, 0)
    return False


def _fault(root: Path, proven: set[str]) -> str:
    """What is wrong with the running bundle, as a name in the counts; empty if nothing is."""
    slots = Slots(root)
    try:
        if slots.current is None or open_bundle(slots.running).digest != slots.current.digest:
            return "broken"
        if slots.current.digest not in proven:
            return "unproven"
        return "" if len(read_contribution(slots.current.state).pictures) == TAUGHT else "forgotten"
    except EdgetlError:
        return "broken"


if __name__ == "__main__":
    sys.exit(main())
