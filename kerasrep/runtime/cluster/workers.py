"""One function at work on all nodes: tasks go out, results come back, what a lost node had is done again."""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

from kerasrep.errors import KerasrepError, RunError
from kerasrep.runtime.cluster.connection import Cluster, Node, import_ray
from kerasrep.runtime.cluster.nodes import FACTS_SECONDS, Inspector, Shared, on

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

Task = TypeVar("Task")


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


@dataclass(frozen=True)
class Lost:
    """Workers died over a task, again and again.

    Attributes:
        deaths: How many.
    """

    deaths: int


@dataclass(frozen=True)
class Plan:
    """What workers are and do.

    Attributes:
        places: The workers of a node.
        build: Called on the node, once a worker, with its place, its host and `arguments`; gives the
            function that does a task. Raises KerasrepError where it cannot.
        arguments: Anything that can be sent.
        shared: What the nodes must see.
        ahead: Tasks that a worker holds.
        losses: Deaths of workers over one task, after which it is given up.
    """

    places: Callable[[Node], list[Place]]
    build: Callable[..., Callable[[Any], Any]]
    arguments: tuple[Any, ...]
    shared: Shared
    ahead: int = TASKS_AHEAD
    losses: int = MAX_LOSSES


class Worker:
    """Runs on a node, in a process of its own."""

    def begin(self, host: str, place: Place, plan: Plan) -> str | None:
        """Get ready; gives the line that says why it cannot be."""
        os.environ.update(place.environment())
        try:
            plan.shared.enter(host)
            self._work = plan.build(place, host, *plan.arguments)
        except KerasrepError as error:
            return str(error)
        return None

    def work(self, task: Any) -> tuple[Any, str | None]:
        """Do a task; gives the result, or the line that says why there is none."""
        try:
            return self._work(task), None
        except KerasrepError as error:
            return None, str(error)


@dataclass
class _Member:
    """A worker as this process sees it; `tasks` holds what it was given, in order."""

    actor: Any
    node: str
    beginning: Any
    ready: bool = False
    tasks: dict[Any, int] = field(default_factory=dict)


