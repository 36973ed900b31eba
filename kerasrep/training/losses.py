"""What sources are learnt by: pure functions from predictions and targets to a loss an example.

A loss is in nats where it is a likelihood, and can be compared with what the best constant prediction loses.
Beside it stands a second figure for people, the larger the better (see `accuracy`).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import tensorflow as tf

from kerasrep.recipe.base import LossName
from kerasrep.recipe.network import ContrastSettings

#: A standardised number counts as right within half a standard deviation.
NEAR_DEVIATIONS = 0.5
_NEVER = -1e9  # logit of what is no candidate
#: Rows of this replica -> rows of all replicas, and where its own begin among them.
Gather = Callable[[tf.Tensor], tuple[tf.Tensor, tf.Tensor]]


class ExampleScores(NamedTuple):
    """Scores of each example, float32 [examples].

    Attributes:
        loss: What is learnt by.
        accuracy: Divergence and contrast: 1 where the most probable class is the right one. Sigmoid: share of
            the labels that are on the right side of one half. Squared: 1 within half a standard deviation.
            Cosine: the cosine itself.
    """

    loss: tf.Tensor
    accuracy: tf.Tensor


class SourceScore(NamedTuple):
    """Weighted sums over a batch.

    Attributes:
        loss: See `ExampleScores`.
        accuracy: See `ExampleScores`.
    """

    loss: tf.Tensor
    accuracy: tf.Tensor


def score(
    name: LossName,
    predictions: tf.Tensor,
    target: tf.Tensor,
    weight: tf.Tensor,
    contrast: ContrastSettings,
    gather: Gather | None = None,
) -> SourceScore:
    """Compare predictions with targets.

    Args:
        name: What the source is learnt by.
        predictions: float32 [examples, size]; for contrast [2 x examples, projection], the first crops of all
            tracks, then their second ones.
        target: float32 [examples, size]; for contrast [examples, 2], numbers of track and group.
        weight: float32 [examples]; 0 where an example has no label.
        contrast: Settings of contrast.
        gather: For contrast with the crops of all replicas.
    """
    found = example_scores(name, predictions, target, contrast, gather)
    return SourceScore(*(tf.reduce_sum(weight * values) for values in found))


def example_scores(
    name: LossName,
    predictions: tf.Tensor,
    target: tf.Tensor,
    contrast: ContrastSettings,
    gather: Gather | None = None,
) -> ExampleScores:
    """Compare predictions with targets, example by example; see `score`."""
    if name == "contrast":
        return contrasted(predictions, target, contrast, gather)
    return LOSSES[name](predictions, target)


def divergence(logits: tf.Tensor, target: tf.Tensor) -> ExampleScores:
    """Kullback-Leibler divergence of softmax(logits) from a distribution; cross-entropy where it is one-hot.

    Args:
        logits: float32 [examples, size].
        target: float32 [examples, size], rows sum to 1.
    """
    log_q = tf.nn.log_softmax(logits)
    loss = tf.reduce_sum(tf.math.xlogy(target, target) - target * log_q, axis=-1)
    return ExampleScores(loss, _as_float(tf.equal(tf.argmax(logits, -1), tf.argmax(target, -1))))


def sigmoid(logits: tf.Tensor, target: tf.Tensor) -> ExampleScores:
    """Cross-entropy of independent labels, summed over them.

    Args:
        logits: float32 [examples, size].
        target: float32 [examples, size], 0 to 1.
    """
    loss = tf.nn.sigmoid_cross_entropy_with_logits(labels=target, logits=logits)
    right = _as_float(tf.equal(logits > 0, target > 0.5))
    return ExampleScores(tf.reduce_sum(loss, -1), tf.reduce_mean(right, -1))


def squared(values: tf.Tensor, target: tf.Tensor) -> ExampleScores:
    """Squared error of standardised values, mean over the columns.

    Args:
        values: float32 [examples, size].
        target: float32 [examples, size].
    """
    error = values - target
    near = tf.reduce_mean(_as_float(tf.abs(error) < NEAR_DEVIATIONS), -1)
    return ExampleScores(tf.reduce_mean(tf.square(error), -1), near)


def cosine(vectors: tf.Tensor, target: tf.Tensor) -> ExampleScores:
    """One minus the cosine of prediction and target.

    Args:
        vectors: float32 [examples, size].
        target: float32 [examples, size].
    """
    cosines = tf.reduce_sum(_unit(vectors) * _unit(target), -1)
    return ExampleScores(1.0 - cosines, cosines)


def contrasted(
    projections: tf.Tensor, places: tf.Tensor, settings: ContrastSettings, gather: Gather | None = None
) -> ExampleScores:
    """Normalised temperature-scaled cross-entropy, NT-Xent (Chen et al. 2020, arXiv 2002.05709, equation 1).

    Each crop has to find the other crop of its track among those of this replica, or of all. Other crops of
    the same group, thus of the same track, are no candidates.

    Args:
        projections: float32 [2 n, size], the first crops of n tracks, then their second ones.
        places: float32 [n, 2], numbers of their track and group.
        settings: Temperature; whether the first crops of other tracks are candidates for first ones too.
        gather: Gives the rows of all replicas, where these are candidates.
    """
    left, right = tf.split(_unit(projections), 2)
    groups, first = places[:, 1:], 0
    lefts, rights, all_groups = left, right, groups
    if gather is not None:
        lefts, first = gather(left)
        rights, all_groups = gather(right)[0], gather(groups)[0]
    own_place = first + tf.range(tf.shape(left)[0])
    itself = own_place[:, None] == tf.range(tf.shape(lefts)[0])[None]
    never = tf.where((groups == tf.transpose(all_groups)) & ~itself, _NEVER, 0.0)  # [n, candidates]
    across = tf.matmul(left, rights, transpose_b=True) / settings.temperature + never
    if gather is None:
        back = tf.transpose(across)
    else:
        back = tf.matmul(right, lefts, transpose_b=True) / settings.temperature + never
    scores = []
    for own, beside_own, logits in ((left, lefts, across), (right, rights, back)):
        candidates = logits
        if settings.views == "all":
            beside = tf.matmul(own, beside_own, transpose_b=True) / settings.temperature
            candidates = tf.concat([logits, beside + tf.where(itself, _NEVER, never)], 1)
        found = tf.reduce_sum(tf.where(itself, logits, 0.0), 1)
        loss = tf.reduce_logsumexp(candidates, 1) - found
        scores.append((loss, _as_float(found >= tf.reduce_max(candidates, 1))))
    (loss, right_one), (other_loss, other_right_one) = scores
    return ExampleScores((loss + other_loss) / 2, (right_one + other_right_one) / 2)


LOSSES = {"divergence": divergence, "sigmoid": sigmoid, "squared": squared, "cosine": cosine}


def _unit(vectors: tf.Tensor) -> tf.Tensor:
    return tf.math.l2_normalize(vectors, axis=-1, epsilon=1e-12)


def _as_float(condition: tf.Tensor) -> tf.Tensor:
    return tf.cast(condition, tf.float32)
