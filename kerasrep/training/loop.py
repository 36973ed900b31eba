"""The loop: calls of several steps, epochs, validation, checkpoints, and every way a training can stop."""

from __future__ import annotations

import contextlib
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray
from tqdm import tqdm

from kerasrep.data.batches import Batch, training_dataset
from kerasrep.data.schedule import JOINT, Schedule
from kerasrep.data.shards import ShardIndex
from kerasrep.errors import DataError, RunError
from kerasrep.training.checkpoint import Progress
from kerasrep.training.devices import Execution
from kerasrep.training.step import Step, StepResult


class Interrupted(RunError):  # noqa: N818 (it is not an error that the user made)
    """A signal asked the training to stop; its state is saved."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


@dataclass
class StopRequest:
    """Set by a signal handler, read between calls.

    Attributes:
        number: The signal, or 0.
    """

    number: int = 0


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request; a second one ends the process as usual."""
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        request.number = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class MultiStep:
    """Several steps in one call into TensorFlow, on all replicas."""

    def __init__(self, step: Step, schedule: Schedule, execution: Execution) -> None:
        """Keep the parts; the first call traces."""
        self._step, self._joint = step, schedule.joint
        self._n_sources = len(schedule.sources)
        self._distribution = execution.distribution
        self._call = tf.function(self._steps)

    def __call__(self, iterator: Iterator[Batch], n_steps: int) -> tuple[NDArray[np.float64], int]:
        """Make steps.

        Args:
            iterator: Of the distributed dataset.
            n_steps: How many.

        Returns:
            Sums of loss, agreement and uses, float64 [3, sources]; and the first step whose loss was not
            finite, or -1.
        """
        sums, bad = self._call(iterator, tf.constant(n_steps))
        return sums.numpy().astype(np.float64), int(bad)

    def _steps(self, iterator: Iterator[Batch], n_steps: tf.Tensor) -> tuple[tf.Tensor, tf.Tensor]:
        sums, bad = tf.zeros((3, self._n_sources)), tf.constant(-1, tf.int64)
        for _ in tf.range(n_steps):
            batch = next(iterator)
            result = self._one(batch)
            sums += tf.stack([result.loss * result.used, result.agreement * result.used, result.used])
            number = self._first(batch.step)
            finite = tf.reduce_all(tf.math.is_finite(result.loss))
            bad = tf.where((bad < 0) & ~finite, number, bad)
        return sums, bad

    def _one(self, batch: Batch) -> StepResult:
        if self._joint:
            return self._on_replicas(JOINT, batch)
        branches = [partial(self._on_replicas, source, batch) for source in range(self._n_sources)]
        if len(branches) == 1:
            return branches[0]()
        result: StepResult = tf.switch_case(self._first(batch.source), branches)
        return result

    def _on_replicas(self, source: int, batch: Batch) -> StepResult:
        result = self._distribution.run(self._step.run, args=(source, batch))
        return StepResult(*(self._first(value) for value in result))

    def _first(self, value: Any) -> tf.Tensor:
        return self._distribution.experimental_local_results(value)[0]


@dataclass
class Hooks:
    """What the loop calls.

    Attributes:
        epoch_done: With the epoch's number and the sums of loss, agreement and uses.
        save: Writes the present state.
        epoch_saves: Whether the state is written at the end of an epoch.
    """

    epoch_done: Callable[[int, NDArray[np.float64], float], None]
    save: Callable[[], None]
    epoch_saves: Callable[[int], bool]


def run_epochs(
    schedule: Schedule,
    index: ShardIndex,
    sizes: tuple[int, ...],
    segment_samples: int,
    steps_per_epoch: int,
    step: Step,
    execution: Execution,
    progress: Progress,
    hooks: Hooks,
    show: bool,
) -> None:
    """Train from `progress.step` to the end of the schedule.

    Raises:
        RunError: Where a loss is not finite; names step, source and tracks.
        Interrupted: On SIGINT or SIGTERM, after saving.
        DataError: Where a shard cannot be read.
    """
    distribution = execution.distribution
    dataset = training_dataset(schedule, index, sizes, segment_samples, progress.step)
    iterator = iter(distribution.distribute_datasets_from_function(lambda context: dataset))
    multi_step = MultiStep(step, schedule, execution)
    bar = tqdm(
        total=schedule.n_steps, initial=progress.step, unit="step", disable=not show, dynamic_ncols=True
    )
    with stop_requests() as request, bar, _data_faults():
        epoch_seconds = 0.0
        while progress.step < schedule.n_steps:
            left = steps_per_epoch - progress.step % steps_per_epoch
            count = min(execution.steps_per_call, left)
            started = time.perf_counter()
            sums, bad = multi_step(iterator, count)
            seconds = time.perf_counter() - started
            if bad >= 0:
                raise RunError(_not_finite(schedule, index, bad))
            segments = _segments(schedule, progress.step, count)
            progress.step += count
            progress.sums += sums
            progress.seconds += seconds
            epoch_seconds += seconds
            bar.update(count)
            bar.set_postfix_str(_losses(schedule, progress.sums, segments / seconds), refresh=False)
            if progress.step % steps_per_epoch == 0:
                epoch = progress.step // steps_per_epoch
                finished, progress.sums = progress.sums, np.zeros_like(progress.sums)
                hooks.epoch_done(epoch, finished, epoch_seconds)
                epoch_seconds = 0.0
                if hooks.epoch_saves(epoch) or progress.step == schedule.n_steps:
                    hooks.save()
            if request.number and progress.step < schedule.n_steps:
                hooks.save()
                name = signal.Signals(request.number).name
                raise Interrupted(
                    f"stopped by {name} after step {progress.step} of {schedule.n_steps}, state saved; "
                    "add --resume to go on",
                    request.number,
                )


@contextlib.contextmanager
def _data_faults() -> Iterator[None]:
    """Give a fault of the input pipeline back as it was raised, not as TensorFlow wraps it."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"DataError: (.+)", error.message)
        if found is None:
            raise
        raise DataError(found.group(1)) from error


def _segments(schedule: Schedule, first: int, count: int) -> int:
    return sum(schedule.segments(step) for step in range(first, first + count))


def _losses(schedule: Schedule, sums: NDArray[np.float64], rate: float) -> str:
    parts = [
        f"{source} {loss / uses:.2f}"
        for source, loss, uses in zip(schedule.sources, sums[0], sums[2], strict=True)
        if uses
    ]
    return f"{rate:.0f} segments/s, " + " ".join(parts)


def _not_finite(schedule: Schedule, index: ShardIndex, step: int) -> str:
    plan = schedule.plan(step, 0)
    source = "all sources" if plan.source == JOINT else f"source '{schedule.sources[plan.source]}'"
    tracks = ", ".join(str(track) for track in index.track_ids[np.unique(plan.rows)[:3]])
    return (
        f"step {step}: the loss of {source} is not finite; its batch begins with tracks {tracks}; "
        "lower training.learning_rate, or use training.precision=float32"
    )


def mean_scores(sources: tuple[str, ...], sums: NDArray[np.float64]) -> Mapping[str, tuple[float, float]]:
    """Mean loss and agreement of each source that was used."""
    return {
        source: (float(loss / uses), float(agreement / uses))
        for source, loss, agreement, uses in zip(sources, *sums, strict=True)
        if uses
    }
