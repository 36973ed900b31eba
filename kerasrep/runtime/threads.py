"""Work done by threads, whose results come in order; and the cores that a process may use.

Where the system has no such notion (macOS), those are all of the machine.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_order(
    work: Callable[[Item], Result], items: Iterable[Item], n_threads: int
) -> Generator[Result, None, None]:
    """Call a function for each item in threads; a few results wait for the consumer at most.

    Yields:
        The results, in the order of `items`.
    """
    pending: deque[Future[Result]] = deque()
    pool = ThreadPoolExecutor(n_threads)
    try:
        for item in items:
            pending.append(pool.submit(work, item))
            if len(pending) > 2 * n_threads:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)


def core_count() -> int:
    """How many cores' work this process may do: what `taskset` and a container's set or quota leave it."""
    import joblib

    return int(joblib.cpu_count())


def available_cores() -> list[int]:
    """Their numbers, lowest first; `taskset` and containers leave some out."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def keep_to(cores: Sequence[int]) -> None:
    """Keep this process to some cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
