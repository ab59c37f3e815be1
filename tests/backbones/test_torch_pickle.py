"""PyTorch checkpoints are read without torch, and a malicious one cannot do anything."""

from __future__ import annotations

import contextlib
import os
import pickle
import struct
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgetl.backbones.torch_pickle import read_checkpoint
from edgetl.errors import WeightsError

REFERENCE = Path(__file__).parent / "reference"
COUNT = np.arange(24, dtype=np.float32)
EXPECTED = {
    "plain": COUNT.reshape(2, 3, 4),
    "transposed": COUNT.reshape(4, 6).T,
    "slice": COUNT[5:11],
    "scalar": np.int64(7),
    "empty": np.empty((0, 3), np.float32),
    "half": COUNT[:4].astype(np.float16),
    "brain": COUNT[:4],
    "parameter": COUNT[:2],
}
LEGACY_HEAD = b"".join(
    pickle.dumps(part, 2) for part in (0x1950A86A20F9469CFC6C, 1001, {"protocol_version": 1001, "little_endian": True})
)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth", "nested.pth"])
def test_every_format_gives_the_tensors_that_were_saved(name):
    tensors = read_checkpoint(REFERENCE / name)
    assert list(tensors) == list(EXPECTED)
    for key, expected in EXPECTED.items():
        np.testing.assert_array_equal(tensors[key], expected)
        assert tensors[key].dtype == expected.dtype


def test_tensors_are_read_only_views():
    with pytest.raises(ValueError, match="read-only"):
        read_checkpoint(REFERENCE / "zip.pth")["plain"][0, 0, 0] = 1


class Attack:
    def __init__(self, callee, *arguments):
        self.call = (callee, arguments)

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5])
def test_a_pickle_that_would_run_a_command_is_refused_and_does_not_run_it(tmp_path, protocol):
    witness = tmp_path / "witness"
    attack = pickle.dumps({"weight": Attack(os.mkdir, str(witness))}, protocol)
    path = tmp_path / "hostile.pth"
    path.write_bytes(LEGACY_HEAD + attack + pickle.dumps([], 2))
    with pytest.raises(WeightsError, match="not a PyTorch checkpoint of plain tensors"):
        read_checkpoint(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", attack)
    with pytest.raises(WeightsError, match="not a PyTorch checkpoint of plain tensors"):
        read_checkpoint(path)
    assert not witness.exists()


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_a_truncated_file_is_refused_wherever_it_ends(tmp_path, name):
    whole, path = (REFERENCE / name).read_bytes(), tmp_path / name
    for length in range(0, len(whole), 7):
        path.write_bytes(whole[:length])
        with pytest.raises(WeightsError):
            read_checkpoint(path)


@pytest.mark.parametrize("name", ["zip.pth", "legacy.pth"])
def test_a_damaged_file_gives_tensors_or_a_weights_error(tmp_path, name):
    whole, path = (REFERENCE / name).read_bytes(), tmp_path / name
    random = np.random.default_rng(0)
    for _ in range(400):
        damaged = bytearray(whole)
        for position in random.integers(0, len(whole), 3):
            damaged[position] = random.integers(0, 256)
        path.write_bytes(damaged)
        with contextlib.suppress(WeightsError):
            assert all(tensor.size < len(whole) for tensor in read_checkpoint(path).values())


def rewritten(tmp_path: Path, old: bytes, new: bytes) -> Path:
    """A copy of legacy.pth with `old` replaced by `new`, which has the same length."""
    whole = (REFERENCE / "legacy.pth").read_bytes()
    assert old in whole
    assert len(old) == len(new)
    path = tmp_path / "lying.pth"
    path.write_bytes(whole.replace(old, new, 1))
    return path


def test_a_shape_larger_than_its_storage_is_refused(tmp_path):
    plain = b"K\x02K\x03K\x04\x87"
    with pytest.raises(WeightsError, match="extends beyond its storage"):
        read_checkpoint(rewritten(tmp_path, plain, b"K\x02K\x03K\xff\x87"))


def test_a_storage_that_claims_more_than_the_file_holds_is_refused(tmp_path):
    path = rewritten(tmp_path, struct.pack("<q", 24), struct.pack("<q", 1 << 40))
    with pytest.raises(WeightsError, match="truncated or has another size"):
        read_checkpoint(path)


def test_an_unknown_number_type_is_reported(tmp_path):
    path = rewritten(tmp_path, b"torch\nFloatStorage", b"torch\nQuantStorage")
    with pytest.raises(WeightsError, match=r"torch\.QuantStorage"):
        read_checkpoint(path)


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04", b"\x89HDF\r\n\x1a\n", b"not a checkpoint"])
def test_another_kind_of_file_is_refused_in_one_line(tmp_path, content):
    path = tmp_path / "other.pth"
    path.write_bytes(content)
    with pytest.raises(WeightsError, match=r"torch\.save") as caught:
        read_checkpoint(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_reported(tmp_path):
    with pytest.raises(WeightsError, match=r"gone\.pth: No such file"):
        read_checkpoint(tmp_path / "gone.pth")
