"""Quantization-aware training: fake quantization, and the zeros and clusters to preserve."""
