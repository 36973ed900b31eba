"""Where this process meets those that it has on nodes: signals go out, what they say comes back."""

from __future__ import annotations

import subprocess
import time
from typing import Any

from kerasrep.runtime.cluster.connection import import_ray

#: Between two looks of a node at what it is asked for.
ASK_SECONDS = 1.0
_POLL_SECONDS = 0.2


class Desk:
    """Runs beside the command, in a process of its own (see `open_desk`)."""

    def __init__(self) -> None:
        self._number = 0
        self._news: list[Any] = []

    def ask(self, number: int) -> None:
        """Ask all processes to take a signal."""
        self._number = number

    def asked(self) -> int:
        """The signal that they are asked to take, or 0."""
        return self._number

    def tell(self, *news: Any) -> None:
        """Say something to the command."""
        self._news += news

    def news(self) -> list[Any]:
        """What was said since the last call."""
        news, self._news = self._news, []
        return news


def open_desk() -> Any:
    """Start a desk on this node; it ends with this process."""
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    ray = import_ray()
    here = NodeAffinitySchedulingStrategy(ray.get_runtime_context().get_node_id(), soft=False)
    return ray.remote(Desk).options(num_cpus=0, scheduling_strategy=here).remote()


def attend(process: subprocess.Popen[bytes], desk: Any) -> int:
    """On a node: wait for a process and hand it the signals that the desk asks for.

    Returns:
        Its exit code.
    """
    ray, passed_on = import_ray(), 0
    asked_seconds = time.monotonic()
    while (code := process.poll()) is None:
        time.sleep(_POLL_SECONDS)
        if time.monotonic() - asked_seconds >= ASK_SECONDS:
            asked_seconds = time.monotonic()
            number = ray.get(desk.asked.remote())
            if number != passed_on:
                process.send_signal(number)
                passed_on = number
    return code
