"""Whatever happens to the process, the disk or the clock: no acknowledged step is lost, no state is unreadable."""

from __future__ import annotations

import contextlib
import dataclasses
import multiprocessing
import os
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from benchmarks.kill import run as kill_repeatedly
from benchmarks.synthetic import pack_synthetic
from edgetl.bundle import open_bundle
from edgetl.errors import EdgetlError, LearningError, StorageError
from edgetl.runtime import Learner
from edgetl.runtime.learning.journal import JOURNAL_FILE, Journal
from tests.runtime.learning.states import embeddings, frame, shipped_statistics, trained_once

REPOSITORY = Path(__file__).resolve().parents[3]


@pytest.fixture
def taught(teachable: Path, tmp_path: Path) -> Path:
    """A state with ten pictures of "yellow" in ten steps."""
    state = tmp_path / "state"
    with Learner(teachable, state=state, threads=1) as learner:
        for row in embeddings(10):
            learner.teach_embeddings(row, "yellow")
    return state


@pytest.mark.parametrize("processes", [1, 3])
def test_a_kill_loses_no_acknowledged_step(tmp_path: Path, processes: int) -> None:
    bundle = pack_synthetic(tmp_path / "synthetic.edgetl", 5, 20, 64)
    found = kill_repeatedly(bundle, tmp_path / "state", kills=12, seed=3, processes=processes)
    assert found["acknowledged"] > 0
    assert (found["lost"], found["unreadable"]) == (0, 0)


def test_a_torn_write_loses_only_unacknowledged_steps(taught: Path, teachable: Path) -> None:
    """The log of a killed process, cut at any byte or with one changed, still gives a state of some earlier step."""
    with _log_left_behind(teachable, taught) as (state, log):
        whole = log.read_bytes()
        counts = set()
        for number, cut in enumerate(range(0, len(whole), 1009)):
            torn = state.with_name(f"torn{number}")
            shutil.copytree(state, torn, ignore=shutil.ignore_patterns("*-shm"))
            flipped = bytearray(whole[:cut])
            if number % 2 and flipped:
                flipped[-1] ^= 255
            (torn / log.name).write_bytes(flipped)
            with Learner(teachable, state=torn, threads=1) as learner:
                count = len(learner.history())
                counts.add(count)
                raw = np.concatenate([embeddings(10), embeddings(10, seed=1)])[:count]
                assert learner.statistics() == trained_once(teachable, {"yellow": raw})
        assert min(counts) == 10
        assert max(counts) > 15


class _log_left_behind:  # noqa: N801
    """A copy of a state whose last ten steps are in SQLite's log only, as after a power cut."""

    def __init__(self, bundle: Path, state: Path) -> None:
        self.bundle, self.state = bundle, state

    def __enter__(self) -> tuple[Path, Path]:
        copy = self.state.with_name("copy")
        with Learner(self.bundle, state=self.state, threads=1) as learner:
            for row in embeddings(10, seed=1):
                learner.teach_embeddings(row, "yellow")
            shutil.copytree(self.state, copy)
        return copy, copy / f"{JOURNAL_FILE}-wal"

    def __exit__(self, *error: object) -> None:
        pass


def _teach_in_own_process(bundle: Path, state: Path, seed: int, count: int) -> None:
    with Learner(bundle, state=state, threads=1) as learner:
        for row in embeddings(count, seed=seed):
            learner.teach_embeddings(row, f"class {seed}")


def test_the_pictures_of_processes_that_teach_at_the_same_time_are_all_recorded(
    teachable: Path, tmp_path: Path
) -> None:
    context = multiprocessing.get_context("spawn")
    teachers = [
        context.Process(target=_teach_in_own_process, args=(teachable, tmp_path, seed, 20)) for seed in range(3)
    ]
    for teacher in teachers:
        teacher.start()
    for teacher in teachers:
        teacher.join(60)
        assert teacher.exitcode == 0
    with Learner(teachable, state=tmp_path, threads=1) as learner:
        wanted = trained_once(teachable, {f"class {seed}": embeddings(20, seed=seed) for seed in range(3)})
        assert learner.statistics() == wanted


def test_several_processes_can_create_a_state_at_the_same_time(tmp_path: Path) -> None:
    def begin(folder: Path) -> None:
        ready.wait()
        journal = Journal(folder, {"name": "colours"})
        with journal.writing():
            pass
        journal.close()

    ready = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        for number in range(20):
            for begun in [pool.submit(begin, tmp_path / str(number)) for _ in range(4)]:
                begun.result()


