"""From shards to batches: `tf.data` reads the crops that the schedule plans.

Crops are read where they lie in the shards, straight into the batch, as int16; conversion to float
happens on the device. One element is one replica's part of one step, with the source's number beside
it; consecutive elements belong to consecutive replicas, as `MirroredStrategy` deals them out.
"""

from __future__ import annotations

import os
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
from kerasrep.mapped_arrays import release

MAX_THREADS = 8
#: Batches that wait on each device: one is copied there while a step uses another.
BATCHES_ON_DEVICE = 2

_Read = Callable[[NDArray[np.int64], NDArray[np.int64]], NDArray[np.int16]]


class Batch(NamedTuple):
    """One replica's part of one step; tensors, or their specs.

    Attributes:
        step: int64 [].
        source: int32 [], position among the recipe's sources; -1 uses all.
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
    targets: Mapping[str, tuple[NDArray[np.str_], NDArray[np.float32]]],
    split: str,
    sources: tuple[str, ...],
) -> SplitExamples:
    """Join the index with the targets.

    Args:
        index: Where the tracks lie.
        targets: Source -> (track ids, float32 [n, size]).
        split: `train` or `validation`.
        sources: Those the recipe names.

    Raises:
        DataError: Where a source has no track in the split, or the split fewer than two tracks.
    """
    rows = index.rows(split)
    if len(rows) < 2:
        raise DataError(f"{index.root}: the {split} split has {len(rows)} tracks, two are needed: add tracks")
    own_ids = index.track_ids[rows]
    order = np.argsort(own_ids)
    by_source: dict[str, Examples] = {}
    for source in sources:
        if source == "self":
            by_source[source] = self_examples(rows)
            continue
        if source not in targets:
            known = ", ".join(["self", *targets])
            raise DataError(f"sources: the corpus has no labels for '{source}'; it has {known}")
        ids, target = targets[source]
        found = order[np.minimum(np.searchsorted(own_ids, ids, sorter=order), len(order) - 1)]
        places = np.flatnonzero(own_ids[found] == ids).astype(np.int32)
        if not len(places):
            raise DataError(f"sources: no track of the {split} split has '{source}': remove it or add labels")
        if target.shape[1] < 2:
            raise DataError(
                f"sources: all labels of '{source}' are alike, there is nothing to learn; remove the source"
            )
        by_source[source] = Examples(rows[found[places]], target, places)
        release(ids)
    return SplitExamples(rows, by_source)


def training_dataset(
    schedule: Schedule, index: ShardIndex, first_step: int, own: range | None = None
) -> tf.data.Dataset:
    """Batches of all steps from `first_step` on.

    Args:
        schedule: What each step uses.
        index: Where the tracks lie.
        first_step: Where to begin.
        own: Replicas of this process, whose parts alone are read; all by default.

    Returns:
        A dataset of `Batch`, an element a replica in each step, in order. It says that it has no end: else
        all replicas would agree in each step that they have one more, and the host would wait for GPUs.
    """
    mine, samples = range(schedule.replicas) if own is None else own, schedule.segment_samples
    read = _reader(index, samples)

    def load(number: NDArray[np.int64]) -> list[NDArray[Any]]:
        step, place = divmod(int(number), len(mine))
        plan = schedule.plan(step, mine[place])
        return _arrays(plan, int(schedule.uses_before[step]), read)

    numbers = tf.data.Dataset.range(first_step * len(mine), schedule.n_steps * len(mine))
    dataset = _read(numbers, load, schedule.sizes, samples).prefetch(2 * len(mine))
    return dataset.apply(tf.data.experimental.assert_cardinality(tf.data.experimental.INFINITE_CARDINALITY))


def distributed(dataset: tf.data.Dataset, distribution: tf.distribute.Strategy) -> Any:
    """The batches of a training on the devices of its replicas, each there before it is needed.

    Args:
        dataset: Of `training_dataset`.
        distribution: Deals consecutive elements out to consecutive replicas.
    """
    options = tf.distribute.InputOptions(
        experimental_fetch_to_device=True, experimental_per_replica_buffer_size=BATCHES_ON_DEVICE
    )
    return distribution.distribute_datasets_from_function(lambda context: dataset, options)


def plans_dataset(
    plans: Sequence[Plan], index: ShardIndex, sizes: tuple[int, ...], samples: int
) -> tf.data.Dataset:
    """Batches of the given plans, in order."""
    read = _reader(index, samples)

    def load(number: NDArray[np.int64]) -> list[NDArray[Any]]:
        return _arrays(plans[int(number)], 0, read)

    return _read(tf.data.Dataset.range(len(plans)), load, sizes, samples).prefetch(1)


def _reader(index: ShardIndex, samples: int) -> _Read:
    """Crops of one dataset: rows and starts -> int16 [segments, samples, 2]."""
    buffers = Buffers(pinned=bool(tf.config.get_visible_devices("GPU")))
    return partial(read_crops, index, samples=samples, buffers=buffers, files=OpenFiles())


def _arrays(plan: Plan, uses: int, read: _Read) -> list[NDArray[Any]]:
    scalars = [np.int64(plan.step), np.int32(plan.source), np.int64(uses)]
    return [*map(np.asarray, scalars), read(plan.rows, plan.starts), *plan.targets, *plan.weights]


def _read(
    numbers: tf.data.Dataset,
    load: Callable[[NDArray[np.int64]], list[NDArray[Any]]],
    sizes: tuple[int, ...],
    samples: int,
) -> tf.data.Dataset:
    spec = batch_spec(sizes, samples)
    flat = [spec.step, spec.source, spec.uses, spec.waveform, *spec.targets, *spec.weights]

    def to_batch(number: tf.Tensor) -> Batch:
        values = tf.numpy_function(load, [number], [s.dtype for s in flat], stateful=False)
        values = [tf.ensure_shape(value, s.shape) for value, s in zip(values, flat, strict=True)]
        step, source, uses, waveform, *rest = values
        targets, weights = rest[: len(sizes)], rest[len(sizes) :]
        return Batch(step, source, uses, waveform, tuple(targets), tuple(weights))

    return numbers.map(to_batch, num_parallel_calls=_threads(), deterministic=True)


def _threads() -> int:
    """Batches read at once: more would hold memory and no longer read faster."""
    return min(MAX_THREADS, os.cpu_count() or 1)


def batch_spec(sizes: tuple[int, ...], samples: int) -> Batch:
    """Shapes and dtypes of a `Batch`."""
    return Batch(
        tf.TensorSpec((), tf.int64),
        tf.TensorSpec((), tf.int32),
        tf.TensorSpec((), tf.int64),
        tf.TensorSpec((None, samples, constants.N_CHANNELS), tf.int16),
        tuple(tf.TensorSpec((None, size), tf.float32) for size in sizes),
        tuple(tf.TensorSpec((None,), tf.float32) for _ in sizes),
    )


def to_float(waveform: tf.Tensor) -> tf.Tensor:
    """int16 samples to float32 in [-1, 1)."""
    return tf.cast(waveform, tf.float32) / FULL_SCALE
