"""The workers of a training on the nodes of a Ray cluster; see `launch`.

Ray Train's workers do not train themselves: they have loaded TensorFlow by then, which has to meet the
others first. Each starts a process with the `TF_CONFIG` that Ray Train has made, hands on signals and what
the process prints, and tells the command how it ended.
"""

from __future__ import annotations

import contextlib
import os
import platform
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kerasrep.errors import KerasrepError, RecipeError, RunError, one_line
from kerasrep.runtime.child_process import child
from kerasrep.runtime.pool.cluster import Cluster, Node, import_ray
from kerasrep.runtime.pool.nodes import Inspector, Shared, on, shared_with
from kerasrep.runtime.pool.on_ray import BEGIN_SECONDS, NO_NODE_SECONDS, POLL_SECONDS, Place
from kerasrep.storage.run_directory import RunDirectory, home
from kerasrep.training.launch import COMMAND

#: Exit code of a process that was lost with its node (EX_TEMPFAIL of sysexits.h).
LOST = 75
_END_SECONDS = 20.0
_ERROR = re.compile(r"kerasrep-[a-z]+: error: ")
#: Between two looks for a signal, and at the process.
_SIGNAL_SECONDS, _LOOK_SECONDS = 1.0, 0.2
#: Ray Train sets it for Keras 2, which nothing here uses.
_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"


class OnRay:
    """Starts workers on a cluster.

    Args:
        cluster: Which.
        inputs: Files and folders that all nodes must see, beside the run directory and `KERASREP_HOME`.
    """

    def __init__(self, cluster: Cluster, inputs: Sequence[Path]) -> None:
        self._cluster, self._inputs = cluster, inputs
        self._cpus: float | None = None  # of the first start: other numbers of threads round otherwise

    @contextlib.contextmanager
    def __call__(self, arguments: Sequence[str], workers: int, run: RunDirectory) -> Iterator[list[Member]]:
        """Start them; all are ended with the block. See `launch.Start`.

        Raises:
            RecipeError: Where Ray Train is not installed.
            RunError: Where there is no room for them, or a node has other packages.
        """
        try:
            import ray
            import ray.train.tensorflow
        except ImportError as error:
            raise RecipeError(
                f'--ray: needs Ray Train ({error}); install it with: python -m pip install "kerasrep[scale]"'
            ) from error
        home().mkdir(parents=True, exist_ok=True)
        with shared_with([run.root, home()], self._inputs) as shared:
            place = _place(self._cluster, workers)
            self._cpus = self._cpus or place.cpus
            here = on(ray.get_runtime_context().get_node_id())
            mailbox = ray.remote(Mailbox).options(num_cpus=0, scheduling_strategy=here).remote()
            messages = tuple(run.messages(rank).absolute() for rank in range(workers))
            environment = Place(self._cpus, place.gpus).environment()
            order = Order(("-c", COMMAND, *arguments), messages, environment, shared, mailbox)
            group = Group(self._cluster, order, place)
            try:
                yield group.members
            finally:
                group.end()


def _place(cluster: Cluster, count: int) -> Place:
    """What each process gets; waits a little for nodes."""
    end_seconds = time.monotonic() + NO_NODE_SECONDS
    while True:
        nodes = Inspector().fit([node for node in cluster.nodes() if node.cpus > 0])
        place = share_of(nodes, count)
        if place is not None:
            return place
        if time.monotonic() > end_seconds:
            there = ", ".join(f"{node.address} with {node.cpus:g} cores" for node in nodes) or "no node"
            raise RunError(
                f"--ray: no room for {count} workers ({there}); start more nodes, then give the same "
                "command again, with --resume where the run has begun"
            )
        cluster.check()
        time.sleep(1.0)


