"""A search for the best model for a board: what it tries in which order, what it picks, and how it resumes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from edgetl.data import load_folder
from edgetl.errors import EdgetlError, MissingExtraError, OptionError
from edgetl.pipeline import BuildOptions
from edgetl.pipeline.search import Budget, SearchOptions, search
from edgetl.pipeline.search.cluster import TRIAL_CPUS, connect
from edgetl.pipeline.search.space import Space
from edgetl.pipeline.search.trial_store import TrialStore
from edgetl.targets import load_target
from edgetl.workload import Workload
from tests.pipeline.search.examples import BOARD, tried


def test_a_latency_limit_needs_a_board_whose_latency_is_known(tmp_path):
    with pytest.raises(OptionError, match="edgetl bench"):
        search(tmp_path, "generic", SearchOptions(budget=Budget(latency_ms=10)))


def test_wrong_photos_or_a_wrong_name_are_errors_before_any_work(tmp_path):
    for photos, name, complaint in (("nowhere", None, "no such folder"), (".", "a/b", "cannot be the name")):
        with pytest.raises(EdgetlError, match=complaint):
            search(photos, BOARD, name=name, output=tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    "options", [{"time_s": 0}, {"epochs": (3, 3)}, {"prune": (1.0,)}, {"weights": Path("nowhere")}], ids=str
)
def test_invalid_options_are_refused(options):
    with pytest.raises(OptionError):
        SearchOptions(**options)


def options_of(backbones, cache, **others):
    chosen = {"backbones": backbones, "input_sizes": (32,), "epochs": (1,), "prune": ()}
    return SearchOptions(build=BuildOptions(cache=cache), **{**chosen, **others})


@pytest.mark.slow
def test_a_search_builds_the_pick(digits, backbones, tmp_path):
    options = options_of(backbones, tmp_path / "cache", prune=(0.4,))
    result = search(digits, BOARD, options, output=tmp_path, name="found")
    report = result.report
    assert {trial.epochs for trial in report.trials} == {0, 1}
    assert {trial.pruned for trial in report.trials} == {0.0, 0.4}
    assert report.pick.on_front
    assert report.pick.name in report.why
    assert "<svg" in result.report_html.read_text()
    built = result.built.report.summary
    assert built.model_bytes == report.pick.model_bytes
    assert built.latency_on_target.value == pytest.approx(report.pick.latency.value, abs=0.06)
    assert result.built.bundle == tmp_path / "found.edgetl"


@pytest.fixture
def search_stored(digits, backbones, tmp_path):
    """Searches among stored trials of the default backbone and of a small one."""

    def start(rights, **options):
        options = options_of(("efficientnet-lite0", backbones[0]), tmp_path, input_sizes=(), **options)
        records = TrialStore(tmp_path, load_folder(digits, cache=tmp_path), load_target(BOARD), options.build)
        usual, small = Space(load_target(BOARD), Budget(), options).backbones()
        for (is_usual, epochs, pruned), right in rights.items():
            recipe = replace(usual if is_usual else small, epochs=epochs, pruned=pruned)
            seconds = 1.0 if not epochs else 60.0 if is_usual else 20.0
            work = Workload(round(recipe.macs * (1 - pruned)), 0, 0)
            records.keep(recipe, replace(tried("any", 1, right).result, seconds=seconds, workload=work))
        report = search(digits, BOARD, options, output=tmp_path, bundle=False).report
        return {(trial.backbone == "efficientnet-lite0", trial.epochs, trial.pruned) for trial in report.trials}, report

    return start


def test_if_there_is_no_time_to_train_the_best_model_the_next_is_trained(search_stored):
    rights = {(True, 0, 0.0): 96, (False, 0, 0.0): 80, (False, 30, 0.0): 90}
    found, report = search_stored(rights, epochs=(30,), time_s=120.0)
    assert found == set(rights)
    assert report.skipped == ("efficientnet-lite0 at 224, 30 epochs: no time was left",)


def test_the_model_that_a_build_would_train_is_trained_too(search_stored):
    rights = {(True, 0, 0.0): 80, (False, 0, 0.0): 96, (True, 1, 0.0): 97, (False, 1, 0.0): 96}
    assert search_stored(rights)[0] == set(rights)


def test_if_there_is_no_time_to_prune_the_best_model_another_of_the_front_is_pruned(search_stored):
    rights = {(True, 0, 0.0): 90, (False, 0, 0.0): 80, (True, 1, 0.0): 98, (False, 1, 0.0): 97, (False, 1, 0.5): 97}
    assert search_stored(rights, prune=(0.5,), time_s=200.0)[0] == set(rights)


@pytest.mark.slow
def test_failing_trials_do_not_end_a_search(digits, backbones, tmp_path):
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"no model")
    names = (*[f"efficientnet-lite{number}" for number in range(5, 36)], str(broken), backbones[0])
    options = options_of(names, tmp_path, input_sizes=(), epochs=())
    result = search(digits, BOARD, options, output=tmp_path, bundle=False)
    assert [trial.backbone for trial in result.report.trials] == [backbones[0]]
    assert len(result.report.skipped) == 32


@pytest.mark.slow
def test_a_time_too_short_for_any_trial_is_an_error(digits, backbones, tmp_path):
    with pytest.raises(OptionError, match="no trial fits into the time; allow more"):
        search(digits, BOARD, options_of(backbones, tmp_path, time_s=1.0), output=tmp_path)


@pytest.fixture(scope="module")
def whole(digits, backbones, tmp_path_factory):
    """The result of a search that is not interrupted."""
    return finished(start(digits, backbones, tmp_path_factory.mktemp("whole")))


@pytest.mark.slow
def test_a_killed_search_continues_to_the_same_pick(digits, backbones, whole, tmp_path):
    process = start(digits, backbones, tmp_path)
    wait_for_trials(tmp_path, 3)
    process.send_signal(signal.SIGKILL)
    process.wait()
    before = kept_trials(tmp_path)
    resumed = finished(start(digits, backbones, tmp_path))
    assert figures(resumed) == figures(whole)
    after = kept_trials(tmp_path)
    assert 3 <= len(before) < len(after)
    assert before.items() <= after.items()


@pytest.fixture(scope="module")
def ray(tmp_path_factory):
    """The options and the environment for a Ray cluster of one machine with 8 CPUs, which runs two trials at once."""
    pytest.importorskip("ray")
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # pytest's own paths are too long for Ray's sockets
    secret = {"RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "0" * 64, "RAY_USAGE_STATS_ENABLED": "0"}
    port = free_port()
    command = [Path(sys.executable).with_name("ray"), "start", "--head", "--block", f"--port={port}", "--num-cpus=8"]
    command += ["--include-dashboard=false", f"--temp-dir={folder}", "--object-store-memory=100000000"]
    environment = {**os.environ, **secret, "EDGETL_CACHE": str(tmp_path_factory.mktemp("machine"))}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    process = subprocess.Popen(list(map(str, command)), env=environment, **pipes)
    try:
        assert any("Ray runtime started" in line for line in process.stdout)
        yield ["--ray", f"127.0.0.1:{port}"], secret
    finally:
        process.terminate()
        process.communicate(timeout=120)
        shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.ray
@pytest.mark.slow
def test_a_ray_cluster_finds_the_same_models_even_after_a_kill(digits, backbones, whole, ray, tmp_path):
    options, secret = ray
    process = start(digits, backbones, tmp_path, *options, **secret)
    wait_for_trials(tmp_path, 1)
    process.kill()
    process.communicate()
    before = kept_trials(tmp_path)
    found = finished(start(digits, backbones, tmp_path, *options, **secret))
    assert figures(found) == figures(whole)
    after = kept_trials(tmp_path)
    assert len(before) < len(after) == len(whole["trials"])
    assert before.items() <= after.items()


@pytest.mark.ray
@pytest.mark.slow
def test_photos_that_a_machine_of_the_cluster_cannot_read_end_a_search(digits, backbones, ray, tmp_path):
    options, secret = ray
    folder = os.open(digits.parent, os.O_RDONLY)
    unseen = Path(f"/proc/self/fd/{folder}/{digits.name}")
    process = start(unseen, backbones, tmp_path, *options, pass_fds=(folder,), **secret)
    os.close(folder)
    _, complaint = process.communicate(timeout=600)
    assert process.returncode == 2
    assert f"{unseen} does not exist; photos and weights must be at the same path" in complaint


@pytest.mark.ray
def test_an_unreachable_ray_cluster_is_an_error():
    pytest.importorskip("ray")
    address = "localhost:9"
    with pytest.raises(OptionError, match=f"no Ray cluster at {address}: .*ray start"), connect(address, *NOBODY):
        pass


def test_a_missing_ray_names_the_extra_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingExtraError, match=r"edgetl\[ray\]"), connect("auto", *NOBODY):
        pass


NOBODY: Any = (None, None)


def start(photos, backbones, folder, *options, pass_fds=(), **environment):
    command = [sys.executable, "-m", "edgetl", "search", "--data", photos, "--target", BOARD, "--no-build"]
    command += ["--no-prune", "--input-size", 32, "--epochs", 1, "--time", "1h", "--output", folder, "--json"]
    command += ["--name", "digits", *options]
    for backbone in backbones:
        command += ["--backbone", backbone]
    # As many threads as a trial has on a cluster: sums in another order train another network.
    environment = {**os.environ, **environment, "EDGETL_CACHE": str(folder), "TF_NUM_INTRAOP_THREADS": str(TRIAL_CPUS)}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(list(map(str, command)), env=environment, pass_fds=pass_fds, **pipes)


def figures(found):
    return found["pick"], [(trial["name"], trial["accuracy"]["value"]) for trial in found["trials"]]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def finished(process):
    output, complaint = process.communicate(timeout=600)
    assert process.returncode == 0, complaint
    return json.loads(output)


def wait_for_trials(cache, count):
    deadline = time.monotonic() + 300
    while len(kept_trials(cache)) < count:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def kept_trials(cache):
    path = cache / "searches-2.sqlite"
    if not path.exists():
        return {}
    with closing(sqlite3.connect(path, timeout=30)) as connection:
        try:
            return dict(connection.execute("SELECT key, outcome FROM trials"))
        except sqlite3.OperationalError:  # the table does not exist yet
            return {}
