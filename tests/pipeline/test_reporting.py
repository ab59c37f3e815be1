"""How the report gets the latency on the board."""

from __future__ import annotations

from dataclasses import replace

import pytest

from edgetl.conversion import BackboneSource
from edgetl.pipeline.reporting import latency_figure
from edgetl.runtime import Preprocess
from edgetl.targets import ReferenceLatency, load_target
from edgetl.workload import Workload

OWN = ReferenceLatency("efficientnet-lite0", 400_000_000, 0, 0, "int8", "cpu", 40.0, "measured on my board, 4 threads")


def backbone(name: str, macs: int) -> BackboneSource:
    def compiled(quantize: str):  # type: ignore[no-untyped-def]
        pytest.fail(f"a latency needs no {quantize} model")

    return BackboneSource({"name": name, **Workload(macs, 0, 0).to_dict()}, Preprocess(224, 224), compiled)


def test_a_latency_scaled_from_published_ones_is_called_an_estimate() -> None:
    figure = latency_figure(load_target("rpi4"), backbone("tiny", 150_000_000), "int8")
    assert figure is not None
    assert figure.estimate
    assert (figure.low, figure.value, figure.high) == (4.0, 4.87, 5.92)
    assert figure.how.startswith("scaled from 24 ms of MobileNet v1 1.0 224 and 17 ms of MobileNet v2 1.0 224 (XNNPACK")
    assert figure.how.endswith("such estimates differ from published figures by 10%")


def test_an_own_measurement_is_preferred_even_for_another_backbone() -> None:
    board = replace(load_target("rpi4"), measured_latencies=(OWN,))
    figure = latency_figure(board, backbone("tiny", 100_000_000), "int8")
    assert figure is not None
    assert figure.estimate
    assert figure.value == 10.0
    assert figure.how.startswith("scaled from 40 ms of efficientnet-lite0 (measured on my board, 4 threads)")


def test_the_latency_of_a_measured_backbone_is_not_an_estimate() -> None:
    board = replace(load_target("rpi4"), measured_latencies=(OWN,))
    figure = latency_figure(board, backbone("efficientnet-lite0", 400_000_000), "int8")
    assert figure is not None
    assert not figure.estimate
    assert (figure.value, figure.how) == (40.0, "measured on my board, 4 threads, with edgetl bench")


def test_a_board_without_known_latencies_has_no_figure() -> None:
    assert latency_figure(load_target("generic"), backbone("tiny", 100_000_000), "int8") is None
