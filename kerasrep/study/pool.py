"""Processes side by side, one a GPU or a set of cores; a run that fails is tried again and stops nothing."""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kerasrep.errors import RunError
from kerasrep.run_directory import CHECKED_SHARDS
from kerasrep.run_log import event
from kerasrep.stop_requests import stop_requests
from kerasrep.study.failures import failure_of, note_failure
from kerasrep.study.plan import PlannedRun
from kerasrep.study.recipe import WorkerSettings
from kerasrep.study_job import RunFolder, StudyFolder

State = Literal["waiting", "running", "done", "failed"]

POLL_SECONDS = 0.2
#: What a process may take to save its state before it is killed.
GRACE_SECONDS = 60.0


@dataclass(frozen=True)
class Slot:
    """Where one process runs.

    Attributes:
        gpu: Its number; `None` where there is none.
        cores: It keeps to these; empty for any.
    """

    gpu: int | None = None
    cores: tuple[int, ...] = ()

    def environment(self) -> dict[str, str]:
        """Of the process."""
        values = dict(os.environ)
        if self.gpu is not None:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            values["CUDA_VISIBLE_DEVICES"] = visible.split(",")[self.gpu] if visible else str(self.gpu)
        if self.cores:
            values["OMP_NUM_THREADS"] = str(len(self.cores))
        return values


def make_slots(settings: WorkerSettings) -> list[Slot]:
    """GPUs in turn; else cores, divided among the processes.

    Raises:
        RunError: Where a GPU is named that is not there.
    """
    there = visible_gpus()
    gpus = list(range(there)) if settings.gpus == "auto" else list(settings.gpus)
    if any(gpu >= there for gpu in gpus):
        raise RunError(f"workers.gpus: GPU {max(gpus)} is not visible, there are {there}; leave the key out")
    if gpus:
        count = len(gpus) if settings.count == "auto" else settings.count
        return [Slot(gpus[number % len(gpus)]) for number in range(count)]
    cores = sorted(os.sched_getaffinity(0))
    count = max(1, len(cores) // settings.cores) if settings.count == "auto" else settings.count
    if count * settings.cores > len(cores):  # they share what there is
        return [Slot() for _ in range(count)]
    return [
        Slot(None, tuple(cores[number * settings.cores : (number + 1) * settings.cores]))
        for number in range(count)
    ]


def visible_gpus() -> int:
    """GPUs that a process would see, without asking a framework."""
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if visible is not None:
        return len([name for name in visible.split(",") if name.strip() not in {"", "-1"}])
    return len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdecimal()])


@dataclass
class Progress:
    """How far a study is.

    Attributes:
        states: Run -> state.
        began: Run -> time that it was started, of running ones.
        seconds: Run -> how long it took, of those done now.
        reasons: Run -> why it failed.
        attempts: Run -> attempts that failed, in this call.
        slots: Processes at once.
    """

    states: dict[str, State]
    slots: int
    began: dict[str, float] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    attempts: dict[str, int] = field(default_factory=dict)

    def names(self, state: State) -> list[str]:
        """Runs in a state, in order."""
        return [name for name, now in self.states.items() if now == state]


class Stopped(RunError):  # noqa: N818 (it is not an error that the user made)
    """A signal asked the study to stop; runs have saved their state."""

    def __init__(self, number: int) -> None:
        super().__init__(
            f"stopped by {signal.Signals(number).name}; the same command goes on where it stopped"
        )
        self.exit_code = 128 + number


