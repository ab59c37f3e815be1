"""Computes embeddings in any number of threads, each with an interpreter of its own."""

from __future__ import annotations

import hashlib
import threading

import numpy as np

from edgetl.runtime.inference.engine import Engine
from edgetl.runtime.inference.preprocess import Preprocess


class Embedder:
    """A backbone that any number of threads may call at once.

    Each thread gets a single-threaded engine, which ends with the thread; all share the model's bytes. Throughput
    grows with the number of threads up to the number of cores, because a running engine does not hold the GIL.
    Raises EngineError if the model cannot run, or if its frame size differs from that of `preprocess`.
    """

    def __init__(self, model: bytes, preprocess: Preprocess) -> None:
        self._model = model
        self._local = threading.local()
        self.preprocess = preprocess
        self.digest = hashlib.sha256(model).hexdigest()
        """SHA-256 of the model, in hex; the key of cached embeddings."""
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