def test_a_running_classifier_follows_another_process(teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path, threads=1) as running:
        classifier = running.classifier()
        assert "yellow" not in classifier.labels
        code = (
            "import sys; from edgetl.runtime import Learner; from tests.runtime.learning.states import frame\n"
            "with Learner(sys.argv[1], state=sys.argv[2], threads=1) as learner:\n"
            "    learner.teach_many([frame('yellow', seed) for seed in range(3)], 'yellow'); learner.last_layer()"
        )
        subprocess.run([sys.executable, "-c", code, str(teachable), str(tmp_path)], check=True, cwd=REPOSITORY)
        assert classifier.predict(frame("yellow", 9)).label == "yellow"


def test_a_classifier_solves_the_layer_if_the_teaching_process_died(
    teachable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgetl.runtime.learning.live_classifier.PATIENCE_SECONDS", 0.0)
    with Learner(teachable, state=tmp_path, threads=1) as running, Learner(teachable, state=tmp_path) as teacher:
        classifier = running.classifier()
        teacher.teach_embeddings(teacher.classifier().embed(frame("yellow")), "yellow")
        assert classifier.predict(frame("yellow", 9)).label == "yellow"


def _fill_the_disk(bundle: Path, state: Path) -> None:
    """Teaches until the limit on file sizes, which stands for a full disk, and a bit more once it is lifted."""
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    learner = Learner(bundle, state=state, threads=1)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, limits[1]))
    rows, acknowledged = embeddings(20_000, seed=5), 0

    def teach_on() -> None:
        nonlocal acknowledged
        while True:
            learner.teach_embeddings(rows[acknowledged : acknowledged + 20], "yellow")
            acknowledged += 20

    with pytest.raises(StorageError, match="disk"):
        teach_on()
    assert len(learner.history()) == acknowledged
    assert learner.statistics().total == shipped_statistics(bundle).total + acknowledged
    assert learner.classifier().predict(frame("red")).label
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    learner.teach_embeddings(rows[acknowledged], "yellow")
    assert learner.statistics() == trained_once(bundle, {"yellow": rows[: acknowledged + 1]})


def test_a_full_disk_refuses_a_step_and_keeps_all_before_it(teachable: Path, tmp_path: Path) -> None:
    process = multiprocessing.get_context("spawn").Process(target=_fill_the_disk, args=(teachable, tmp_path / "state"))
    process.start()
    process.join(120)
    assert process.exitcode == 0


def test_a_read_only_state_can_be_used_but_not_taught(
    taught: Path, teachable: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK)
    with Learner(teachable, state=taught, threads=1) as learner:
        assert learner.classifier().labels == ("blue", "green", "red", "yellow")
        assert learner.statistics() == trained_once(teachable, {"yellow": embeddings(10)})
        assert not learner.status().writable
        with pytest.raises(StorageError, match="read-only here"):
            learner.teach_embeddings(embeddings(1)[0], "yellow")


USE = """
import sys
from edgetl.errors import StorageError
from edgetl.runtime import Learner
from tests.runtime.learning.states import embeddings, frame
bundle, state = sys.argv[1:]
with Learner(bundle, state=state, threads=1) as learner:
    print(len(learner.history()), learner.classifier().predict(frame("red")).label, "yellow" in learner.labels)
    try:
        learner.teach_embeddings(embeddings(1)[0], "yellow")
    except StorageError as error:
        print(error)
"""


MOUNTS = {
    "read-only here": "mount --bind {state} {state} && mount -o remount,bind,ro {state}",
    "the disk": "cp -r {state} {state}.kept && mount -t tmpfs -o size=1m tmpfs {state} && cp {state}.kept/* {state} && "
    "(cat /dev/zero > {state}/rest || true)",
}
"""Words of the expected error, and the shell commands that make a file system read-only or full."""


@pytest.mark.parametrize("complaint", sorted(MOUNTS))
@pytest.mark.parametrize("crashed", [False, True])
def test_a_state_on_a_file_system_that_refuses_writes_is_read(
    taught: Path, teachable: Path, crashed: bool, complaint: str
) -> None:
    state, count = taught, 10
    if crashed:
        with _log_left_behind(teachable, taught) as (state, _):
            count = 20
        (state / f"{JOURNAL_FILE}-shm").unlink()
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        pytest.skip("this user may not make mount namespaces")
    script = f'{MOUNTS[complaint].format(state=state)} && exec {sys.executable} -c "$0" "$@"'
    command = ["unshare", "-m", "sh", "-c", script, USE, str(teachable), str(state)]
    ran = subprocess.run(command, capture_output=True, text=True, cwd=REPOSITORY, timeout=120)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.splitlines()[0] == f"{count} red True"
    assert complaint in ran.stdout.splitlines()[1]


