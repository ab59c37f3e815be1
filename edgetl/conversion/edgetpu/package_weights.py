"""Hides how a layer's weights lie in an Edge TPU package; the verification calls it.

Read off compiled packages beside their sources (google-coral/test_data), and in agreement with LibrEdgeTPU
for dense layers. int8 is stored with its sign bit flipped, and what pads is the weights' zero point.

Dense layers and convolutions: output rows stand in groups of 64 (all of them, padded to 16, where there are
no more), each at a multiple of 64 bytes, as tiles of all its rows by four input columns. Of kernels larger
than 1x1 the order of tiles is known only for up to four inputs.
Depthwise convolutions: blocks of four channels, a 4x4 diagonal matrix for each kernel position.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

import numpy as np

from edgetl.conversion.edgetpu.memory import GROUP_ROWS, padded_rows, row_prefix_bytes
from edgetl.conversion.tflite.graph import Graph, Operator, Tensor

_LANES = 4
_ALIGNMENT = 64
_KEY_BYTES = _LANES * _LANES
_MOST_CANDIDATES = 16
_MOST_SEARCHED_BYTES = 1 << 31
_MOST_DENSE_INPUTS = 4096  # longer rows are streamed, in an order that is not known


class ParameterIndex:
    """The parameters of packages, prepared for the search of weights in them."""

    def __init__(self, parts: Iterable[memoryview]) -> None:
        self._parts = [bytes(part) for part in parts]
        self._left_to_search = _MOST_SEARCHED_BYTES
        self._indexes = [_index(content) for content in self._parts]

    def lacks(self, graph: Graph, operator: Operator) -> bool:
        """Whether the operator's weights are certainly not there; False for layers that are not decoded."""
        tensor = graph.input(operator, 1)
        if tensor is None or not tensor.constant or tensor.type not in ("INT8", "UINT8"):
            return False
        if operator.name == "DEPTHWISE_CONV_2D":
            return _is_plain_depthwise(graph.input(operator, 0), tensor) and not self._holds_depthwise(tensor)
        rows = _dense_rows(operator, tensor)
        return rows is not None and not self._holds_dense(rows)

    def _holds_dense(self, rows: np.ndarray) -> bool:
        """Rows (outputs, inputs) uint8, the inputs padded to four."""
        stride = min(GROUP_ROWS, padded_rows(len(rows)))
        groups = (rows[begin : begin + GROUP_ROWS] for begin in range(0, len(rows), GROUP_ROWS))
        return all(self._holds_group(group, stride) for group in groups)

    def _holds_group(self, group: np.ndarray, stride: int) -> bool:
        if len(group) < _LANES:
            return True
        key = _keys(np.ascontiguousarray(group[:_LANES, :_LANES]).reshape(1, _KEY_BYTES))[0]
        for number, (keys, order) in enumerate(self._indexes):
            first, last = np.searchsorted(keys, key, "left"), np.searchsorted(keys, key, "right")
            for entry in order[first : min(last, first + _MOST_CANDIDATES)]:
                if self._is_at(group, stride, number, int(entry) * _ALIGNMENT):
                    return True
        return False

    def _is_at(self, group: np.ndarray, stride: int, number: int, place: int) -> bool:
        rows, columns = group.shape
        size = stride * columns
        stored = np.frombuffer(self._parts[number][place : place + size], np.uint8)
        if len(stored) < size:
            return False
        lying = stored.reshape(columns // _LANES, stride, _LANES)[:, :rows]
        return np.array_equal(lying.transpose(1, 0, 2).reshape(rows, columns), group)

    def _holds_depthwise(self, tensor: Tensor) -> bool:
        blocks = _depthwise_blocks(tensor)
        if not len(blocks):
            return True
        gap = _LANES * _depthwise_prefix_bytes(tensor)
        stride = blocks.shape[1] + gap
        needle = blocks[0].tobytes()
        for content in self._parts:
            place = self._find(content, needle, 0)
            while place >= 0:
                stored = np.frombuffer(content[place : place + stride * len(blocks) - gap], np.uint8)
                if len(stored) == stride * len(blocks) - gap:
                    lying = np.pad(stored, (0, gap)).reshape(len(blocks), stride)[:, : blocks.shape[1]]
                    if np.array_equal(lying, blocks):
                        return True
                place = self._find(content, needle, place + 1)
        return self._left_to_search <= 0

    def _find(self, content: bytes, needle: bytes, begin: int) -> int:
        """Where the needle next is; -1 where it is not, or where the search has cost too much."""
        if self._left_to_search <= 0:
            return -1
        place = content.find(needle, begin)
        self._left_to_search -= (len(content) if place < 0 else place + len(needle)) - begin
        return place


def _index(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The keys of what lies at multiples of the alignment, sorted, and which multiple each is from."""
    count = max(0, len(content) - _KEY_BYTES + _ALIGNMENT) // _ALIGNMENT
    padded = np.frombuffer(content.ljust(count * _ALIGNMENT, b"\0"), np.uint8, count * _ALIGNMENT)
    keys = _keys(np.ascontiguousarray(padded.reshape(count, _ALIGNMENT)[:, :_KEY_BYTES]))
    order = np.argsort(keys, kind="stable")
    return keys[order], order


def _keys(tiles: np.ndarray) -> np.ndarray:
    """A number for each tile of 16 bytes; different tiles seldom share one, and then the bytes decide."""
    words = tiles.view("<u8")
    return words[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ words[:, 1]


def _stored(tensor: Tensor) -> tuple[np.ndarray, int]:
    """The weights' values as the package has them, uint8, and what it pads them with."""
    quantization = tensor.quantization
    zero_point = quantization.zero_points[0] if quantization and quantization.zero_points else 0
    values = tensor.values().view(np.uint8)
    if tensor.type == "INT8":
        return values ^ np.uint8(0x80), (zero_point + 128) % 256
    return values, zero_point % 256


def _dense_rows(operator: Operator, tensor: Tensor) -> Optional[np.ndarray]:
    """Weights as rows of tiles, (outputs, inputs) uint8; None where their order is not known."""
    shape = tensor.shape
    dense = operator.name == "FULLY_CONNECTED" and len(shape) == 2 and shape[1] <= _MOST_DENSE_INPUTS
    convolution = operator.name == "CONV_2D" and len(shape) == 4
    if not (dense or (convolution and (shape[1:3] == (1, 1) or shape[3] <= _LANES))):
        return None
    values, zero = _stored(tensor)
    values = values.reshape(shape[0], -1, shape[-1])
    padding = -shape[-1] % _LANES
    values = np.pad(values, ((0, 0), (0, 0), (0, padding)), constant_values=zero)
    return np.ascontiguousarray(values.reshape(shape[0], -1))


def _is_plain_depthwise(image: Optional[Tensor], tensor: Tensor) -> bool:
    """One kernel for each channel of the image."""
    if image is None or len(tensor.shape) != 4 or tensor.shape[0] != 1:
        return False
    return image.shape[-1:] == tensor.shape[-1:]


def _depthwise_blocks(tensor: Tensor) -> np.ndarray:
    """(blocks of four channels, kernel positions x 16) uint8; channels beyond the last full block left out."""
    values, zero = _stored(tensor)
    channels = tensor.shape[-1] // _LANES * _LANES
    values = values.reshape(-1, tensor.shape[-1])[:, :channels].reshape(-1, channels // _LANES, _LANES)
    blocks = np.full((channels // _LANES, len(values), _LANES, _LANES), zero, np.uint8)
    lanes = np.arange(_LANES)
    blocks[:, :, lanes, lanes] = values.transpose(1, 0, 2)
    return blocks.reshape(channels // _LANES, -1)


def _depthwise_prefix_bytes(tensor: Tensor) -> int:
    """Bytes of numbers for each channel of a block: one word, or three with scales of their own."""
    per_channel = row_prefix_bytes(tensor) > _LANES
    return 3 * _LANES if per_channel else _LANES
