"""Hides which hardware trains: how many devices, machines and bits; `fine_tuning` and `scratch` call it."""

from __future__ import annotations

import os
from typing import Optional

import tensorflow as tf

_BFLOAT16_SINCE = (8, 0)  # compute capability of NVIDIA's Ampere


def strategy() -> tf.distribute.Strategy:
    """Several machines where TF_CONFIG names them, several GPUs where they are, else the one device there is."""
    if os.environ.get("TF_CONFIG"):
        return tf.distribute.MultiWorkerMirroredStrategy()
    if len(tf.config.list_logical_devices("GPU")) > 1:
        return tf.distribute.MirroredStrategy()
    return tf.distribute.get_strategy()


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
