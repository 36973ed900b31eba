"""One training step: the loss of a source, its gradient, Adam; all as pure functions of flat vectors.

The published training (Kim et al. 2018, section 4.3) draws one source a step and updates the shared part
and that source's branch, each with its own Adam moments. L2 is part of the gradient, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

import keras
import tensorflow as tf

from kerasrep import constants
from kerasrep.data.batches import Batch, to_float
from kerasrep.model.strategies import SHARED, Network
from kerasrep.recipe import Recipe
from kerasrep.training.vectors import PARTS, GroupLayout, GroupState

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


class StepResult(NamedTuple):
    """What a step reports.

    Attributes:
        loss: float32 [sources], mean divergence in nats; 0 where a source was not used.
        agreement: float32 [sources].
        used: float32 [sources], 1 where a source was used.
    """

    loss: tf.Tensor
    agreement: tf.Tensor
    used: tf.Tensor


class Step:
    """Training steps of a network on the replicas of a distribution."""

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        states: Mapping[str, GroupState],
        sizes: Sequence[int],
        n_steps: int,
        xla: bool,
    ) -> None:
        """Keep what all steps have in common; nothing is traced yet."""
        self._recipe, self._network, self._states = recipe, network, states
        self._sizes, self._n_steps = sizes, n_steps
        self._gradients: dict[int, Callable[..., tuple[tf.Tensor, ...]]] = {}
        self._xla = xla
        self._adam = tf.function(adam, jit_compile=True) if xla else adam

    def groups(self, source: int) -> tuple[str, ...]:
        """Groups that a step of `source` updates; all of them for -1."""
        if source < 0:
            return self._network.groups
        shared = (SHARED,) if SHARED in self._states else ()
        return (*shared, self._network.sources[source])

    def run(self, source: int, batch: Batch) -> StepResult:
        """Make one step on the present replica.

        Args:
            source: Position of the source, known when the step is traced; -1 uses all.
            batch: This replica's part.
        """
        groups = self.groups(source)
        before = {group: self._states[group].local() for group in groups}
        if source not in self._gradients:
            function = self._gradient_function(source)
            self._gradients[source] = tf.function(function, jit_compile=True) if self._xla else function
        gradient, statistics, reported = self._gradients[source](
            tuple(before[g]["weights"] for g in groups),
            tuple(before[g]["statistics"] for g in groups),
            self._dropout_seeds(batch.step),
            batch,
        )
        gradient, statistics, reported = _reduce(gradient, statistics, reported)
        rate = learning_rate(self._recipe, batch.step, self._n_steps)
        loss, agreement, used = tf.unstack(tf.reshape(reported, (3, len(self._sizes))))
        self._update(source, groups, before, gradient, statistics, rate, used, batch)
        return StepResult(loss, agreement, used)

    def _update(
        self,
        source: int,
        groups: tuple[str, ...],
        before: Mapping[str, dict[str, tf.Tensor]],
        gradient: tf.Tensor,
        statistics: tf.Tensor,
        rate: tf.Tensor,
        used: tf.Tensor,
        batch: Batch,
    ) -> None:
        layouts = [self._states[group].layout for group in groups]
        gradients = tf.split(gradient, [layout.weights.total for layout in layouts])
        statistics = tf.split(statistics, [layout.statistics.total for layout in layouts])
        for group, slope, new_statistics in zip(groups, gradients, statistics, strict=True):
            old = before[group]
            count = batch.step if group == SHARED or source < 0 else batch.uses
            regularised = slope + self._recipe.model.l2 * old["weights"]
            weights, first, second = self._adam(
                old["weights"], regularised, old["first_moment"], old["second_moment"], rate, count + 1
            )
            new = dict(zip(PARTS, (weights, first, second, new_statistics), strict=True))
            if source < 0 and group != SHARED:
                # No track of the batch may have this source; momentum alone must not move its branch.
                has = used[self._network.sources.index(group)] > 0
                new = {part: tf.where(has, value, old[part]) for part, value in new.items()}
            self._states[group].update(new)

    def _dropout_seeds(self, step: tf.Tensor) -> tf.Tensor:
        """One seed pair for each dropout layer of this step and replica, [layers, 2]."""
        states = self._network.seed_states()
        if not states:
            return tf.zeros((0, 2), tf.int64)
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        second = tf.range(len(states), dtype=tf.int64) + replica * len(states) + self._recipe.seed * 4099
        seeds = tf.stack([tf.fill((len(states),), step), second], axis=1)
        return tf.cast(seeds % 2**31, states[0].dtype)

    def _gradient_function(self, source: int) -> Callable[..., tuple[tf.Tensor, ...]]:
        groups = self.groups(source)
        layouts = [self._states[group].layout for group in groups]

        def function(
            weights: tuple[tf.Tensor, ...], statistics: tuple[tf.Tensor, ...], seeds: tf.Tensor, batch: Batch
        ) -> tuple[tf.Tensor, ...]:
            with tf.GradientTape() as tape:
                tape.watch(weights)
                loss, new_statistics, reported = self._forward(
                    source, layouts, weights, statistics, seeds, batch
                )
            gradient = tape.gradient(loss, weights, unconnected_gradients="zero")
            return tf.concat(gradient, 0), tf.concat(new_statistics, 0), reported

        return function

    def _forward(
        self,
        source: int,
        layouts: Sequence[GroupLayout],
        weights: Sequence[tf.Tensor],
        statistics: Sequence[tf.Tensor],
        seeds: tf.Tensor,
        batch: Batch,
    ) -> tuple[tf.Tensor, list[tf.Tensor], tf.Tensor]:
        states = self._network.seed_states()
        mapping = list(zip(states, tf.unstack(seeds, len(states)), strict=True))
        for layout, weight, statistic in zip(layouts, weights, statistics, strict=True):
            mapping += layout.weights.split(weight) + layout.statistics.split(statistic)
        with keras.StatelessScope(state_mapping=mapping) as scope:
            mel = self._network.features(to_float(batch.waveform))
            if source < 0:
                logits = self._network.all_logits(mel, training=True)
            else:
                name = self._network.sources[source]
                logits = {name: self._network.logits(name, mel, training=True)}
        new = [
            layout.statistics.join([scope.get_current_value(v) for v in layout.statistics.variables])
            for layout in layouts
        ]
        loss, reported = self._loss(logits, batch)
        return loss, new, reported

    def _loss(self, logits: Mapping[str, tf.Tensor], batch: Batch) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss to differentiate, and the reported figures, float32 [3 x sources]."""
        loss, losses, agreements, used = tf.constant(0.0), [], [], []
        for place, source in enumerate(self._network.sources):
            if source not in logits:
                result, weight_sum = SourceScore(tf.constant(0.0), tf.constant(0.0)), tf.constant(0.0)
            else:
                result = score(logits[source], batch.targets[place], batch.weights[place])
                loss += loss_scale(self._recipe, source, self._sizes[place]) * result.loss
                weight_sum = tf.reduce_sum(batch.weights[place])
            losses.append(result.loss)
            agreements.append(result.agreement)
            used.append(weight_sum)
        return loss, tf.stack(losses + agreements + used)


def _reduce(
    gradient: tf.Tensor, statistics: tf.Tensor, reported: tf.Tensor
) -> tuple[tf.Tensor, tf.Tensor, tf.Tensor]:
    """Sum gradients and figures over the replicas and average the statistics, in one reduction."""
    context = tf.distribute.get_replica_context()
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return gradient, statistics, reported
    sizes = [int(part.shape[0]) for part in (gradient, statistics, reported)]
    packed = context.all_reduce(
        tf.distribute.ReduceOp.SUM, tf.concat([gradient, statistics / replicas, reported], 0)
    )
    first, second, third = tf.split(packed, sizes)
    return first, second, third