class Pool:
    """Makes the runs of a study.

    Args:
        folder: Of the study.
        slots: Where processes run.
        retries: How often a run that failed is tried again.
        listener: Told whenever a state changes, with one line of what happened or none.
    """

    def __init__(
        self,
        folder: StudyFolder,
        slots: Sequence[Slot],
        retries: int,
        listener: Callable[[Progress, str], None],
    ) -> None:
        self._folder, self._slots, self._retries, self._listener = folder, list(slots), retries, listener
        self._running: dict[str, tuple[subprocess.Popen[bytes], Slot]] = {}

    def run(self, runs: Sequence[PlannedRun], done: Sequence[str]) -> Progress:
        """Make all runs that are not done yet.

        Raises:
            Stopped: On SIGINT or SIGTERM.
        """
        states: dict[str, State] = {run.name: "done" if run.name in done else "waiting" for run in runs}
        progress = Progress(states, len(self._slots))
        queue = [run for run in runs if run.name not in done]
        free = list(self._slots)
        with stop_requests() as request:
            try:
                while queue or self._running:
                    self._fail_hopeless(queue, progress)
                    while free and (ready := self._next(queue, progress)) is not None:
                        queue.remove(ready)
                        self._start(ready, free.pop(0), progress)
                    time.sleep(POLL_SECONDS)
                    for run in [run for run in runs if run.name in self._running]:
                        self._poll(run, queue, free, progress)
                    if request.number:
                        raise Stopped(request.number)
                    self._listener(progress, "")
            finally:
                self._end_all()
        return progress

    def _next(self, queue: list[PlannedRun], progress: Progress) -> PlannedRun | None:
        """The first run whose needs are done."""
        return next(
            (run for run in queue if all(progress.states[name] == "done" for name in run.needs)), None
        )

    def _fail_hopeless(self, queue: list[PlannedRun], progress: Progress) -> None:
        for run in list(queue):
            lost = [name for name in run.needs if progress.states[name] == "failed"]
            if lost:
                queue.remove(run)
                self._settle(run, "failed", f"needs {lost[0]}, which failed", progress)

    def _start(self, run: PlannedRun, slot: Slot, progress: Progress) -> None:
        folder = self._folder.run(run.name)
        self._running[run.name] = start_worker(folder, slot), slot
        progress.states[run.name] = "running"
        progress.began[run.name] = time.monotonic()
        event("run_began", run=run.name)
        self._listener(progress, "")

    def _poll(self, run: PlannedRun, queue: list[PlannedRun], free: list[Slot], progress: Progress) -> None:
        process, slot = self._running[run.name]
        code = process.poll()
        if code is None:
            return
        del self._running[run.name]
        close_worker(process)
        free.append(slot)
        seconds = time.monotonic() - progress.began.pop(run.name)
        if code == 0:
            progress.seconds[run.name] = seconds
            event("run_done", run=run.name, seconds=round(seconds, 1))
            self._settle(run, "done", f"{run.name}: done in {seconds:.0f} s", progress)
            return
        reason = failure_of(self._folder.run(run.name), code)
        attempts = progress.attempts[run.name] = progress.attempts.get(run.name, 0) + 1
        note_failure(self._folder.run(run.name), code, reason)
        if attempts <= self._retries:
            queue.append(run)
            progress.states[run.name] = "waiting"
            event("run_tried_again", logging.WARNING, run=run.name, reason=reason)
            self._listener(progress, f"{run.name}: failed, is tried again: {reason}")
        else:
            self._settle(run, "failed", reason, progress)

    def _settle(self, run: PlannedRun, state: State, text: str, progress: Progress) -> None:
        progress.states[run.name] = state
        if state == "failed":
            progress.reasons[run.name] = text
            event("run_failed", logging.ERROR, run=run.name, reason=text)
            text = f"{run.name}: failed: {text}"
        self._listener(progress, text)

    def _end_all(self) -> None:
        for process, _ in self._running.values():
            process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for process, _ in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            close_worker(process)
        self._running.clear()


def start_worker(folder: RunFolder, slot: Slot) -> subprocess.Popen[bytes]:
    """Start the process of a run; it ends when its standard input is closed, as when this process dies."""
    cores = ",".join(map(str, slot.cores))
    code = "import sys; from kerasrep.cli.study import entry; sys.exit(entry())"
    arguments = [sys.executable, "-c", code, "--worker", str(folder.root)]
    with folder.log.open("ab") as log:
        return subprocess.Popen(
            [*arguments, "--cores", cores] if cores else arguments,
            stdin=subprocess.PIPE,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=slot.environment() | {CHECKED_SHARDS: str(folder.checked)},
            start_new_session=True,  # a terminal's Ctrl-C reaches the study alone, which ends its runs
        )


def close_worker(process: subprocess.Popen[bytes]) -> None:
    """Let go of a process that has ended."""
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()
