"""Who trains together: `TF_CONFIG`, and whether everybody can be reached before TensorFlow starts.

TensorFlow's own chief waits for missing workers without end or word, so the workers meet first: each
listens at its own address and knocks at all others until each has answered.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kerasrep.errors import RunError

VARIABLE = "TF_CONFIG"
_EXAMPLE = (
    '{"cluster": {"worker": ["host-a:4000", "host-b:4000"]}, "task": {"type": "worker", "index": 0}}, '
    "or use --workers"
)
_JOBS = ("chief", "worker")
_KNOCK_SECONDS = 2.0


@dataclass(frozen=True)
class Cluster:
    """The workers of a training; the first one is the chief.

    Attributes:
        addresses: `HOST:PORT` of each, the chief's first.
        names: `JOB:INDEX` of each, as TensorFlow calls it.
        rank: Place of this process.
    """

    addresses: tuple[str, ...]
    names: tuple[str, ...]
    rank: int

    @property
    def size(self) -> int:
        """Workers, the chief included."""
        return len(self.addresses)

    def describe(self, rank: int) -> str:
        """A worker for people."""
        return f"{'the chief' if rank == 0 else f'worker {rank}'} ({self.addresses[rank]})"


def read_cluster(environment: Mapping[str, str] = os.environ) -> Cluster:
    """Read `TF_CONFIG`.

    Raises:
        RunError: Where it is missing, or does not describe a cluster and this process's place in it.
    """
    text = environment.get(VARIABLE)
    if not text:
        raise RunError(f"{VARIABLE}: is not set, and distribution.name is multi_worker; set it to {_EXAMPLE}")
    try:
        config = json.loads(text)
    except (json.JSONDecodeError, RecursionError) as error:
        raise RunError(f"{VARIABLE}: is not valid JSON ({error}); set it to {_EXAMPLE}") from error
    cluster, task = _part(config, "cluster"), _part(config, "task")
    odd = sorted(set(cluster) - set(_JOBS))
    if odd:
        raise RunError(f"{VARIABLE}: cluster names the job '{odd[0]}'; it takes 'worker', and one 'chief'")
    addresses, names = [], []
    for job in _JOBS:
        listed = cluster.get(job, [])
        if not isinstance(listed, list) or not all(isinstance(one, str) for one in listed):
            raise RunError(f"{VARIABLE}: cluster.{job} must be a list of HOST:PORT; set it to {_EXAMPLE}")
        addresses += listed
        names += [f"{job}:{number}" for number in range(len(listed))]
    if not addresses:
        raise RunError(f"{VARIABLE}: cluster names no worker; set it to {_EXAMPLE}")
    if "chief:1" in names:
        raise RunError(f"{VARIABLE}: cluster.chief names more than one; list the others as workers")
    for address in addresses:
        _host_and_port(address)
    if len(set(addresses)) < len(addresses):
        raise RunError(f"{VARIABLE}: an address stands in cluster twice; each worker needs its own")
    name = f"{task.get('type')}:{task.get('index')}"
    if name not in names:
        known = ", ".join(names)
        raise RunError(f"{VARIABLE}: task '{name}' is none of the cluster's; it has {known}")
    return Cluster(tuple(addresses), tuple(names), names.index(name))


def _part(config: Any, key: str) -> dict[str, Any]:
    part = config.get(key) if isinstance(config, dict) else None
    if not isinstance(part, dict):
        raise RunError(f"{VARIABLE}: lacks the mapping '{key}'; set it to {_EXAMPLE}")
    return part


def _host_and_port(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 65_536:
        raise RunError(f"{VARIABLE}: '{address}' is not HOST:PORT")
    return host.strip("[]"), int(port)


def meet(cluster: Cluster, seconds: float) -> None:
    """Wait until every other worker has answered once.

    Args:
        cluster: All workers.
        seconds: How long at most.

    Raises:
        RunError: Where this worker's port is taken, or another worker cannot be reached in time.
    """
    missing = {rank: "did not answer" for rank in range(cluster.size) if rank != cluster.rank}
    end = time.monotonic() + seconds
    with _listening(cluster):
        while missing:
            for rank in list(missing):
                try:
                    socket.create_connection(_host_and_port(cluster.addresses[rank]), _KNOCK_SECONDS).close()
                except OSError as error:
                    missing[rank] = (error.strerror or str(error)).lower()
                else:
                    del missing[rank]
            if missing and time.monotonic() > end:
                rank, reason = next(iter(missing.items()))
                more = f", nor {len(missing) - 1} others" if len(missing) > 1 else ""
                raise RunError(
                    f"{cluster.describe(rank)} was not reached within {seconds:g} s ({reason}){more}; start "
                    f"it, correct {VARIABLE}, or raise distribution.connect_seconds"
                )
            if missing:
                time.sleep(min(0.2, seconds / 10))


@contextlib.contextmanager
def _listening(cluster: Cluster) -> Iterator[None]:
    """Answer at this worker's own address, on all interfaces, as TensorFlow does afterwards."""
    address = cluster.addresses[cluster.rank]
    _, port = _host_and_port(address)
    try:
        server = socket.create_server(("", port), backlog=cluster.size)
    except OSError as error:
        raise RunError(
            f"{VARIABLE}: port {port} of this worker, {address}, cannot be opened "
            f"({(error.strerror or str(error)).lower()}); stop what uses it, or choose another"
        ) from error

    def answer() -> None:
        with contextlib.suppress(OSError):
            while True:
                server.accept()[0].close()

    thread = threading.Thread(target=answer, name="meet", daemon=True)
    thread.start()
    try:
        yield
    finally:
        with contextlib.suppress(OSError):
            server.shutdown(socket.SHUT_RDWR)
        server.close()
        thread.join(timeout=_KNOCK_SECONDS)
