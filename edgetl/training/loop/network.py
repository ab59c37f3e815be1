"""Hides what is trained: backbone, head, augmentation and loss as one compiled step; `fine_tuning` drives it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple, Optional

import numpy as np
import tensorflow as tf
import tf_keras

from edgetl.training.batch_norm_folding import copy_for_training
from edgetl.training.distillation import Lesson, Teacher
from edgetl.training.loop import augmentation, hardware
from edgetl.training.loop.input_pipeline import NO_LABEL, Batch
from edgetl.training.loop.optimizer import RelativeAdam
from edgetl.training.options import FineTuneOptions
from edgetl.training.trainable_last_layer import TrainableLastLayer, cross_entropy, head_of, unit_length

_SOFTER = np.geomspace(1.0, 1e-3, 61).astype(np.float32)


class Trained(NamedTuple):
    """Which layers beside convolutions and dense layers learn.

    The gradient of depthwise kernels takes a third of a step on a CPU, and they are three percent of the weights;
    their biases always learn.
    """

    depthwise_kernels: bool
    batch_normalization: bool = False


class Network:
    """A backbone under training with the head that tells it what to change.

    The given backbone receives the running average of the weights under training (Polyak and Juditsky 1992): it
    is what validation sees and what is kept, steadier than the weights of any one step.
    """

    def __init__(
        self,
        backbone: tf_keras.Model,
        normalization: tuple[float, float],
        start: TrainableLastLayer,
        trained: Trained,
        options: FineTuneOptions,
        teacher: Optional[Teacher] = None,
    ) -> None:
        self._normalization, self._trained, self._options = normalization, trained, options
        self.strategy = hardware.strategy()
        self.size: tuple[int, int] = backbone.input_shape[1:3]
        self.backbone, self._head = backbone, head_of(start)
        with self.strategy.scope():
            self._learner, self.train_size = copy_for_training(backbone, options.train_scale)
            self._lesson = Lesson(teacher, options.train_scale, options.distillation) if teacher else None
            self._learner_head = head_of(start)
            self._layers = _trained_variables(self._learner, trained)
            variables, rates = self._rates()
            self._optimizer = RelativeAdam(variables, rates, options.weight_decay)

    @property
    def state(self) -> list[tf.Variable]:
        """Every variable that a later step depends on."""
        models = [*self.backbone.weights, *self._learner.weights, *self._head, *self._learner_head]
        return [*models, *self._optimizer.variables]

    def soften_head(self, batches: Iterable[Batch]) -> None:
        """Divides the head by what makes it as sure of itself as it can be right on varied images.

        It was solved on images as they are, where it makes hardly a mistake; taken at its word on varied ones, its
        first gradients would tear up the backbone.
        """
        judged = [(self._varied_logits(*map(tf.constant, batch)), self._wanted(*batch[1:3])) for batch in batches]
        logits, wanted = (tf.concat(parts, axis=0) for parts in zip(*judged))
        losses = [tf.reduce_sum(cross_entropy(wanted, logits * factor)) for factor in _SOFTER]
        for variable in (*self._head, *self._learner_head):
            variable.assign(variable * _SOFTER[int(np.argmin(losses))])

    def train_step(self, upper_only: bool, averaged_steps: float) -> Any:
        """Compiled: one batch, shared among the replicas, at a learning rate -> loss, hits."""
        first = int(len(self._layers) * (1 - self._options.upper_share)) if upper_only else 0
        variables = [*self._learner_head, *(variable for layer in self._layers[first:] for variable in layer)]
        averages = [*self.backbone.weights, *self._head]
        newest = [*self._learner.weights, *self._learner_head]

        def replica(*values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
            batch = Batch(*values)
            images = augmentation.apply(batch.frames, batch.positions, batch.colours, self.train_size)
            images = augmentation.blend(images, batch.shares)
            wanted = augmentation.blend(self._wanted_of(batch), batch.shares)
            with tf.GradientTape(watch_accessed_variables=False) as tape:
                tape.watch(variables)
                learning = self._trained.batch_normalization
                embeddings = self._embed(self._learner, images, learning)
                logits = _logits(embeddings, self._learner_head)
                losses = cross_entropy(wanted, logits)
                if self._lesson is not None:
                    losses = self._lesson.losses(images, embeddings, logits, losses)
                loss = tf.reduce_sum(losses) / self._options.batch_size
            self._optimizer.apply_gradients(zip(tape.gradient(loss, variables), variables))
            return loss, tf.reduce_sum(_hits(logits, batch.labels))

        @tf.function(reduce_retracing=True)
        def step(batch: tuple, learning_rate: tf.Tensor) -> tuple:
            self._optimizer.learning_rate.assign(learning_rate)
            loss, hits = self.strategy.run(replica, args=batch)
            for average, new in zip(averages, newest):
                average.assign_add((new - average) / averaged_steps)
            add = tf.distribute.ReduceOp.SUM
            return self.strategy.reduce(add, loss, None), self.strategy.reduce(add, hits, None)

        return step

    def evaluate(self, frames: np.ndarray, labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Loss and hit of every frame, (m,) each, at the backbone's own size and as the device will see it."""
        losses, hits = self._evaluate(tf.constant(frames), tf.constant(labels))
        return losses.numpy(), hits.numpy()

    @tf.function(reduce_retracing=True)
    def _evaluate(self, frames: tf.Tensor, labels: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        logits = _logits(self._embed(self.backbone, tf.cast(frames, tf.float32)), self._head)
        return cross_entropy(self._wanted(labels), logits), _hits(logits, labels)

    @tf.function(reduce_retracing=True)
    def _varied_logits(self, *values: tf.Tensor) -> tf.Tensor:
        batch = Batch(*values)
        images = augmentation.apply(batch.frames, batch.positions, batch.colours, self.train_size)
        return _logits(self._embed(self._learner, images), self._learner_head)

    def _embed(self, backbone: tf_keras.Model, images: tf.Tensor, learning: bool = False) -> tf.Tensor:
        offset, scale = self._normalization
        return unit_length(backbone((images - offset) / scale, training=learning))

    def _wanted(self, labels: tf.Tensor, weights: Any = 1.0) -> tf.Tensor:
        """The probabilities (m, K) that the head should give, times the weight of each image."""
        classes, smoothing = self._head[1].shape[0], self._options.label_smoothing
        return (tf.one_hot(labels, classes) * (1 - smoothing) + smoothing / classes) * tf.reshape(weights, (-1, 1))

    def _wanted_of(self, batch: Batch) -> tf.Tensor:
        """What labels and answers say together, (m, K); of an image without a label only the answers speak."""
        by_label = self._wanted(batch.labels, batch.weights)
        if not batch.answers.shape[1]:
            return by_label
        share = tf.where(batch.labels == NO_LABEL, 1.0, self._options.distillation.answers)[:, None]
        return (1 - share) * by_label + share * batch.answers

    def _rates(self) -> tuple[list[tf.Variable], list[float]]:
        """All trained variables, and how far each may go beside the top layer of the backbone."""
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


def _trained_variables(backbone: tf_keras.Model, trained: Trained) -> list[list[tf.Variable]]:
    """What is trained, layer by layer from the input to the embedding."""
    layers = [_trained_of(layer, trained) for layer in backbone.layers]
    return [variables for variables in layers if variables]


def _trained_of(layer: tf_keras.layers.Layer, trained: Trained) -> list[tf.Variable]:
    if isinstance(layer, tf_keras.layers.BatchNormalization) and not trained.batch_normalization:
        return []
    if isinstance(layer, tf_keras.layers.DepthwiseConv2D) and not trained.depthwise_kernels:
        return [layer.bias] if layer.use_bias else []
    return layer.trainable_weights
