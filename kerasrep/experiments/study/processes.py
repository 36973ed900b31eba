"""Processes that make the runs of a study, and why they failed.

There is one a GPU or a set of cores, on this machine or on a cluster's.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from kerasrep.errors import RecipeError, RunError
from kerasrep.experiments.job import RunFolder, StudyFolder
from kerasrep.experiments.study.plan import PlannedRun
from kerasrep.experiments.study.recipe import WorkerSettings
from kerasrep.recipe.corpora import corpus_folders
from kerasrep.runtime.child_process import child
from kerasrep.runtime.pool.base import Answer
from kerasrep.runtime.pool.cluster import Cluster
from kerasrep.runtime.pool.nodes import shared_with
from kerasrep.runtime.pool.on_ray import Place, Plan, RayPool, places_of
from kerasrep.runtime.threads import available_cores
from kerasrep.storage.run_directory import CHECKED_SHARDS, home

#: What a process may take to save its state before it is killed.
GRACE_SECONDS = 60.0
COMMAND = "kerasrep-study"


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
        """Variables of the process."""
        values = dict(os.environ)
        if self.gpu is not None:
            visible = os.environ.get("CUDA_VISIBLE_DEVICES")
            values["CUDA_VISIBLE_DEVICES"] = visible.split(",")[self.gpu] if visible else str(self.gpu)
        if self.cores:
            values["OMP_NUM_THREADS"] = str(len(self.cores))
        return values


def make_slots(settings: WorkerSettings) -> list[Slot]:
    """GPUs in turn, or none; and of the cores so many a process, of GPUs an equal part.

    Where each may use all cores, processes that compile or fit probes side by side wait for each other.

    Raises:
        RunError: Where a GPU is named that is not there.
    """
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")  # what a process would see, without asking a framework
    if visible is not None:
        there = len([name for name in visible.split(",") if name.strip() not in {"", "-1"}])
    else:
        there = len([path for path in Path("/dev").glob("nvidia[0-9]*") if path.name[6:].isdecimal()])
    gpus = list(range(there)) if settings.gpus == "auto" else list(settings.gpus)
    if any(gpu >= there for gpu in gpus):
        raise RunError(f"workers.gpus: GPU {max(gpus)} is not visible, there are {there}; leave the key out")
    cores = available_cores()
    if gpus:
        count = len(gpus) if settings.count == "auto" else settings.count
        own = len(cores) // count
    else:
        count = max(1, len(cores) // settings.cores) if settings.count == "auto" else settings.count
        own = settings.cores if count * settings.cores <= len(cores) else 0  # they share what there is
    return [
        Slot(gpus[number % len(gpus)] if gpus else None, tuple(cores[number * own : (number + 1) * own]))
        for number in range(count)
    ]


@dataclass(frozen=True)
class Ended:
    """The end of a run's process.

    Attributes:
        code: Exit code; `None` where the process was lost with its machine.
        reason: Why it failed.
    """

    code: int | None
    reason: str = ""


class RunMaker:
    """A worker that makes runs, given their folders, one after the other.

    Args:
        slot: Where their processes run.
    """

    def __init__(self, slot: Slot) -> None:
        self._slot, self._signal = slot, 0
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self, root: Path) -> Answer:
        """Make a run; the answer's value is an `Ended`."""
        folder = RunFolder(root)
        with start_worker(folder, self._slot) as self._process:
            if self._signal:  # it came before the process
                self._process.send_signal(self._signal)
            code = self._process.wait()
        if code:
            return Answer(Ended(code, failure_of(folder, code)))
        return Answer(Ended(0), written=(folder.scores,))

    def stop(self, number: int) -> None:
        """Send the process a signal."""
        self._signal = number
        if self._process is not None:
            self._process.send_signal(number)


def build_maker(place: Place) -> RunMaker:
    """On a node: what makes a run; its process keeps to `place` by its environment."""
    del place
    return RunMaker(Slot())


