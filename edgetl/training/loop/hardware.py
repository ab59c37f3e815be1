"""Chooses how to train on the available hardware: distribution over devices and machines, and precision."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

_BFLOAT16_SINCE = (8, 0)  # compute capability of NVIDIA Ampere


def strategy() -> tf.distribute.Strategy:
    """Distributes over the machines in TF_CONFIG if it is set, else over all GPUs; else uses the one device."""
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def share(strategy: tf.distribute.Strategy, batch: Sequence[np.ndarray]) -> Any:
    """Distributes a batch over the replicas: of n replicas, each gets every n-th image."""
    count = strategy.num_replicas_in_sync

    def part(context: Any) -> tuple[tf.Tensor, ...]:
        return tuple(tf.constant(array[context.replica_id_in_sync_group :: count]) for array in batch)

    return strategy.experimental_distribute_values_from_function(part)


def precision() -> Optional[str]:
    """The fastest tf_keras dtype policy on these devices; None for float32.

    bfloat16 does not need loss scaling. On CPUs, TensorFlow loses more by conversions than it gains.
    """
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
    if capabilities and all(capability and capability >= _BFLOAT16_SINCE for capability in capabilities):
        return "mixed_bfloat16"
    return None


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))
