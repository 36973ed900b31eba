"""A pool of all nodes of a Ray cluster: what a lost node had is done again by others."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic

from kerasrep.errors import KerasrepError, RunError
from kerasrep.runtime.pool.base import Answer, Lost, Task
from kerasrep.runtime.pool.cluster import Cluster, Node, import_ray
from kerasrep.runtime.pool.nodes import FACTS_SECONDS, Inspector, Shared, await_file, check_missing, on

#: Tasks that a worker holds: one in hand, and the next.
TASKS_AHEAD = 2
#: Deaths of workers over one task, after which it is given up.
MAX_LOSSES = 3
#: Deaths of workers before their first task, after which a node is left alone.
MAX_FALSE_STARTS = 3
POLL_SECONDS = 0.5
#: Between two looks for nodes that have come, or come back.
RECRUIT_SECONDS = 5.0
#: How long there may be no worker to wait for.
NO_NODE_SECONDS = 60.0
#: How long workers may take to begin while none is at work; a cluster that others use may have no room.
BEGIN_SECONDS = 300.0
#: Threads of a worker's process that answer while another is at a task (Ray's concurrency groups).
_BESIDE = "beside"


@dataclass(frozen=True)
class Place:
    """What one worker takes of its node.

    Attributes:
        cpus: Cores; Ray takes fractions below 1 and whole numbers above.
        gpus: 1, or 0.
    """

    cpus: float
    gpus: int = 0

    @property
    def threads(self) -> int:
        """That fit on its cores."""
        return max(1, int(self.cpus))

    def environment(self) -> dict[str, str]:
        """Variables of a process that keeps to it; Ray itself says which GPU."""
        threads = str(self.threads)
        values = {"OMP_NUM_THREADS": threads, "TF_NUM_INTRAOP_THREADS": threads}
        return values if self.gpus else values | {"CUDA_VISIBLE_DEVICES": ""}


def places_of(node: Node, cores: int = 4, use_gpus: bool = True) -> list[Place]:
    """One worker a GPU, else one for every `cores` cores; nothing on a node that offers no cores.

    Args:
        node: Of the cluster.
        cores: Where TensorFlow gains little from more.
        use_gpus: Whether the work has a use for them.
    """
    if node.cpus <= 0:
        return []
    gpus = int(node.gpus) if use_gpus else 0
    count = gpus or max(1, int(node.cpus) // cores)
    share = node.cpus / count
    return [Place(float(int(share)) if share >= 1 else share, int(bool(gpus)))] * count


@dataclass(frozen=True)
class Plan:
    """What workers are and do.

    Attributes:
        build: Called on the node, once a worker, with its place and `arguments`; gives the function that does
            a task. Raises KerasrepError where it cannot.
        arguments: Anything that can be sent.
        shared: What the nodes must see.
        places: The workers of a node; by default those of `places_of`.
        ahead: Tasks that a worker holds.
        losses: Deaths of workers over one task, after which it is given up.
        most: Tasks at once; by default as many as there are workers.
    """

    build: Callable[..., Callable[[Any], Answer]]
    arguments: tuple[Any, ...]
    shared: Shared
    places: Callable[[Node], list[Place]] = places_of
    ahead: int = TASKS_AHEAD
    losses: int = MAX_LOSSES
    most: int | None = None


class Worker:
    """Runs on a node, in a process of its own."""

    def begin(self, host: str, place: Place, plan: Plan) -> str | None:
        """Get ready; gives the line that says why it cannot be."""
        os.environ.update(place.environment())
        try:
            plan.shared.enter(host)
            self._work = plan.build(place, *plan.arguments)
        except KerasrepError as error:
            return str(error)
        return None

    def work(self, task: Any) -> Answer | str:
        """Do a task; gives the answer, or the line that says why there is none."""
        try:
            return self._work(task)
        except KerasrepError as error:
            return str(error)

    def stop(self, number: int) -> None:
        """Send a signal to the process that does the task, where the function can (see `base.Worker`)."""
        self._work.stop(number)  # type: ignore[attr-defined]


@dataclass(eq=False)
class _Given(Generic[Task]):
    """A task that has not ended, and the deaths of workers over it."""

    task: Task
    deaths: int = 0


@dataclass(eq=False)
class _Member(Generic[Task]):
    """A worker as this process sees it; `tasks` holds what it was given, in order."""

    actor: Any
    node: Node
    beginning: Any
    ready: bool = False
    tasks: dict[Any, _Given[Task]] = field(default_factory=dict)


class RayPool(contextlib.AbstractContextManager["RayPool[Task]"], Generic[Task]):
    """Workers on all nodes of a cluster, those that join later as well; see `base.Pool`. Close it when done.

    Args:
        cluster: Where.
        plan: What workers do.
    """

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self._cluster, self._plan, self._ray = cluster, plan, import_ray()
        self._members: list[_Member[Task]] = []
        self._inspector = Inspector()
        self._false_starts: dict[str, int] = {}
        self._unfinished = 0
        self._queue = deque[_Given[Task]]()  # what no worker has
        self._recruited_seconds = -RECRUIT_SECONDS
        self._worked_seconds = time.monotonic()

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        for member in self._members:
            self._kill(member)
        self._members.clear()

    @property
    def size(self) -> int:
        """Workers that all nodes have room for, as many as may be busy."""
        there = sum(len(self._plan.places(node)) for node in self._cluster.nodes())
        return there if self._plan.most is None else min(there, self._plan.most)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Answer | Lost]]:
        """Do tasks; those that a lost worker had are done by others.

        Args:
            tasks: Drawn as they are needed.

        Raises:
            RunError: See `results`.

        Yields:
            Each task once, with its answer or `Lost`, in the order they were finished.
        """
        source, exhausted = iter(tasks), False
        while True:
            while not exhausted and self.room() > 0:
                try:
                    self.give(next(source))
                except StopIteration:
                    exhausted = True
            if exhausted and not self._unfinished:
                return
            yield from self.results()

    def room(self) -> int:
        """Tasks that workers can take now."""
        free = sum(self._plan.ahead - len(m.tasks) for m in self._members if m.ready) - len(self._queue)
        return free if self._plan.most is None else min(free, self._plan.most - self._unfinished)

    def give(self, task: Task) -> None:
        """Have a task done; wait until there is room, or it lies here."""
        self._unfinished += 1
        self._queue.append(_Given(task))
        self._hand_out()

    def results(self) -> Iterator[tuple[Task, Answer | Lost]]:
        """Tasks that have ended meanwhile, with their answers or `Lost`; waits a little for one.

        Raises:
            RunError: Where a task has failed, a node differs from this one or does not see the same files, no
                node is left, or the cluster does not answer.
        """
        self._cluster.check()
        self._recruit()  # nobody, while the head is silent
        self._hand_out()
        for member, reference in self._wait():
            for given, answer in self._collect(member, reference):
                self._unfinished -= 1
                yield given.task, answer

    def stop(self, grace_seconds: float) -> None:
        """End all tasks; what does not end in time ends with its worker."""
        deadline = time.monotonic() + grace_seconds
        self._unfinished -= len(self._queue)
        self._queue.clear()
        for member in self._members if self._unfinished and self._cluster.answers() else ():
            member.actor.stop.options(concurrency_group=_BESIDE).remote(int(signal.SIGTERM))
        with contextlib.suppress(RunError):  # they end by themselves when their workers do
            while self._unfinished and self._cluster.answers() and time.monotonic() < deadline:
                for _ in self.results():
                    pass

    def _hand_out(self) -> None:
        while self._queue:
            free = [m for m in self._members if m.ready and len(m.tasks) < self._plan.ahead]
            if not free:
                return
            member, given = min(free, key=lambda m: len(m.tasks)), self._queue.popleft()
            member.tasks[member.actor.work.remote(given.task)] = given

    def _wait(self) -> list[tuple[_Member[Task], Any]]:
        """What has come back; a little later, where nothing has."""
        owners = {reference: m for m in self._members for reference in m.tasks}
        if owners:
            self._worked_seconds = time.monotonic()
        else:
            limit = BEGIN_SECONDS if self._members else NO_NODE_SECONDS
            if time.monotonic() - self._worked_seconds > limit:
                raise RunError(self._why_nobody(limit))
        owners |= {m.beginning: m for m in self._members if not m.ready}
        if not owners:
            time.sleep(POLL_SECONDS)
            return []
        found, _ = self._ray.wait(list(owners), num_returns=1, timeout=POLL_SECONDS)
        return [(owners[reference], reference) for reference in found]

    def _why_nobody(self, limit: float) -> str:
        what = "no node has a processor to offer"
        if self._members:
            what = "no node had room for a worker, or could start one,"
        return f"--ray: {what} for {limit:.0f} s; what is done is kept: the same command goes on later"

    def _collect(self, member: _Member[Task], reference: Any) -> Iterator[tuple[_Given[Task], Answer | Lost]]:
        exceptions = self._ray.exceptions
        try:
            value = self._ray.get(reference, timeout=FACTS_SECONDS)
        except (exceptions.RayActorError, exceptions.ObjectLostError, exceptions.GetTimeoutError):
            yield from self._lose(member)
            return
        except exceptions.RayTaskError as error:
            reason = " ".join(str(error.cause or error).split())[:300]
            raise RunError(f"--ray: a worker on node {member.node.id} failed ({reason})") from error
        if isinstance(value, str):
            raise RunError(value)
        if reference == member.beginning:
            member.ready = True
            return
        check_missing(member.node.address, value.missing)
        for path in value.written:
            await_file(path, member.node.address)
        yield member.tasks.pop(reference), value

    def _lose(self, member: _Member[Task]) -> Iterator[tuple[_Given[Task], Lost]]:
        """A worker is gone: others do what it had; the task it was at may be to blame."""
        self._members.remove(member)
        self._kill(member)
        if not member.ready:
            self._false_starts[member.node.id] = self._false_starts.get(member.node.id, 0) + 1
        for place, given in enumerate(member.tasks.values()):
            given.deaths += place == 0
            if given.deaths >= self._plan.losses:
                yield given, Lost(given.deaths)
            else:
                self._queue.append(given)

    def _recruit(self) -> None:
        """Workers for nodes that have too few."""
        if time.monotonic() - self._recruited_seconds < RECRUIT_SECONDS:
            return
        nodes = [
            node
            for node in self._cluster.nodes()
            if self._false_starts.get(node.id, 0) < MAX_FALSE_STARTS and self._plan.places(node)
        ]
        for node in self._inspector.fit(nodes):
            there = sum(member.node.id == node.id for member in self._members)
            self._members += [self._start(node, place) for place in self._plan.places(node)[there:]]
        self._recruited_seconds = time.monotonic()

    def _start(self, node: Node, place: Place) -> _Member[Task]:
        actor = (
            self._ray.remote(concurrency_groups={_BESIDE: 1})(Worker)
            .options(num_cpus=place.cpus, num_gpus=place.gpus, scheduling_strategy=on(node.id))
            .remote()
        )
        return _Member(actor, node, actor.begin.remote(node.address, place, self._plan))

    def _kill(self, member: _Member[Task]) -> None:
        with contextlib.suppress(Exception):  # it may be dead, or the cluster be
            if self._cluster.answers():
                self._ray.kill(member.actor)
