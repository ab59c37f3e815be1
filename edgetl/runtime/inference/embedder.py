"""Hides that every thread needs an interpreter of its own; data and evaluation embed photos through it."""

from __future__ import annotations

import hashlib
import threading

import numpy as np

from edgetl.runtime.inference.engine import Engine
from edgetl.runtime.inference.preprocess import Preprocess


class Embedder:
    """A backbone that any number of threads may call at once: one single-threaded engine for each of them.

    The threads share the model's bytes; an engine ends with its thread. Throughput grows with the threads
    up to the number of cores, because a running engine does not hold the GIL.
    Raises EngineError where the model cannot run, or takes frames of another size than `preprocess` gives.
    """

    def __init__(self, model: bytes, preprocess: Preprocess) -> None:
        self._model = model
        self._local = threading.local()
        self.preprocess = preprocess
        self.digest = hashlib.sha256(model).hexdigest()
        """SHA-256 of the model's bytes, in hex: what cached embeddings are keyed by."""
        engine = self._engine()
        engine.require_input_size(preprocess.size)
        self.dimension = engine.output_size
        self.dtype = engine.output_dtype
        self.scale = engine.scale
        self.zero_point = engine.zero_point

    def embed(self, frame: np.ndarray) -> np.ndarray:
        """The raw embedding (d,) of a frame, uint8 (height, width, 3) RGB."""
        return self._engine().invoke(frame)

    def _engine(self) -> Engine:
        engine = getattr(self._local, "engine", None)
        if engine is None:
            engine = self._local.engine = Engine(self._model, threads=1)
        return engine
