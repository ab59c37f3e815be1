"""Checkpoints are loaded as saved; missing, foreign and damaged ones are ignored."""

from __future__ import annotations

import numpy as np
import pytest

from edgetl.errors import StorageError
from edgetl.training.loop import checkpoint

ARRAYS = [np.arange(6, dtype=np.float32).reshape(2, 3), np.array(7)]


def test_what_is_saved_is_loaded(tmp_path):
    path = tmp_path / "folder" / "fine-tuning.npz"
    checkpoint.save(path, ARRAYS, {"epoch": 3})
    found = checkpoint.load(path, ARRAYS)
    assert found is not None
    arrays, state = found
    assert state == {"epoch": 3}
    assert all(np.array_equal(a, b) for a, b in zip(arrays, ARRAYS))
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_a_missing_checkpoint_is_ignored(tmp_path):
    assert checkpoint.load(tmp_path / "none.npz", ARRAYS) is None


def test_a_checkpoint_of_another_model_is_ignored(tmp_path):
    checkpoint.save(tmp_path / "other.npz", [np.zeros(3)], {})
    assert checkpoint.load(tmp_path / "other.npz", ARRAYS) is None


@pytest.mark.parametrize("kept", [0, 10, 200])
def test_a_damaged_checkpoint_is_ignored(tmp_path, kept):
    path = tmp_path / "damaged.npz"
    checkpoint.save(path, ARRAYS, {})
    path.write_bytes(path.read_bytes()[:kept])
    assert checkpoint.load(path, ARRAYS) is None


def test_a_checkpoint_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match=r"cannot write .*: .*choose another checkpoint"):
        checkpoint.save(tmp_path / "file" / "a.npz", ARRAYS, {})
