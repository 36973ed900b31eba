"""Runs of a study side by side; one that fails is tried again and stops nothing."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kerasrep.errors import RunError
from kerasrep.experiments.job import StudyFolder
from kerasrep.experiments.study.failures import note_failure
from kerasrep.experiments.study.plan import PlannedRun
from kerasrep.experiments.study.processes import GRACE_SECONDS, Ended
from kerasrep.runtime.pool.base import Lost, Pool
from kerasrep.runtime.run_log import event
from kerasrep.runtime.stop_requests import stop_requests

State = Literal["waiting", "running", "done", "failed"]

#: How often a run is made again whose worker was lost; that is nobody's failure.
MAX_LOSSES = 3
LOST = Ended(None, "its worker died, or the node did")


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


class Schedule:
    """Makes the runs of a study.

    Args:
        folder: Of the study.
        pool: Who makes them; its tasks are the folders of runs.
        retries: How often a run that failed is tried again.
        listener: Told whenever a state changes, with one line of what happened or none.
    """

    def __init__(
        self, folder: StudyFolder, pool: Pool[Path], retries: int, listener: Callable[[Progress, str], None]
    ) -> None:
        self._folder, self._pool, self._retries, self._listener = folder, pool, retries, listener
        self._losses: dict[str, int] = {}

    def run(self, runs: Sequence[PlannedRun], done: Sequence[str]) -> Progress:
        """Make all runs that are not done yet.

        Raises:
            Stopped: On SIGINT, SIGTERM or SIGHUP.
            RunError: Where nobody is left to make them.
        """
        states: dict[str, State] = {run.name: "done" if run.name in done else "waiting" for run in runs}
        self._progress = progress = Progress(states, self._pool.size)
        self._queue = [run for run in runs if run.name not in done]
        by_name = {run.name: run for run in runs}
        with stop_requests() as request:
            try:
                while self._queue or progress.names("running"):
                    self._start_ready()
                    for root, answer in self._pool.results():
                        ended = LOST if isinstance(answer, Lost) else answer.value
                        self._take(by_name[root.name], ended)
                    if request.number:
                        raise Stopped(request.number)
                    progress.slots = self._pool.size
                    self._listener(progress, "")
            finally:
                self._pool.stop(GRACE_SECONDS)
        return progress

    def _start_ready(self) -> None:
        """Start runs whose needs are done, and give those up of whose needs one failed."""
        states = self._progress.states
        for run in list(self._queue):
            failed = [name for name in run.needs if states[name] == "failed"]
            if failed:
                self._queue.remove(run)
                self._fail(run, f"needs {failed[0]}, which failed")
            elif self._pool.room() > 0 and all(states[name] == "done" for name in run.needs):
                self._queue.remove(run)
                self._pool.give(self._folder.run(run.name).root.absolute())
                states[run.name] = "running"
                self._progress.began[run.name] = time.monotonic()
                event("run_began", run=run.name)
                self._listener(self._progress, "")

    def _take(self, run: PlannedRun, ended: Ended) -> None:
        """See how a run ended, and whether it is made again."""
        name, progress = run.name, self._progress
        seconds = time.monotonic() - progress.began.pop(name)
        if ended.code == 0:
            progress.seconds[name] = seconds
            progress.states[name] = "done"
            event("run_done", run=name, seconds=round(seconds, 1))
            self._listener(progress, f"{name}: done in {seconds:.0f} s")
            return
        if ended.code is None and self._losses.get(name, 0) < MAX_LOSSES:
            self._losses[name] = self._losses.get(name, 0) + 1
            self._again(run, "run_lost", f"lost, is made again: {ended.reason}")
            return
        note_failure(self._folder.run(name), ended.code, ended.reason)
        progress.attempts[name] = progress.attempts.get(name, 0) + 1
        if progress.attempts[name] <= self._retries and ended.code is not None:
            self._again(run, "run_tried_again", f"failed, is tried again: {ended.reason}")
        else:
            self._fail(run, ended.reason)

    def _again(self, run: PlannedRun, what: str, text: str) -> None:
        self._queue.append(run)
        self._progress.states[run.name] = "waiting"
        event(what, logging.WARNING, run=run.name, reason=text)
        self._listener(self._progress, f"{run.name}: {text}")

    def _fail(self, run: PlannedRun, reason: str) -> None:
        self._progress.states[run.name] = "failed"
        self._progress.reasons[run.name] = reason
        event("run_failed", logging.ERROR, run=run.name, reason=reason)
        self._listener(self._progress, f"{run.name}: failed: {reason}")
