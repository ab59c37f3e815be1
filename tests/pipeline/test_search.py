"""A search finds the model for a board: what it tries, in which order, what it picks, and what a kill changes."""

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
from edgetl.errors import DataError, EdgetlError, MissingExtraError, OptionError
from edgetl.pipeline import BuildOptions
from edgetl.pipeline.search import Budget, SearchOptions, search
from edgetl.pipeline.search.cluster import TRIAL_CPUS, connect
from edgetl.pipeline.search.ranking import FinishedTrial, explain, promote, rank
from edgetl.pipeline.search.space import Recipe, Space
from edgetl.pipeline.search.time_estimate import TimeEstimate
from edgetl.pipeline.search.trial import TrialResult
from edgetl.pipeline.search.trial_store import TrialStore
from edgetl.targets import load_target
from edgetl.workload import Workload

BOARD = "rpi-zero2w"


def tried(name, cost, right, of=100, size=1000, probability=0.9):
    """A trial that is right on the first `right` of so many photos."""
    answers = {str(photo): (photo < right, probability if photo < right else 0.1) for photo in range(of)}
    return FinishedTrial(Recipe(name, 32, Path(name), cost), TrialResult(1.0, cost, size, size, answers), cost)


def names(recipes):
    return [recipe.backbone for recipe in recipes]


def test_the_fastest_of_those_that_the_photos_cannot_tell_apart_is_picked():
    trials = [tried("slow", 90, 96), tried("fast", 10, 95), tried("faster", 5, 80)]
    ranking = rank(trials)
    assert (ranking.best, ranking.pick) == (0, 1)
    assert "9.0 times faster" in explain(trials, ranking)


def test_where_a_limit_has_said_what_is_fast_enough_the_most_accurate_is_picked():
    trials = [tried("slow", 90, 96), tried("fast", 10, 95), tried("surer", 80, 96, probability=0.99)]
    assert rank(trials, fast_enough=True).pick == 2


def test_a_model_that_is_as_often_right_but_much_less_sure_is_not_picked():
    ranking = rank([tried("slow", 90, 96, probability=0.99), tried("fast", 10, 96, probability=0.6)])
    assert ranking.pick == 0


def test_only_the_photos_that_judged_all_count():
    whole = tried("whole", 10, 50)
    answers = {str(photo): (True, 0.9) for photo in range(40)}
    held_out = FinishedTrial(whole.recipe, TrialResult(1.0, 9, 9, 9, answers), 20)
    ranking = rank([whole, held_out])
    assert ranking.right.shape == (2, 40)
    assert ranking.pick == 0


def test_one_photo_cannot_choose():
    with pytest.raises(DataError, match="found 1; add photos"):
        rank([tried("any", 1, 1, of=1)])


def test_what_nothing_beats_is_on_the_front():
    trials = [tried("accurate", 90, 96), tried("fast", 10, 90), tried("beaten", 95, 90), tried("small", 95, 90, size=9)]
    assert rank(trials).front == {0, 1, 3}


def test_a_third_goes_on_the_best_for_their_cost_first():
    trials = [tried("slow", 90, 96), tried("slower", 99, 95), tried("fast", 10, 90), tried("poor", 11, 40)]
    assert names(promote(trials)) == ["slow", "fast"]
    assert names(promote(trials, 1 / 4)) == ["slow"]


def test_costs_follow_what_trials_of_the_kind_took():
    costs, recipe = TimeEstimate(photos=100), Recipe("any", 32, Path("any"), 10**8)
    before = costs.expect(recipe)
    costs.learn(recipe, 3 * before)
    assert costs.expect(recipe) == pytest.approx(3 * before)
    trained = Recipe("any", 32, Path("any"), 10**8, epochs=3)
    assert before < costs.expect(trained) < costs.expect(Recipe("any", 32, Path("any"), 10**8, 3, pruned=0.5))


def test_what_cannot_fit_is_dropped_before_anything_is_compiled():
    options = SearchOptions(backbones=("efficientnet-lite0", "efficientnet-lite2"), input_sizes=(96, 160))
    space = Space(load_target(BOARD), Budget(latency_ms=40, size_bytes=4_000_000), options)
    assert [recipe.name for recipe in space.backbones()] == ["efficientnet-lite0 at 160"]
    assert [recipe.name for recipe in space.other_sizes(space.backbones()[0])] == ["efficientnet-lite0 at 96"]
    assert space.skipped == ["efficientnet-lite2 at 96: 4.9 MB, over 4.0 MB"]


def test_backbones_without_weights_are_one_line_each(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path))
    monkeypatch.delenv("EDGETL_WEIGHTS", raising=False)
    missing = ("efficientnet-lite3", "efficientnet-lite4", "efficientnet-lite9")
    space = Space(load_target(BOARD), Budget(), SearchOptions(backbones=(*missing, "efficientnet-lite0")))
    assert names(space.backbones()) == ["efficientnet-lite0"]
    assert [line.split(":")[0] for line in space.skipped] == list(missing)


def test_the_board_s_own_backbone_comes_first_then_the_cheapest_and_last_what_another_beats(tmp_path):
    for kind in ("large_224", "large_minimalistic_224"):
        (tmp_path / f"weights_mobilenet_v3_{kind}_1.0_float_no_top_v2.h5").write_bytes(b"weights")
    given = ("efficientnet-lite0", "efficientnet-lite1", "mobilenet-v3-large", "mobilenet-v3-large-minimalistic")
    space = Space(load_target(BOARD), Budget(), SearchOptions(backbones=given, input_sizes=(), weights=tmp_path))
    assert names(space.backbones()) == [given[0], given[3], given[2], given[1]]


