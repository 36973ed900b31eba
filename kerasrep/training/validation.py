"""Loss on held-out tracks, with fixed crops and all sources; and what always guessing the mean would lose."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.data.batches import Batch, SplitExamples, plans_dataset, to_float
from kerasrep.data.schedule import Examples
from kerasrep.data.shards import ShardIndex
from kerasrep.data.validation_plans import ValidationPlans, mean_candidates
from kerasrep.errors import DataError
from kerasrep.model.frontend import in_chunks
from kerasrep.model.strategies import SHARED, Network
from kerasrep.recipe.base import LossName
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.mapped_arrays import release
from kerasrep.training.losses import NEAR_DEVIATIONS, example_scores
from kerasrep.training.vectors import GroupState

ROWS_AT_ONCE, VALUES_AT_ONCE = 1 << 16, 1 << 25
#: Fewer validation tracks of a source say nothing about it.
LEAST_TRACKS = 5
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


class Baseline(NamedTuple):
    """What the best constant prediction reaches on the validation set.

    Attributes:
        loss: See `Score`.
        accuracy: See `Score`.
        prediction: float64 [size]; `None` for `self`, where every example scores alike.
    """

    loss: float
    accuracy: float
    prediction: NDArray[np.float64] | None = None


class Outcomes(NamedTuple):
    """Examples of one source on the validation set.

    Attributes:
        tracks: int64 [examples], rows of the shard index.
        weights: float64 [examples]; 0 where nothing is known.
        scores: float64 [2, examples], loss and accuracy.
        gains: float64 [2, examples], by how much they are better than the baseline's.
    """

    tracks: NDArray[np.int64]
    weights: NDArray[np.float64]
    scores: NDArray[np.float64]
    gains: NDArray[np.float64]


#: Group -> its weights and statistics, each float32 [values].
Vectors = Mapping[str, tuple[Any, Any]]


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
        self._features = tf.function(
            in_chunks(lambda waveform: network.features(to_float(waveform))), autograph=False
        )
        self._scores = tf.function(self._example_scores, reduce_retracing=True, autograph=False)

    def __call__(self) -> dict[str, Score]:
        """Evaluate the present state for all sources."""
        vectors = {
            group: (state.kept("weights"), state.kept("statistics")) for group, state in self._states.items()
        }
        totals = {source: np.zeros(3) for source in self._network.sources}
        for mel, batch in self._batches():
            found = self._scores(vectors, mel, batch.targets)
            for source, scores, weights in zip(self._network.sources, found, batch.weights, strict=True):
                weight = weights.numpy().astype(np.float64)
                totals[source] += [*(scores.numpy() @ weight), weight.sum()]
        return {source: Score(*(sums[:2] / sums[2]).tolist()) for source, sums in totals.items()}

    def outcomes(self, vectors: Vectors, baselines: Mapping[str, Baseline]) -> dict[str, Outcomes]:
        """Evaluate some state example by example.

        Args:
            vectors: Of the state.
            baselines: Source -> what each example is compared with.
        """
        parts: dict[str, list[Outcomes]] = {source: [] for source in self._network.sources}
        for plan, (mel, batch) in zip(self._plans, self._batches(), strict=True):
            found = self._scores(vectors, mel, batch.targets)
            for place, source in enumerate(self._network.sources):
                scores = found[place].numpy().astype(np.float64)
                target, baseline = batch.targets[place].numpy(), baselines[source]
                constant = np.array([[baseline.loss], [baseline.accuracy]])
                if baseline.prediction is not None:
                    constant = _constant_scores(self._network.loss_of(source), baseline.prediction, target)
                gains = (scores - constant) * [[-1], [1]]
                tracks = plan.rows[: scores.shape[1]]
                weights = batch.weights[place].numpy().astype(np.float64)
                parts[source].append(Outcomes(tracks, weights, scores, gains))
        return {
            source: Outcomes(*(np.concatenate(values, axis=-1) for values in zip(*found, strict=True)))
            for source, found in parts.items()
        }

    def _batches(self) -> Sequence[tuple[tf.Tensor, Batch]]:
        if self._cache:
            return self._cache
        found = ((self._features(batch.waveform), batch) for batch in self._dataset)
        if self._cache is None:
            return found  # type: ignore[return-value]
        self._cache = [(mel, batch._replace(waveform=())) for mel, batch in found]
        return self._cache

    def _example_scores(
        self, vectors: Vectors, mel: tf.Tensor, targets: tuple[tf.Tensor, ...]
    ) -> list[tf.Tensor]:
        """Losses and accuracies of each source, float32 [2, examples]."""
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
                result = example_scores(loss, logits, targets[place], self._contrast)
                rows.append(tf.stack([result.loss, result.accuracy]))
        return rows


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
) -> dict[str, Baseline]:
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
                candidates = mean_candidates(examples, views)
            scores[source] = Baseline(float(np.log(candidates)), 1 / candidates)
            continue
        mean = _mean_target(source, train.by_source[source], track_samples, crops, loss == "cosine")
        total, count = np.zeros(2), 0.0
        for target in _known_parts(examples, track_samples, crops):
            worth = examples.worth(target, np.ones(len(target), bool))
            total += _constant_scores(loss, mean, target) @ worth
            count += worth.sum()
        release(examples.target)
        _require_labels(source, count, "validation")
        loss_of_mean, accuracy = (total / count).tolist()
        scores[source] = Baseline(loss_of_mean, accuracy, mean)
    return scores


def _known_parts(
    examples: Examples, track_samples: NDArray[np.int64], crops: int
) -> Iterator[NDArray[np.float32]]:
    """Targets of crops of which anything is known, float32 [crops, size], as many as fit into memory."""
    at_once = max(1, min(ROWS_AT_ONCE, VALUES_AT_ONCE // (examples.size * crops)))
    for first in range(0, len(examples.rows), at_once):
        members = np.arange(first, min(first + at_once, len(examples.rows)))
        found = examples.known_targets(members, track_samples, crops)
        if len(found):
            yield found


def _constant_scores(
    loss: LossName, mean: NDArray[np.float64], target: NDArray[np.floating[Any]]
) -> NDArray[np.float64]:
    """Losses and accuracies of predicting `mean` for every row of `target`, float64 [2, rows]."""
    target = target.astype(np.float64)
    if loss == "sigmoid":
        p = np.clip(mean, 1e-7, 1 - 1e-7)
        entropy = -(target * np.log(p) + (1 - target) * np.log(1 - p)).sum(axis=1)
        return np.stack([entropy, ((p > 0.5) == (target > 0.5)).mean(axis=1)])
    if loss == "squared":
        error = target - mean
        near = np.abs(error) < NEAR_DEVIATIONS
        return np.stack([np.square(error).mean(axis=1), near.mean(axis=1)])
    if loss == "cosine":
        cosines = _unit(target) @ _unit(mean)
        return np.stack([1 - cosines, cosines])
    mean = np.maximum(mean, np.finfo(np.float32).tiny)
    logs = np.log(np.where(target > 0, target, 1.0)) - np.log(mean)
    return np.stack([(target * logs).sum(axis=1), target.argmax(axis=1) == mean.argmax()])


def _unit(vectors: NDArray[np.floating[Any]]) -> NDArray[np.float64]:
    """Vectors of length 1; zeros stay."""
    vectors = vectors.astype(np.float64)
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return np.asarray(vectors / np.where(length > 0, length, 1.0))


def _mean_target(
    source: str, examples: Examples, track_samples: NDArray[np.int64], crops: int, unit: bool
) -> NDArray[np.float64]:
    """Mean over all examples, or over the directions of their vectors, float64 [size]."""
    total, count = np.zeros(examples.size), 0.0
    for targets in _known_parts(examples, track_samples, crops):
        worth = examples.worth(targets, np.ones(len(targets), bool)).astype(np.float64)
        total += worth @ (_unit(targets) if unit else targets)
        count += worth.sum()
    release(examples.target)
    _require_labels(source, count, "training")
    return total / count


def _require_labels(source: str, count: float, split: str) -> None:
    if not count:
        raise DataError(
            f"sources: no crop of the {split} tracks overlaps a label of '{source}'; see its table's times"
        )
