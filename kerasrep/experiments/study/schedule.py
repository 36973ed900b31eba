"""From a study recipe to the scores of all its runs: check the tasks, prepare once, make the runs.

Runs go on side by side; one that fails is tried again and stops nothing. Meanwhile a table is shown in a
terminal, plain lines elsewhere.
"""

from __future__ import annotations

import contextlib
import logging
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from kerasrep.errors import RunError
from kerasrep.experiments.job import Job, StudyFolder, has_key
from kerasrep.experiments.study.design import Design, write_design
from kerasrep.experiments.study.plan import PlannedRun, check_trained
from kerasrep.experiments.study.processes import GRACE_SECONDS, Ended, RunMaker, Slot, note_failure
from kerasrep.experiments.study.recipe import Study
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.file import write_recipe
from kerasrep.report.table import Table
from kerasrep.report.wording import shorten
from kerasrep.runtime.console import LINE_SECONDS, clock, is_quiet, say
from kerasrep.runtime.pool.base import Lost, Pool
from kerasrep.runtime.run_log import event
from kerasrep.runtime.stop_requests import stop_requests
from kerasrep.storage.run_directory import write_text

CHECK = ".check"
State = Literal["waiting", "running", "done", "failed"]
#: How often a run is made again whose worker was lost; that is nobody's failure.
MAX_LOSSES = 3
LOST = Ended(None, "its worker died, or the node did")
REDRAW_SECONDS = 0.5
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


def begin(folder: StudyFolder, study: Study, design: Design, runs: Sequence[PlannedRun]) -> None:
    """Write recipe, design and jobs.

    Raises:
        RecipeError: Where the folder holds runs that were trained with other settings.
    """
    check_trained(folder, runs)
    write_text(folder.recipe, strict_yaml.dump(study.recipe.model_dump(mode="json")))
    write_design(folder.design, design.cells)
    for run in runs:
        folder.run(run.name).give(run.job, run.recipe)


def finished(folder: StudyFolder, runs: Sequence[PlannedRun]) -> list[str]:
    """Runs whose scores are there and still valid."""
    return [run.name for run in runs if has_key(folder.run(run.name).scores, run.job.key)]


def make_runs(
    folder: StudyFolder,
    study: Study,
    runs: Sequence[PlannedRun],
    pool: Pool[Path],
    listener: Callable[[Progress, str], None],
    ray: str | None = None,
) -> Progress:
    """Make all runs that are not done yet.

    Args:
        folder: Of the study.
        study: Its recipe.
        runs: All.
        pool: Who makes them.
        listener: Told how far they are (see `Schedule`).
        ray: Address of a Ray cluster that decodes the corpus, where that is not done.

    Raises:
        Stopped: On SIGINT, SIGTERM or SIGHUP.
        RunError: Where corpus or tasks cannot be used, before any run; or nobody is left to make runs.
    """
    done = finished(folder, runs)
    if len(done) < len(runs):
        _check_tasks(folder, runs[0].job)
        _prepare(folder, study, ray)
    with _shared_checks(folder, runs):
        return Schedule(folder, pool, study.recipe.retries, listener).run(runs, done)


@contextlib.contextmanager
def _shared_checks(folder: StudyFolder, runs: Sequence[PlannedRun]) -> Iterator[None]:
    """Shards that one run has compared with their checksums are not read again by the others."""
    checked = folder.run(runs[0].name).checked
    shutil.rmtree(checked, ignore_errors=True)  # of a command that was killed
    with contextlib.suppress(OSError):  # then each compares them by itself
        checked.mkdir()
    try:
        yield
    finally:
        shutil.rmtree(checked, ignore_errors=True)


