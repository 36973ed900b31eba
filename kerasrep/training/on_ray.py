"""The workers of a training on the nodes of a Ray cluster; see `launch`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from kerasrep.runtime.cluster.connection import Cluster
from kerasrep.runtime.cluster.group import Member, Order, group_of
from kerasrep.runtime.cluster.nodes import shared_with
from kerasrep.storage.run_directory import RunDirectory, home
from kerasrep.training.launch import COMMAND


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
            RunError: Where there is no room for them.
        """
        home().mkdir(parents=True, exist_ok=True)
        with shared_with([run.root, home()], self._inputs) as shared:
            messages = tuple(run.messages(rank).absolute() for rank in range(workers))
            order = Order(("-c", COMMAND, *arguments), messages, shared)
            with group_of(self._cluster, workers, order, self._cpus) as group:
                self._cpus = group.cpus
                yield group.members
