"""A last layer, and a running classifier, that follow a state which any process may change."""

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
from edgetl.runtime.learning.observation_log import ObservationLog
from edgetl.runtime.learning.projection import Projection
from edgetl.runtime.learning.state import State

PATIENCE_SECONDS = 0.5
"""How long a classifier waits for the process that taught to solve the last layer, before it solves it itself."""


class LiveLastLayer:
    """The last layer of a state: solved here, or read as another process stored it. Thread-safe."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._layer, self._position = state.live_statistics.shipped_layer, -1

    @property
    def position(self) -> int:
        """The id of the last row of the journal that the layer includes."""
        return max(self._position, 0)

    def current(self) -> LastLayer:
        """The last layer in effect; solved here unless another process has stored it."""
        with self._state.lock:
            projection = self._state.projection()
            if self._position != projection.position:
                layer = self._stored(projection) or self._state.live_statistics.last_layer(projection)
                self._layer, self._position = layer, projection.position
            return self._layer

    def current_unless_pending(self) -> Optional[LastLayer]:
        """The last layer in effect; None if another process has just taught, and is about to store it."""
        with self._state.lock:
            projection = self._state.projection()
            if projection.position in (self._position, self._state.own_position) or projection.is_as_shipped:
                return self.current()
            stored = self._stored(projection)
            if stored is not None:
                self._layer, self._position = stored, projection.position
            return stored

    def publish(self) -> None:
        """Solve the last layer and store it. If it cannot be stored, each process solves it for itself."""
        with self._state.lock:
            self.current()
            self._store(self._state.last_read)

    def publish_if_solved(self) -> None:
        """Store the last layer if it is already solved here."""
        with self._state.lock:
            projection = self._state.last_read
            if self._position == projection.position:
                self._store(projection)

    def _stored(self, projection: Projection) -> Optional[LastLayer]:
        if projection.is_as_shipped:
            return None
        data = self._state.journal.kept(_LAYER, projection.position)
        with contextlib.suppress(IntegrityError):  # it is solved again
            return unpack_layer(data) if data is not None else None
        return None

    def _store(self, projection: Projection) -> None:
        if projection.is_as_shipped:
            return
        with contextlib.suppress(StorageError):
            if self._stored(projection) is None:
                self._state.journal.keep(_LAYER, projection.position, pack_layer(self._layer))


class LiveClassifier(Classifier):
    """A classifier that checks before each prediction whether anything was committed to the journal.

    If the new last layer cannot be read or solved, it continues with the previous one. Its predictions go to the
    observation log, if there is one.
    """

    def __init__(
        self, state: State, layer: LiveLastLayer, threads: Optional[int], observations: Optional[ObservationLog] = None
    ) -> None:
        super().__init__(state.bundle, threads)
        self._journal, self._layer, self._observations = state.journal, layer, observations
        self._layer_lock = threading.Lock()
        self._is_behind = False
        self._patience_ends = 0.0
        self._last_layer, self._position = layer.current(), layer.position
        if observations is not None:
            weakref.finalize(self, observations.close)  # also at the end of a process that did not close the learner

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
        layer = self._layer.current_unless_pending()
        if layer is None and monotonic() >= self._patience_ends:
            layer = self._layer.current()
        if layer is not None:
            self._last_layer, self._position, self._is_behind = layer, self._layer.position, False

    def _observe(self, grid: np.ndarray, prediction: Prediction) -> None:
        if self._observations is not None:
            self._observations.observe(grid, prediction, self._position)


_LAYER = "last layer"
