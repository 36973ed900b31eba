"""A Ray cluster of several nodes on this machine, and one node's death; for tests and benchmarks."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

ROOT = Path(__file__).parents[3]
#: Of each node's object store; Ray takes no smaller one.
STORE_BYTES = 80 << 20

Found = TypeVar("Found")


class Nodes:
    """The cluster.

    Attributes:
        address: Of its head, which offers no processor.
        nodes: Its other nodes.
    """

    def __init__(self, cluster: Any, nodes: list[Any], options: dict[str, Any]) -> None:
        self._cluster, self.nodes, self._options = cluster, nodes, options
        self.address: str = cluster.address

    def kill(self, number: int) -> int:
        """SIGKILL the daemon of a node and all processes that it started; says how many those were."""
        raylet = self.nodes[number].all_processes["raylet"][0].process.pid
        killed = [*children(raylet), raylet]
        for pid in killed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        return len(killed)

    def replace(self, number: int) -> None:
        """Start a node in the place of one that was killed."""
        self._cluster.remove_node(self.nodes[number], allow_graceful=False)
        self.nodes[number] = self._cluster.add_node(**self._options)

    def find(self, text: str) -> tuple[int, list[str]] | None:
        """The first node with a process of which an argument is `text`, and that one's arguments."""
        for number, node in enumerate(self.nodes):
            for pid in children(node.all_processes["raylet"][0].process.pid):
                with contextlib.suppress(OSError):  # it has ended meanwhile
                    words = Path(f"/proc/{pid}/cmdline").read_text(encoding="utf-8").split("\0")
                    if text in words:
                        return number, words
        return None

    def kill_head(self) -> None:
        """SIGKILL what the whole cluster depends on."""
        os.kill(self._cluster.head_node.all_processes["gcs_server"][0].process.pid, signal.SIGKILL)


@contextlib.contextmanager
def cluster_of(n_nodes: int, cpus: float = 1) -> Iterator[Nodes]:
    """Start a head without processors, and nodes; end all of them."""
    from ray.cluster_utils import Cluster

    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ["PYTHONPATH"] = os.pathsep.join(
        [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    )  # which the nodes' workers inherit
    options = {"object_store_memory": STORE_BYTES, "include_dashboard": False}
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0, **options})
    try:
        options["num_cpus"] = cpus
        nodes = [cluster.add_node(**options) for _ in range(n_nodes)]
        yield Nodes(cluster, nodes, options)
    finally:
        with contextlib.suppress(Exception):  # nodes that are dead already
            cluster.shutdown()


def start(
    command: str, *arguments: Any, cwd: Path | None = None, before: str = "", **environment: str
) -> subprocess.Popen[str]:
    """Start `kerasrep-COMMAND`; `before` is code that runs in its process first."""
    code = f"{before}import sys; from kerasrep.cli.{command} import entry; sys.exit(entry())"
    return subprocess.Popen(
        [sys.executable, "-c", code, *map(str, arguments)],
        cwd=cwd,
        env=os.environ | {"PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""} | environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def end(process: subprocess.Popen[str], timeout: float = 400) -> tuple[int, str, str]:
    """Exit code, output and messages of a command."""
    out, err = process.communicate(timeout=timeout)
    return process.returncode, out, err


def wait_for(look: Callable[[], Found], process: subprocess.Popen[str], seconds: float = 200) -> Found:
    """What `look` finds in the end, while a command runs."""
    deadline = time.monotonic() + seconds
    while process.poll() is None and time.monotonic() < deadline:
        if found := look():
            return found
        time.sleep(0.02)
    raise AssertionError(end(process))


def children(pid: int) -> list[int]:
    """Processes that a process has started, and those that these have."""
    found = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    direct = [int(line) for line in found.stdout.split()]
    return [one for child in direct for one in (*children(child), child)]
