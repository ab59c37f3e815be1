"""Compares latency estimates with published figures: by multiply-accumulates, and by edgetl's workload model.

    python -m benchmarks.latency [--json]

The figures are in latency.csv in this folder, with their sources: MobileNets and EfficientNet-Lites on phones and
Raspberry Pis. Prices are fitted by least squares on logarithms; each device and number format has its own speed, and
all groups have equal weight. A whole device or a whole family of models is held out; a device's speed is always taken
from its other figures, as edgetl does for a board. Needs neither photos nor TensorFlow.
"""

from __future__ import annotations

import argparse
import csv
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.optimize import minimize

from edgetl.backbones import get_backbone
from edgetl.workload import PRICES, Workload

FIGURES = Path(__file__).with_name("latency.csv")
PARTS = ("device", "family")
COLUMNS = (("rms", 11), ("median", 9), ("largest", 9))
INCEPTION_V1 = Workload(1_430_000_000, 0, 6_000_000)
"""As published (Szegedy et al. 2015); not a backbone of edgetl."""

Prices = tuple[float, float, float]
"""The prices of a depthwise multiply-accumulate, a parameter and a run, in plain multiply-accumulates."""

START = (5.0, 10.0)
"""Prices that the fit starts from; its result does not depend on them."""


@dataclass(frozen=True)
class Published:
    """One published latency; figures of one `group` were measured in the same way, on one device."""

    device: str
    accelerator: str
    group: tuple[str, str, str]
    family: str
    work: Workload
    latency_ms: float


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    result = measure(read_figures())
    print(json.dumps(result, indent=2) if arguments.json else table(result))


def read_figures() -> list[Published]:
    with FIGURES.open(newline="", encoding="utf-8") as file:
        return [_figure(row) for row in csv.DictReader(file)]


def _figure(content: dict[str, str]) -> Published:
    name, device = content["backbone"], content["device"]
    group = (device, content["format"], content["source"])
    family, work = name, INCEPTION_V1
    if name != "inception-v1":
        spec = get_backbone(name)
        family, work = spec.family, spec.workload(int(content["input_size"]))
    return Published(device, content["accelerator"], group, family, work, float(content["latency_ms"]))


def measure(figures: list[Published]) -> dict[str, Any]:
    on_cpu = [figure for figure in figures if figure.accelerator == "cpu"]
    on_edgetpu = [figure for figure in figures if figure.accelerator == "edgetpu"]
    run = PRICES["edgetpu"].run
    return {
        "figures": len(on_cpu),
        "fitted": dict(zip(("depthwise", "parameter"), fit(on_cpu))),
        "shipped": {name: prices._asdict() for name, prices in PRICES.items()},
        "rows": [
            row("CPU, multiply-accumulates", on_cpu, lambda known: (1.0, 0.0, 0.0)),
            row("CPU, prices of the others", on_cpu, lambda known: (*fit(known), 0.0)),
            row("Edge TPU, multiply-accumulates", on_edgetpu, lambda known: (1.0, 0.0, 0.0)),
            row("Edge TPU, edgetl's price of a run", on_edgetpu, lambda known: (1.0, 0.0, run)),
        ],
    }


def row(name: str, figures: list[Published], prices: Callable[[list[Published]], Prices]) -> dict[str, Any]:
    return {"row": name, **{part: spread(misses(figures, prices, part)) for part in PARTS}}


def fit(figures: Sequence[Published]) -> tuple[float, float]:
    """The prices of a depthwise multiply-accumulate and of a parameter with the smallest error."""
    sizes = {group: sum(figure.group == group for figure in figures) for group in {f.group for f in figures}}
    weights = np.array([sizes[figure.group] ** -0.5 for figure in figures])

    def loss(logarithms: np.ndarray) -> float:
        depthwise, parameter = np.exp(logarithms)
        missed = [miss(figure, figures, (depthwise, parameter, 0.0)) for figure in figures]
        return float(np.sum((weights * missed) ** 2))

    found = minimize(loss, np.log(START), method="Nelder-Mead", options={"xatol": 1e-3, "fatol": 1e-7})
    depthwise, parameter = np.exp(found.x)
    return float(depthwise), float(parameter)


def miss(figure: Published, known: Sequence[Published], prices: Prices) -> float:
    """The logarithm of the figure, estimated from the known figures of its group."""
    speeds = [np.log(one.latency_ms / cost(one.work, prices)) for one in known if one.group == figure.group]
    return float(np.log(figure.latency_ms / cost(figure.work, prices)) - np.mean(speeds))


def cost(work: Workload, prices: Prices) -> float:
    depthwise, parameter, run = prices
    return work.macs - work.depthwise_macs + depthwise * work.depthwise_macs + parameter * work.parameters + run


def misses(figures: Sequence[Published], prices: Callable[[list[Published]], Prices], part: str) -> np.ndarray:
    """The errors, (m,), of all figures with another one in their group; the prices are fitted without them."""
    found = []
    for name in sorted({getattr(figure, part) for figure in figures}):
        fitted = prices([figure for figure in figures if getattr(figure, part) != name])
        for figure in (one for one in figures if getattr(one, part) == name):
            alike = [one for one in figures if one.group == figure.group and one is not figure]
            if known := [one for one in alike if part == "device" or one.family != figure.family]:
                found.append(miss(figure, known, fitted))
    return np.array(found)


def spread(missed: np.ndarray) -> dict[str, float]:
    return {
        "n": len(missed),
        "rms": float(np.sqrt(np.mean(missed**2))),
        "median": float(np.median(np.abs(missed))),
        "largest": float(np.abs(missed).max()),
    }


def table(result: dict[str, Any]) -> str:
    lines = [
        f"{result['figures']} published latencies on CPUs; misses as ratios",
        f"{'':36}" + "".join(f"{f'a {part} held back':>29}" for part in PARTS),
        f"{'':36}" + len(PARTS) * f"{'rms':>11}{'median':>9}{'largest':>9}",
    ]
    for each in result["rows"]:
        cells = [f"{each[part][key]:>{width}.1%}" for part in PARTS for key, width in COLUMNS]
        lines.append(f"{each['row']:36}" + "".join(cells))
    fitted, cpu, edgetpu = result["fitted"], result["shipped"]["cpu"], result["shipped"]["edgetpu"]
    return "\n".join(
        [
            *lines,
            f"fitted to all: a depthwise multiply-accumulate costs {fitted['depthwise']:.1f}, a parameter "
            f"{fitted['parameter']:.1f}; edgetl takes {cpu['depthwise']} and {cpu['parameter']}",
            f"edgetl says that its estimates miss by {cpu['error']:.1%}, on an Edge TPU by {edgetpu['error']:.1%}",
        ]
    )


if __name__ == "__main__":
    main()
