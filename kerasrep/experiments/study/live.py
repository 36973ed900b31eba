"""What a study shows while it runs: a table in a terminal, plain lines elsewhere."""

from __future__ import annotations

import shutil
import sys
import time
from contextlib import AbstractContextManager

from kerasrep.experiments.study.schedule import Progress
from kerasrep.report.table import Table
from kerasrep.report.wording import shorten
from kerasrep.runtime.console import LINE_SECONDS, clock, is_quiet, say

REDRAW_SECONDS = 0.5
_BOLD, _PLAIN = "\x1b[1m", "\x1b[0m"


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


class Display(AbstractContextManager["Display"]):
    """A live table where standard output is a terminal, else one line per change."""

    def __init__(self, terminal: bool | None = None) -> None:
        """Choose the form; by default as standard output is."""
        self._terminal = (sys.stdout.isatty() and not is_quiet()) if terminal is None else terminal
        self._n_lines = 0
        self._last = time.monotonic()

    def __exit__(self, *_: object) -> None:
        """End; the table disappears, lines stay."""
        self._replace([])

    def __call__(self, progress: Progress, text: str) -> None:
        """Show how far it is, and what happened."""
        if not text and time.monotonic() - self._last < (REDRAW_SECONDS if self._terminal else LINE_SECONDS):
            return
        self._last = time.monotonic()
        if self._terminal:
            self._replace(_lines(progress), text)
        else:
            say(f"{text} ({summary(progress)})" if text else summary(progress))

    def _replace(self, lines: list[str], text: str = "") -> None:
        """Draw lines in the place of the last ones; a text stays above them."""
        up = f"\x1b[{self._n_lines}F\x1b[J" if self._n_lines else ""
        self._n_lines = len(lines)
        sys.stdout.write(up + "".join(f"{line}\n" for line in ([text] if text else []) + lines))
        sys.stdout.flush()


def _lines(progress: Progress) -> list[str]:
    """The table, cut to the size of the terminal."""
    now = time.monotonic()
    rows = [[name, "running", clock(now - progress.began[name])] for name in progress.names("running")]
    rows += [[name, "failed", ""] for name in progress.names("failed")[-5:]]
    waiting = progress.names("waiting")
    rows += [[name, "waiting", ""] for name in waiting[:3]]
    rows += [[f"... and {len(waiting) - 3} more", "waiting", ""]] if len(waiting) > 3 else []
    size = shutil.get_terminal_size()
    table = Table(["run", "state", "time"], rows, n_names=2).as_text(size.columns, size.columns).splitlines()
    title, *rest = [shorten(line, size.columns - 1) for line in (summary(progress), *table)]
    return [f"{_BOLD}{title}{_PLAIN}", *rest[: size.lines - 2]]
