"""Targets: every shipped board reads, and a wrong file is refused with the line to mend."""

from __future__ import annotations

import pytest

from edgetl.errors import OptionError, UnknownNameError
from edgetl.targets import list_targets, load_target, store_profile
from edgetl.workload import Workload

SHIPPED = {"rpi-zero2w", "rpi3", "rpi4", "rpi5", "coral", "coral-dev-board", "generic"}


@pytest.fixture
def own_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("EDGETL_TARGETS", str(tmp_path))
    return tmp_path


def test_the_boards_we_promise_are_there():
    assert {target.name for target in list_targets()} >= SHIPPED


@pytest.mark.parametrize("target", list_targets(), ids=lambda target: target.name)
def test_every_target_keeps_the_contract(target):
    assert target.threads >= 1
    assert target.memory_bytes > 0
    assert "int8" in target.quantize
    assert target.source
    for reference in target.reference_latencies:
        assert reference.source
        assert reference.latency_ms > 0
        assert target.estimate_latency(reference.workload, reference.quantize) is not None or target.edgetpu


def test_an_unknown_target_names_the_nearest():
    with pytest.raises(UnknownNameError, match=r"unknown target 'corral' \(did you mean 'coral'\?\)"):
        load_target("corral")


LITE0 = Workload(383_907_552, 34_532_064, 3_413_024)
MOBILENET_V2 = Workload(299_494_272, 20_716_416, 2_257_984)


def test_an_estimate_scales_with_the_work_and_says_from_what_and_how_far_it_may_be_off():
    rpi4 = load_target("rpi4")
    whole, half = rpi4.estimate_latency(LITE0), rpi4.estimate_latency(LITE0.resized(0.5))
    assert whole.latency_ms / 2 < half.latency_ms < whole.latency_ms  # parameters are loaded all the same
    low, high = whole.interval_ms
    assert low < 20 < whole.latency_ms < 27 < high
    assert "17 ms of MobileNet v2 1.0 224 (XNNPACK README 2022" in whole.explain()


def test_depthwise_work_takes_longer_than_as_much_plain_work():
    plain, depthwise = Workload(300_000_000, 0, 0), Workload(300_000_000, 100_000_000, 0)
    rpi4 = load_target("rpi4")
    assert rpi4.estimate_latency(depthwise).latency_ms > 2 * rpi4.estimate_latency(plain).latency_ms


def test_what_was_published_of_the_very_model_stands_alone():
    estimate = load_target("rpi4").estimate_latency(MOBILENET_V2)
    assert (*estimate.interval_ms, estimate.latency_ms) == pytest.approx((17, 17, 17))
    assert estimate.explain().startswith("17 ms of MobileNet v2 1.0 224, which has the same work (XNNPACK README")


def test_on_an_edge_tpu_a_small_model_is_hardly_faster_than_a_larger_one():
    coral = load_target("coral")
    small, large = coral.estimate_latency(LITE0.resized(0.25)), coral.estimate_latency(LITE0)
    assert small.latency_ms > 0.75 * large.latency_ms


def test_nothing_is_estimated_where_nothing_was_published_or_the_work_is_unknown():
    assert load_target("generic").estimate_latency(LITE0) is None
    assert load_target("rpi4").estimate_latency(None) is None


def test_a_board_of_ones_own_is_one_file(own_folder):
    (own_folder / "shed.toml").write_text(
        'title = "Shed"\narchitecture = "aarch64"\ninterpreter = "any"\nthreads = 2\nmemory_bytes = 1000\n'
    )
    assert load_target("shed").title == "Shed"


COMPLETE = 'title = "mine"\narchitecture = "any"\ninterpreter = "any"\nmemory_bytes = 1\n'


@pytest.mark.parametrize(
    ("line", "complaint"),
    [
        ('colour = "red"', "unknown key 'colour'"),
        ('threads = "four"', "'threads' must be int"),
        ("threads = true", "'threads' must be int"),
        ("[[reference_latencies]]\nmodel = 1", "'model' must be str"),
        ("title = ", "is not a valid target file"),
        ('title = "mine"\nthreads = 4', "missing architecture, interpreter, memory_bytes"),
        (COMPLETE + "threads = 0", "threads must be 1 or more, received 0"),
    ],
)
def test_a_wrong_file_is_refused(own_folder, line, complaint):
    (own_folder / "wrong.toml").write_text(line)
    with pytest.raises(OptionError, match=complaint):
        load_target("wrong")


