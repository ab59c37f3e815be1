"""Adam with a step size for each variable, relative to the size of its values, and the learning-rate schedule."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np
import tensorflow as tf
import tf_keras

from edgetl.errors import TrainingError

_SMALLEST_SIZE = 1e-3


class RelativeAdam(tf_keras.optimizers.Optimizer):  # type: ignore[misc]
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) with a separate step size for each output channel.

    The step size is `learning_rate * rates[i] * size`, where size is the root mean square of the initial weights of
    an output channel. Folding BatchNorm into a kernel scales its channels differently, by factors of up to 1000; with
    one step size for all, small channels would jump and large ones hardly move. Weights decay towards their initial
    values (L2-SP, Li et al. 2018, arXiv 1802.01483) and not towards zero, to keep what the backbone has learned.
    """

    def __init__(self, variables: Sequence[tf.Variable], rates: Sequence[float], weight_decay: float) -> None:
        super().__init__(name="relative_adam", jit_compile=False)
        self._learning_rate = self._build_learning_rate(0.0)
        self._decay, self._beta_1, self._beta_2, self._epsilon = weight_decay, 0.9, 0.99, 1e-7
        self._steps = [rate * _channel_size(variable) for variable, rate in zip(variables, rates)]
        self.build(variables)

    def build(self, variables: Sequence[tf.Variable]) -> None:
        """Creates the two moments and the initial value of each variable."""
        super().build(variables)
        if getattr(self, "_built", False):
            return
        self._built = True
        self._momentums, self._velocities, self._initial_values = (
            [self.add_variable_from_reference(variable, name) for variable in variables]
            for name in ("momentum", "velocity", "origin")
        )
        for initial, variable in zip(self._initial_values, variables):
            initial.assign(variable)

    def update_step(self, gradient: tf.Tensor, variable: tf.Variable) -> None:
        """Updates one variable; called by the base class."""
        index = self._index_dict[self._var_key(variable)]
        momentum, velocity = self._momentums[index], self._velocities[index]
        count = tf.cast(self.iterations + 1, variable.dtype)
        momentum.assign_add((gradient - momentum) * (1 - self._beta_1))
        velocity.assign_add((tf.square(gradient) - velocity) * (1 - self._beta_2))
        unbiased = tf.sqrt(velocity / (1 - tf.pow(self._beta_2, count))) + self._epsilon
        direction = momentum / (1 - tf.pow(self._beta_1, count)) / unbiased
        learning_rate = tf.cast(self.learning_rate, variable.dtype)
        pull = self._decay * learning_rate * (variable - self._initial_values[index])
        variable.assign_sub(learning_rate * self._steps[index] * direction + pull)


def cosine_decay(largest: float, done: float) -> float:
    """The learning rate after the share `done`, 0..1, of the steps: half a cosine from `largest` down to zero.

    Loshchilov and Hutter 2017, arXiv 1608.03983.
    """
    return largest * (1 + math.cos(math.pi * done)) / 2


def require_finite(loss: float, learning_rate: float) -> None:
    """Raises TrainingError if the loss is infinite or NaN."""
    if not math.isfinite(loss):
        raise TrainingError(f"the loss is infinite or NaN at learning rate {learning_rate}; choose a smaller one")


def _channel_size(variable: tf.Variable) -> np.ndarray:
    """The root mean square of each output channel, in a shape that broadcasts with the variable."""
    values = variable.numpy()
    axes = (0, 1) if values.ndim == 4 and values.shape[3] == 1 else tuple(range(values.ndim - 1))
    size = np.sqrt(np.mean(np.square(values), axis=axes or None, keepdims=True))
    limited: np.ndarray = np.maximum(size, _SMALLEST_SIZE).astype(np.float32)
    return limited
