"""Hides how a last layer, and a classifier that runs, keep up with a state that any process may change."""

from __future__ import annotations

import contextlib
import threading
import weakref
from time import monotonic
from typing import Optional

import numpy as np

from edgetl.errors import EdgetlError, IntegrityError, StorageError
from edgetl.learners import LastLayer
from edgetl.runtime.inference.classifier import Classifier, Prediction
from edgetl.runtime.learning.live_statistics import pack_layer, unpack_layer
from edgetl.runtime.learning.observation_log import Observer
from edgetl.runtime.learning.projection import Contents
from edgetl.runtime.learning.state import State

PATIENCE_SECONDS = 0.5
"""How long a classifier leaves it to the process that taught to solve the last layer too."""


class LayerInEffect:
    """The last layer of a state: solved here, or by another process that came first. Thread-safe."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._layer, self._position = state.knowledge.shipped_layer, -1

    @property
    def position(self) -> int:
        """The last row of the journal that the layer knows."""
        return max(self._position, 0)

    def current(self) -> LastLayer:
        """The last layer in effect; solves it where nobody has yet."""
        with self._state.lock:
            contents = self._state.contents()
            if self._position != contents.position:
                self._take(contents, self._kept(contents) or self._state.knowledge.last_layer(contents))
            return self._layer

    def at_hand(self) -> Optional[LastLayer]:
        """The last layer in effect, unless another process has just taught, and so is about to solve it."""
        with self._state.lock:
            contents = self._state.contents()
            if contents.position in (self._position, self._state.own_position) or contents.is_as_shipped:
                return self.current()
            return self._take(contents, self._kept(contents))

    def publish(self) -> None:
        """Solves it and stores it; where the disk refuses, each process solves it for itself."""
        with self._state.lock:
            self.current()
            self._keep(self._state.last_read)

    def publish_if_solved(self) -> None:
        """Stores it where it was solved here already."""
        with self._state.lock:
            contents = self._state.last_read
            if self._position == contents.position:
                self._keep(contents)

    def _kept(self, contents: Contents) -> Optional[LastLayer]:
        if contents.is_as_shipped:
            return None
        data = self._state.journal.kept(_LAYER, contents.position)
        with contextlib.suppress(IntegrityError):
            return unpack_layer(data) if data is not None else None
        return None

    def _keep(self, contents: Contents) -> None:
        if contents.is_as_shipped:
            return
        with contextlib.suppress(StorageError):
            if self._kept(contents) is None:
                self._state.journal.keep(_LAYER, contents.position, pack_layer(self._layer))

    def _take(self, contents: Contents, layer: Optional[LastLayer]) -> Optional[LastLayer]:
        if layer is not None:
            self._layer, self._position = layer, contents.position
        return layer


class FollowingClassifier(Classifier):
    """Looks before each prediction whether anything was committed; with no better one, the last good layer stays.

    What it predicts goes to the observer, where there is one.
    """

    def __init__(
        self, state: State, layer: LayerInEffect, threads: Optional[int], observer: Optional[Observer] = None
    ) -> None:
        super().__init__(state.bundle, threads)
        self._journal, self._layer, self._observer = state.journal, layer, observer
        self._layer_lock = threading.Lock()
        self._is_behind = False
        self._patience_ends = 0.0
        self._last_layer, self._position = layer.current(), layer.position
        if observer is not None:
            weakref.finalize(self, observer.close)  # also when the process ends, and nobody has closed the learner

    def _current_layer(self) -> LastLayer:
        with self._layer_lock:
            try:
                if self._journal.has_changed():
                    self._is_behind, self._patience_ends = True, monotonic() + PATIENCE_SECONDS
                if self._is_behind:
                    self._catch_up()
            except EdgetlError:
                self._is_behind = False
            return self._last_layer

    def _catch_up(self) -> None:
        layer = self._layer.at_hand()
        if layer is None and monotonic() >= self._patience_ends:
            layer = self._layer.current()
        if layer is not None:
            self._last_layer, self._position, self._is_behind = layer, self._layer.position, False

    def _observe(self, grid: np.ndarray, prediction: Prediction) -> None:
        if self._observer is not None:
            self._observer.observe(grid, prediction, self._position)


_LAYER = "last layer"