def _prepare(folder: StudyFolder, study: Study, ray: str | None) -> None:
    """Shards and targets of each seed, which all its runs share."""
    design = study.recipe.design
    code = "import sys; from kerasrep.cli.prepare import entry; sys.exit(entry())"
    for seed in study.recipe.seeds:
        recipe = study.run_recipe("prepare", design.strategies[0], design.sources, seed)
        path = folder.root / f"prepare.s{seed}.yaml"
        write_recipe(path, recipe)
        options = [str(path), "--quiet", *([] if ray is None else ["--ray", ray])]
        result = subprocess.run([sys.executable, "-c", code, *options], check=False)
        if result.returncode:
            raise RunError(f"{path}: its corpus could not be prepared; see the line above")


def _check_tasks(folder: StudyFolder, like: Job) -> None:
    """Read the tasks once in a process of its own, so that what is missing is told before any work."""
    run = folder.run(CHECK)
    run.give(Job(name=CHECK, kind="check", evaluation=like.evaluation, own_tasks=like.own_tasks))
    run.log.unlink(missing_ok=True)
    ended = RunMaker(Slot())(run.root).value
    if ended.code:
        raise RunError(ended.reason)


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


def seconds_left(progress: Progress) -> float | None:
    """Time that the rest takes at the rate so far; None before anything is done."""
    if not progress.seconds:
        return None
    mean = sum(progress.seconds.values()) / len(progress.seconds)
    waiting = len(progress.names("waiting")) * mean
    now = time.monotonic()
    running = sum(max(0.0, mean - (now - began)) for began in progress.began.values())
    return (waiting + running) / max(1, progress.slots)


def summary(progress: Progress) -> str:
    """One line: `12 of 39 done, 2 running, 0 failed, about 20 min left`."""
    done, failed = len(progress.names("done")), len(progress.names("failed"))
    left = seconds_left(progress)
    rest = f", about {clock(left)} left" if left is not None and done + failed < len(progress.states) else ""
    running = len(progress.names("running"))
    return f"{done} of {len(progress.states)} runs done, {running} running, {failed} failed{rest}"


class Display(AbstractContextManager["Display"]):
    """A live table where standard output is a terminal, else one line per change."""

    def __init__(self, terminal: bool | None = None) -> None:
        """Choose the form; by default as standard output is."""
        self._terminal = (sys.stdout.isatty() and not is_quiet()) if terminal is None else terminal
        self._n_lines = 0
        self._last = time.monotonic()

    def __exit__(self, *_: object) -> None:
        """End; the table disappears, lines stay."""
        self._replace([])

    def __call__(self, progress: Progress, text: str) -> None:
        """Show how far it is, and what happened."""
        if not text and time.monotonic() - self._last < (REDRAW_SECONDS if self._terminal else LINE_SECONDS):
            return
        self._last = time.monotonic()
        if self._terminal:
            self._replace(_lines(progress), text)
        else:
            say(f"{text} ({summary(progress)})" if text else summary(progress))

    def _replace(self, lines: list[str], text: str = "") -> None:
        """Draw lines in the place of the last ones; a text stays above them."""
        up = f"\x1b[{self._n_lines}F\x1b[J" if self._n_lines else ""
        self._n_lines = len(lines)
        sys.stdout.write(up + "".join(f"{line}\n" for line in ([text] if text else []) + lines))
        sys.stdout.flush()


def _lines(progress: Progress) -> list[str]:
    """The table, cut to the size of the terminal."""
    now = time.monotonic()
    rows = [[name, "running", clock(now - progress.began[name])] for name in progress.names("running")]
    rows += [[name, "failed", ""] for name in progress.names("failed")[-5:]]
    waiting = progress.names("waiting")
    rows += [[name, "waiting", ""] for name in waiting[:3]]
    rows += [[f"... and {len(waiting) - 3} more", "waiting", ""]] if len(waiting) > 3 else []
    size = shutil.get_terminal_size()
    table = Table(["run", "state", "time"], rows, n_names=2).as_text(size.columns, size.columns).splitlines()
    title, *rest = [shorten(line, size.columns - 1) for line in (summary(progress), *table)]
    return [f"{_BOLD}{title}{_PLAIN}", *rest[: size.lines - 2]]
