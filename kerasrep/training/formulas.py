"""The formulas of a training step: loss, Adam, rate and scale."""

from __future__ import annotations

from typing import NamedTuple

import tensorflow as tf

from kerasrep import constants
from kerasrep.recipe.schema import Recipe

ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8


class SourceScore(NamedTuple):
    """Weighted sums over a batch.

    Attributes:
        loss: Kullback-Leibler divergence to the target, nats.
        agreement: Examples whose most probable class is the target's.
    """

    loss: tf.Tensor
    agreement: tf.Tensor


def score(logits: tf.Tensor, target: tf.Tensor, weight: tf.Tensor) -> SourceScore:
    """Compare predictions with soft targets.

    Args:
        logits: float32 [examples, size].
        target: float32 [examples, size], rows sum to 1.
        weight: float32 [examples].
    """
    log_q = tf.nn.log_softmax(logits)
    divergence = tf.reduce_sum(tf.math.xlogy(target, target) - target * log_q, axis=-1)
    same = tf.cast(tf.equal(tf.argmax(logits, -1), tf.argmax(target, -1)), tf.float32)
    return SourceScore(tf.reduce_sum(weight * divergence), tf.reduce_sum(weight * same))


def adam(
    weights: tf.Tensor,
    gradient: tf.Tensor,
    first: tf.Tensor,
    second: tf.Tensor,
    learning_rate: tf.Tensor,
    update: tf.Tensor,
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Adam (Kingma and Ba 2015, algorithm 1) on a flat vector.

    Args:
        weights: float32 [n].
        gradient: float32 [n].
        first: First moment, float32 [n].
        second: Second moment, float32 [n].
        learning_rate: float32 [].
        update: int64 [], this group's updates so far, this one included.

    Returns:
        New weights, first and second moment.
    """
    count = tf.cast(update, tf.float32)
    first = ADAM_BETA_1 * first + (1 - ADAM_BETA_1) * gradient
    second = ADAM_BETA_2 * second + (1 - ADAM_BETA_2) * tf.square(gradient)
    corrected = first / (1 - ADAM_BETA_1**count)
    scale = tf.sqrt(second / (1 - ADAM_BETA_2**count)) + ADAM_EPSILON
    return weights - learning_rate * corrected / scale, first, second


def learning_rate(recipe: Recipe, step: tf.Tensor, n_steps: int) -> tf.Tensor:
    """Rate of a step, float32 []."""
    base = tf.constant(recipe.training.learning_rate, tf.float32)
    if recipe.training.decay == "constant":
        return base
    progress = tf.cast(step, tf.float32) / float(n_steps)
    return base * 0.5 * (1.0 + tf.cos(tf.constant(3.141592653589793) * progress))


def loss_scale(recipe: Recipe, source: str, size: int) -> float:
    """What a source's divergence is multiplied with before the gradient.

    The authors' code averages over all elements of the target, not over examples.
    """
    if recipe.model.loss_scaling == "batch":
        return 1.0
    return 1.0 / (constants.SELF_CLASSES if source == "self" else size)
