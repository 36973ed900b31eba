"""A Ray cluster as kerasrep uses it: quiet, with errors as one line, and never waiting for a dead one."""

from __future__ import annotations

import atexit
import contextlib
import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from kerasrep.errors import RecipeError, RunError
from kerasrep.runtime.threads import core_count

LOCAL, AUTO = "local", "auto"
#: What a cluster may take to answer before it counts as unreachable.
ANSWER_SECONDS = 5.0
#: How long it may be silent before work on it is given up; Ray itself would abort the process after 60 s.
SILENT_SECONDS = 15.0
#: Results go through files, so that little is kept in Ray's memory; its smallest store is 75 MiB.
OBJECT_STORE_BYTES = 100 << 20
#: What leaving a cluster that answers may take.
LEAVE_SECONDS = 20.0
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_DEDUP_LOGS": "1",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",  # else a warning that this will change
}


@dataclass(frozen=True)
class Node:
    """A machine of the cluster that is alive.

    Attributes:
        id: Ray's name of it.
        address: For people: host name or IP.
        cpus: As it was declared when the node was started.
        gpus: Likewise.
    """

    id: str
    address: str
    cpus: float
    gpus: float


class Cluster:
    """A connection to a cluster; made by `connect`.

    Attributes:
        address: Of its head, HOST:PORT.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        self._answered_seconds = self._asked_seconds = time.monotonic()

    def answers(self) -> bool:
        """Whether the head does; Ray's own calls would wait a minute for it and then end the process."""
        return _listens(self.address, 1.0)

    def nodes(self) -> list[Node]:
        """Machines that are alive, in the order of their names; none while the head is silent."""
        ray = import_ray()
        found: list[Node] = []
        if not self.answers():
            return found
        for node in ray.nodes():
            if node["Alive"]:
                resources = node["Resources"]
                name = node["NodeManagerHostname"] or node["NodeManagerAddress"]
                found.append(Node(node["NodeID"], name, resources.get("CPU", 0), resources.get("GPU", 0)))
        return sorted(found, key=lambda node: node.id)

    def check(self) -> None:
        """Look whether the head still answers; costs nothing where that was seen in the last second.

        Raises:
            RunError: Where it has been silent for `SILENT_SECONDS`.
        """
        now = time.monotonic()
        if now - self._asked_seconds < 1.0:
            return
        self._asked_seconds = now
        if self.answers():
            self._answered_seconds = time.monotonic()
        elif now - self._answered_seconds > SILENT_SECONDS:
            raise RunError(
                f"--ray: the cluster at {self.address} has not answered for {SILENT_SECONDS:.0f} s; what is "
                "done is kept: start it and give the same command again"
            )


@contextlib.contextmanager
def connect(address: str) -> Iterator[Cluster]:
    """Join a cluster, or start one on this machine alone, and leave it again.

    Args:
        address: HOST:PORT of a head; `auto` for the cluster that this machine belongs to (or `RAY_ADDRESS`);
            `local` for the cores and GPUs of this machine, which needs no cluster.

    Raises:
        RecipeError: Where Ray is not installed or `address` is none.
        RunError: Where the cluster cannot be reached or does not take this process.
    """
    _check_form(address)
    os.environ.update({name: value for name, value in _QUIET.items() if name not in os.environ})
    ray = import_ray()
    if ray.is_initialized():
        raise RunError("--ray: this process is connected to a cluster already; leave that one first")
    if address not in {LOCAL, AUTO} and not os.environ.get("RAY_USE_TLS"):
        _check_reachable(address)
    with _told(address), _own_signals():
        ray.init(address, log_to_driver=False, logging_level="CRITICAL", **_own(address))
    # It prints what became of dead workers, in paragraphs; that is told here in a line, where it matters.
    ray._private.worker.print_to_stdstream = lambda *_, **__: None
    cluster = Cluster(ray.get_runtime_context().gcs_address)
    try:
        yield cluster
    finally:
        _leave(ray, cluster)


@contextlib.contextmanager
def _own_signals() -> Iterator[None]:
    """Keep what SIGTERM does here; Ray would let it end the process with a code of its own."""
    before = signal.getsignal(signal.SIGTERM)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, before)


def _leave(ray: Any, cluster: Cluster) -> None:
    """Ray would wait for a cluster that is dead, now and when the process ends."""
    leaving = threading.Thread(target=ray.shutdown, daemon=True)
    leaving.start()
    leaving.join(LEAVE_SECONDS if cluster.answers() else ANSWER_SECONDS)
    if leaving.is_alive():
        atexit.unregister(ray.shutdown)


def import_ray() -> Any:
    """The library.

    Raises:
        RecipeError: Where it is not installed.
    """
    try:
        import ray
    except ImportError as error:
        raise RecipeError(
            f'--ray: needs Ray ({error}); install it with: python -m pip install "kerasrep[scale]"'
        ) from error
    return ray


def _check_form(address: str) -> None:
    if address in {LOCAL, AUTO}:
        return
    host, _, port = address.rpartition(":")
    if "://" in address or not host or not port.isdecimal() or not 0 < int(port) < 65536:
        raise RecipeError(
            f"--ray {address}: give HOST:PORT of a cluster's head, auto, or local; the command itself runs "
            "on a node of the cluster"
        )


def _own(address: str) -> dict[str, Any]:
    """What a cluster of this process alone is made with."""
    if address != LOCAL:
        return {}
    return {
        "num_cpus": core_count(),
        "include_dashboard": False,
        "object_store_memory": OBJECT_STORE_BYTES,
    }


def _check_reachable(address: str) -> None:
    """Ask before Ray does: it would try for two minutes, and print."""
    import grpc

    with grpc.insecure_channel(address) as channel:
        try:
            grpc.channel_ready_future(channel).result(timeout=ANSWER_SECONDS)
        except grpc.FutureTimeoutError as error:
            raise RunError(
                f"--ray {address}: no cluster answers there within {ANSWER_SECONDS:.0f} s; start one with: "
                "ray start --head"
            ) from error


def _listens(address: str, timeout_seconds: float) -> bool:
    host, _, port = address.rpartition(":")
    try:
        with socket.create_connection((host.strip("[]"), int(port)), timeout_seconds):
            return True
    except OSError:
        return False


@contextlib.contextmanager
def _told(address: str) -> Iterator[None]:
    try:
        yield
    # Ray raises ConnectionError, RuntimeError, ValueError, TimeoutError and more kinds of its own.
    except Exception as error:
        reason = " ".join(str(error).split())[:300] or type(error).__name__
        raise RunError(f"--ray {address}: cannot join the cluster ({reason})") from error