@contextlib.contextmanager
def pool_on(
    cluster: Cluster, folder: StudyFolder, runs: Sequence[PlannedRun], settings: WorkerSettings
) -> Iterator[RayPool[Path]]:
    """Workers of a cluster that make runs: one a GPU, else one for every `workers.cores` cores.

    Args:
        cluster: Where.
        folder: Of the study, which nodes have to see, as `KERASREP_HOME` and what the runs read.
        runs: Of the study.
        settings: Section `workers` of the study recipe.

    Raises:
        RecipeError: Where that names GPUs of this machine.
    """
    if settings.gpus not in {"auto", ()}:
        raise RecipeError("workers.gpus: names GPUs of this machine; leave the key out with --ray")
    home().mkdir(parents=True, exist_ok=True)
    places = partial(places_of, cores=settings.cores, use_gpus=settings.gpus == "auto")
    most = None if settings.count == "auto" else settings.count
    with shared_with([folder.root, home()], list(_inputs(runs))) as shared:
        plan = Plan(build_maker, (), shared, places, ahead=1, losses=1, most=most)
        with RayPool[Path](cluster, plan) as pool:
            yield pool


def _inputs(runs: Sequence[PlannedRun]) -> Iterator[Path]:
    """Files and folders that runs read."""
    for run in runs[:1]:  # all have the same corpus and the same tasks
        if run.recipe is not None:
            yield from corpus_folders(run.recipe.corpus)
        if run.job.evaluation.data:
            yield Path(run.job.evaluation.data)
        for task in run.job.own_tasks:
            yield from (Path(path) for path in (task.table, task.audio) if path)


@contextlib.contextmanager
def start_worker(folder: RunFolder, slot: Slot) -> Iterator[subprocess.Popen[bytes]]:
    """Start the process of a run, which ends with the block."""
    code = "import sys; from kerasrep.cli.study import entry; sys.exit(entry())"
    arguments = ["-c", code, "--worker", str(folder.root), "--cores", ",".join(map(str, slot.cores))]
    environment = slot.environment() | {CHECKED_SHARDS: str(folder.checked)}
    with (
        folder.log.open("ab") as log,
        child(arguments, env=environment, stdout=log, stderr=subprocess.STDOUT) as process,
    ):
        yield process


def failure_of(folder: RunFolder, code: int) -> str:
    """The error line in a run's log, or how its process ended."""
    try:
        lines = folder.log.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        lines = []
    marker = f"{COMMAND}: error: "
    for line in reversed(lines[-50:]):
        if line.startswith(marker):
            return line.removeprefix(marker)
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
    return f"the process {how}; see {folder.log}"


def note_failure(folder: RunFolder, code: int | None, reason: str) -> None:
    """Add a line to the run's failures."""
    when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    with folder.failures.open("a", encoding="utf-8") as file:
        file.write(json.dumps({"when": when, "code": code, "reason": reason}) + "\n")


def recorded_failures(folder: StudyFolder, runs: Sequence[PlannedRun], done: Sequence[str]) -> dict[str, str]:
    """Why runs that are not done failed last, in this call or an earlier one; others are left out.

    Args:
        folder: Of the study.
        runs: All; what a run needs stands before it.
        done: Runs that are done.

    Returns:
        Run -> reason.
    """
    found: dict[str, str] = {}
    for run in runs:
        if run.name in done:
            continue
        lost = [name for name in run.needs if name in found]
        reason = f"needs {lost[0]}, which failed" if lost else _last_reason(folder.run(run.name))
        if reason:
            found[run.name] = reason
    return found


def _last_reason(folder: RunFolder) -> str:
    try:
        line = folder.failures.read_text(encoding="utf-8", errors="replace").splitlines()[-1]
        return str(json.loads(line)["reason"])
    except (FileNotFoundError, IndexError):
        return ""
    except (OSError, ValueError, KeyError, TypeError):
        return f"failed, but its record cannot be read; see {folder.failures}"
