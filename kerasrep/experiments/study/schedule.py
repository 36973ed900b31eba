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
from kerasrep.experiments.study.failures import note_failure
from kerasrep.experiments.study.job import StudyFolder
from kerasrep.experiments.study.plan import PlannedRun
from kerasrep.experiments.study.processes import GRACE_SECONDS, Ended
from kerasrep.runtime.pool.base import Answer, Lost, Pool
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
        self,
        folder: StudyFolder,
        pool: Pool[Path],
        retries: int,
        listener: Callable[[Progress, str], None],
    ) -> None:
        self._folder, self._pool, self._retries, self._listener = folder, pool, retries, listener
        self._losses: dict[str, int] = {}

    def run(self, runs: Sequence[PlannedRun], done: Sequence[str]) -> Progress:
        """Make all runs that are not done yet.

        Raises:
            Stopped: On SIGINT or SIGTERM.
            RunError: Where nobody is left to make them.
        """
        states: dict[str, State] = {run.name: "done" if run.name in done else "waiting" for run in runs}
        progress = Progress(states, self._pool.size)
        queue = [run for run in runs if run.name not in done]
        by_name = {run.name: run for run in runs}
        with stop_requests() as request:
            try:
                while queue or progress.names("running"):
                    self._fail_hopeless(queue, progress)
                    while self._pool.room() > 0 and (ready := self._next(queue, progress)) is not None:
                        queue.remove(ready)
                        self._start(ready, progress)
                    for root, answer in self._pool.results():
                        self._take(by_name[root.name], answer, queue, progress)
                    if request.number:
                        raise Stopped(request.number)
                    progress.slots = self._pool.size
                    self._listener(progress, "")
            finally:
                self._pool.stop(GRACE_SECONDS)
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

    def _start(self, run: PlannedRun, progress: Progress) -> None:
        self._pool.give(self._folder.run(run.name).root.absolute())
        progress.states[run.name] = "running"
        progress.began[run.name] = time.monotonic()
        event("run_began", run=run.name)
        self._listener(progress, "")

    def _take(
        self, run: PlannedRun, answer: Answer | Lost, queue: list[PlannedRun], progress: Progress
    ) -> None:
        seconds = time.monotonic() - progress.began.pop(run.name)
        ended = LOST if isinstance(answer, Lost) else answer.value
        if ended.code == 0:
            progress.seconds[run.name] = seconds
            event("run_done", run=run.name, seconds=round(seconds, 1))
            self._settle(run, "done", f"{run.name}: done in {seconds:.0f} s", progress)
        elif ended.code is None and self._losses.get(run.name, 0) < MAX_LOSSES:
            self._losses[run.name] = self._losses.get(run.name, 0) + 1
            self._again(run, "run_lost", f"lost, is made again: {ended.reason}", queue, progress)
        else:
            note_failure(self._folder.run(run.name), ended.code, ended.reason)
            attempts = progress.attempts[run.name] = progress.attempts.get(run.name, 0) + 1
            if attempts <= self._retries and ended.code is not None:
                text = f"failed, is tried again: {ended.reason}"
                self._again(run, "run_tried_again", text, queue, progress)
            else:
                self._settle(run, "failed", ended.reason, progress)

    def _again(
        self, run: PlannedRun, what: str, text: str, queue: list[PlannedRun], progress: Progress
    ) -> None:
        queue.append(run)
        progress.states[run.name] = "waiting"
        event(what, logging.WARNING, run=run.name, reason=text)
        self._listener(progress, f"{run.name}: {text}")

    def _settle(self, run: PlannedRun, state: State, text: str, progress: Progress) -> None:
        progress.states[run.name] = state
        if state == "failed":
            progress.reasons[run.name] = text
            event("run_failed", logging.ERROR, run=run.name, reason=text)
            text = f"{run.name}: failed: {text}"
        self._listener(progress, text)
