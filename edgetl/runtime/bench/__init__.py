"""Measures a bundle on this machine: latency, throughput, memory and cold start."""

from edgetl.runtime.bench.benchmark import Benchmark, bench

__all__ = ["Benchmark", "bench"]