@pytest.mark.parametrize("another_follows", [False, True])
def test_a_step_is_refused_if_its_state_was_moved_or_removed(
    taught: Path, teachable: Path, another_follows: bool
) -> None:
    with Learner(teachable, state=taught, threads=1) as learner:
        learner.teach_embeddings(embeddings(1)[0], "yellow")
        taught.rename(taught.with_name("taken away"))
        if another_follows:
            with Learner(teachable, state=taught, threads=1) as other:
                other.teach_embeddings(embeddings(1)[0], "grey")
        with pytest.raises(StorageError, match="moved or removed"):
            learner.teach_embeddings(embeddings(1)[0], "yellow")
        assert learner.classifier().predict(frame("red")).label == "red"
    with Learner(teachable, state=taught.with_name("taken away"), threads=1) as learner:
        assert len(learner.history()) == 11


def test_an_empty_file_left_by_a_full_disk_is_no_state_yet(
    teachable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / JOURNAL_FILE).touch()
    with monkeypatch.context() as patched:
        patched.setattr(os, "access", lambda path, mode: mode != os.W_OK)
        with Learner(teachable, state=tmp_path, threads=1) as learner:
            assert learner.history() == []
            with pytest.raises(StorageError):
                learner.teach_embeddings(embeddings(1)[0], "yellow")
            patched.undo()
            learner.teach_embeddings(embeddings(1)[0], "yellow")  # it can be written now, and is
            assert learner.labels[-1] == "yellow"


def test_steps_are_ordered_by_id_whatever_the_clock_says(
    teachable: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Backwards:
        hour = 20

        @classmethod
        def now(cls, zone: object) -> Backwards:
            cls.hour -= 1
            return cls()

        def isoformat(self, timespec: str) -> str:
            return f"1970-01-01T{self.hour:02d}:00:00+00:00"

    monkeypatch.setattr("edgetl.runtime.learning.journal.datetime", Backwards)
    with Learner(teachable, state=tmp_path, threads=1) as learner:
        learner.teach_embeddings(embeddings(1)[0], "yellow")
        learner.rename("yellow", "lemon")
        learner.undo()
        assert learner.labels[-1] == "yellow"
    with Learner(teachable, state=tmp_path, threads=1) as learner:
        assert learner.labels[-1] == "yellow"
        assert [entry.kind for entry in learner.history()] == ["teach", "rename", "undo"]


@pytest.mark.parametrize("content", [b"not a database at all" * 99, b"SQLite format 3\0" + bytes(5000)])
def test_a_damaged_journal_is_set_aside_and_reported_in_one_line(
    teachable: Path, tmp_path: Path, content: bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / JOURNAL_FILE).write_bytes(content)
    with Learner(teachable, state=tmp_path, threads=1) as learner:
        assert learner.history() == []
        assert learner.classifier().predict(frame("red")).label == "red"
    assert (tmp_path / "journal.damaged-1.sqlite").read_bytes() == content
    (line,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("edgetl: ")]
    assert "was damaged" in line


def test_a_damaged_last_layer_is_solved_again(taught: Path, teachable: Path) -> None:
    with Learner(teachable, state=taught, threads=1) as learner:
        wanted = learner.last_layer().weights
    with sqlite3.connect(taught / JOURNAL_FILE) as connection:
        connection.execute("UPDATE kept SET data = substr(data, 1, 100)")
    with Learner(teachable, state=taught, threads=1) as learner:
        assert np.array_equal(learner.last_layer().weights, wanted)


@pytest.mark.parametrize("name", ["statistics.bin", "guard/embeddings.npy", "guard/labels.json"])
def test_a_forged_entry_of_a_bundle_is_refused_or_valid(teachable: Path, tmp_path: Path, name: str) -> None:
    bundle, rng = open_bundle(teachable), np.random.default_rng(0)
    entries = {other: bundle.read(other) for other in bundle.names}
    for number in range(60):
        changed = bytearray(entries[name])
        changed[rng.integers(min(len(changed), 400))] = rng.integers(256)
        made_up = dataclasses.replace(bundle, _entries={**entries, name: bytes(changed)})
        with (
            contextlib.suppress(EdgetlError),
            Learner(made_up, state=tmp_path / str(number), threads=1) as learner,
        ):
            learner.teach_embeddings(embeddings(1), "yellow", guard=100.0)
            learner.last_layer()


def test_reading_a_missing_state_does_not_create_it(teachable: Path, tmp_path: Path) -> None:
    with Learner(teachable, state=tmp_path / "none", threads=1) as learner:
        assert learner.history() == []
        assert learner.classifier().predict(frame("red")).label == "red"
    assert not (tmp_path / "none").exists()
    with pytest.raises(LearningError, match="there is no state in"):
        Journal(tmp_path / "none")


def test_a_newer_format_is_refused_in_one_line(taught: Path, teachable: Path) -> None:
    with sqlite3.connect(taught / JOURNAL_FILE) as connection:
        connection.execute("UPDATE identity SET value = '2' WHERE key = 'format'")
    with pytest.raises(EdgetlError, match="this edgetl reads 1"):
        Learner(teachable, state=taught)
