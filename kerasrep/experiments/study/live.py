"""What a study shows while it runs: a table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
from types import TracebackType
from typing import TYPE_CHECKING

from kerasrep.experiments.study.schedule import Progress
from kerasrep.runtime.console import LINE_SECONDS, clock, is_quiet, say

if TYPE_CHECKING:
    from rich.live import Live
    from rich.table import Table


def seconds_left(progress: Progress) -> float | None:
    """Time that the rest takes at the rate so far; None before anything is done."""
    if not progress.seconds:
        return None
    mean = sum(progress.seconds.values()) / len(progress.seconds)
    waiting = len(progress.names("waiting")) * mean
    now = time.monotonic()
    running = sum(max(0.0, mean - (now - began)) for began in progress.began.values())
    return (waiting + running) / max(1, progress.slots)


def summary(progress: Progress) -> str:
    """One line: `12 of 39 done, 2 running, 0 failed, about 20 min left`."""
    done, failed = len(progress.names("done")), len(progress.names("failed"))
    left = seconds_left(progress)
    rest = f", about {clock(left)} left" if left is not None and done + failed < len(progress.states) else ""
    running = len(progress.names("running"))
    return f"{done} of {len(progress.states)} runs done, {running} running, {failed} failed{rest}"


class Display:
    """A live table where standard output is a terminal, else a line a change."""

    def __init__(self, terminal: bool | None = None) -> None:
        """Choose the form; by default as standard output is."""
        self._terminal = (sys.stdout.isatty() and not is_quiet()) if terminal is None else terminal
        self._live: Live | None = None
        self._last = time.monotonic()

    def __enter__(self) -> Display:
        """Begin."""
        if self._terminal:
            from rich.live import Live

            self._live = Live(refresh_per_second=2, transient=True)
            self._live.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End; the table disappears, lines stay."""
        if self._live is not None:
            self._live.stop()

    def __call__(self, progress: Progress, text: str) -> None:
        """Show how far it is, and what happened."""
        if self._live is not None:
            if text:
                self._live.console.print(text, markup=False, highlight=False)
            self._live.update(_table(progress))
        elif text or time.monotonic() - self._last > LINE_SECONDS:
            self._last = time.monotonic()
            say(f"{text} ({summary(progress)})" if text else summary(progress))


def _table(progress: Progress) -> Table:
    from rich.table import Table

    table = Table(title=summary(progress), title_justify="left", show_edge=False)
    table.add_column("run")
    table.add_column("state")
    table.add_column("time", justify="right")
    now = time.monotonic()
    for name in progress.names("running"):
        table.add_row(name, "running", clock(now - progress.began[name]))
    for name in progress.names("failed")[-5:]:
        table.add_row(name, "failed", "")
    waiting = progress.names("waiting")
    for name in waiting[:3]:
        table.add_row(name, "waiting", "")
    if len(waiting) > 3:
        table.add_row(f"... and {len(waiting) - 3} more", "waiting", "")
    return table
