"""Budgets: a search finds a model within the limits, and a build refuses a model that exceeds them."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgetl.conversion import PruningOptions
from edgetl.errors import OptionError, UnknownNameError
from edgetl.pipeline import BuildOptions, build
from edgetl.pipeline.budget import Budget
from edgetl.pipeline.search import SearchOptions, search
from edgetl.pipeline.search.space import Space
from edgetl.targets import load_target

BOARD = "rpi-zero2w"


def space_of(latency_ms=None, **fixed):
    options = SearchOptions(input_sizes=(96, 160), build=BuildOptions(**fixed))
    return Space(load_target(BOARD), Budget(latency_ms=latency_ms), options)


def sizes_in(space):
    largest = space.backbones()
    return [recipe.input_size for recipe in (*largest, *space.other_sizes(largest[0]))]


def test_the_limit_that_is_exceeded_most_is_reported():
    latency = load_target("rpi4").estimate_latency(load_target("rpi4").reference_latencies[0].workload)
    budget = Budget(latency_ms=latency.latency_ms / 2, size_bytes=1000, ram_bytes=1000)
    assert budget.excess(latency, 10, 10).times == pytest.approx(2)
    assert budget.excess(latency, 3000, 4000).text == "about 4.0 kB of RAM, over 1.0 kB"
    assert budget.excess(None, 1000, 1000) is None


def test_a_fixed_backbone_is_tried_at_smaller_sizes_and_at_sizes_that_fit_only_after_pruning():
    space = space_of(latency_ms=40, backbone="efficientnet-lite0")
    assert sizes_in(space) == [224, 160, 96]
    assert sizes_in(space_of(latency_ms=40, backbone="efficientnet-lite0", fine_tune="off")) == [160, 96]


def test_a_fixed_input_size_is_the_only_one_tried():
    assert sizes_in(space_of(backbone="efficientnet-lite0", input_size=128)) == [128]


def test_a_fixed_backbone_that_cannot_be_used_is_an_error():
    with pytest.raises(UnknownNameError, match="did you mean 'efficientnet-lite0'"):
        space_of(backbone="efficientnet-lite00").backbones()


@pytest.mark.parametrize(
    ("fixed", "lengths", "shares"),
    [
        ({}, (3, 10), (0.5,)),
        ({"fine_tune": "off"}, (), ()),
        ({"fine_tune": 7}, (7,), (0.5,)),
        ({"fine_tune": "off", "pruning": PruningOptions(0.3)}, (), (0.3,)),
    ],
    ids=str,
)
def test_fixed_epochs_and_a_fixed_pruning_are_the_only_ones_tried(fixed, lengths, shares):
    options = SearchOptions(build=BuildOptions(**fixed))
    assert (options.lengths, options.shares) == (lengths, shares)


@pytest.mark.parametrize(
    ("options", "is_one"),
    [
        ({"backbone": "mobilenet-v1-0.25", "input_size": 96, "fine_tune": "off"}, True),
        ({"backbone": "mobilenet-v1-0.25", "input_size": 96, "fine_tune": 3, "pruning": PruningOptions(0.5)}, True),
        ({"backbone": "own.tflite"}, True),
        ({"backbone": "mobilenet-v1-0.25", "input_size": 96, "fine_tune": 3}, False),
        ({"backbone": "mobilenet-v1-0.25", "fine_tune": "off"}, False),
        ({"input_size": 96, "fine_tune": "off"}, False),
    ],
    ids=str,
)
def test_options_that_fix_everything_name_one_model(options, is_one):
    assert BuildOptions(**options).names_one_model is is_one


@pytest.mark.parametrize(
    ("fixed", "complaint"),
    [
        ({"weights": "own.h5"}, "name it: --backbone"),
        ({"normalization": (0.0, 255.0)}, "name it: --backbone"),
        ({"edgetpu_backbone": "own.tflite"}, "leave --edgetpu-backbone out"),
        ({"input_size": 31}, "32 pixels or more"),
    ],
    ids=str,
)
def test_options_that_a_search_cannot_respect_are_refused(fixed, complaint):
    with pytest.raises(OptionError, match=complaint):
        SearchOptions(build=BuildOptions(**fixed))


def test_if_no_model_fits_the_nearest_is_named_and_no_file_is_left(digits, tmp_path):
    options = SearchOptions(budget=Budget(latency_ms=1), build=BuildOptions(backbone="efficientnet-lite0"))
    with pytest.raises(OptionError, match=r"nearest is efficientnet-lite0 at 96, 50% pruned: about \d.* over 1.0 ms"):
        search(digits, BOARD, options, output=tmp_path / "output")
    assert list(tmp_path.iterdir()) == []


def test_a_build_refuses_a_model_that_exceeds_its_budget(digits, backbones, tmp_path):
    options = BuildOptions(backbones[0], fine_tune="off", cache=tmp_path / "cache", budget=Budget(size_bytes=5000))
    with pytest.raises(OptionError, match=r"narrow at 48 takes \d.* kB, over 5.0 kB"):
        build(digits, BOARD, options, output=tmp_path / "output")
    assert not (tmp_path / "output").exists()


@pytest.mark.slow
def test_fixed_training_and_pruning_hold_for_every_model_that_is_picked(digits, backbones, tmp_path):
    quick = PruningOptions(0.5, rounds=1, last_epochs=1)
    fixed = BuildOptions(backbones[0], fine_tune=1, pruning=quick, cache=tmp_path / "cache", float_reference=False)
    budget = Budget(latency_ms=0.1)
    result = search(digits, BOARD, SearchOptions(budget, build=fixed), output=tmp_path / "output")
    assert {(trial.epochs, trial.pruned) for trial in result.report.trials} == {(1, 0.5)}
    assert any(line.startswith("narrow.keras at 48: about 0.12 ms, over 0.10 ms") for line in result.report.skipped)
    assert result.built.report.pruning is not None
    assert result.built.report.summary.latency_on_target.value <= budget.latency_ms


@pytest.mark.slow
def test_a_build_with_a_limit_finds_a_model_within_it(digits, backbones, tmp_path):
    Path(tmp_path, "edgetl.toml").write_text(f'[build]\ndata = "{digits}"\nmax-latency-ms = 0.5\ntime = "1h"\n')
    command = [sys.executable, "-m", "edgetl", "build", "--target", BOARD, "--backbone", backbones[1], "--json"]
    command += ["--fine-tune", "off", "--max-drop", "100"]
    environment = {**os.environ, "EDGETL_CACHE": str(tmp_path / "cache")}
    done = subprocess.run(command, check=False, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    answer = json.loads(done.stdout)
    assert answer["search"]["pick"] == "wide.keras at 48"
    assert answer["gate"]["passed"]
    report = json.loads((tmp_path / answer["report_json"]).read_text())
    assert report["summary"]["latency_on_target"]["value"] <= 0.5
    assert (tmp_path / answer["search"]["report_html"]).exists()
