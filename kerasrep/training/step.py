"""Training steps on the replicas of a distribution, as pure functions of flat vectors.

The published training (Kim et al. 2018, section 4.3) draws one source a step and updates the shared part
and that source's branch, each with its own Adam moments. L2 is part of the gradient, as in PyTorch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import keras
import tensorflow as tf

from kerasrep.data.batches import Batch, to_float
from kerasrep.model.dropout import Share, batch_share
from kerasrep.model.frontend import in_chunks
from kerasrep.model.strategies import SHARED, Network
from kerasrep.recipe.schema import Recipe
from kerasrep.sources.stretches import STRETCH_KINDS
from kerasrep.training.augmentation import Draws, change_mel, change_waveform, spared_crops
from kerasrep.training.formulas import clipped, gathered, learning_rate, loss_scale, not_finite, seeds
from kerasrep.training.losses import score
from kerasrep.training.totals import Tally, Totals
from kerasrep.training.update import updated
from kerasrep.training.vectors import FROZEN, UPDATES, GroupState

#: Vectors by part, for each group of a step.
_Values = tuple[dict[str, tf.Tensor], ...]


class Step:
    """Training steps of a network on the replicas of a distribution.

    Attributes:
        totals: Figures of the steps made so far; a step itself returns nothing, so that nobody waits for it.
    """

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
        distribution = next(iter(states.values())).distribution
        self.totals, self._replicas = Totals(len(sizes), distribution), distribution.num_replicas_in_sync
        self._functions: dict[tuple[str, int], Callable[..., Any]] = {}
        self._xla = xla
        self._frontend = in_chunks(lambda waveform: network.features(to_float(waveform)))
        self._may_lack_labels = any(recipe.kind_of(source) in STRETCH_KINDS for source in recipe.sources)
        self._gather = gathered if recipe.contrast.negatives == "all" and self._replicas > 1 else None
        self._waits = recipe.distribution.batch_norm == "synchronised" or self._gather is not None

    @property
    def branches(self) -> int:
        """Kinds of steps: one a source, or one that uses all."""
        return 1 if self._recipe.training.schedule == "joint" else len(self._sizes)

    def groups(self, source: int) -> tuple[str, ...]:
        """Groups that a step of `source` updates; all of them for -1."""
        if source < 0:
            return self._network.groups
        shared = (SHARED,) if SHARED in self._states else ()
        return (*shared, self._network.sources[source])

    def run(self, source: int, batch: Batch) -> None:
        """Make one step in replica context; writes the vectors and adds to the totals of the present replica.

        Args:
            source: Position of the source, known when the step is traced; -1 uses all.
            batch: This replica's part.
        """
        if self._replicas > 1:
            self.run_row(source, 1, lambda: batch)
        else:
            twin, place = self._same_shape(source), tf.constant(source, tf.int64)
            data = self._data(source, batch, batch.waveform)
            before, so_far = self._before(source), self.totals.local()
            self._write(source, *self._whole(twin)(before, so_far, place, batch.step, batch.uses, *data))

    def run_row(self, sources: tf.Tensor | int, count: int, batches: Callable[[], Batch]) -> None:
        """Make several steps in replica context, which the host need not start one by one.

        Where replicas add up their gradients, the host waits for GPUs in every step. Meanwhile they make the
        mels of the next one.

        Args:
            sources: Position of each step's source, int32 [count]; or that of all steps.
            count: Steps to make.
            batches: Gives this replica's part of each step.
        """
        steps = [sources if isinstance(sources, int) else sources[number] for number in range(count)]
        batch = batches()
        mel = self._mel(steps[0], batch)
        for number, source in enumerate(steps):
            gradients, present = self._chosen(source, self._gradients_of, batch, mel), batch
            if number + 1 < count:
                batch = batches()
                with tf.control_dependencies([gradients]):
                    mel = self._mel(steps[number + 1], batch)
            total = tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, gradients)
            self._chosen(source, self._apply, present, total)

    def _chosen(self, source: tf.Tensor | int, function: Callable[..., Any], *arguments: Any) -> Any:
        """Call `function(source, *arguments)`, also where the source is known to the graph alone."""
        if isinstance(source, int):
            return function(source, *arguments)
        return tf.switch_case(
            source, [partial(function, place, *arguments) for place in range(len(self._sizes))]
        )

    def _before(self, source: int) -> _Values:
        return tuple(self._states[group].local() for group in self.groups(source))

    def _data(self, source: int, batch: Batch, audio: tf.Tensor) -> tuple[Any, ...]:
        """What the gradient depends on besides vectors and step."""
        places = range(len(self._sizes)) if source < 0 else (source,)
        return (
            self._first_seed(source),
            self._replica(),
            audio,
            tuple(batch.targets[place] for place in places),
            tuple(batch.weights[place] for place in places),
        )

    def _gradients_of(self, source: int, batch: Batch, mel: tf.Tensor) -> tf.Tensor:
        """What `_apply` needs, summed over the replicas: as many values for each source, zeros behind."""
        data = self._data(source, batch, mel)
        gradients = self._gradient(self._same_shape(source))(self._before(source), batch.step, *data)
        places = (source,) if source < 0 else range(len(self._sizes))
        longest = max(sum(self._lengths(place)) for place in places)
        return tf.pad(gradients, [[0, longest - sum(self._lengths(source))]])

    def _lengths(self, source: int) -> tuple[int, int, int]:
        """Values of gradient, statistics and figures in one vector."""
        layouts = [self._states[group].layout for group in self.groups(source)]
        weights = sum(layout.weights.total for layout in layouts)
        statistics = sum(layout.statistics.total for layout in layouts)
        return weights, statistics, 3 * (len(self._sizes) if source < 0 else 1)

    def _apply(self, source: int, batch: Batch, gradients: tf.Tensor) -> None:
        """Change the vectors by what all replicas found."""
        update, place = self._update(self._same_shape(source)), tf.constant(source, tf.int64)
        before, so_far = self._before(source), self.totals.local()
        own = gradients[: sum(self._lengths(source))]
        self._write(source, *update(before, so_far, place, batch.step, batch.uses, own))

    def _write(self, source: int, after: _Values, tally: Tally) -> None:
        for group, values in zip(self.groups(source), after, strict=True):
            self._states[group].update(values)
        self.totals.update(tally)

    def _same_shape(self, source: int) -> int:
        """The first source whose branch and head have the same shapes, and whose steps are made alike.

        Its trace serves all sources of that shape, with their vectors in the place of its own: tracing one
        branch takes about as long as training it for ten steps.
        """
        if source < 0:
            return source
        recipe, network = self._recipe, self._network
        kinds = [
            (
                name == "self",
                size,
                network.loss_of(name),
                recipe.training.source_weights.get(name),
                recipe.augment.names((name,)),
            )
            for name, size in zip(network.sources, self._sizes, strict=True)
        ]
        return kinds.index(kinds[source])

    def _figures(self, source: int, place: tf.Tensor, reported: tf.Tensor) -> tf.Tensor:
        """Spread figures, float32 [3 x used], over all sources, float32 [3, sources]; 0 where not used."""
        figures = tf.reshape(reported, (3, -1))
        if source < 0:
            return figures
        return tf.where(tf.range(len(self._sizes), dtype=tf.int64) == place, figures, 0.0)  # not NaN x 0

    def _whole(self, source: int) -> Callable[..., Any]:
        """A step that needs no other replica: one function, so that one call launches all of it."""

        def function(
            before: _Values,
            so_far: Tally,
            place: tf.Tensor,
            step: tf.Tensor,
            uses: tf.Tensor,
            first_seed: tf.Tensor,
            replica: tf.Tensor,
            waveform: tf.Tensor,
            *examples: Any,
        ) -> Any:
            mel = self._features(source)(step, replica, waveform, examples[1])
            gradients = self._plain_gradient(source)(before, step, first_seed, replica, mel, *examples)
            return self._plain_update(source)(before, so_far, place, step, uses, gradients)

        return self._once("whole", source, function)

    def _mel(self, source: tf.Tensor | int, batch: Batch) -> tf.Tensor:
        """Standardised log-mel of a batch."""
        if self._recipe.augment.names():
            return self._chosen(source, self._mel_of, batch)
        return self._mel_of(-1, batch)

    def _mel_of(self, source: int, batch: Batch) -> tf.Tensor:
        function = self._once("mel", self._same_shape(source), self._features(source))
        weights = batch.weights if source < 0 and self._recipe.augment.leave_out else ()
        return function(batch.step, self._replica(), batch.waveform, weights)

    def _features(self, source: int) -> Callable[..., tf.Tensor]:
        """int16 samples to standardised log-mel, with the changes that a step of this source makes.

        In a joint step a crop is spared what a label that it has would not survive; `self` has all crops.
        """
        settings, network = self._recipe.augment, self._network
        names = settings.names(("self",) if source < 0 else self._sources(source))

        def function(
            step: tf.Tensor, replica: tf.Tensor, waveform: tf.Tensor, weights: tuple[tf.Tensor, ...]
        ) -> tf.Tensor:
            share = Share(replica, self._replicas, self._in_halves(source))
            joint = source < 0 and settings.leave_out
            spared = spared_crops(settings, self._sources(source), weights) if joint else {}
            draws = Draws(self._recipe.seed, step, share, settings.alike, spared)
            x = change_waveform(waveform, names, settings, draws)
            return change_mel(self._frontend(x), names, settings, network.scaler, draws)

        return function

    def _sources(self, source: int) -> tuple[str, ...]:
        """Sources that a step uses."""
        return self._network.sources if source < 0 else (self._network.sources[source],)

    def _in_halves(self, source: int) -> bool:
        """Whether a batch holds the first segments of all pairs, then the second ones."""
        return "self" in self._sources(source)

    def _replica(self) -> tf.Tensor:
        """Number of the present replica, int64 []."""
        return tf.cast(tf.distribute.get_replica_context().replica_id_in_sync_group, tf.int64)

    def _gradient(self, source: int) -> Callable[..., Any]:
        # Collectives, as those of synchronised batch norm, must stand in the replica's own graph.
        function = self._plain_gradient(source)
        return function if self._waits else self._once("gradient", source, function)

    def _update(self, source: int) -> Callable[..., Any]:
        return self._once("update", source, self._plain_update(source))

    def _once(self, name: str, source: int, function: Callable[..., Any]) -> Callable[..., Any]:
        """The function, traced once and compiled where steps are."""
        if (name, source) not in self._functions:
            self._functions[name, source] = tf.function(function, jit_compile=self._xla, autograph=False)
        return self._functions[name, source]

    def _plain_update(self, source: int) -> Callable[..., Any]:
        """Values of the groups and the tally after a step, out of those before it and the gradient."""

        def function(
            before: _Values,
            so_far: Tally,
            place: tf.Tensor,
            step: tf.Tensor,
            uses: tf.Tensor,
            gradients: tf.Tensor,
        ) -> tuple[_Values, Tally]:
            groups = self.groups(source)
            gradient, statistics, reported = tf.split(gradients, self._lengths(source))
            layouts = [self._states[group].layout for group in groups]
            gradients = tf.split(gradient, [layout.weights.total for layout in layouts])
            gradients = clipped(gradients, self._recipe.training.clip_norm)
            parts = tf.split(statistics, [layout.statistics.total for layout in layouts])
            rate, used = learning_rate(self._recipe, step, self._n_steps), tf.reshape(reported, (3, -1))[2]
            after = []
            for group, layout, old, own, part in zip(groups, layouts, before, gradients, parts, strict=True):
                count = step if group == SHARED or source < 0 else uses
                if UPDATES in old:  # not every joint step has a label of this source
                    count = tf.cast(old[UPDATES][0], tf.int64)
                new = updated(self._recipe, self._network, layout.weights, old, own, part, rate, count + 1)
                if self._may_lack_labels or (source < 0 and group != SHARED):
                    # No crop of the batch may have a label; momentum alone must not move anything.
                    own_place = source < 0 and group != SHARED
                    place_of = self._network.sources.index(group) if own_place else slice(None)
                    has = tf.reduce_any(used[place_of] > 0)
                    new = {name: tf.where(has, value, old[name]) for name, value in new.items()}
                after.append(new)
            return tuple(after), so_far.with_step(step, self._figures(source, place, reported))

        return function

    def _first_seed(self, source: int) -> tf.Tensor:
        """What the dropout seeds of a source count from, int64 []; the same on all replicas."""
        before = self._network.sources[: max(0, source)]
        counts = [len(self._network.seed_states(name)) for name in before]
        return tf.constant(sum(counts) + self._recipe.seed * 4099, tf.int64)

    def _plain_gradient(self, source: int) -> Callable[..., Any]:
        """Gradient, new statistics and figures of a source in one vector, as a function of tensors alone.

        Sums over replicas are the gradient of the whole batch, the mean statistics, and the whole batch's
        figures.
        """
        layouts = [self._states[group].layout for group in self.groups(source)]
        names = self._sources(source)
        together = self._network.together if source < 0 else None

        def function(
            before: _Values,
            step: tf.Tensor,
            first_seed: tf.Tensor,
            replica: tf.Tensor,
            mel: tf.Tensor,
            targets: tuple[tf.Tensor, ...],
            example_weights: tuple[tf.Tensor, ...],
        ) -> tf.Tensor:
            weights = tuple(values["weights"] for values in before)
            states = [state for name in names for state in self._network.seed_states(name)]
            mapping = list(zip(states, seeds(states, step, first_seed), strict=True))
            with tf.GradientTape() as tape:
                tape.watch(weights)
                for layout, values in zip(layouts, before, strict=True):
                    mapping += layout.weights.split(values["weights"])
                    mapping += layout.statistics.split(values["statistics"])
                    if FROZEN in values:
                        mapping += layout.frozen.split(values[FROZEN])
                if together is not None:
                    mapping += together.joined(mapping)
                with keras.StatelessScope(state_mapping=mapping) as scope:
                    logits = self._logits(source, mel, replica)
                loss, reported = self._loss(names, logits, targets, example_weights)
            gradient = tape.gradient(loss, weights, unconnected_gradients="zero")
            own = {} if together is None else together.divided(scope.get_current_value)
            new = [
                layout.statistics.join(
                    [own.get(id(v), scope.get_current_value(v)) for v in layout.statistics.variables]
                )
                for layout in layouts
            ]
            faults = [not_finite(gradient, part) for gradient, part in zip(gradient, new, strict=True)]
            reported = self._with_faults(source, faults, reported)
            statistics = tf.concat(new, 0) / self._replicas
            return tf.concat([*gradient, statistics, reported], 0)

        return function

    def _with_faults(self, source: int, faults: Sequence[tf.Tensor], reported: tf.Tensor) -> tf.Tensor:
        """Figures whose losses are NaN where the gradient of a group, or its statistics, are not finite.

        The loss alone does not tell: some kernels of TensorFlow make NaN to 0, as max pooling and oneDNN's
        batch norm with ReLU.

        Args:
            source: -1 for all.
            faults: Of each group, 0 or NaN.
            reported: float32 [3 x sources].
        """
        by_group = dict(zip(self.groups(source), faults, strict=True))
        shared = by_group.pop(SHARED, tf.zeros(()))
        own = tf.stack(list(by_group.values()))
        # What all share goes wrong with any source: it is reported for all where no source's own part did.
        shared = tf.where(tf.reduce_any(tf.math.is_nan(own)), 0.0, shared)
        losses, *others = tf.unstack(tf.reshape(reported, (3, -1)))
        return tf.reshape(tf.stack([losses + own + shared, *others]), (-1,))

    def _logits(self, source: int, mel: tf.Tensor, replica: tf.Tensor) -> Mapping[str, tf.Tensor]:
        # In an alternating step of `self` the two halves go through the network one after the other.
        paired = source < 0 and self._in_halves(source)
        with batch_share(Share(replica, self._replicas, paired)):
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
        """Loss to differentiate; and loss, accuracy and weight of each source, float32 [3 x sources]."""
        loss, figures = tf.constant(0.0), []
        for name, target, weight in zip(names, targets, weights, strict=True):
            kind = self._network.loss_of(name)
            result = score(kind, logits[name], target, weight, self._recipe.contrast, self._gather)
            loss += loss_scale(self._recipe, name, target.shape[-1]) * result.loss
            figures.append([result.loss, result.accuracy, tf.reduce_sum(weight)])
        return loss, tf.reshape(tf.transpose(tf.convert_to_tensor(figures)), (-1,))
