"""Estimates the memory that a .tflite file takes while it runs; the search holds candidates to a budget by it."""

from __future__ import annotations

from edgetl.conversion.edgetpu.memory import peak_activation_bytes
from edgetl.conversion.tflite.graph import read_graph

WORKSPACE_BYTES = 2_000_000
"""What XNNPACK takes beside weights and activations: 0.3 to 2.3 MB, measured with two threads."""


def estimate_ram(model: bytes) -> int:
    """Bytes of RAM that an int8 model takes on a CPU, beside Python and the interpreter's own code.

    The file, the weights once more as XNNPACK packs them for its kernels, the activations that are live at once, and
    workspace. Measured with ai-edge-litert 2.3 on x86-64: 3 and 7 percent more for EfficientNet-Lite0 at 224 and
    Lite2 at 260 pixels, 7 more for MobileNetV2 0.35 at 224, less below 2.5 MB. Raises ConversionError.
    """
    graph = read_graph(model)
    activations = peak_activation_bytes(graph, {operator.index for operator in graph.operators})
    return 2 * len(model) + activations + WORKSPACE_BYTES


def least_ram(parameters: int) -> int:
    """Bytes that a model of so many int8 parameters takes at the least, by the same estimate."""
    return 2 * parameters + WORKSPACE_BYTES
