"""What the processes of one training tell each other, beside the sums of their gradients.

Short values go through the key-value store of TensorFlow's coordination service, which the chief holds.
It also notices dead workers, by their missing heartbeats, and ends all collectives with an error.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import Any

import tensorflow as tf

from kerasrep.errors import KerasrepError, RunError, one_line
from kerasrep.storage.run_directory import write_text
from kerasrep.training.cluster import Cluster, meet, read_cluster

HEARTBEAT_SECONDS = 20
SHARED_SECONDS = 60.0  # network file systems show new files late
SIGNALLED = 128  # exit codes from here on say which signal it was
_POLL_MS = 1000
_LOST = (
    tf.errors.UnavailableError,
    tf.errors.AbortedError,
    tf.errors.CancelledError,
    tf.errors.DeadlineExceededError,
    tf.errors.InternalError,
    tf.errors.FailedPreconditionError,
)
_MARK = "kerasrep says: "


class WorkerLost(RunError):  # noqa: N818 (its name says what happened)
    """Another worker is gone; starting all of them again may well succeed."""

    exit_code = 75  # EX_TEMPFAIL of sysexits.h


@dataclass
class Workers:
    """The processes of one training; a single one unless the recipe says `multi_worker`.

    Attributes:
        rank: Place of this process; 0 is the chief, which alone writes.
        size: Processes.
        cluster: Their addresses; `None` for a single one.
    """

    rank: int = 0
    size: int = 1
    cluster: Cluster | None = None
    _asked: dict[str, int] = field(default_factory=dict)

    @property
    def chief(self) -> bool:
        """Whether this process writes."""
        return self.rank == 0

    def exchange(self, subject: str, value: Any) -> list[Any]:
        """Give a JSON value to all workers, and take theirs.

        Args:
            subject: What it is about, the same on all.
            value: Small.

        Returns:
            One value a worker, the chief's first.

        Raises:
            WorkerLost: Where another worker is gone, or is not as far in time.
        """
        if self.cluster is None:
            return [value]
        key = self._key(subject)
        _context().set_config_key_value(f"{key}/{self.rank}", json.dumps(value))
        return [self._get(f"{key}/{rank}", rank, subject, SHARED_SECONDS) for rank in range(self.size)]

    def from_chief(self, subject: str, do: Callable[[], Any], seconds: float = SHARED_SECONDS) -> Any:
        """What the chief alone does, and all others wait for: its JSON value. See `exchange`."""
        if self.cluster is None:
            return do()
        key = self._key(subject)
        if not self.chief:
            return self._get(key, 0, subject, seconds)
        value = do()
        _context().set_config_key_value(key, json.dumps(value))
        return value

    def leave(self) -> None:
        """End well: the chief, who holds what was said, waits until the others have heard it."""
        if self.cluster is None:
            return
        if not self.chief:
            _context().set_config_key_value(f"kerasrep/left/{self.rank}", "null")
            return
        with contextlib.suppress(WorkerLost, *_LOST):  # nothing is lost with it any more
            for rank in range(1, self.size):
                self._get(f"kerasrep/left/{rank}", rank, "left", SHARED_SECONDS)

    def check_shared(self, folder: Path, what: str) -> None:
        """Make sure that all workers see the chief's folder, not another one of its name.

        Raises:
            RunError: Where one does not.
        """
        if self.cluster is None:
            return
        name = self.from_chief(f"{what} token", lambda: f".shared-{uuid.uuid4().hex}")
        if self.chief:
            write_text(folder / name, "")
        self.exchange(f"{what} token written", None)
        end = time.monotonic() + SHARED_SECONDS / 4
        while not (seen := (folder / name).exists()) and time.monotonic() < end:
            with contextlib.suppress(OSError):
                os.listdir(folder)  # makes network file systems look again # noqa: PTH208
            time.sleep(0.2)
        answers = self.exchange(f"{what} seen", seen)
        if self.chief:
            (folder / name).unlink()
        if not all(answers):
            raise RunError(
                f"{folder}: {self.cluster.describe(answers.index(False))} does not see what the chief writes "
                f"to this {what}; put it on a file system that all workers share"
            )

    @contextlib.contextmanager
    def faults(self) -> Iterator[None]:
        """Tell the others when this worker fails, and say in one line which other one did."""
        try:
            yield
        except WorkerLost:
            raise
        except KerasrepError as error:
            if error.exit_code < SIGNALLED:  # all stop together where one is asked to
                self._report(one_line(str(error)))
            raise
        except _LOST as error:
            if self.cluster is None:
                raise
            raise self._lost(error.message) from error
        except Exception as error:
            self._report(f"{type(error).__name__}: {one_line(str(error))[:300]}")
            raise

    def _report(self, message: str) -> None:
        if self.cluster is None:
            return
        with contextlib.suppress(Exception), _without_chatter():  # a courtesy: they would notice anyway
            _context().report_error_to_cluster(tf.errors.ABORTED, f"{_MARK}{message[:600]}{_MARK}")

    def _key(self, subject: str) -> str:
        """A new key each time: the order of questions is the same on all workers."""
        count = self._asked[subject] = self._asked.get(subject, 0) + 1
        return f"kerasrep/{subject.replace(' ', '-')}/{count}"

    def _get(self, key: str, rank: int, subject: str, seconds: float) -> Any:
        assert self.cluster is not None
        end = time.monotonic() + seconds
        while True:
            left_ms = max(1, min(_POLL_MS, round(1000 * (end - time.monotonic()))))
            try:
                return json.loads(_context().get_config_key_value(key, left_ms))
            except tf.errors.DeadlineExceededError as error:
                if time.monotonic() >= end:
                    raise WorkerLost(
                        f"{self.cluster.describe(rank)} did not say '{subject}' within {seconds:g} s; see "
                        "its messages, then start all workers again"
                    ) from error

    def _lost(self, message: str) -> KerasrepError:
        assert self.cluster is not None
        found = re.search(r"/job:(\w+)/(?:replica:\d+/)?task:(\d+)", message)
        name = f"{found[1]}:{found[2]}" if found else ""
        known = name in self.cluster.names and name != self.cluster.names[self.rank]
        who = self.cluster.describe(self.cluster.names.index(name)) if known else "another worker"
        said = re.search(f"{_MARK}(.*?)({_MARK}|$)", message, re.DOTALL)
        if said:
            return RunError(f"{who} failed: {said[1].strip()}")
        return WorkerLost(f"{who} is gone; start all workers again with --resume")


def _context() -> Any:
    """TensorFlow's eager context, whose coordination service has no public name."""
    from tensorflow.python.eager import context

    return context.context()


