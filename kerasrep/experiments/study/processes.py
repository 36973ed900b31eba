"""Processes of this machine that make the runs of a study, one a GPU or a set of cores."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from kerasrep.errors import RunError
from kerasrep.experiments.study.failures import failure_of
from kerasrep.experiments.study.job import RunFolder
from kerasrep.experiments.study.pool import Ended
from kerasrep.experiments.study.recipe import WorkerSettings
from kerasrep.runtime.child_process import let_go
from kerasrep.storage.run_directory import CHECKED_SHARDS

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


class Processes:
    """A crew of this machine.

    Args:
        slots: Where processes run.
    """

    def __init__(self, slots: Sequence[Slot]) -> None:
        self.size = len(slots)
        self._free = list(slots)
        self._running: dict[str, tuple[RunFolder, subprocess.Popen[bytes], Slot]] = {}

    def room(self) -> int:
        """How many can be started now."""
        return len(self._free)

    def start(self, run: RunFolder) -> None:
        """Start the process of a run."""
        slot = self._free.pop(0)
        self._running[run.root.name] = run, start_worker(run, slot), slot

    def ended(self) -> Iterator[Ended]:
        """What has ended meanwhile; waits a little."""
        time.sleep(POLL_SECONDS)
        for name, (run, process, slot) in list(self._running.items()):
            code = process.poll()
            if code is None:
                continue
            del self._running[name]
            let_go(process)
            self._free.append(slot)
            yield Ended(name, code, failure_of(run, code) if code else "")

    def end(self) -> None:
        """End all processes; they have time to save their state."""
        for _, process, _ in self._running.values():
            process.terminate()
        deadline = time.monotonic() + GRACE_SECONDS
        for _, process, _ in self._running.values():
            try:
                process.wait(max(0.1, deadline - time.monotonic()))
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
            let_go(process)
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
