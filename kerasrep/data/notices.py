"""What people should know of files that are used all the same: a hole, clipping, a guessed layout."""

from __future__ import annotations

import logging
import threading
from pathlib import Path

from kerasrep.errors import one_line
from kerasrep.runtime.run_log import event

#: More files than this are counted only; the run's log names all.
MAX_KEPT = 1_000

_kept: dict[tuple[str, str], None] = {}
_more = 0
_lock = threading.Lock()


def add(path: Path | str, text: str) -> None:
    """Say something of a file, in the run's log and to whoever takes the notices; twice is once."""
    global _more  # noqa: PLW0603 (one list a process, as its log is)
    with _lock:
        if (str(path), text) in _kept:
            return
        if len(_kept) < MAX_KEPT:
            _kept[str(path), text] = None
        else:
            _more += 1
    event("notice", logging.WARNING, path=path, notice=text)


def hand_over() -> tuple[tuple[str, str], ...]:
    """Path and text of each, for `add` in the process that people look at; then none are left."""
    global _more  # noqa: PLW0603
    with _lock:
        pairs = tuple(_kept)
        _kept.clear()
        _more = 0
    return pairs


def take(most: int = 20) -> list[str]:
    """Lines for people, the first `most` of them, and how many more there are; then none are left."""
    global _more  # noqa: PLW0603
    with _lock:
        lines = [one_line(f"{path}: {text}") for path, text in sorted(_kept)]
        n_all = len(lines) + _more
        _kept.clear()
        _more = 0
    return lines[:most] + ([f"and {n_all - most} more; the log names them"] if n_all > most else [])
