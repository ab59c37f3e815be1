"""An engine runs a backbone, and refuses any other model."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from edgetl.errors import EngineError
from edgetl.runtime.inference import engine as room
from edgetl.runtime.inference.embedder import Embedder
from edgetl.runtime.inference.engine import Engine, interpreters
from edgetl.runtime.inference.preprocess import Preprocess
from tests.models import TINY_DIMENSION, TINY_SIZE


def random_frames(count: int) -> np.ndarray:
    return np.random.default_rng(3).integers(0, 256, (count, *TINY_SIZE, 3), dtype=np.uint8)


def edgetpu_library(folder: Path, label: str) -> str:
    """A shared library that says of itself what libedgetpu would, and can do nothing else."""
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    source, library = folder / "edgetpu.c", folder / "libedgetpu.so.1"
    source.write_text(f'const char* edgetpu_version(void) {{ return "{label}"; }}\n')
    subprocess.run([compiler, "-shared", "-fPIC", "-o", library, source], check=True)
    return str(library)


class TestInterpreters:
    def test_installed_interpreters_are_listed_with_their_versions(self) -> None:
        names = [name for name, _ in interpreters()]
        assert names
        assert set(names) <= {"ai-edge-litert", "tflite-runtime"}

    def test_without_an_interpreter_the_message_says_how_to_install_one(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(room, "PACKAGES", {"no-such-interpreter": "no_such_interpreter"})
        with pytest.raises(EngineError, match="pip install ai-edge-litert"):
            interpreters()

    def test_an_interpreter_that_does_not_load_is_named_with_the_reason(
        self, tiny_model: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room, "PACKAGES", {"numpy": "no_such_module"})
        with pytest.raises(EngineError, match=r"numpy .*No module named 'no_such_module'"):
            Engine(tiny_model)


class TestEngine:
    def test_it_says_what_the_model_takes_and_gives(self, tiny_model: bytes) -> None:
        engine = Engine(tiny_model)
        assert engine.input_size == TINY_SIZE
        assert engine.output_size == TINY_DIMENSION
        assert (engine.input_dtype, engine.output_dtype) == (np.uint8, np.int8)
        assert engine.scale > 0
        assert -128 <= engine.zero_point <= 127
        assert (engine.accelerator, engine.note) == ("cpu", "")
        assert engine.interpreter.split()[0] in ("ai-edge-litert", "tflite-runtime")

    def test_a_frame_gives_an_embedding_of_its_own(self, tiny_model: bytes) -> None:
        engine = Engine(tiny_model)
        frames = random_frames(2)
        first = engine.invoke(frames[0])
        kept = first.copy()
        second = engine.invoke(frames[1])
        assert first.shape == (TINY_DIMENSION,)
        assert (first == kept).all()
        assert (first != second).any()

    def test_frames_may_be_read_only_or_views(self, tiny_model: bytes) -> None:
        engine = Engine(tiny_model)
        frame = random_frames(1)[0]
        mirrored = frame[:, ::-1]
        read_only = mirrored.copy()
        read_only.setflags(write=False)
        assert (engine.invoke(mirrored) == engine.invoke(read_only)).all()

    def test_a_path_is_as_good_as_bytes(self, tiny_model: bytes, tmp_path: Path) -> None:
        path = tmp_path / "model.tflite"
        path.write_bytes(tiny_model)
        frame = random_frames(1)[0]
        assert (Engine(path, threads=2).invoke(frame) == Engine(tiny_model).invoke(frame)).all()

    def test_a_float_embedding_is_near_the_int8_one(self, tiny_models: dict[str, bytes]) -> None:
        exact, rounded = Engine(tiny_models["float32"]), Engine(tiny_models["int8"])
        frame = random_frames(1)[0]
        assert exact.output_dtype == np.float32
        assert (exact.scale, exact.zero_point) == (1.0, 0)
        values = (rounded.invoke(frame).astype(float) - rounded.zero_point) * rounded.scale
        assert np.abs(exact.invoke(frame) - values).max() < 4 * rounded.scale

    def test_an_embedding_of_one_position_is_a_vector_too(self, shared: Callable[[str], Path]) -> None:
        engine = Engine(shared("coral/pairs/mobilenet_v1_1.0_224_quant_embedding_extractor.tflite"))
        embedding = engine.invoke(np.full((224, 224, 3), 99, np.uint8))
        assert (embedding.shape, embedding.dtype) == ((1024,), np.uint8)
        assert (engine.output_size, engine.zero_point) == (1024, 0)

    @pytest.mark.parametrize(
        ("name", "line"),
        [
            ("float-input", "must take uint8 RGB"),
            ("two-outputs", "one input and one output, received 1 and 2"),
            ("map-output", "must give one embedding"),
        ],
    )
    def test_a_model_of_another_shape_is_refused(self, name: str, line: str, tiny_models: dict[str, bytes]) -> None:
        with pytest.raises(EngineError, match=line):
            Engine(tiny_models[name])

    @pytest.mark.parametrize(
        "frame",
        [
            np.zeros((32, 32, 3), np.float32),
            np.zeros((16, 32, 3), np.uint8),
            np.zeros((1, 32, 32, 3), np.uint8),
        ],
        ids=lambda frame: f"{frame.dtype}{frame.shape}",
    )
    def test_a_frame_of_another_kind_says_what_is_right(self, frame: np.ndarray, tiny_model: bytes) -> None:
        with pytest.raises(EngineError, match=r"a frame must be uint8 \(32, 32, 3\)"):
            Engine(tiny_model).invoke(frame)

    @pytest.mark.parametrize("threads", [0, -1, 1.5, "2"])
    def test_threads_are_a_whole_number(self, threads: object, tiny_model: bytes) -> None:
        with pytest.raises(EngineError, match="invalid threads"):
            Engine(tiny_model, threads=threads)  # type: ignore[arg-type]

    def test_without_an_edge_tpu_the_cpu_twin_runs_and_says_why(self, tiny_model: bytes) -> None:
        engine = Engine(tiny_model, edgetpu_model=tiny_model)
        if engine.accelerator == "edgetpu":
            pytest.skip("there is an Edge TPU here")
        assert "runs on the CPU: no Edge TPU can be used" in engine.note
        assert "\n" not in engine.note
        assert engine.invoke(random_frames(1)[0]).shape == (TINY_DIMENSION,)

    @pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
    def test_a_library_that_is_not_a_delegate_is_named_in_the_note(
        self, tiny_model: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        library = edgetpu_library(tmp_path, "BuildLabel(COMPILER=12.2.0,DATE=redacted), RuntimeVersion(14)")
        monkeypatch.setattr(room, "EDGETPU_LIBRARY", library)
        assert "tflite_plugin_create_delegate" in Engine(tiny_model, edgetpu_model=tiny_model).note

    def test_a_library_without_the_delegate_functions_is_named_in_the_note(
        self, tiny_model: bytes, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(room, "EDGETPU_LIBRARY", "libc.so.6")
        assert "no Edge TPU can be used" in Engine(tiny_model, edgetpu_model=tiny_model).note

    def test_googles_library_of_2021_is_not_used_because_it_crashes(
        self, tiny_model: bytes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        label = "BuildLabel(COMPILER=6.3.0 20170516,DATE=redacted,TIME=redacted), RuntimeVersion(14)"
        monkeypatch.setattr(room, "EDGETPU_LIBRARY", edgetpu_library(tmp_path, label))
        engine = Engine(tiny_model, edgetpu_model=tiny_model)
        assert engine.accelerator == "cpu"
        assert "install one built for TensorFlow 2.12 or newer" in engine.note


class TestHostileModels:
    @pytest.mark.parametrize("data", [b"", b"TFL3", bytes(1000), b"\xff\xff\xff\x7fTFL3" + bytes(100)])
    def test_a_file_that_is_not_a_model_is_refused(self, data: bytes) -> None:
        with pytest.raises(EngineError):
            Engine(data)

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        with pytest.raises(EngineError, match=r"none\.tflite"):
            Engine(tmp_path / "none.tflite")

    def test_a_name_that_is_not_utf8_is_refused(self, tiny_model: bytes) -> None:
        with pytest.raises(EngineError, match="cannot describe the model"):
            Engine(tiny_model.replace(b"frame\0", b"fr\x81me\0"))

    @pytest.mark.skipif(not hasattr(os, "fork"), reason="a crash is caught by forking")
    def test_random_changes_neither_crash_nor_raise_anything_else(self, tiny_model: bytes) -> None:
        def run(seed: int) -> None:
            rng = random.Random(seed)
            changed = bytearray(tiny_model)
            for _ in range(rng.choice([1, 4, 30])):
                changed[rng.randrange(8, len(changed))] = rng.randrange(256)
            model = bytes(changed[: rng.randrange(20, len(changed))] if seed % 5 == 0 else changed)
            with contextlib.suppress(EngineError):
                Engine(model).invoke(np.zeros((*TINY_SIZE, 3), np.uint8))

        assert all(_ends_well_in_a_fork(lambda seed=seed: run(seed)) for seed in range(100))


class TestEmbedder:
    def test_threads_get_what_one_engine_gives(self, tiny_model: bytes) -> None:
        frames = random_frames(64)
        engine, embedder = Engine(tiny_model), Embedder(tiny_model, Preprocess(*TINY_SIZE))
        with ThreadPoolExecutor(4) as pool:
            together = np.stack(list(pool.map(embedder.embed, frames)))
        assert (together == np.stack([engine.invoke(frame) for frame in frames])).all()

    def test_it_describes_its_embeddings(self, tiny_model: bytes) -> None:
        engine, embedder = Engine(tiny_model), Embedder(tiny_model, Preprocess(*TINY_SIZE))
        assert embedder.dimension == TINY_DIMENSION
        assert embedder.dtype == np.int8
        assert (embedder.scale, embedder.zero_point) == (engine.scale, engine.zero_point)
        assert len(embedder.digest) == 64

    def test_frames_of_another_size_are_refused_at_once(self, tiny_model: bytes) -> None:
        with pytest.raises(EngineError, match=r"\(32, 32\).*\(224, 224\)"):
            Embedder(tiny_model, Preprocess(224, 224))

    def test_a_running_engine_lets_other_threads_run(self, tiny_model: bytes) -> None:
        embedder, stop = Embedder(tiny_model, Preprocess(*TINY_SIZE)), threading.Event()
        frame = random_frames(1)[0]

        def embed_on() -> None:
            while not stop.is_set():
                embedder.embed(frame)

        before = sys.getswitchinterval()
        sys.setswitchinterval(1000)
        worker = threading.Thread(target=embed_on)
        try:
            worker.start()
            turns = 0
            end = time.monotonic() + 0.2
            while time.monotonic() < end:
                time.sleep(0)
                turns += 1
        finally:
            stop.set()
            sys.setswitchinterval(before)
            worker.join()
        assert turns > 10


def _ends_well_in_a_fork(action) -> bool:  # type: ignore[no-untyped-def]
    child = os.fork()
    if child == 0:
        try:
            action()
        except BaseException:
            os._exit(1)
        os._exit(0)
    return os.waitpid(child, 0)[1] == 0