@lru_cache
def join_workers(seconds: float) -> tuple[Workers, tf.distribute.MultiWorkerMirroredStrategy]:
    """Meet the workers of `TF_CONFIG` and start their distribution; once a process.

    Args:
        seconds: How long to wait for the others.

    Raises:
        RunError: See `read_cluster` and `meet`; or where TensorFlow has started already.
    """
    cluster = read_cluster()
    if _context()._context_handle is not None:
        raise RunError(
            "distribution.name: multi_worker must be the first thing that TensorFlow does; run the recipe in "
            "a process of its own, with kerasrep-train"
        )
    meet(cluster, seconds)
    _configure_coordination(cluster, seconds)
    watchdog = threading.Timer(seconds + HEARTBEAT_SECONDS, _give_up, (cluster, seconds))
    watchdog.daemon = True
    watchdog.start()
    workers = Workers(cluster.rank, cluster.size, cluster)
    try:
        with workers.faults(), _without_chatter():
            distribution = tf.distribute.MultiWorkerMirroredStrategy()
    finally:
        watchdog.cancel()
    return workers, distribution


def _configure_coordination(cluster: Cluster, seconds: float) -> None:
    """Set the times of the service, which are an hour for a start and a barrier at the end otherwise."""
    from tensorflow.python.eager.context import coordination_config_pb2  # its own place moves

    jobs: dict[str, int] = {}
    for name in cluster.names:
        job = name.partition(":")[0]
        jobs[job] = jobs.get(job, 0) + 1
    job, _, index = cluster.names[0].partition(":")
    _context().configure_coordination_service(
        service_type="standalone",
        service_leader=f"/job:{job}/replica:0/task:{index}",
        cluster_register_timeout_in_ms=round(1000 * seconds),
        heartbeat_timeout_in_ms=1000 * HEARTBEAT_SECONDS,
        coordinated_jobs=[
            coordination_config_pb2.CoordinatedJob(name=name, num_tasks=count) for name, count in jobs.items()
        ],
    )


def _give_up(cluster: Cluster, seconds: float) -> None:
    """End a process that waits inside TensorFlow, where nothing else can reach it."""
    where = "the others" if cluster.rank == 0 else cluster.describe(0)
    message = f"kerasrep-train: error: {where} went away while workers met, no answer in {seconds:g} s"
    os.write(2, f"{message}; start all workers again\n".encode())
    os._exit(WorkerLost.exit_code)


@contextlib.contextmanager
def _without_chatter() -> Iterator[None]:
    """Keep what TensorFlow's servers say of themselves off the terminal; it has no level to set."""
    if os.environ.get("TF_CPP_MIN_LOG_LEVEL", "0") == "0":
        yield
        return
    before = os.dup(2)
    nothing = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nothing, 2)
    try:
        yield
    finally:
        os.dup2(before, 2)
        os.close(before)
        os.close(nothing)
