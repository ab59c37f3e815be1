"""Measures a bundle on this machine: latency, throughput, memory and cold start."""
