"""Runs of a study on the nodes of a Ray cluster, each a process as on one machine."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from kerasrep.errors import RecipeError, RunError
from kerasrep.experiments.study.failures import failure_of
from kerasrep.experiments.study.job import RunFolder, StudyFolder
from kerasrep.experiments.study.plan import PlannedRun
from kerasrep.experiments.study.pool import Ended
from kerasrep.experiments.study.processes import GRACE_SECONDS, Slot, start_worker
from kerasrep.experiments.study.recipe import WorkerSettings
from kerasrep.recipe.corpora import corpus_folders
from kerasrep.runtime.child_process import let_go
from kerasrep.runtime.cluster.connection import Cluster
from kerasrep.runtime.cluster.desk import attend, open_desk
from kerasrep.runtime.cluster.nodes import await_file, shared_with
from kerasrep.runtime.cluster.workers import Lost, Place, Plan, Workers, places_of
from kerasrep.storage.run_directory import home


@dataclass(frozen=True)
class Made:
    """What a worker says of a run.

    Attributes:
        host: Of the node.
        code: Exit code of the run's process.
        reason: Why it failed.
    """

    host: str
    code: int
    reason: str


def build_maker(place: Place, host: str, desk: Any) -> Callable[[Path], Made]:
    """On a node: what makes a run in a process of its own, which keeps to `place` by its environment."""
    del place

    def make(root: Path) -> Made:
        folder = RunFolder(root)
        process = start_worker(folder, Slot())
        try:
            code = attend(process, desk)
        finally:
            let_go(process)
        return Made(host, code, failure_of(folder, code) if code else "")

    return make


class CrewOnRay:
    """Workers of a cluster; made by `crew_on`."""

    def __init__(
        self,
        cluster: Cluster,
        workers: Workers[Path],
        places: Callable[[Any], list[Place]],
        most: int | None,
        desk: Any,
    ) -> None:
        self._cluster, self._workers, self._places, self._most = cluster, workers, places, most
        self._desk = desk
        self._running: set[Path] = set()

    @property
    def size(self) -> int:
        """How many at once."""
        there = sum(len(self._places(node)) for node in self._cluster.nodes())
        return there if self._most is None else min(there, self._most)

    def room(self) -> int:
        """How many can be started now."""
        room = self._workers.room()
        return room if self._most is None else min(room, self._most - len(self._running))

    def start(self, run: RunFolder) -> None:
        """Start the process of a run."""
        root = run.root.absolute()
        self._running.add(root)
        self._workers.give(root)

    def ended(self) -> Iterator[Ended]:
        """What has ended meanwhile; waits a little.

        Raises:
            RunError: Where a node differs from this one, none is left, or the cluster does not answer.
        """
        self._workers.keep_up()
        for root, made in self._workers.results():
            self._running.remove(root)
            if isinstance(made, Lost):
                yield Ended(root.name, None, "its worker died, or the node did")
                continue
            if made.code == 0:
                await_file(RunFolder(root).scores, made.host)
            yield Ended(root.name, made.code, made.reason)

    def end(self) -> None:
        """End all processes; they have time to save their state."""
        deadline = time.monotonic() + GRACE_SECONDS
        if self._running:
            self._desk.ask.remote(int(signal.SIGTERM))
        with contextlib.suppress(RunError):  # they end by themselves when their workers do
            while self._running and self._cluster.answers() and time.monotonic() < deadline:
                self._running -= {root for root, _ in self._workers.results()}


@contextlib.contextmanager
def crew_on(
    cluster: Cluster, folder: StudyFolder, runs: Sequence[PlannedRun], settings: WorkerSettings
) -> Iterator[CrewOnRay]:
    """Workers that make runs: one a GPU, else one for every `workers.cores` cores.

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
    with shared_with([folder.root, home()], list(_inputs(runs))) as shared:
        desk = open_desk()
        plan = Plan(places, build_maker, (desk,), shared, ahead=1, losses=1)
        with Workers[Path](cluster, plan) as workers:
            most = None if settings.count == "auto" else settings.count
            yield CrewOnRay(cluster, workers, places, most, desk)


def _inputs(runs: Sequence[PlannedRun]) -> Iterator[Path]:
    """Files and folders that runs read."""
    for run in runs[:1]:  # all have the same corpus and the same tasks
        if run.recipe is not None:
            yield from corpus_folders(run.recipe.corpus)
        if run.job.evaluation.data:
            yield Path(run.job.evaluation.data)
        for task in run.job.own_tasks:
            yield from (Path(path) for path in (task.table, task.audio) if path)
