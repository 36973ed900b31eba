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
from kerasrep.training.vectors import PARTS, GroupState

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
        self._synchronised = recipe.distribution.batch_norm == "synchronised"
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
        places = range(len(self._sizes)) if source < 0 else (source,)
        gradient, statistics, reported = self._gradient_function(self._twin(source))(
            tuple(before[g]["weights"] for g in groups),
            tuple(before[g]["statistics"] for g in groups),
            self._dropout_seeds(batch.step, source),
            batch.waveform,
            tuple(batch.targets[place] for place in places),
            tuple(batch.weights[place] for place in places),
        )
        gradient, statistics, reported = _reduce(gradient, statistics, reported)
        result = self._result(source, reported)
        rate = learning_rate(self._recipe, batch.step, self._n_steps)
        self._update(source, groups, before, gradient, statistics, rate, result.used, batch)
        return result

    def _twin(self, source: int) -> int:
        """The first source whose branch and head have the same shapes.

        Its trace serves all its twins, with their vectors in the place of its own: tracing one branch
        takes about as long as training it for ten steps.
        """
        if source < 0:
            return source
        kinds = [
            (name == "self", size) for name, size in zip(self._network.sources, self._sizes, strict=True)
        ]
        return kinds.index(kinds[source])

    def _result(self, source: int, reported: tf.Tensor) -> StepResult:
        """Spread the figures of the sources in a batch, float32 [3 x used], over all sources."""
        figures = tf.reshape(reported, (3, -1))
        if source >= 0:
            figures = figures * tf.one_hot(source, len(self._sizes))
        return StepResult(*tf.unstack(figures))

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

    def _dropout_seeds(self, step: tf.Tensor, source: int) -> tf.Tensor:
        """A seed pair for each dropout layer of the sources used, of this step and replica, [layers, 2]."""
        names = self._network.sources
        counts = [len(self._network.seed_states(name)) for name in names]
        dtype = next((v.dtype for name in names for v in self._network.seed_states(name)), "int64")
        first, count = (0, sum(counts)) if source < 0 else (sum(counts[:source]), counts[source])
        replica = tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)
        layers = first + tf.range(count, dtype=tf.int64)
        second = layers + replica * sum(counts) + self._recipe.seed * 4099
        seeds = tf.stack([tf.fill((count,), step), second], axis=1)
        return tf.cast(seeds % 2**31, dtype)

    def _gradient_function(self, source: int) -> Callable[..., tuple[tf.Tensor, ...]]:
        """Gradient, new statistics and figures of a source, as a function of tensors alone."""
        if source in self._gradients:
            return self._gradients[source]
        layouts = [self._states[group].layout for group in self.groups(source)]
        names = self._network.sources if source < 0 else (self._network.sources[source],)

        def function(
            weights: tuple[tf.Tensor, ...],
            statistics: tuple[tf.Tensor, ...],
            seeds: tf.Tensor,
            waveform: tf.Tensor,
            targets: tuple[tf.Tensor, ...],
            example_weights: tuple[tf.Tensor, ...],
        ) -> tuple[tf.Tensor, ...]:
            states = [state for name in names for state in self._network.seed_states(name)]
            mapping = list(zip(states, tf.unstack(seeds, len(states)), strict=True))
            with tf.GradientTape() as tape:
                tape.watch(weights)
                for layout, weight, statistic in zip(layouts, weights, statistics, strict=True):
                    mapping += layout.weights.split(weight) + layout.statistics.split(statistic)
                with keras.StatelessScope(state_mapping=mapping) as scope:
                    logits = self._logits(source, waveform)
                loss, reported = self._loss(names, logits, targets, example_weights)
            gradient = tape.gradient(loss, weights, unconnected_gradients="zero")
            new = [
                layout.statistics.join([scope.get_current_value(v) for v in layout.statistics.variables])
                for layout in layouts
            ]
            return tf.concat(gradient, 0), tf.concat(new, 0), reported

        # The collectives of synchronised batch norm must stand in the replica's own graph.
        plain = self._synchronised and tf.distribute.get_strategy().num_replicas_in_sync > 1
        self._gradients[source] = function if plain else tf.function(function, jit_compile=self._xla)
        return self._gradients[source]

    def _logits(self, source: int, waveform: tf.Tensor) -> Mapping[str, tf.Tensor]:
        mel = self._network.features(to_float(waveform))
        if source < 0:
            return self._network.all_logits(mel, training=True)
        name = self._network.sources[source]
        return {name: self._network.logits(name, mel, training=True)}

    def _loss(
        self,
        names: Sequence[str],
        logits: Mapping[str, tf.Tensor],
        targets: Sequence[tf.Tensor],
        weights: Sequence[tf.Tensor],
    ) -> tuple[tf.Tensor, tf.Tensor]:
        """Loss to differentiate; and loss, agreement and weight of each source, float32 [3 x sources]."""
        loss, figures = tf.constant(0.0), []
        for name, target, weight in zip(names, targets, weights, strict=True):
            result = score(logits[name], target, weight)
            loss += loss_scale(self._recipe, name, target.shape[-1]) * result.loss
            figures.append([result.loss, result.agreement, tf.reduce_sum(weight)])
        return loss, tf.reshape(tf.transpose(tf.convert_to_tensor(figures)), (-1,))


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
