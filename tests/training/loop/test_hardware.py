"""The code paths for other hardware, on CPUs: two replicas, and half precision."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
import tf_keras

from edgetl.training import fine_tune, fold
from edgetl.training.loop import hardware
from tests.training.test_fine_tuning import OPTIONS

TWO_REPLICAS = """
import numpy as np, tensorflow as tf
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from edgetl.training import fine_tune
from edgetl.training.loop import hardware
from tests.training.tasks import make_task, stripes
from dataclasses import replace
from tests.training.test_fine_tuning import OPTIONS, STEADY, weights_of
task = make_task(*stripes(96, np.random.default_rng(0)))
# each replica blends its own images
options = replace(OPTIONS, epochs_all=3, augmentation=replace(STEADY, mixup=0))
alone = fine_tune(*task, options=options)
mirrored = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
hardware.strategy = lambda: mirrored
together = fine_tune(*task, options=options)
np.testing.assert_allclose(weights_of(together.model), weights_of(alone.model), rtol=0.02, atol=0.02)
assert abs(together.history[-1]["loss"] - alone.history[-1]["loss"]) < 0.01
"""


@pytest.mark.slow
def test_two_replicas_give_the_weights_of_one():
    subprocess.run([sys.executable, "-c", TWO_REPLICAS], check=True)


def test_half_precision_trains_a_float32_backbone(task, accuracy, monkeypatch):
    monkeypatch.setattr(hardware, "precision", lambda: "mixed_bfloat16")
    tuned = fine_tune(*task, options=OPTIONS)
    assert {weight.dtype for weight in tuned.model.get_weights()} == {np.dtype(np.float32)}
    assert tuned.model.compute_dtype == "float32"
    assert accuracy(tuned.model, task) > accuracy(task.model, task)


@pytest.mark.parametrize("has_gpu", [True, False])
def test_depthwise_kernels_are_trained_only_on_gpus(task, monkeypatch, has_gpu):
    monkeypatch.setattr(hardware, "has_gpu", lambda: has_gpu)
    before, after = fold(task.model), fine_tune(*task, options=replace(OPTIONS, epochs_upper=0, epochs_all=1)).model
    kernels = [depthwise_kernel(model) for model in (before, after)]
    assert np.array_equal(*kernels) is not has_gpu


def depthwise_kernel(model: tf_keras.Model) -> np.ndarray:
    (layer,) = (layer for layer in model.layers if isinstance(layer, tf_keras.layers.DepthwiseConv2D))
    return layer.get_weights()[0]
