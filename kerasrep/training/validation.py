"""Loss on held-out tracks, with fixed crops and all sources; and what always guessing the mean would lose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.data.batches import Batch, SplitExamples, plans_dataset, to_float
from kerasrep.data.schedule import Examples, ValidationPlans, mean_candidates
from kerasrep.data.shards import ShardIndex
from kerasrep.errors import DataError
from kerasrep.model.frontend import in_chunks
from kerasrep.model.strategies import SHARED, Network
from kerasrep.recipe.base import LossName
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.mapped_arrays import release
from kerasrep.training.losses import NEAR_DEVIATIONS, score
from kerasrep.training.vectors import GroupState

ROWS_AT_ONCE, VALUES_AT_ONCE = 1 << 16, 1 << 25
CACHE_BYTES = 1 << 30  # keep the validation set's mels in memory up to this


class Score(NamedTuple):
    """One source on the validation set.

    Attributes:
        loss: Mean of what the source is learnt by; nats where it is a likelihood.
        accuracy: Share of examples whose most probable class is the target's; see `losses.ExampleScores` for
            sources that are learnt otherwise.
    """

    loss: float
    accuracy: float


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
        self._network, self._states, self._contrast = network, states, recipe.contrast
        self._by_source = [examples.by_source[source] for source in recipe.sources]
        segment = recipe.audio.segment_samples
        self._plans = ValidationPlans(
            self._by_source,
            examples.rows,
            index.samples,
            segment,
            recipe.training.validation_crops,
            network.loss_of("self") == "contrast",
        )
        sizes = tuple(e.size for e in self._by_source)
        self._dataset = plans_dataset(self._plans, index, sizes, segment)
        mel_bytes = recipe.audio.segment_frames * recipe.audio.n_mels * constants.N_CHANNELS * 4
        n_segments = self._plans.n_tracks * recipe.training.validation_crops
        self._cache: list[tuple[tf.Tensor, Batch]] | None = (
            [] if n_segments * mel_bytes <= CACHE_BYTES else None
        )
        self._features = tf.function(in_chunks(lambda waveform: network.features(to_float(waveform))))
        self._sums = tf.function(self._batch_sums, reduce_retracing=True)

    def __call__(self) -> dict[str, Score]:
        """Evaluate all sources."""
        vectors = {
            group: (state.kept("weights"), state.kept("statistics")) for group, state in self._states.items()
        }
        totals = np.zeros((3, len(self._network.sources)))
        for mel, batch in self._batches():
            totals += self._sums(vectors, mel, batch.targets, batch.weights).numpy()
        losses, accuracies, counts = totals
        return {
            source: Score(float(losses[n] / counts[n]), float(accuracies[n] / counts[n]))
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
        """Sums of loss, accuracy and weight, float32 [3, sources]."""
        mapping = []
        for group, (values, statistics) in vectors.items():
            layout = self._states[group].layout
            mapping += layout.weights.split(values) + layout.statistics.split(statistics)
        rows = []
        with keras.StatelessScope(state_mapping=mapping):
            embeddings = self._network.trunk(mel, training=False)
            for place, source in enumerate(self._network.sources):
                embedding = embeddings[SHARED if SHARED in embeddings else source]
                if self._network.pairs(source):
                    embedding = _pairs(embedding)
                logits = self._network.heads[source](embedding, training=False)
                loss = self._network.loss_of(source)
                result = score(loss, logits, targets[place], weights[place], self._contrast)
                rows.append([result.loss, result.accuracy, tf.reduce_sum(weights[place])])
        return tf.transpose(tf.convert_to_tensor(rows))


def _pairs(embedding: tf.Tensor) -> tf.Tensor:
    """Pairs of the same track, then of neighbouring tracks: [2 n, 256] -> [2 n, 512]."""
    left, right = tf.split(embedding, 2)
    other = tf.roll(right, -1, axis=0)
    return tf.concat([tf.concat([left, left], 0), tf.concat([right, other], 0)], axis=1)


def mean_target_scores(
    train: SplitExamples,
    validation: SplitExamples,
    track_samples: NDArray[np.int64],
    losses: Mapping[str, LossName] | None = None,
    crops: int = 2,
    views: str = "across",
) -> dict[str, Score]:
    """What the best constant prediction, out of the training set alone, scores on the validation set.

    For `self`, half of whose pairs are of the same track, that is ln 2 and an accuracy of 0.5. By contrast it
    is the logarithm of the mean number of candidates.

    Args:
        train: Training tracks and targets.
        validation: Held-out ones.
        track_samples: int64 [tracks of the index], length of each.
        losses: Source -> what it is learnt by; divergence where nothing is said.
        crops: Of each track, where they differ.
        views: Of contrast: which crops are candidates.

    Raises:
        DataError: Where no crop of a source has a label.
    """
    scores = {}
    for source, examples in validation.by_source.items():
        loss = (losses or {}).get(source, "divergence")
        if source == "self":
            candidates = float(constants.SELF_CLASSES)
            if loss == "contrast":
                candidates = mean_candidates(len(examples.rows), views)
            scores[source] = Score(float(np.log(candidates)), 1 / candidates)
            continue
        mean = _mean_target(source, train.by_source[source], track_samples, crops, loss == "cosine")
        total, count = np.zeros(2), 0
        for target in _known_parts(examples, track_samples, crops):
            total += len(target) * np.asarray(_constant_score(loss, mean, target))
            count += len(target)
        release(examples.target)
        _require_labels(source, count, "validation")
        scores[source] = Score(*(total / count).tolist())
    return scores


def _known_parts(
    examples: Examples, track_samples: NDArray[np.int64], crops: int
) -> Iterator[NDArray[np.float64]]:
    """Targets of crops of which anything is known, float64 [crops, size], as many as fit into memory."""
    at_once = max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // (examples.size * crops)))
    for first in range(0, len(examples.rows), at_once):
        members = np.arange(first, min(first + at_once, len(examples.rows)))
        found = examples.known_targets(members, track_samples, crops)
        if len(found):
            yield found.astype(np.float64)


def _constant_score(loss: LossName, mean: NDArray[np.float64], target: NDArray[np.float64]) -> Score:
    """Score of predicting `mean` for every row of `target`."""
    if loss == "sigmoid":
        p = np.clip(mean, 1e-7, 1 - 1e-7)
        entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum(axis=1)
        return Score(float(entropy.mean()), float(((p > 0.5) == (target > 0.5)).mean()))
    if loss == "squared":
        error = target - mean
        return Score(float(np.square(error).mean()), float((np.abs(error) < NEAR_DEVIATIONS).mean()))
    if loss == "cosine":
        cosines = _unit(target) @ _unit(mean)
        return Score(float(1 - cosines.mean()), float(cosines.mean()))
    mean = np.maximum(mean, np.finfo(np.float32).tiny)
    logs = np.log(np.where(target > 0, target, 1.0)) - np.log(mean)
    accuracy = (target.argmax(axis=1) == mean.argmax()).mean()
    return Score(float((target * logs).sum(axis=1).mean()), float(accuracy))


def _unit(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
    """Vectors of length 1; zeros stay."""
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


def _mean_target(
    source: str, examples: Examples, track_samples: NDArray[np.int64], crops: int, unit: bool
) -> NDArray[np.float64]:
    """Mean over all examples, or over the directions of their vectors, float64 [size]."""
    total, count = np.zeros(examples.size), 0
    for targets in _known_parts(examples, track_samples, crops):
        total += (_unit(targets) if unit else targets).sum(axis=0)
        count += len(targets)
    release(examples.target)
    _require_labels(source, count, "training")
    return total / count


def _require_labels(source: str, count: int, split: str) -> None:
    if not count:
        raise DataError(
            f"sources: no crop of the {split} tracks overlaps a label of '{source}'; see its table's times"
        )