MEASURED = {
    "model": "efficientnet-lite0",
    "macs": 400_000_000,
    "depthwise_macs": 0,
    "parameters": 1,
    "quantize": "int8",
    "accelerator": "cpu",
    "architecture": "aarch64",
    "interpreter": "ai-edge-litert 2.3.0",
    "threads": 4,
    "machine": "Raspberry Pi 4 Model B Rev 1.4, 4 cores",
    "frame_ms": {"p50": 40.0, "p95": 44.0, "p99": 50.0, "runs": 80},
}


@pytest.fixture
def config(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    return tmp_path / "edgetl"


def test_a_measured_profile_is_preferred_to_what_was_published(config):
    path = store_profile(MEASURED, load_target("rpi4"))
    assert path == config / "profiles" / "rpi4.json"
    estimate = load_target("rpi4").estimate_latency(Workload(300_000_000, 0, 0))
    assert estimate.is_own
    assert estimate.latency_ms == pytest.approx(30.0)
    assert "Raspberry Pi 4 Model B" in estimate.explain()
    published = load_target("rpi4").estimate_latency(LITE0, "float32")
    assert not published.is_own
    assert load_target("rpi5").measured_latencies == ()


def test_a_model_that_is_measured_again_replaces_its_figure_and_no_other(config):
    store_profile(MEASURED, load_target("rpi4"))
    store_profile({**MEASURED, "model": "tiny", "macs": 1000}, load_target("rpi4"))
    store_profile({**MEASURED, "frame_ms": {"p50": 41.0}}, load_target("rpi4"))
    stored = {entry.model: entry.latency_ms for entry in load_target("rpi4").measured_latencies}
    assert stored == {"tiny": 40.0, "efficientnet-lite0": 41.0}
    assert [path.name for path in (config / "profiles").iterdir()] == ["rpi4.json"]


@pytest.mark.parametrize(
    ("change", "target", "complaint"),
    [
        ({"architecture": "x86_64"}, "rpi4", "rpi4 is aarch64, but this was measured on x86_64"),
        ({"architecture": "armv7l"}, "rpi4", "rpi4 is aarch64, but this was measured on armv7l"),
        ({}, "coral", "coral runs int8 on edgetpu, but this was measured on cpu"),
        ({"macs": 0}, "rpi4", "does not contain the work"),
        ({"parameters": 0}, "rpi4", "does not contain the work"),
        ({"macs": -1}, "rpi4", "macs must be 1 or more"),
        ({"depthwise_macs": 400_000_001}, "rpi4", "depthwise_macs must be 0 to macs"),
        ({"parameters": -1}, "rpi4", "parameters 0 or more"),
        ({"frame_ms": {"p50": 0}}, "rpi4", "latency_ms above 0"),
        ({"frame_ms": {"p50": float("nan")}}, "rpi4", "latency_ms above 0"),
        ({"frame_ms": None}, "rpi4", "expected the output of edgetl bench --json"),
        ({"model": 7}, "rpi4", "'model' must be str"),
    ],
)
def test_a_profile_that_does_not_fit_is_refused(config, change, target, complaint):
    with pytest.raises(OptionError, match=complaint):
        store_profile({**MEASURED, **change}, load_target(target))
    assert not config.exists()


@pytest.mark.parametrize("text", ["{", "[1]", '[{"model": 1}]', "7", '{"a": 1}'])
def test_a_damaged_profile_is_named(config, text):
    (config / "profiles").mkdir(parents=True)
    (config / "profiles" / "rpi4.json").write_text(text)
    with pytest.raises(OptionError, match=r"rpi4\.json"):
        load_target("rpi4")


def test_any_machine_is_generic(config):
    store_profile({**MEASURED, "architecture": "riscv64"}, load_target("generic"))
    assert load_target("generic").estimate_latency(Workload(400_000_000, 0, 0)).latency_ms == pytest.approx(40.0)
