"""Quantization-aware training: fake quantization, and masks that keep zeros and clusters."""
