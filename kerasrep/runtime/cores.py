"""The cores that a process may use; where the system has no such notion (macOS), all of the machine."""

from __future__ import annotations

import os
from collections.abc import Sequence


def available_cores() -> list[int]:
    """Their numbers, lowest first; `taskset` and containers leave some out."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def keep_to(cores: Sequence[int]) -> None:
    """Keep this process to some cores, where the system can."""
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, cores)
