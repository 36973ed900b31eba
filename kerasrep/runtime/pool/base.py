"""What a pool is given, and what it gives back; the same for all pools."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

Task = TypeVar("Task")


@dataclass(frozen=True)
class Answer:
    """What a worker says of a task.

    Attributes:
        value: Whatever the task is for.
        written: Files that the worker has written, which this process waits for.
        missing: Files that the worker does not see. One that is here is an error of the cluster.
    """

    value: Any = None
    written: tuple[Path, ...] = ()
    missing: tuple[Path, ...] = ()


@dataclass(frozen=True)
class Lost:
    """Workers died over a task, again and again.

    Attributes:
        deaths: How many.
    """

    deaths: int


class Pool(Protocol[Task]):
    """Workers that do one task at a time each."""

    @property
    def size(self) -> int:
        """Tasks at once."""

    def room(self) -> int:
        """Tasks that workers can take now."""

    def give(self, task: Task) -> None:
        """Have a task done; wait until there is room, or it lies here."""

    def results(self) -> Iterator[tuple[Task, Answer | Lost]]:
        """Tasks that have ended meanwhile; waits a little for one.

        Raises:
            RunError: Where nobody is left to do them.
        """

    def stop(self, grace_seconds: float) -> None:
        """End all tasks; the processes that workers have started may take so long to save their state."""