class Workers(Generic[Task]):
    """Workers on all nodes of a cluster, those that join later as well; close them when done.

    Args:
        cluster: Where.
        plan: What they do.
    """

    def __init__(self, cluster: Cluster, plan: Plan) -> None:
        self._cluster, self._plan, self._ray = cluster, plan, import_ray()
        self._members: list[_Member] = []
        self._inspector = Inspector()
        self._false_starts: dict[str, int] = {}
        self._given: dict[int, Task] = {}
        self._deaths: dict[int, int] = {}
        self._queue = deque[int]()  # of those given, what no worker has
        self._numbers = itertools.count()
        self._recruited_seconds = -RECRUIT_SECONDS
        self._worked_seconds = time.monotonic()
        #: Workers that were lost so far.
        self.lost = 0

    def __enter__(self) -> Workers[Task]:
        """Nothing more to do."""
        return self

    def __exit__(self, *_: object) -> None:
        """End the workers."""
        for member in self._members:
            self._kill(member)
        self._members.clear()

    def __len__(self) -> int:
        """Workers that are ready."""
        return sum(member.ready for member in self._members)

    def run(self, tasks: Iterable[Task]) -> Iterator[tuple[Task, Any]]:
        """Do tasks; those that a lost worker had are done by others.

        Args:
            tasks: Drawn as they are needed.

        Raises:
            RunError: Where a node differs from this one, no node is left, or the cluster does not answer.

        Yields:
            Each task once, with its result or `Lost`, in the order they were finished.
        """
        source, exhausted = iter(tasks), False
        while True:
            self.keep_up()
            while not exhausted and self.room():
                try:
                    self.give(next(source))
                except StopIteration:
                    exhausted = True
            if exhausted and not self._given:
                return
            yield from self.results()

    def keep_up(self) -> None:
        """See whether the cluster is there, and who has come; to be called every now and then.

        Raises:
            RunError: Where a node differs from this one, or the cluster does not answer.
        """
        self._cluster.check()
        self._recruit()  # nobody, while the head is silent

    def room(self) -> int:
        """Tasks that workers can take now."""
        return sum(self._plan.ahead - len(m.tasks) for m in self._members if m.ready) - len(self._queue)

    def give(self, task: Task) -> None:
        """Have a task done; wait until there is room, or it lies here."""
        number = next(self._numbers)
        self._given[number] = task
        self._queue.append(number)
        self._hand_out()

    def results(self) -> Iterator[tuple[Task, Any]]:
        """Tasks that have ended meanwhile, with their results or `Lost`; waits a little for one.

        Raises:
            RunError: Where a task has, or no node is left.
        """
        self._hand_out()
        for member, reference in self._wait():
            for number, result in self._collect(member, reference):
                yield self._given.pop(number), result

    def _hand_out(self) -> None:
        while self._queue:
            free = [m for m in self._members if m.ready and len(m.tasks) < self._plan.ahead]
            if not free:
                return
            member, number = min(free, key=lambda m: len(m.tasks)), self._queue.popleft()
            member.tasks[member.actor.work.remote(self._given[number])] = number

    def _wait(self) -> list[tuple[_Member, Any]]:
        """What has come back; a little later, where nothing has.

        Raises:
            RunError: Where there has been nobody to wait for, for too long.
        """
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

    def _collect(self, member: _Member, reference: Any) -> Iterator[tuple[int, Any]]:
        exceptions = self._ray.exceptions
        try:
            value = self._ray.get(reference, timeout=FACTS_SECONDS)
        except (exceptions.RayActorError, exceptions.ObjectLostError, exceptions.GetTimeoutError):
            yield from self._lose(member)
            return
        except exceptions.RayTaskError as error:
            reason = " ".join(str(error.cause or error).split())[:300]
            raise RunError(f"--ray: a worker on node {member.node} failed ({reason})") from error
        if reference == member.beginning:
            if value is not None:
                raise RunError(value)
            member.ready = True
            return
        result, reason = value
        if reason is not None:
            raise RunError(reason)
        yield member.tasks.pop(reference), result

    def _lose(self, member: _Member) -> Iterator[tuple[int, Any]]:
        """A worker is gone: others do what it had; the task it was at may be to blame."""
        self._members.remove(member)
        self._kill(member)
        self.lost += 1
        if not member.ready:
            self._false_starts[member.node] = self._false_starts.get(member.node, 0) + 1
        for place, number in enumerate(member.tasks.values()):
            deaths = self._deaths[number] = self._deaths.get(number, 0) + (place == 0)
            if deaths >= self._plan.losses:
                yield number, Lost(deaths)
            else:
                self._queue.append(number)

    def _recruit(self) -> None:
        """Workers for nodes that have too few."""
        if time.monotonic() - self._recruited_seconds < RECRUIT_SECONDS:
            return
        nodes = self._fit(self._cluster.nodes())
        for node in nodes:
            places = self._plan.places(node)
            for place in places[sum(m.node == node.id for m in self._members) :]:
                self._members.append(self._start(node, place))
        self._recruited_seconds = time.monotonic()

    def _start(self, node: Node, place: Place) -> _Member:
        actor = (
            self._ray.remote(Worker)
            .options(num_cpus=place.cpus, num_gpus=place.gpus, scheduling_strategy=on(node))
            .remote()
        )
        return _Member(actor, node.id, actor.begin.remote(node.address, place, self._plan))

    def _fit(self, nodes: list[Node]) -> list[Node]:
        """Those that take workers, can start them, and have the same packages as here.

        Raises:
            RunError: Where one has other packages.
        """
        wanted = [
            node
            for node in nodes
            if self._false_starts.get(node.id, 0) < MAX_FALSE_STARTS and self._plan.places(node)
        ]
        return self._inspector.fit(wanted)

    def _kill(self, member: _Member) -> None:
        with contextlib.suppress(Exception):  # it may be dead, or the cluster be
            if self._cluster.answers():
                self._ray.kill(member.actor)


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
