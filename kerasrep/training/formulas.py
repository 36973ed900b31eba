"""The formulas of a training step: loss, Adam, rate and scale."""

from __future__ import annotations

from collections.abc import Sequence

import keras
import tensorflow as tf

from kerasrep import constants
from kerasrep.recipe.schema import Recipe

ADAM_BETA_1, ADAM_BETA_2, ADAM_EPSILON = 0.9, 0.999, 1e-8


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
    training = recipe.training
    rate = tf.constant(training.learning_rate, tf.float32)
    now = tf.cast(step, tf.float32)
    if training.warmup_steps:
        rate *= tf.minimum(1.0, (now + 1.0) / training.warmup_steps)
    if training.decay == "constant":
        return rate
    return rate * 0.5 * (1.0 + tf.cos(tf.constant(3.141592653589793) * now / float(n_steps)))


def clipped(gradients: list[tf.Tensor], longest: float) -> list[tf.Tensor]:
    """Gradients of one step, shortened together where they are longer than `longest`; 0 never does."""
    if not longest:
        return gradients
    length = tf.sqrt(tf.add_n([tf.reduce_sum(tf.square(gradient)) for gradient in gradients]))
    scale = longest / tf.maximum(length, longest)
    return [gradient * scale for gradient in gradients]


def averaged(average: tf.Tensor, values: tf.Tensor, decay: float, update: tf.Tensor) -> tf.Tensor:
    """Exponential moving average of values; it is short in the beginning, when they change most.

    Args:
        average: float32 [n], so far.
        values: float32 [n], now.
        decay: Part of the average that stays.
        update: int64 [], updates so far, this one included.
    """
    count = tf.cast(update, tf.float32)
    keep = tf.minimum(decay, count / (count + 10.0))
    return keep * average + (1.0 - keep) * values


def loss_scale(recipe: Recipe, source: str, size: int) -> float:
    """What a source's loss is multiplied with before the gradient.

    The authors' code averages a divergence over all elements of the target, not over examples.
    """
    scale = float(recipe.training.source_weights.get(source, 1.0))
    if recipe.model.loss_scaling == "batch" or recipe.loss_of(source) != "divergence":
        return scale
    return scale / (constants.SELF_CLASSES if source == "self" else size)


def not_finite(*vectors: tf.Tensor) -> tf.Tensor:
    """0 where all values are finite, else NaN; float32 []."""
    total = tf.add_n([tf.reduce_sum(vector) for vector in vectors])
    return tf.where(tf.math.is_finite(total), 0.0, float("nan"))


def gathered(values: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
    """Rows of all replicas, in their order, and where this replica's begin; gradients go back to each."""
    context = tf.distribute.get_replica_context()
    first = tf.cast(context.replica_id_in_sync_group, tf.int32) * tf.shape(values)[0]
    return context.all_gather(values, 0), first


def seeds(states: Sequence[keras.Variable], step: tf.Tensor, first: tf.Tensor) -> list[tf.Tensor]:
    """A seed pair of a step for each dropout layer, whose states these are; the seeds count from `first`."""
    pairs = [tf.stack([step, first + number]) for number in range(len(states))]
    return [tf.cast(pair % 2**31, state.dtype) for state, pair in zip(states, pairs, strict=True)]
