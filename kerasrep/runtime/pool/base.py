"""What a pool is given and gives back, the same for all; and the pool of this process.

Its workers are threads, each of which has a child process do the work.
"""

from __future__ import annotations

import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar

Task = TypeVar("Task")
POLL_SECONDS = 0.2


@dataclass(frozen=True)
class Answer:
    """What a worker says of a task.

    Attributes:
        value: Whatever the task is for.
        written: Files that the worker has written, which this process waits for.
        missing: Files that the worker does not see. One that is here is an error of the cluster.
    """

    value: Any = None
    written: tuple[Path, ...] = ()
    missing: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Lost:
    """Workers died over a task, again and again.

    Attributes:
        deaths: How many.
    """

    deaths: int


class Pool(Protocol[Task]):
    """Workers that do one task at a time each."""

    @property
    def size(self) -> int:
        """Tasks at once."""

    def room(self) -> int:
        """Tasks that workers can take now."""

    def give(self, task: Task) -> None:
        """Have a task done; wait until there is room, or it lies here."""

    def results(self) -> Iterator[tuple[Task, Answer | Lost]]:
        """Tasks that have ended meanwhile; waits a little for one.

        Raises:
            RunError: Where nobody is left to do them.
        """

    def stop(self, grace_seconds: float) -> None:
        """End all tasks; the processes that workers have started may take so long to save their state."""


class Worker(Protocol):
    """Does one task after the other."""

    def __call__(self, task: Any, /) -> Answer:
        """Do a task."""

    def stop(self, number: int) -> None:
        """Send a signal to the process that does it."""


class LocalPool(Generic[Task]):
    """See `base.Pool`.

    Args:
        workers: Each has a thread.
    """

    def __init__(self, workers: Sequence[Worker]) -> None:
        self.size = len(workers)
        self._idle = list(workers)
        self._threads = ThreadPoolExecutor(self.size)
        self._busy: dict[Future[Answer], tuple[Task, Worker]] = {}

    def room(self) -> int:
        """Tasks that workers can take now."""
        return len(self._idle)

    def give(self, task: Task) -> None:
        """Have a task done."""
        worker = self._idle.pop(0)
        self._busy[self._threads.submit(worker, task)] = task, worker

    def results(self) -> Iterator[tuple[Task, Answer]]:
        """Tasks that have ended meanwhile; waits a little for one."""
        for future in wait(self._busy, POLL_SECONDS, FIRST_COMPLETED).done:
            task, worker = self._busy.pop(future)
            self._idle.append(worker)
            yield task, future.result()

    def stop(self, grace_seconds: float) -> None:
        """End all tasks: ask first, then kill; at once where waiting is interrupted."""
        try:
            self._signal(signal.SIGTERM)
            wait(self._busy, grace_seconds)
        finally:
            self._signal(signal.SIGKILL)
            self._threads.shutdown()

    def _signal(self, number: int) -> None:
        for future, (_, worker) in self._busy.items():
            if not future.done():
                worker.stop(number)
