"""The loop: several steps at a time, epochs, validation, checkpoints, and every way a training can stop."""

from __future__ import annotations

import contextlib
import re
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import Any, NamedTuple, Protocol

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.data.batches import TrainingBatches
from kerasrep.data.schedule import Schedule
from kerasrep.data.shards import ShardIndex
from kerasrep.errors import DataError, RunError
from kerasrep.runtime.console import Progress as Display
from kerasrep.runtime.stop_requests import stop_requests
from kerasrep.training.checkpoint import Progress
from kerasrep.training.devices import Execution
from kerasrep.training.step import Step
from kerasrep.training.totals import NotFinite

#: Steps that the host starts at once, and those times the kinds of each: more take long to trace.
ROW_STEPS, ROW_BRANCHES = 10, 40
#: Tracing a row pays from so many steps on, for each step of the row and each of its kinds.
ROW_PAYS_STEPS = 1000


class Interrupted(RunError):  # noqa: N818 (it is not an error that the user made)
    """A signal asked the training to stop; its state is saved."""

    def __init__(self, message: str, number: int) -> None:
        super().__init__(message)
        self.exit_code = 128 + number


def row_length(execution: Execution, branches: int, n_steps: int) -> int:
    """How many steps the host starts at once.

    Args:
        execution: Devices.
        branches: Kinds of steps.
        n_steps: Steps that will be made in all.
    """
    if not execution.rows:
        return 1
    length = max(1, min(ROW_STEPS, ROW_BRANCHES // branches, execution.steps_per_call))
    return length if n_steps >= ROW_PAYS_STEPS * length * branches else 1


class MultiStep:
    """Several steps between two looks at their figures.

    The host starts steps by a call that returns nothing. One GPU then always has its next step, as the host
    waits for nothing. Several GPUs add up their gradients, for which it does wait: it starts a row of steps
    at once. (In a loop inside TensorFlow a GPU waits for the host between two steps.)
    """

    def __init__(self, step: Step, execution: Execution, batches: TrainingBatches, n_steps: int) -> None:
        """Keep the parts; the first step of each source traces."""
        self._step, self._distribution, self._batches = step, execution.distribution, batches
        self._row = row_length(execution, step.branches, n_steps)
        self._functions: dict[int | str, Callable[..., None]] = {}

    def __call__(self, sources: Iterable[int]) -> tuple[NDArray[np.float64], NotFinite | None]:
        """Make steps.

        Args:
            sources: Position of each step's source, as the batches have it too; -1 uses all.

        Returns:
            See `Totals.take`.
        """
        left = list(sources)
        while len(left) >= self._row > 1:
            row, left = left[: self._row], left[self._row :]
            self._start_row(row)
        for source in left:
            self._function(source, partial(self._one, source))()
        return self._step.totals.take()

    def _start_row(self, row: list[int]) -> None:
        if self._step.branches == 1:
            self._function("row", partial(self._several, row[0]))()
        else:
            self._function("row", self._several)(tf.constant(row, tf.int32))

    def _function(self, name: int | str, function: Callable[..., None]) -> Callable[..., None]:
        """The function, traced once."""
        if name not in self._functions:
            self._functions[name] = tf.function(function, autograph=False)
        return self._functions[name]

    def _one(self, source: int) -> None:
        self._distribution.run(lambda: self._step.run(source, self._batches.local()))

    def _several(self, sources: tf.Tensor | int) -> None:
        self._distribution.run(lambda: self._step.run_row(sources, self._row, self._batches.local))


class StopVote:
    """Whether any worker was asked to stop, so that all of them stop after the same step."""

    def __init__(self, execution: Execution) -> None:
        self._distribution, self._several = execution.distribution, execution.workers.size > 1
        self._sum = tf.function(self._sum_of_all, autograph=False)

    def __call__(self, number: int) -> int:
        """The signal by which any worker was asked to stop, or 0; all have to call this at the same step.

        Args:
            number: Of this worker's signal, or 0.
        """
        if not self._several:
            return number
        total, askers = self._sum(tf.constant([float(number), float(number > 0)])).numpy()
        if not askers:
            return 0
        return signal.SIGINT if total == askers * signal.SIGINT else signal.SIGTERM

    def _sum_of_all(self, values: tf.Tensor) -> tf.Tensor:
        def reduce(value: tf.Tensor) -> tf.Tensor:
            placed = 1.0 * value  # on the replica's device, which the reduction asks for
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.SUM, placed)

        found = self._distribution.run(reduce, args=(values,))
        return self._distribution.experimental_local_results(found)[0]


class Keeper(Protocol):
    """What the loop calls."""

    def epoch_done(self, epoch: int, sums: NDArray[np.float64], segments_per_second: float) -> None:
        """Take the sums of loss, accuracy and uses, float64 [3, sources], of an epoch."""

    def save(self) -> None:
        """Write the present state."""


class Loop:
    """Trains until the end of the schedule, or until it is stopped."""

    def __init__(
        self, schedule: Schedule, index: ShardIndex, step: Step, execution: Execution, epoch_steps: int
    ) -> None:
        self._schedule, self._index, self._execution = schedule, index, execution
        self._step, self._epoch_steps = step, epoch_steps
        self._vote = StopVote(execution)

    def run(self, progress: Progress, keeper: Keeper, show: bool) -> None:
        """Train from `progress.step` to the end.

        Raises:
            RunError: Where a loss or its gradient is not finite; names step, source and tracks.
            Interrupted: On SIGINT, SIGTERM or SIGHUP, after saving.
            DataError: Where a shard cannot be read.
        """
        schedule = self._schedule
        own = self._execution.own_replicas if self._execution.workers.size > 1 else None
        batches = TrainingBatches(schedule, self._index, progress.step, self._execution.distribution, own)
        make = MultiStep(self._step, self._execution, batches, schedule.n_steps - progress.step)
        bar = Display(schedule.n_steps, "training", "step", show, progress.step)
        epoch = _Throughput()
        with stop_requests() as request, bar:
            while progress.step < schedule.n_steps:
                left = self._epoch_steps - progress.step % self._epoch_steps
                call = self._call(make, min(self._execution.steps_per_call, left), progress)
                epoch = epoch + call
                bar.set_postfix(_losses(schedule, progress.sums, call.rate))
                bar.update(call.steps)
                if progress.step % self._epoch_steps == 0:
                    finished, progress.sums = progress.sums, np.zeros_like(progress.sums)
                    keeper.epoch_done(progress.step // self._epoch_steps, finished, epoch.rate)
                    epoch = _Throughput()
                if number := self._vote(request.number):
                    keeper.save()
                    done = f"step {progress.step} of {schedule.n_steps}, state saved; add --resume to go on"
                    raise Interrupted(f"stopped by {signal.Signals(number).name} after {done}", number)

    def _call(self, make: MultiStep, count: int, progress: Progress) -> _Throughput:
        """Make `count` steps and add them to `progress`."""
        started = time.perf_counter()
        sums, fault = make(self._schedule.source_of_step[progress.step : progress.step + count].tolist())
        seconds = time.perf_counter() - started
        if fault is not None:
            raise RunError(self._describe(fault))
        steps = range(progress.step, progress.step + count)
        progress.step += count
        progress.sums += sums
        progress.seconds += seconds
        return _Throughput(count, sum(self._schedule.segments(step) for step in steps), seconds)

    def _describe(self, fault: NotFinite) -> str:
        schedule = self._schedule
        names = ", ".join(f"'{schedule.sources[place]}'" for place in fault.sources)
        plans = [schedule.plan(fault.step, replica) for replica in range(schedule.replicas)]
        rows = list(dict.fromkeys(row for plan in plans for row in plan.rows.tolist()))
        tracks = ", ".join(str(track) for track in self._index.track_ids[rows[:3]])
        return (
            f"step {fault.step}: the loss of source {names}, or its gradient, is not finite; its batch holds "
            f"{len(rows)} tracks, first {tracks}; "
            "lower training.learning_rate, or use training.precision=float32"
        )


class _Throughput(NamedTuple):
    """Steps and segments done in a time."""

    steps: int = 0
    segments: int = 0
    seconds: float = 0.0

    def __add__(self, other: tuple[Any, ...]) -> _Throughput:
        return _Throughput(*(mine + more for mine, more in zip(self, other, strict=True)))

    @property
    def rate(self) -> float:
        """Segments a second."""
        return self.segments / self.seconds if self.seconds else 0.0


@contextlib.contextmanager
def data_faults() -> Iterator[None]:
    """Give a fault of the input pipeline back as it was raised, not as TensorFlow wraps it."""
    try:
        yield
    except tf.errors.OpError as error:
        found = re.search(r"DataError: (.+)", error.message)
        if found is None:
            raise
        raise DataError(found.group(1)) from error


def _losses(schedule: Schedule, sums: NDArray[np.float64], rate: float) -> str:
    parts = [
        f"{source} {loss / uses:.2f}"
        for source, loss, uses in zip(schedule.sources, sums[0], sums[2], strict=True)
        if uses
    ]
    return f"{rate:.0f} segments/s, " + " ".join(parts)


def mean_scores(sources: tuple[str, ...], sums: NDArray[np.float64]) -> Mapping[str, tuple[float, float]]:
    """Mean loss and accuracy of each source that was used."""
    return {
        source: (float(loss / uses), float(accuracy / uses))
        for source, loss, accuracy, uses in zip(sources, *sums, strict=True)
        if uses
    }
