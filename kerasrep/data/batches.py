"""From shards to batches: `tf.data` reads the crops that the schedule plans.

Crops are read where they lie in the shards, straight into the batch, as int16; conversion to float
happens on the device. One element is one replica's part of one step, with the source's number beside it.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.data.crops import Buffers, OpenFiles, read_crops
from kerasrep.data.schedule import Examples, Plan, Schedule, self_examples
from kerasrep.data.shards import FULL_SCALE, ShardIndex
from kerasrep.errors import DataError
from kerasrep.runtime.threads import core_count
from kerasrep.sources.targets import SourceTargets
from kerasrep.storage.mapped_arrays import release

MAX_THREADS = 8
#: Batches that wait on each device: one is copied there while a step uses another.
BATCHES_ON_DEVICE = 2

_Read = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int16]]
HELD_OUT_SHARE = 0.1  # of the tracks of a class


class Batch(NamedTuple):
    """One replica's part of one step; tensors, or their specs.

    Attributes:
        step: int64 [].
        source: int64 [], position among the recipe's sources; -1 uses all.
        uses: int64 [], how often this source was used before (for Adam's bias correction).
        waveform: int16 [segments, samples, 2].
        targets: One a source, float32 [examples, size].
        weights: One a source, float32 [examples].
    """

    step: Any
    source: Any
    uses: Any
    waveform: Any
    targets: tuple[Any, ...]
    weights: tuple[Any, ...]


@dataclass(frozen=True)
class SplitExamples:
    """Tracks and targets of one split.

    Attributes:
        rows: int64 [tracks], rows of the shard index.
        by_source: Source -> its examples, `self` included.
    """

    rows: NDArray[np.int64]
    by_source: Mapping[str, Examples]


def split_examples(
    index: ShardIndex,
    targets: Mapping[str, SourceTargets],
    split: str,
    sources: tuple[str, ...],
    segment_samples: int = constants.SEGMENT_SAMPLES,
) -> SplitExamples:
    """Join the index with the targets.

    Args:
        index: Where the tracks lie.
        targets: Source -> targets.
        split: `train` or `validation`.
        sources: Those the recipe names.
        segment_samples: Length of a crop.

    Raises:
        DataError: Where a source has no track in the split, or the split fewer than two tracks.
    """
    rows = index.rows(split)
    if len(rows) < 2:
        raise DataError(f"{index.root}: the {split} split has {len(rows)} tracks, two are needed: add tracks")
    by_source: dict[str, Examples] = {}
    for source in sources:
        if source == "self":
            by_source[source] = self_examples(rows)
        elif source not in targets:
            known = ", ".join(["self", *targets])
            raise DataError(f"sources: the corpus has no labels for '{source}'; it has {known}")
        else:
            by_source[source] = _join(index, source, targets[source], split, segment_samples)
    return SplitExamples(rows, by_source)


def _join(index: ShardIndex, source: str, targets: SourceTargets, split: str, samples: int) -> Examples:
    """Examples of one source in a split."""
    held = held_out(index, targets)
    rows = index.rows("train" if held.any() else split)
    own_ids, ids = index.track_ids[rows], targets.track_ids
    order = np.argsort(own_ids)
    found = order[np.minimum(np.searchsorted(own_ids, ids, sorter=order), len(order) - 1)]
    wanted = (held if split == "validation" else ~held) if held.any() else True
    places = np.flatnonzero((own_ids[found] == ids) & wanted).astype(np.int32)
    if not len(places):
        raise DataError(f"sources: no track of the {split} split has '{source}': remove it or add labels")
    if targets.target.shape[1] < 2 and targets.kind in ("topics", "mixture", "classes"):
        raise DataError(
            f"sources: all labels of '{source}' are alike, there is nothing to learn; remove the source"
        )
    release(ids)
    return Examples(
        rows[found[places]],
        targets.target,
        places,
        targets.kind,
        targets.stretches,
        samples,
        index.sample_rate_hz,
        within_groups=bool(held.any()),
    )


def training_dataset(
    schedule: Schedule, read: _Read, first_step: int, replica: int, threads: int
) -> tf.data.Dataset:
    """One replica's batches of all steps from `first_step` on: an element a step, in order."""

    def load(number: NDArray[np.int64]) -> list[NDArray[Any]]:
        step = int(number)
        return _arrays(schedule.plan(step, replica), int(schedule.uses_before[step]), read)

    numbers = tf.data.Dataset.range(first_step, schedule.n_steps)
    return _batches(numbers, load, schedule.sizes, schedule.segment_samples, threads).prefetch(2)


class TrainingBatches:
    """The batches of a training, each on the device of its replica before it is needed.

    Every replica has a dataset of its own. One that TensorFlow distributes asks the GPU for a number before
    each batch, and the GPU answers once it has done everything that it was given.
    """

    def __init__(
        self,
        schedule: Schedule,
        index: ShardIndex,
        first_step: int,
        distribution: tf.distribute.Strategy,
        own: range | None = None,
    ) -> None:
        """Begin to read.

        Args:
            schedule: What each step uses.
            index: Where the tracks lie.
            first_step: Where to begin.
            distribution: Over the devices of this process, and perhaps of others.
            own: Replicas of this process; all by default.
        """
        mine = range(schedule.replicas) if own is None else own
        read, threads = reader(index, schedule.segment_samples), _threads(len(mine))
        self._first, self._iterators = mine.start, []
        for replica, device in zip(mine, distribution.extended.worker_devices, strict=True):
            dataset = training_dataset(schedule, read, first_step, replica, threads)
            if tf.DeviceSpec.from_string(device).device_type == "GPU":
                ahead = tf.data.experimental.prefetch_to_device(device, BATCHES_ON_DEVICE)
                dataset = dataset.apply(ahead)
            self._iterators.append(iter(dataset))

    def local(self) -> Batch:
        """The next batch of the present replica."""
        replica = tf.distribute.get_replica_context().replica_id_in_sync_group
        batch: Batch = next(self._iterators[int(tf.get_static_value(replica)) - self._first])
        return batch


def plans_dataset(
    plans: Sequence[Plan], index: ShardIndex, sizes: tuple[int, ...], samples: int
) -> tf.data.Dataset:
    """Batches of the given plans, in order."""
    read = reader(index, samples)

    def load(number: NDArray[np.int64]) -> list[NDArray[Any]]:
        return _arrays(plans[int(number)], 0, read)

    return _batches(tf.data.Dataset.range(len(plans)), load, sizes, samples, _threads()).prefetch(1)


def reader(index: ShardIndex, samples: int) -> _Read:
    """Crops of one training: rows and starts -> int16 [segments, samples, 2]."""
    buffers = Buffers(pinned=bool(tf.config.get_visible_devices("GPU")))
    return partial(read_crops, index, samples=samples, buffers=buffers, files=OpenFiles())


def _arrays(plan: Plan, uses: int, read: _Read) -> list[NDArray[Any]]:
    scalars = [np.asarray(value, np.int64) for value in (plan.step, plan.source, uses)]
    return [*scalars, read(plan.rows, plan.starts), *plan.targets, *plan.weights]


def _batches(
    numbers: tf.data.Dataset,
    load: Callable[[NDArray[np.int64]], list[NDArray[Any]]],
    sizes: tuple[int, ...],
    samples: int,
    threads: int,
) -> tf.data.Dataset:
    spec = batch_spec(sizes, samples)
    flat = [spec.step, spec.source, spec.uses, spec.waveform, *spec.targets, *spec.weights]

    def to_batch(number: tf.Tensor) -> Batch:
        values = tf.numpy_function(load, [number], [s.dtype for s in flat], stateful=False)
        values = [tf.ensure_shape(value, s.shape) for value, s in zip(values, flat, strict=True)]
        step, source, uses, waveform, *rest = values
        targets, weights = rest[: len(sizes)], rest[len(sizes) :]
        return Batch(step, source, uses, waveform, tuple(targets), tuple(weights))

    # Nothing is left to tune, and the end of what tunes itself may wait for the next time: up to a minute.
    options = tf.data.Options()
    options.autotune.enabled = False
    return numbers.with_options(options).map(to_batch, num_parallel_calls=threads, deterministic=True)


def _threads(datasets: int = 1) -> int:
    """Batches that each dataset reads at once: more would hold memory and no longer read faster."""
    return min(MAX_THREADS, max(1, core_count() // datasets))


def batch_spec(sizes: tuple[int, ...], samples: int) -> Batch:
    """Shapes and dtypes of a `Batch`."""
    return Batch(
        tf.TensorSpec((), tf.int64),
        tf.TensorSpec((), tf.int64),  # an int32 would go from the GPU to the host and back
        tf.TensorSpec((), tf.int64),
        tf.TensorSpec((None, samples, constants.N_CHANNELS), tf.int16),
        tuple(tf.TensorSpec((None, size), tf.float32) for size in sizes),
        tuple(tf.TensorSpec((None,), tf.float32) for _ in sizes),
    )


def to_float(waveform: tf.Tensor) -> tf.Tensor:
    """int16 samples to float32 in [-1, 1); float32 as it is."""
    if waveform.dtype == tf.float32:
        return waveform
    return tf.cast(waveform, tf.float32) / FULL_SCALE


def held_out(index: ShardIndex, targets: SourceTargets) -> NDArray[np.bool_]:
    """Tracks of a source that are held out of its own training, bool [tracks of `targets`].

    None where the source is no source of classes, or the validation split has tracks of it. Otherwise a tenth
    of each class of two tracks or more, at least one, in the order of the SHA-256 of their ids.

    Where artists are kept in one split, no track of the validation split has an artist that is trained on. A
    source of artists is then validated on tracks of its own classes, which it does not train on; other
    sources do, and so no score of the whole model is taken from them.
    """
    held = np.zeros(len(targets.track_ids), bool)
    validation = index.track_ids[index.rows("validation")]
    training = np.isin(targets.track_ids, index.track_ids[index.rows("train")])
    if targets.kind != "classes" or targets.stretches is None or np.isin(targets.track_ids, validation).any():
        return held
    tracks = np.flatnonzero(training)
    classes = targets.stretches.values[targets.stretches.first[tracks]]  # a track's first
    ids = targets.track_ids[tracks].tolist()
    digests = np.array([hashlib.sha256(track.encode()).hexdigest() for track in ids])
    order = np.lexsort((digests, classes))
    _, first, counts = np.unique(classes[order], return_index=True, return_counts=True)
    for start, count in zip(first.tolist(), counts.tolist(), strict=True):
        taken = max(1, round(HELD_OUT_SHARE * count)) if count > 1 else 0
        held[tracks[order[start : start + taken]]] = True
    return held
