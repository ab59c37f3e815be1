"""Searches an Edge TPU package for the weights of a layer.

The layout was inferred from compiled packages and their sources (google-coral/test_data), and agrees with LibrEdgeTPU
for dense layers. int8 is stored with its sign bit flipped; padding is the weights' zero point.

Dense layers and convolutions: output rows are in groups of 64 (or in one group padded to a multiple of 16, if there are
fewer). Each group starts at a multiple of 64 bytes and consists of tiles of all its rows by four input columns. For
kernels larger than 1x1, the order of tiles is known for up to four inputs only.
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
_MAX_CANDIDATES = 16
_MAX_SEARCHED_BYTES = 1 << 31
_MAX_DENSE_INPUTS = 4096  # longer rows are streamed, in an unknown order


class ParameterIndex:
    """The parameters of packages, indexed to search for weights in them."""

    def __init__(self, parts: Iterable[memoryview]) -> None:
        self._parts = [bytes(part) for part in parts]
        self._left_to_search = _MAX_SEARCHED_BYTES
        self._indexes = [_index(content) for content in self._parts]

    def is_missing(self, graph: Graph, operator: Operator) -> bool:
        """Whether the operator's weights are certainly absent; False if the layer's layout is unknown."""
        tensor = graph.input(operator, 1)
        if tensor is None or not tensor.constant or tensor.type not in ("INT8", "UINT8"):
            return False
        if operator.name == "DEPTHWISE_CONV_2D":
            return _is_plain_depthwise(graph.input(operator, 0), tensor) and not self._contains_depthwise(tensor)
        rows = _dense_rows(operator, tensor)
        return rows is not None and not self._contains_dense(rows)

    def _contains_dense(self, rows: np.ndarray) -> bool:
        """Search for rows (outputs, inputs) uint8, with inputs padded to a multiple of four."""
        stride = min(GROUP_ROWS, padded_rows(len(rows)))
        groups = (rows[begin : begin + GROUP_ROWS] for begin in range(0, len(rows), GROUP_ROWS))
        return all(self._contains_group(group, stride) for group in groups)

    def _contains_group(self, group: np.ndarray, stride: int) -> bool:
        if len(group) < _LANES:
            return True
        key = _keys(np.ascontiguousarray(group[:_LANES, :_LANES]).reshape(1, _KEY_BYTES))[0]
        for number, (keys, order) in enumerate(self._indexes):
            first, last = np.searchsorted(keys, key, "left"), np.searchsorted(keys, key, "right")
            for entry in order[first : min(last, first + _MAX_CANDIDATES)]:
                if self._is_at(group, stride, number, int(entry) * _ALIGNMENT):
                    return True
        return False

    def _is_at(self, group: np.ndarray, stride: int, number: int, position: int) -> bool:
        rows, columns = group.shape
        size = stride * columns
        stored = np.frombuffer(self._parts[number][position : position + size], np.uint8)
        if len(stored) < size:
            return False
        found = stored.reshape(columns // _LANES, stride, _LANES)[:, :rows]
        return np.array_equal(found.transpose(1, 0, 2).reshape(rows, columns), group)

    def _contains_depthwise(self, tensor: Tensor) -> bool:
        blocks = _depthwise_blocks(tensor)
        if not len(blocks):
            return True
        gap = _LANES * _depthwise_prefix_bytes(tensor)
        stride = blocks.shape[1] + gap
        needle = blocks[0].tobytes()
        for content in self._parts:
            position = self._find(content, needle, 0)
            while position >= 0:
                stored = np.frombuffer(content[position : position + stride * len(blocks) - gap], np.uint8)
                if len(stored) == stride * len(blocks) - gap:
                    found = np.pad(stored, (0, gap)).reshape(len(blocks), stride)[:, : blocks.shape[1]]
                    if np.array_equal(found, blocks):
                        return True
                position = self._find(content, needle, position + 1)
        return self._left_to_search <= 0

    def _find(self, content: bytes, needle: bytes, begin: int) -> int:
        """Position of the next occurrence; -1 if there is none, or if the search has cost too much already."""
        if self._left_to_search <= 0:
            return -1
        position = content.find(needle, begin)
        self._left_to_search -= (len(content) if position < 0 else position + len(needle)) - begin
        return position


def _index(content: bytes) -> tuple[np.ndarray, np.ndarray]:
    """The keys at multiples of the alignment, sorted, and the multiple that each is from."""
    count = max(0, len(content) - _KEY_BYTES + _ALIGNMENT) // _ALIGNMENT
    padded = np.frombuffer(content.ljust(count * _ALIGNMENT, b"\0"), np.uint8, count * _ALIGNMENT)
    keys = _keys(np.ascontiguousarray(padded.reshape(count, _ALIGNMENT)[:, :_KEY_BYTES]))
    order = np.argsort(keys, kind="stable")
    return keys[order], order


def _keys(tiles: np.ndarray) -> np.ndarray:
    """A hash of each tile of 16 bytes; on a collision the bytes decide."""
    words = tiles.view("<u8")
    keys: np.ndarray = words[:, 0] * np.uint64(0x9E3779B97F4A7C15) ^ words[:, 1]
    return keys


def _stored(tensor: Tensor) -> tuple[np.ndarray, int]:
    """The weights as the package stores them, uint8, and the value of its padding."""
    quantization = tensor.quantization
    zero_point = quantization.zero_points[0] if quantization and quantization.zero_points else 0
    values = tensor.values().view(np.uint8)
    if tensor.type == "INT8":
        return values ^ np.uint8(0x80), (zero_point + 128) % 256
    return values, zero_point % 256


def _dense_rows(operator: Operator, tensor: Tensor) -> Optional[np.ndarray]:
    """Weights as rows of tiles, (outputs, inputs) uint8; None if the order of tiles is unknown."""
    shape = tensor.shape
    dense = operator.name == "FULLY_CONNECTED" and len(shape) == 2 and shape[1] <= _MAX_DENSE_INPUTS
    convolution = operator.name == "CONV_2D" and len(shape) == 4
    if not (dense or (convolution and (shape[1:3] == (1, 1) or shape[3] <= _LANES))):
        return None
    values, zero = _stored(tensor)
    values = values.reshape(shape[0], -1, shape[-1])
    padding = -shape[-1] % _LANES
    values = np.pad(values, ((0, 0), (0, 0), (0, padding)), constant_values=zero)
    return np.ascontiguousarray(values.reshape(shape[0], -1))


def _is_plain_depthwise(image: Optional[Tensor], tensor: Tensor) -> bool:
    """Whether there is one kernel for each channel of the image."""
    if image is None or len(tensor.shape) != 4 or tensor.shape[0] != 1:
        return False
    return image.shape[-1:] == tensor.shape[-1:]


def _depthwise_blocks(tensor: Tensor) -> np.ndarray:
    """(blocks of four channels, kernel positions x 16) uint8; without channels after the last full block."""
    values, zero = _stored(tensor)
    channels = tensor.shape[-1] // _LANES * _LANES
    values = values.reshape(-1, tensor.shape[-1])[:, :channels].reshape(-1, channels // _LANES, _LANES)
    blocks = np.full((channels // _LANES, len(values), _LANES, _LANES), zero, np.uint8)
    lanes = np.arange(_LANES)
    blocks[:, :, lanes, lanes] = values.transpose(1, 0, 2)
    return blocks.reshape(channels // _LANES, -1)


def _depthwise_prefix_bytes(tensor: Tensor) -> int:
    """Bytes before each channel of a block: one word, or three if each channel has its own scale."""
    per_channel = row_prefix_bytes(tensor) > _LANES
    return 3 * _LANES if per_channel else _LANES
