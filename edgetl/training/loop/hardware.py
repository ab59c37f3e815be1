"""Hides which hardware trains: how many devices, machines and bits; `fine_tuning` calls it."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any, Optional

import numpy as np
import tensorflow as tf

_BFLOAT16_SINCE = (8, 0)  # compute capability of NVIDIA's Ampere


def strategy() -> tf.distribute.Strategy:
    """Several machines where TF_CONFIG names them, several GPUs where they are, else the one device there is."""
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


def share(strategy: tf.distribute.Strategy, batch: Sequence[np.ndarray]) -> Any:
    """The batch as the replicas of this machine take it: each its own every n-th image."""
    count = strategy.num_replicas_in_sync

    def part(context: Any) -> tuple[tf.Tensor, ...]:
        return tuple(tf.constant(array[context.replica_id_in_sync_group :: count]) for array in batch)

    return strategy.experimental_distribute_values_from_function(part)


def precision() -> Optional[str]:
    """The tf_keras dtype policy that these devices are fast with; None for plain float32.

    bfloat16 needs no loss scaling. On CPUs TensorFlow spends more on converting than it gains.
    """
    gpus = tf.config.list_physical_devices("GPU")
    capabilities = [tf.config.experimental.get_device_details(gpu).get("compute_capability") for gpu in gpus]
    if capabilities and all(capability and capability >= _BFLOAT16_SINCE for capability in capabilities):
        return "mixed_bfloat16"
    return None


def has_gpu() -> bool:
    """Whether TensorFlow sees a GPU."""
    return bool(tf.config.list_physical_devices("GPU"))
