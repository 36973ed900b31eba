"""The workers of a training on the nodes of a Ray cluster: the nodes' side.

Ray Train's workers do not train themselves: they have loaded TensorFlow by then, which has to meet the
others first. Each starts a process with the `TF_CONFIG` that Ray Train has made, hands on signals and what
the process prints, and tells how it ended.
"""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from kerasrep.errors import KerasrepError
from kerasrep.runtime.child_process import child
from kerasrep.runtime.pool.cluster import import_ray
from kerasrep.runtime.pool.nodes import Shared

#: Between two looks for a signal, and at the process.
_SIGNAL_SECONDS, _LOOK_SECONDS = 1.0, 0.2
#: Ray Train sets it for Keras 2, which nothing here uses.
_LEGACY_KERAS = "TF_USE_LEGACY_KERAS"


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
