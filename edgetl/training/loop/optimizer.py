"""Hides how far each weight may move in a step: Adam relative to the weight's own size; `fine_tuning` calls it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

_SMALLEST_SIZE = 1e-3


class RelativeAdam(tf_keras.optimizers.Optimizer):
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a step of its own for each variable.

    A step is `learning_rate * rates[i] * size`, where size is the root mean square of what feeds one output channel
    at the start. So folding BatchNorm into a kernel, which scales its channels by up to a thousand times of each
    other, does not make small channels jump and large ones stand still. Weights decay towards where they started
    (L2-SP, Li et al. 2018, arXiv 1802.01483), not towards zero: what the backbone knows is worth keeping.
    """

    def __init__(self, variables: Sequence[tf.Variable], rates: Sequence[float], weight_decay: float) -> None:
        super().__init__(name="relative_adam", jit_compile=False)
        self._learning_rate = self._build_learning_rate(0.0)
        self._decay, self._beta_1, self._beta_2, self._epsilon = weight_decay, 0.9, 0.99, 1e-7
        self._steps = [rate * _channel_size(variable) for variable, rate in zip(variables, rates)]
        self.build(variables)

    def build(self, variables: Sequence[tf.Variable]) -> None:
        """Makes, for each variable, its two moments and the note of where it started."""
        super().build(variables)
        if getattr(self, "_built", False):
            return
        self._built = True
        self._momentums, self._velocities, self._origins = (
            [self.add_variable_from_reference(variable, name) for variable in variables]
            for name in ("momentum", "velocity", "origin")
        )
        for origin, variable in zip(self._origins, variables):
            origin.assign(variable)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """One step of one variable; the base calls it."""
        index = self._index_dict[self._var_key(variable)]
        momentum, velocity = self._momentums[index], self._velocities[index]
        count = tf.cast(self.iterations + 1, variable.dtype)
        momentum.assign_add((gradient - momentum) * (1 - self._beta_1))
        velocity.assign_add((tf.square(gradient) - velocity) * (1 - self._beta_2))
        unbiased = tf.sqrt(velocity / (1 - tf.pow(self._beta_2, count))) + self._epsilon
        direction = momentum / (1 - tf.pow(self._beta_1, count)) / unbiased
        learning_rate = tf.cast(self.learning_rate, variable.dtype)
        pull = self._decay * learning_rate * (variable - self._origins[index])
        variable.assign_sub(learning_rate * self._steps[index] * direction + pull)


def _channel_size(variable: tf.Variable) -> np.ndarray:
    """Root mean square over all but the output channels, in a shape that multiplies the variable."""
    values = variable.numpy()
    axes = (0, 1) if values.ndim == 4 and values.shape[3] == 1 else tuple(range(values.ndim - 1))
    size = np.sqrt(np.mean(np.square(values), axis=axes or None, keepdims=True))
    return np.maximum(size, _SMALLEST_SIZE).astype(np.float32)