def share_of(nodes: Sequence[Node], count: int) -> Place | None:
    """The largest place that so many processes can all have; None where there is no room for them.

    Args:
        nodes: Of the cluster.
        count: Processes.
    """
    whole = {int(node.gpus) // k for node in nodes for k in range(1, count + 1)} - {0}
    gpus = next((g for g in sorted(whole, reverse=True) if sum(int(n.gpus) // g for n in nodes) >= count), 0)
    shares = {float(int(node.cpus / k)) for node in nodes for k in range(1, count + 1) if node.cpus >= k}
    for cpus in sorted(shares | {0.5, 0.25, 0.1}, reverse=True):
        on_cores = [int(node.cpus / cpus) for node in nodes]
        if gpus:
            on_cores = [min(c, int(n.gpus) // gpus) for c, n in zip(on_cores, nodes, strict=True)]
        if sum(on_cores) >= count:
            return Place(cpus, gpus)
    return None


class Member:
    """A process of a group, as this process sees it."""

    def __init__(self, group: Group) -> None:
        self._group = group
        self.code: int | None = None

    def poll(self) -> int | None:
        """Its exit code, once it has ended.

        Raises:
            RunError: Where a node refuses it, there is no room, or the cluster does not answer.
        """
        self._group.refresh()
        return self.code

    def send_signal(self, number: int) -> None:
        """Hand it a signal; all members get it."""
        self._group.send(number)


class Group:
    """Processes that Ray Train has started.

    Args:
        cluster: Where.
        order: What.
        place: Of each.

    Attributes:
        members: In the order of their ranks.
    """

    def __init__(self, cluster: Cluster, order: Order, place: Place) -> None:
        self.members = [Member(self) for _ in order.messages]
        self._cluster, self._ray, self._mailbox = cluster, import_ray(), order.mailbox
        self._began: set[int] = set()
        self._errors: list[str] = []
        self._started_seconds = self._refreshed_seconds = time.monotonic()
        self._failure: Exception | None = None
        self._thread = threading.Thread(target=self._fit, args=(order, place), daemon=True, name="Ray Train")
        self._thread.start()

    def send(self, number: int) -> None:
        """Hand all processes a signal."""
        self._mailbox.send.remote(int(number))

    def refresh(self) -> None:
        """Take what nodes have said; see `Member.poll`."""
        if time.monotonic() - self._refreshed_seconds < POLL_SECONDS:
            return
        self._cluster.check()
        over = not self._thread.is_alive()  # before the last messages are read
        for kind, rank, value in self._messages():
            self._take(kind, rank, value)
        if over:
            self._settle()
        elif len(self._began) < len(self.members) and (
            time.monotonic() - self._started_seconds > BEGIN_SECONDS
        ):
            raise RunError(
                f"--ray: {len(self.members)} workers could not begin within {BEGIN_SECONDS:.0f} s; others "
                "may use the cluster: give the same command again later, or fewer --workers"
            )
        self._refreshed_seconds = time.monotonic()

    def end(self) -> None:
        """End what is still there."""
        if self._thread.is_alive() and self._cluster.answers():
            self.send(signal.SIGKILL)
            self._thread.join(_END_SECONDS)
        with contextlib.suppress(Exception):  # the cluster may be dead
            self._ray.kill(self._mailbox)

    def _messages(self) -> list[Any]:
        try:
            return list(self._ray.get(self._mailbox.empty.remote(), timeout=_END_SECONDS))
        except self._ray.exceptions.GetTimeoutError:
            return []  # the cluster may be silent, which `check` tells
        except self._ray.exceptions.RayError as error:
            raise RunError(
                "--ray: the process that passes on what nodes say is gone; go on with --resume"
            ) from error

    def _take(self, kind: str, rank: int, value: Any) -> None:
        if kind == "began":
            self._began.add(rank)
        elif kind == "refused":
            raise RunError(value)
        elif kind == "ended":
            self.members[rank].code = value
            if rank == 0 and value != LOST:  # else another one is to blame, and all are started again
                print(*self._errors, sep="", end="", file=sys.stderr, flush=True)
        elif kind == "err" and _ERROR.match(value):
            self._errors.append(value)
        else:
            print(value, end="", file=sys.stdout if kind == "out" else sys.stderr, flush=True)

    def _settle(self) -> None:
        """Ray Train has ended: who has not told its exit code is lost, or was ended with the others."""
        lost = getattr(self._failure, "worker_failures", None)
        if self._failure is not None and lost is None:
            reason = one_line(str(self._failure))[:300]
            raise RunError(f"--ray: Ray Train failed ({reason})") from self._failure
        for rank, member in enumerate(self.members):
            if member.code is None:
                member.code = LOST if lost is None or rank in lost else 0

    def _fit(self, order: Order, place: Place) -> None:
        from ray.train import RunConfig, ScalingConfig
        from ray.train.tensorflow import TensorflowTrainer

        resources = {"CPU": place.cpus} | ({"GPU": place.gpus} if place.gpus else {})
        try:
            scaling = ScalingConfig(
                num_workers=len(self.members), use_gpu=bool(place.gpus), resources_per_worker=resources
            )
            # Ray Train wants a folder of its own; checkpoints are the training's and do not go there.
            with tempfile.TemporaryDirectory(prefix="kerasrep-ray-train-") as folder:
                TensorflowTrainer(
                    start_member,
                    train_loop_config={"order": order},
                    scaling_config=scaling,
                    run_config=RunConfig(name="kerasrep", storage_path=folder),
                ).fit()
        except Exception as error:
            self._failure = error


class Mailbox:
    """An actor beside the command: nodes leave messages there, and find the signal that they pass on."""

    def __init__(self) -> None:
        self._signal = 0
        self._messages: list[Any] = []

    def send(self, number: int) -> None:
        """Have all nodes pass on a signal."""
        self._signal = number

    def exchange(self, *messages: Any) -> int:
        """Leave messages; gives the signal to pass on, or 0."""
        self._messages += messages
        return self._signal

    def empty(self) -> list[Any]:
        """The messages since the last call."""
        messages, self._messages = self._messages, []
        return messages


@dataclass(frozen=True)
class Order:
    """What every node is told to start.

    Attributes:
        command: After the interpreter.
        messages: Where each process writes what it prints, in a folder that all nodes see; what the first one
            prints is handed on instead.
        environment: Variables of the processes.
        shared: What the nodes must see.
        mailbox: The actor.
    """

    command: tuple[str, ...]
    messages: tuple[Path, ...]
    environment: dict[str, str]
    shared: Shared
    mailbox: Any


def start_member(config: dict[str, Order]) -> None:
    """On a node, in a worker of Ray Train: start the process and stay until it has ended."""
    from ray import train

    ray, order = import_ray(), config["order"]
    rank = train.get_context().get_world_rank()

    def tell(kind: str, value: Any = None) -> None:
        ray.get(order.mailbox.exchange.remote((kind, rank, value)))

    tell("began")
    host = platform.node()
    try:
        order.shared.enter(host)
        code = _work(order, rank, tell)
    except KerasrepError as error:
        tell("refused", str(error))
    except OSError as error:
        tell("refused", f"--ray: node {host} cannot start a worker ({error})")
    else:
        tell("ended", code)


def _work(order: Order, rank: int, tell: Any) -> int:
    environment = os.environ | order.environment | {"PYTHONUNBUFFERED": "1"}
    environment.pop(_LEGACY_KERAS, None)
    with contextlib.ExitStack() as stack:
        output: Any = stack.enter_context(order.messages[rank].open("ab")) if rank else subprocess.PIPE
        process = stack.enter_context(child(order.command, env=environment, stdout=output, stderr=output))
        pumps = [
            threading.Thread(target=_pump, args=(stream, kind, tell), daemon=True)
            for stream, kind in ((process.stdout, "out"), (process.stderr, "err"))
            if stream is not None
        ]
        for pump in pumps:
            pump.start()
        code = _wait(process, order.mailbox)
        for pump in pumps:
            pump.join()
    return code


def _wait(process: subprocess.Popen[bytes], mailbox: Any) -> int:
    """The exit code of a process that is handed the signals that the command sends."""
    ray, passed_on, looked_seconds = import_ray(), 0, time.monotonic()
    while (code := process.poll()) is None:
        time.sleep(_LOOK_SECONDS)
        if time.monotonic() - looked_seconds >= _SIGNAL_SECONDS:
            looked_seconds = time.monotonic()
            number = ray.get(mailbox.exchange.remote())
            if number != passed_on:
                process.send_signal(number)
                passed_on = number
    return code


def _pump(stream: IO[bytes], kind: str, tell: Any) -> None:
    with stream:
        for line in stream:
            tell(kind, line.decode("utf-8", "replace"))
