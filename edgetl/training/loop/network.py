"""The network under training: backbone, head, augmentation and loss as one compiled training step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf
import tf_keras

from edgetl.training.batch_norm_folding import copy_for_training
from edgetl.training.distillation import DistillationLoss, Teacher
from edgetl.training.loop import augmentation, hardware
from edgetl.training.loop.input_pipeline import NO_LABEL, Batch
from edgetl.training.loop.optimizer import RelativeAdam
from edgetl.training.options import FineTuneOptions
from edgetl.training.trainable_last_layer import TrainableLastLayer, cross_entropy, head_of, unit_length

_HEAD_SCALES = np.geomspace(1.0, 1e-3, 61).astype(np.float32)


class TrainedLayers(NamedTuple):
    """Which layers are trained besides convolutions and dense layers.

    The gradients of depthwise kernels take a third of a step on a CPU, and the kernels are three percent of the
    weights; their biases are always trained.
    """

    depthwise_kernels: bool
    batch_normalization: bool = False


class Network:
    """A backbone and its head under training.

    The given backbone receives the running average of the weights under training (Polyak and Juditsky 1992), which
    is steadier than the weights of any single step; it is validated and kept.
    """

    def __init__(
        self,
        backbone: tf_keras.Model,
        normalization: tuple[float, float],
        start: TrainableLastLayer,
        trained: TrainedLayers,
        options: FineTuneOptions,
        teacher: Optional[Teacher] = None,
    ) -> None:
        self._normalization, self._trained, self._options = normalization, trained, options
        self.strategy = hardware.strategy()
        self.size: tuple[int, int] = backbone.input_shape[1:3]
        self.backbone, self._head = backbone, head_of(start)
        with self.strategy.scope():
            self._learner, self.train_size = copy_for_training(backbone, options.train_scale)
            self._distillation = (
                DistillationLoss(teacher, options.train_scale, options.distillation) if teacher else None
            )
            self._learner_head = head_of(start)
            self._layers = _trained_variables(self._learner, trained)
            variables, rates = self._rates()
            self._optimizer = RelativeAdam(variables, rates, options.weight_decay)

    @property
    def state(self) -> list[tf.Variable]:
        """All variables that later steps depend on."""
        models = [*self.backbone.weights, *self._learner.weights, *self._head, *self._learner_head]
        return [*models, *self._optimizer.variables]

    def soften_head(self, batches: Iterable[Batch]) -> None:
        """Scales the head down to the confidence with the lowest loss on augmented images.

        The head was solved on the original images, where it makes hardly any mistakes. On augmented images it is
        overconfident, and its first gradients would damage the backbone.
        """
        pairs = [(self._augmented_logits(*map(tf.constant, batch)), self._targets(*batch[1:3])) for batch in batches]
        logits, targets = (tf.concat(parts, axis=0) for parts in zip(*pairs))
        losses = [tf.reduce_sum(cross_entropy(targets, logits * scale)) for scale in _HEAD_SCALES]
        for variable in (*self._head, *self._learner_head):
            variable.assign(variable * _HEAD_SCALES[int(np.argmin(losses))])

    def train_step(self, upper_only: bool, averaged_steps: float) -> Any:
        """The compiled step: (batch distributed over the replicas, learning rate) -> (loss, number of hits)."""
        first = int(len(self._layers) * (1 - self._options.upper_share)) if upper_only else 0
        variables = [*self._learner_head, *(variable for layer in self._layers[first:] for variable in layer)]
        averages = [*self.backbone.weights, *self._head]
        newest = [*self._learner.weights, *self._learner_head]

        def replica(*values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = Batch(*values)
            images = augmentation.apply(batch.frames, batch.positions, batch.colours, self.train_size)
            images = augmentation.blend(images, batch.shares)
            targets = augmentation.blend(self._batch_targets(batch), batch.shares)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                learning = self._trained.batch_normalization
                embeddings = self._embed(self._learner, images, learning)
                logits = _logits(embeddings, self._learner_head)
                losses = cross_entropy(targets, logits)
                if self._distillation is not None:
                    losses = self._distillation.losses(images, embeddings, logits, losses)
                loss = tf.reduce_sum(losses) / self._options.batch_size
            self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
            return loss, tf.reduce_sum(_hits(logits, batch.labels))

        @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
        def step(batch: Any, learning_rate: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            self._optimizer.learning_rate.assign(learning_rate)
            loss, hits = self.strategy.run(replica, args=batch)
            for average, new in zip(averages, newest):
                average.assign_add((new - average) / averaged_steps)
            total = tf.distribute.ReduceOp.SUM
            return self.strategy.reduce(total, loss, None), self.strategy.reduce(total, hits, None)

        return step

    def evaluate(self, frames: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """The loss (m,) and hit (m,), 0 or 1, of each frame (m, h, w, 3) uint8, as the device will see it."""
        losses, hits = self._evaluate(tf.constant(frames), tf.constant(labels))
        return losses.numpy(), hits.numpy()

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def _evaluate(self, frames: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = _logits(self._embed(self.backbone, tf.cast(frames, tf.float32)), self._head)
        return cross_entropy(self._targets(labels), logits), _hits(logits, labels)

    @tf.function(reduce_retracing=True)  # type: ignore[untyped-decorator]
    def _augmented_logits(self, *values: tf.Tensor) -> tf.Tensor:
        batch = Batch(*values)
        images = augmentation.apply(batch.frames, batch.positions, batch.colours, self.train_size)
        return _logits(self._embed(self._learner, images), self._learner_head)

    def _embed(self, backbone: tf_keras.Model, images: tf.Tensor, learning: bool = False) -> tf.Tensor:
        offset, scale = self._normalization
        return unit_length(backbone((images - offset) / scale, training=learning))

    def _targets(self, labels: tf.Tensor, weights: Any = 1.0) -> tf.Tensor:
        """The target probabilities (m, K) with label smoothing, times the weight of each image."""
        classes, smoothing = self._head[1].shape[0], self._options.label_smoothing
        return (tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes) * tf.reshape(weights, (-1, 1))

    def _batch_targets(self, batch: Batch) -> tf.Tensor:
        """The targets (m, K) from labels and answers together; from the answers alone for images without a label."""
        by_label = self._targets(batch.labels, batch.weights)
        if not batch.answers.shape[1]:
            return by_label
        share = tf.where(batch.labels == NO_LABEL, 1.0, self._options.distillation.answers)[:, None]
        return (1 - share) * by_label + share * batch.answers

    def _rates(self) -> tuple[list[tf.Variable], list[float]]:
        """All trained variables, and the learning rate of each relative to the top layer of the backbone."""
        options = self._options
        head_rate = options.head_learning_rate / options.learning_rate
        layer_rates = np.geomspace(options.lowest_rate, 1.0, len(self._layers))
        pairs = [(variable, head_rate) for variable in self._learner_head]
        pairs += [(variable, rate) for layer, rate in zip(self._layers, layer_rates) for variable in layer]
        return [variable for variable, _ in pairs], [float(rate) for _, rate in pairs]


def _logits(embeddings: tf.Tensor, head: list[tf.Variable]) -> tf.Tensor:
    weights, bias = head
    return embeddings @ weights + bias


def _hits(logits: tf.Tensor, labels: tf.Tensor) -> tf.Tensor:
    return tf.cast(tf.equal(tf.argmax(logits, axis=1, output_type=labels.dtype), labels), tf.float32)


def _trained_variables(backbone: tf_keras.Model, trained: TrainedLayers) -> list[list[tf.Variable]]:
    """The trained variables of each layer, from the input to the embedding."""
    layers = [_trained_in(layer, trained) for layer in backbone.layers]
    return [variables for variables in layers if variables]


def _trained_in(layer: tf_keras.layers.Layer, trained: TrainedLayers) -> list[tf.Variable]:
    if isinstance(layer, tf_keras.layers.BatchNormalization) and not trained.batch_normalization:
        return []
    if isinstance(layer, tf_keras.layers.DepthwiseConv2D) and not trained.depthwise_kernels:
        return [layer.bias] if layer.use_bias else []
    weights: list[tf.Variable] = layer.trainable_weights
    return weights
