"""Jobs in processes of their own that are ended when one takes too long: some voices never end.

The limit is in processor time, so that a busy machine ends nothing; a job that waits without working is ended
after `_PATIENCE` times that by the clock.
"""

from __future__ import annotations

import multiprocessing
import signal
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import Any

TIME_LIMIT = "time limit"
ENDED = "the process ended"
_PATIENCE = 60
_CONTEXT = multiprocessing.get_context("forkserver")


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Attributes:
        job: As given.
        value: What the function returned; None where it failed.
        error: Empty, TIME_LIMIT, ENDED, or the error in one line.
    """

    job: Any
    value: Any
    error: str


def _serve(function: Callable[[Any], Any], connection: Connection, limit_seconds: float) -> None:
    """Answers jobs; the timer of a job that works for too long ends the process, inside C code too."""
    while True:
        try:
            job = connection.recv()
        except EOFError:
            return
        signal.setitimer(signal.ITIMER_PROF, limit_seconds)
        try:
            answer = (function(job), "")
        except Exception as error:
            answer = (None, f"{type(error).__name__}: {' '.join(str(error).split())}")
        finally:
            signal.setitimer(signal.ITIMER_PROF, 0)
        connection.send(answer)


@dataclass
class _Worker:
    """A process and the job it has in hand."""

    function: Callable[[Any], Any]
    limit_seconds: float
    process: BaseProcess = field(init=False)
    connection: Connection = field(init=False)
    job: Any = None
    busy: bool = False
    ends_at: float = 0.0

    def __post_init__(self) -> None:
        self.start()

    def start(self) -> None:
        self.connection, far_end = _CONTEXT.Pipe()
        self.process = _CONTEXT.Process(
            target=_serve, args=(self.function, far_end, self.limit_seconds), daemon=True
        )
        self.process.start()
        far_end.close()

    def give(self, job: Any) -> None:
        self.job, self.busy = job, True
        self.ends_at = time.monotonic() + _PATIENCE * self.limit_seconds
        with suppress(OSError):  # a process that ended meanwhile: `take` says so
            self.connection.send(job)

    def take(self) -> Outcome:
        """The answer; an ended process is replaced."""
        self.busy = False
        try:
            value, error = self.connection.recv()
        except (EOFError, OSError):
            self.process.join()
            error = TIME_LIMIT if self.process.exitcode == -signal.SIGPROF else ENDED
            self.stop()
            self.start()
            return Outcome(self.job, None, error)
        return Outcome(self.job, value, error)

    def overrun(self) -> Outcome:
        self.busy = False
        self.stop()
        self.start()
        return Outcome(self.job, None, TIME_LIMIT)

    def stop(self) -> None:
        self.connection.close()
        self.process.kill()
        self.process.join()


def run_limited(
    function: Callable[[Any], Any], jobs: Iterable[Any], processes: int, limit_seconds: float
) -> Iterator[Outcome]:
    """Runs a function over jobs, each for at most so long, in the order in which they end.

    Args:
        function: A function of a module, called with one job.
        jobs: Any values that can be pickled.
        processes: How many at once.
        limit_seconds: Of processor time, after which the process of a job is ended and replaced.
    """
    waiting = iter(jobs)
    workers: list[_Worker] = []
    try:
        for job in waiting:
            idle = next((worker for worker in workers if not worker.busy), None)
            if idle is None and len(workers) < processes:
                idle = _Worker(function, limit_seconds)
                workers.append(idle)
            while idle is None:
                yield from _collect(workers)
                idle = next((worker for worker in workers if not worker.busy), None)
            idle.give(job)
        while any(worker.busy for worker in workers):
            yield from _collect(workers)
    finally:
        for worker in workers:
            worker.stop()


def _collect(workers: list[_Worker]) -> Iterator[Outcome]:
    """Waits for the next answer or the next limit."""
    busy = [worker for worker in workers if worker.busy]
    patience = max(0.0, min(worker.ends_at for worker in busy) - time.monotonic())
    ready = set(wait([worker.connection for worker in busy], patience))
    now = time.monotonic()
    for worker in busy:
        if worker.connection in ready:
            yield worker.take()
        elif worker.ends_at <= now:
            yield worker.overrun()
