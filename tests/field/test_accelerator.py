"""An Edge TPU that fails while it runs: the CPU goes on and says so, and the Edge TPU comes back."""

from __future__ import annotations

import ctypes
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from edgetl.errors import EngineError
from edgetl.runtime.inference import engine as engine_module
from edgetl.runtime.inference.engine import Engine
from tests.models import TINY_SIZE


class Stick:
    """A fake Edge TPU: interpreters with its delegate fail while it is unplugged."""

    def __init__(self) -> None:
        self.is_plugged = True
        self.runs = 0


@pytest.fixture
def stick(monkeypatch: pytest.MonkeyPatch) -> Stick:
    real, package = engine_module._load_package()
    stick = Stick()

    class Interpreter:
        def __init__(self, model_content: bytes, num_threads: int, experimental_delegates: list[Any]) -> None:
            self._is_tpu = bool(experimental_delegates)
            self._real = real.Interpreter(model_content=model_content, num_threads=num_threads)

        def invoke(self) -> None:
            if self._is_tpu and not stick.is_plugged:
                raise RuntimeError("Node number 0 (EdgeTpuDelegateForCustomOp)\n failed to invoke.")
            stick.runs += self._is_tpu
            self._real.invoke()

        def __getattr__(self, name: str) -> Any:
            return getattr(self._real, name)

    def load_delegate(_: str) -> object:
        if not stick.is_plugged:
            raise ValueError("Failed to load delegate from libedgetpu.so.1")
        return object()

    module = SimpleNamespace(Interpreter=Interpreter, load_delegate=load_delegate)
    monkeypatch.setattr(engine_module, "_load_package", lambda: (module, package))
    monkeypatch.setattr(engine_module, "_would_crash", lambda *_: False)
    monkeypatch.setattr(engine_module, "ctypes", SimpleNamespace(CDLL=lambda _: object(), c_char_p=ctypes.c_char_p))
    return stick


FRAME = np.random.default_rng(0).integers(0, 256, (*TINY_SIZE, 3), np.uint8)


def test_an_unplugged_edge_tpu_hands_over_to_the_cpu_and_comes_back(
    stick: Stick, tiny_model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Engine(tiny_model, edgetpu_model=tiny_model)
    expected = engine.invoke(FRAME)
    assert (engine.accelerator, engine.note) == ("edgetpu", "")
    stick.is_plugged = False
    assert (engine.invoke(FRAME) == expected).all()
    assert engine.accelerator == "cpu"
    assert engine.note.startswith("runs on the CPU: the Edge TPU failed (Node number 0")
    assert "\n" not in engine.note
    monkeypatch.setattr(engine_module, "RETRY_SECONDS", 0.0)
    engine._retry_at = 0.0
    assert (engine.invoke(FRAME) == expected).all(), "still unplugged"
    assert engine.accelerator == "cpu"
    stick.is_plugged = True
    runs = stick.runs
    assert (engine.invoke(FRAME) == expected).all()
    assert (engine.accelerator, engine.note) == ("edgetpu", "")
    assert stick.runs == runs + 2


def test_a_cpu_that_cannot_run_the_model_is_one_line(tiny_model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Engine(tiny_model)

    def fail(_: np.ndarray) -> np.ndarray:
        raise RuntimeError("tensor\narena is gone")

    monkeypatch.setattr(engine, "_run", fail)
    with pytest.raises(EngineError, match="cannot run the model: tensor arena is gone"):
        engine.invoke(FRAME)