def test_another_input_size_takes_the_weights_of_the_default_one(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGETL_MIRROR", "http://127.0.0.1:9")
    monkeypatch.setenv("EDGETL_CACHE", str(tmp_path / "cache"))
    file = tmp_path / "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_224_no_top.h5"
    file.write_bytes(b"weights")
    options = SearchOptions(backbones=("mobilenet-v2-0.35",), input_sizes=(96, 128), weights=tmp_path)
    space = Space(load_target(BOARD), Budget(), options)
    recipes = [*space.backbones(), *space.other_sizes(space.backbones()[0])]
    assert [(recipe.input_size, recipe.weights) for recipe in recipes] == [(224, file), (128, file), (96, file)]


def test_a_latency_limit_needs_a_board_whose_latency_is_known(tmp_path):
    with pytest.raises(OptionError, match="edgetl bench"):
        search(tmp_path, "generic", SearchOptions(budget=Budget(latency_ms=10)))


def test_what_is_wrong_with_the_photos_or_the_name_is_told_at_once(tmp_path):
    for photos, name, complaint in (("nowhere", None, "no such folder"), (".", "a/b", "cannot be the name")):
        with pytest.raises(EdgetlError, match=complaint):
            search(photos, BOARD, name=name, output=tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.parametrize(
    "options", [{"time_s": 0}, {"epochs": (3, 3)}, {"prune": (1.0,)}, {"weights": Path("nowhere")}], ids=str
)
def test_options_that_make_no_sense_are_refused(options):
    with pytest.raises(OptionError):
        SearchOptions(**options)


def options_of(backbones, cache, **others):
    chosen = {"backbones": backbones, "input_sizes": (32,), "epochs": (1,), "prune": ()}
    return SearchOptions(build=BuildOptions(cache=cache), **{**chosen, **others})


@pytest.mark.slow
def test_a_search_ends_with_the_pick_built(digits, backbones, tmp_path):
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
def remember(digits, backbones, tmp_path):
    """Gives the board's own backbone and a small one, and searches among what is remembered of them alone."""

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


def test_where_there_is_no_time_to_train_the_best_the_next_in_line_is_trained(remember):
    rights = {(True, 0, 0.0): 96, (False, 0, 0.0): 80, (False, 30, 0.0): 90}
    found, report = remember(rights, epochs=(30,), time_s=120.0)
    assert found == set(rights)
    assert report.skipped == ("efficientnet-lite0 at 224, 30 epochs: no time was left",)


def test_what_a_build_would_train_without_a_search_is_trained_too(remember):
    rights = {(True, 0, 0.0): 80, (False, 0, 0.0): 96, (True, 1, 0.0): 97, (False, 1, 0.0): 96}
    assert remember(rights)[0] == set(rights)


def test_where_there_is_no_time_to_prune_the_best_what_else_nothing_beats_is_pruned(remember):
    rights = {(True, 0, 0.0): 90, (False, 0, 0.0): 80, (True, 1, 0.0): 98, (False, 1, 0.0): 97, (False, 1, 0.5): 97}
    assert remember(rights, prune=(0.5,), time_s=200.0)[0] == set(rights)


@pytest.mark.slow
def test_candidates_that_fail_do_not_end_a_search(digits, backbones, tmp_path):
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"no model")
    names = (*[f"efficientnet-lite{number}" for number in range(5, 36)], str(broken), backbones[0])
    options = options_of(names, tmp_path, input_sizes=(), epochs=())
    result = search(digits, BOARD, options, output=tmp_path, bundle=False)
    assert [trial.backbone for trial in result.report.trials] == [backbones[0]]
    assert len(result.report.skipped) == 32


@pytest.mark.slow
def test_where_no_trial_fits_into_the_time_it_says_so(digits, backbones, tmp_path):
    with pytest.raises(OptionError, match="no trial fits into the time; allow more"):
        search(digits, BOARD, options_of(backbones, tmp_path, time_s=1.0), output=tmp_path)


@pytest.fixture(scope="module")
def whole(digits, backbones, tmp_path_factory):
    """What a search says that nothing interrupts."""
    return finished(start(digits, backbones, tmp_path_factory.mktemp("whole")))


@pytest.mark.slow
def test_a_search_that_was_killed_goes_on_to_the_same_pick(digits, backbones, whole, tmp_path):
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
    """The options that name a Ray cluster of one machine with 8 CPUs, so two trials at once, and its environment."""
    pytest.importorskip("ray")
    folder = Path(tempfile.mkdtemp(prefix="ray"))  # pytest's own are too deep for the sockets that Ray makes there
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
def test_on_a_ray_cluster_a_search_finds_the_same_also_after_it_was_killed(digits, backbones, whole, ray, tmp_path):
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
def test_photos_that_a_machine_of_the_cluster_does_not_see_end_a_search_in_one_line(digits, backbones, ray, tmp_path):
    options, secret = ray
    folder = os.open(digits.parent, os.O_RDONLY)
    unseen = Path(f"/proc/self/fd/{folder}/{digits.name}")
    process = start(unseen, backbones, tmp_path, *options, pass_fds=(folder,), **secret)
    os.close(folder)
    _, complaint = process.communicate(timeout=600)
    assert process.returncode == 2
    assert f"{unseen} does not exist; photos and weights must be at the same path" in complaint


@pytest.mark.ray
def test_where_no_ray_answers_it_says_so():
    pytest.importorskip("ray")
    address = "localhost:9"
    with pytest.raises(OptionError, match=f"no Ray cluster at {address}: .*ray start"), connect(address, *NOBODY):
        pass


def test_without_ray_the_extra_is_named(monkeypatch):
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
        except sqlite3.OperationalError:  # the table is about to be made
            return {}
