"""Pretrained backbones are compiled once and cached."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgetl.backbones import get_backbone
from edgetl.conversion import Artifact, check, compile_backbone, recipe_frames
from edgetl.errors import IntegrityError, StorageError, UnknownNameError
from edgetl.learners import to_grid
from edgetl.runtime.inference.embedder import Embedder
from edgetl.targets import list_targets

SPEC = get_backbone("efficientnet-lite0")
SIZE = 32


@pytest.fixture(scope="module")
def filled(tmp_path_factory) -> tuple[Path, Artifact]:
    cache = tmp_path_factory.mktemp("cache")
    return cache, compile_backbone(SPEC, SIZE, cache=cache)


@pytest.fixture
def cache(filled, tmp_path) -> Path:
    """A copy of the filled cache, to spoil."""
    for path in filled[0].iterdir():
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def entry(cache: Path, quantize: str) -> Path:
    (path,) = cache.glob(f"*-{quantize}-*")
    return path


def test_a_pretrained_backbone_maps_pixels_to_an_int8_embedding(filled):
    artifact = filled[1]
    embedder = Embedder(artifact.model, artifact.preprocess)
    assert (embedder.dimension, str(embedder.dtype)) == (SPEC.embedding_size, "int8")
    assert embedder.embed(recipe_frames(SIZE, SIZE, 1)[0]).any()


def test_the_second_time_it_comes_from_the_cache_without_tensorflow(filled):
    code = textwrap.dedent(f"""
        import sys, time
        class Blocker:
            def find_spec(self, name, path=None, target=None):
                if name.split(".")[0] in ("tensorflow", "tf_keras", "keras", "sklearn", "ai_edge_litert"):
                    raise ImportError(name + " must not be imported")
        sys.meta_path.insert(0, Blocker())
        from pathlib import Path
        from edgetl.backbones import get_backbone
        from edgetl.conversion import compile_backbone
        spec = get_backbone("efficientnet-lite0")
        for quantize in ("int8", "float32"):
            begin = time.perf_counter()
            artifact = compile_backbone(spec, {SIZE}, quantize=quantize, cache=Path({str(filled[0])!r}))
            print(artifact.quantize, len(artifact.model), time.perf_counter() - begin)
    """)
    root = Path(__file__).resolve().parents[3]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    (int8, size, seconds), (float32, *_) = (line.split() for line in done.stdout.splitlines())
    assert (int8, int(size), float32) == ("int8", len(filled[1].model), "float32")
    assert float(seconds) < 0.5


def test_the_cached_artifact_equals_the_compiled_one(filled):
    assert compile_backbone(SPEC, SIZE, cache=filled[0]) == filled[1]


def test_another_size_is_another_entry(cache, filled):
    assert compile_backbone(SPEC, SIZE + 16, cache=cache).preprocess.size == (SIZE + 16, SIZE + 16)
    assert compile_backbone(SPEC, SIZE, cache=cache) == filled[1]


def test_a_damaged_entry_is_compiled_again_to_the_same_bytes(cache, filled):
    path = entry(cache, "int8")
    content = bytearray(path.read_bytes())
    content[-1000] ^= 1
    path.write_bytes(content)
    assert compile_backbone(SPEC, SIZE, cache=cache) == filled[1]
    assert Artifact.from_bytes(path.read_bytes()) == filled[1]


def test_an_unknown_quantization_is_refused_before_anything_is_loaded(tmp_path):
    with pytest.raises(UnknownNameError, match="quantization"):
        compile_backbone(SPEC, SIZE, quantize="int4", cache=tmp_path)


def test_an_unreadable_cache_is_reported_in_one_line(tmp_path):
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StorageError, match="set EDGETL_CACHE to another folder"):
        compile_backbone(SPEC, SIZE, cache=tmp_path / "file")


def test_a_full_disk_leaves_no_partial_entry(cache, monkeypatch):
    entry(cache, "int8").unlink()
    before = sorted(cache.iterdir())

    def full(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StorageError, match="the disk is full"):
        compile_backbone(SPEC, SIZE, cache=cache)
    assert sorted(cache.iterdir()) == before


class TestArtifactBytes:
    def test_come_back_as_they_were(self, converted):
        for quantize in ("int8", "float32"):
            assert Artifact.from_bytes(converted(quantize).to_bytes()) == converted(quantize)

    def test_any_changed_or_missing_part_is_noticed(self, converted):
        content = converted("int8").to_bytes()
        for spoiled in (
            b"",
            b"\n",
            b"[]\n",
            content[:100],
            content[:-1],
            content + b"\0",
            content.replace(b'"sha256"', b'"sha257"', 1),
            content.replace(b'"width": 32', b'"width": -2', 1),
            content.replace(b'"operators": [', b'"operators": [3, ', 1),
        ):
            with pytest.raises(IntegrityError):
                Artifact.from_bytes(spoiled)

    def test_tell_artifacts_apart(self, converted):
        artifact = converted("int8")
        other = replace(artifact, model=artifact.model + b"\0")
        assert other.to_bytes() != artifact.to_bytes()


@pytest.mark.slow
def test_int8_embeddings_of_real_photos_are_close_to_float_ones_and_run_on_every_target(shared, tmp_path):
    photos = sorted(shared("data/trashnet/test").rglob("*.jpg"))[::6]
    int8 = compile_backbone(SPEC, cache=tmp_path)
    float32 = compile_backbone(SPEC, quantize="float32", cache=tmp_path)
    rows = []
    for artifact in (int8, float32):
        embedder = Embedder(artifact.model, artifact.preprocess)
        raw = np.stack([embedder.embed(artifact.preprocess.frame(photo)) for photo in photos])
        rows.append(to_grid(raw, embedder.zero_point).astype(np.float64))
        for target in list_targets():
            check(artifact.model, target)
    lengths = np.linalg.norm(rows[0], axis=1) * np.linalg.norm(rows[1], axis=1)
    cosines = (rows[0] * rows[1]).sum(axis=1) / lengths
    assert cosines.mean() > 0.98
    assert cosines.min() > 0.9
