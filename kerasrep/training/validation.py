"""Loss on held-out tracks, with fixed crops and all sources; and what always guessing the mean would lose."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.data.batches import Batch, SplitExamples, plans_dataset, to_float
from kerasrep.data.schedule import Examples, ValidationPlans
from kerasrep.data.shards import ShardIndex
from kerasrep.model.frontend import in_chunks
from kerasrep.model.strategies import SHARED, Network
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.mapped_arrays import release
from kerasrep.training.formulas import score
from kerasrep.training.vectors import GroupState

ROWS_AT_ONCE = 1 << 16
CACHE_BYTES = 1 << 30  # keep the validation set's mels in memory up to this


class Score(NamedTuple):
    """One source on the validation set.

    Attributes:
        loss: Mean Kullback-Leibler divergence to the target, nats.
        agreement: Share of examples whose most probable class is the target's; accuracy for `self`.
    """

    loss: float
    agreement: float


class Validator:
    """Evaluates the first replica's weights on all validation tracks."""

    def __init__(
        self,
        recipe: Recipe,
        network: Network,
        states: Mapping[str, GroupState],
        examples: SplitExamples,
        index: ShardIndex,
    ) -> None:
        """Plan the crops; nothing is read yet."""
        self._network, self._states = network, states
        self._by_source = [examples.by_source[source] for source in recipe.sources]
        segment = recipe.audio.segment_samples
        self._plans = ValidationPlans(
            self._by_source, examples.rows, index.samples, segment, recipe.training.validation_crops
        )
        sizes = tuple(e.size for e in self._by_source)
        self._dataset = plans_dataset(self._plans, index, sizes, segment)
        mel_bytes = recipe.audio.segment_frames * recipe.audio.n_mels * constants.N_CHANNELS * 4
        n_segments = len(examples.rows) * recipe.training.validation_crops
        self._cache: list[tuple[tf.Tensor, Batch]] | None = (
            [] if n_segments * mel_bytes <= CACHE_BYTES else None
        )
        self._features = tf.function(in_chunks(lambda waveform: network.features(to_float(waveform))))
        self._sums = tf.function(self._batch_sums, reduce_retracing=True)

    def __call__(self) -> dict[str, Score]:
        """Evaluate all sources."""
        vectors = {
            group: (state.first("weights"), state.first("statistics"))
            for group, state in self._states.items()
        }
        totals = np.zeros((3, len(self._network.sources)))
        for mel, batch in self._batches():
            totals += self._sums(vectors, mel, batch.targets, batch.weights).numpy()
        losses, agreements, counts = totals
        return {
            source: Score(float(losses[n] / counts[n]), float(agreements[n] / counts[n]))
            for n, source in enumerate(self._network.sources)
        }

    def some_mels(self) -> NDArray[np.float32]:
        """Standardised log-mels of the first validation tracks, float32 [segments, frames, mels, 2]."""
        mel, _ = next(iter(self._batches()))
        return np.asarray(mel, np.float32)

    def _batches(self) -> Sequence[tuple[tf.Tensor, Batch]]:
        if self._cache:
            return self._cache
        found = ((self._features(batch.waveform), batch) for batch in self._dataset)
        if self._cache is None:
            return found  # type: ignore[return-value]
        self._cache = [(mel, batch._replace(waveform=())) for mel, batch in found]
        return self._cache

    def _batch_sums(
        self,
        vectors: Mapping[str, tuple[tf.Tensor, tf.Tensor]],
        mel: tf.Tensor,
        targets: tuple[tf.Tensor, ...],
        weights: tuple[tf.Tensor, ...],
    ) -> tf.Tensor:
        """Sums of divergence, agreement and weight, float32 [3, sources]."""
        mapping = []
        for group, (values, statistics) in vectors.items():
            layout = self._states[group].layout
            mapping += layout.weights.split(values) + layout.statistics.split(statistics)
        rows = []
        with keras.StatelessScope(state_mapping=mapping):
            embeddings = self._network.trunk(mel, training=False)
            for place, source in enumerate(self._network.sources):
                embedding = embeddings[SHARED if SHARED in embeddings else source]
                if source == "self":
                    embedding = _pairs(embedding)
                logits = self._network.heads[source](embedding, training=False)
                result = score(logits, targets[place], weights[place])
                rows.append([result.loss, result.agreement, tf.reduce_sum(weights[place])])
        return tf.transpose(tf.convert_to_tensor(rows))


def _pairs(embedding: tf.Tensor) -> tf.Tensor:
    """Pairs of the same track, then of neighbouring tracks: [2 n, 256] -> [2 n, 512]."""
    left, right = tf.split(embedding, 2)
    other = tf.roll(right, -1, axis=0)
    return tf.concat([tf.concat([left, left], 0), tf.concat([right, other], 0)], axis=1)


def mean_target_scores(train: SplitExamples, validation: SplitExamples) -> dict[str, Score]:
    """What always predicting the training set's mean target scores on the validation set.

    For `self`, half of whose pairs are of the same track, that is ln 2 and an accuracy of 0.5.
    """
    scores = {}
    for source, examples in validation.by_source.items():
        if source == "self":
            scores[source] = Score(float(np.log(constants.SELF_CLASSES)), 1 / constants.SELF_CLASSES)
            continue
        mean = np.maximum(_mean_target(train.by_source[source]), np.finfo(np.float32).tiny)
        target = examples.targets(np.arange(len(examples.rows)))[0].astype(np.float64)
        logs = np.log(np.where(target > 0, target, 1.0)) - np.log(mean)
        loss = (target * logs).sum(axis=1).mean()
        agreement = (target.argmax(axis=1) == mean.argmax()).mean()
        release(examples.target)
        scores[source] = Score(float(loss), float(agreement))
    return scores


def _mean_target(examples: Examples) -> NDArray[np.float64]:
    """Mean over all examples, float64 [size]."""
    total = np.zeros(examples.size)
    for first in range(0, len(examples.rows), ROWS_AT_ONCE):
        members = np.arange(first, min(first + ROWS_AT_ONCE, len(examples.rows)))
        total += examples.targets(members)[0].sum(axis=0, dtype=np.float64)
    release(examples.target)
    return total / len(examples.rows)
