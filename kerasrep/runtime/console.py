"""What people see: lines, bars in a terminal and plain lines elsewhere, and how much of it.

A bar is drawn where standard error is a terminal. In a log file or a pipe a plain line says now and then how
far it is. Either way the run's log is told as well. `--quiet` and `--verbose` are those of the whole process.
"""

from __future__ import annotations

import contextlib
import logging
import sys
import threading
import time
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TextIO

from kerasrep.errors import one_line
from kerasrep.runtime import run_log

#: Seconds before the first plain line; whatever is done by then needs none.
FIRST_LINE_SECONDS = 10.0
#: Seconds from the first to the second one, from which on the time left is estimated: without what the work
#: takes to begin, such as compiling.
WARM_SECONDS = 20.0
#: Seconds from one plain line to the next, then.
LINE_SECONDS = 60.0
#: Seconds between two looks whether a line is due.
_BEAT_SECONDS = 1.0
#: Whose warnings are for programmers.
_TAMED_PACKAGES = ("tensorflow", "keras", "kapre", "tensorflow_io", "absl", "h5py", "google", "keras_tuner")
_TAMED_LOGGERS = ("tensorflow", "absl", "h5py")


@dataclass
class _Verbosity:
    quiet: bool = False


_verbosity = _Verbosity()


def is_quiet() -> bool:
    """Whether results alone are printed."""
    return _verbosity.quiet


@contextlib.contextmanager
def verbosity(quiet: bool, verbose: bool) -> Iterator[None]:
    """Set how much is printed, until the block ends.

    Args:
        quiet: Print results and errors alone.
        verbose: Let warnings of TensorFlow and its like through; otherwise the run's log alone has them.
    """
    before = _verbosity.quiet
    _verbosity.quiet = quiet
    with contextlib.nullcontext() if verbose else _tamed():
        try:
            yield
        finally:
            _verbosity.quiet = before


def say(line: str, end: str = "\n") -> None:
    """Print a line for people, unless the command is to be quiet."""
    if not _verbosity.quiet:
        print(line, end=end, flush=True)


def result(path: Path, line: str) -> None:
    """Print a line about what was made; with `--quiet` its path alone."""
    print(one_line(str(path)) if _verbosity.quiet else line, flush=True)


def clock(seconds: float) -> str:
    """`1 h 05 min`, `4 min 10 s`, `20 s`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes:02d} min"
    return f"{minutes} min {rest:02d} s" if minutes else f"{rest} s"


class Progress(contextlib.AbstractContextManager["Progress"]):
    """How far a job is: a bar, plain lines, or nothing, and lines in the run's log."""

    def __init__(
        self,
        total: int | None,
        label: str | None,
        unit: str,
        shown: bool = True,
        initial: int = 0,
        unit_scale: bool = False,
        file: TextIO | None = None,
    ) -> None:
        """Begin.

        Args:
            total: How many there are; None where nobody knows.
            label: What is done.
            unit: Of what.
            shown: Whether people see it.
            initial: How many were done before.
            unit_scale: Write thousands as k, in a bar.
            file: Where to; by default standard error.
        """
        self._total, self._unit, self._label = total, unit, label
        self._done = initial
        self._postfix = ""
        self._file = file if file is not None else sys.stderr
        shown = shown and not _verbosity.quiet and self._file is not None
        self._lines, self._bar = shown, None
        if shown and _is_terminal(self._file):
            from tqdm import tqdm

            self._lines = False
            self._bar = tqdm(
                total=total,
                desc=label,
                unit=unit,
                initial=initial,
                unit_scale=unit_scale,
                file=self._file,
                dynamic_ncols=True,
            )
        self._began = time.monotonic()
        self._next = self._began + FIRST_LINE_SECONDS
        self._warm: tuple[float, int] | None = None  # when the first line was printed, and what was done then
        self._closed, self._lock = threading.Event(), threading.Lock()
        if shown:
            threading.Thread(target=self._beat, name="progress", daemon=True).start()

    def update(self, count: int = 1) -> None:
        """Say that `count` more are done."""
        with self._lock:
            self._done += count
            if self._bar is not None:
                self._bar.update(count)
            now = time.monotonic()
            if now >= self._next:
                self._next = now + (WARM_SECONDS if self._warm is None else LINE_SECONDS)
                self._tell(now)
                self._warm = self._warm or (now, self._done)

    def _beat(self) -> None:
        """Time goes on while one piece of work takes long, such as a file of many gigabytes."""
        while not self._closed.wait(_BEAT_SECONDS):
            self.update(0)

    def set_postfix(self, text: str) -> None:
        """Say more about how it goes."""
        self._postfix = text
        if self._bar is not None:
            self._bar.set_postfix_str(text, refresh=False)

    def close(self) -> None:
        """End it; a job that had a line gets a last one."""
        self._closed.set()
        if self._bar is not None:
            self._bar.close()
        now = time.monotonic()
        if now - self._began >= FIRST_LINE_SECONDS:
            self._tell(now)

    def __exit__(self, *_: object) -> None:
        """End it."""
        self.close()

    def _tell(self, now: float) -> None:
        seconds = now - self._began
        fields: dict[str, Any] = {"what": self._label or self._unit, "done": self._done, "unit": self._unit}
        if self._total is not None:
            fields["total"] = self._total
        if self._postfix:
            fields["text"] = self._postfix
        run_log.event("progress", **fields, seconds=round(seconds, 1))
        if self._lines:
            with contextlib.suppress(OSError, ValueError):  # nobody may be listening any more
                print(self._line(now), file=self._file, flush=True)

    def _line(self, now: float) -> str:
        label = f"{self._label}: " if self._label else ""
        units = self._unit if self._unit == "B" else f"{self._unit}s"
        if self._total:
            share = f" ({100 * self._done / self._total:.0f}%)"
            far = f"{self._done} of {self._total} {units}{share}"
        else:
            far = f"{self._done} {units}"
        left = ""
        if self._total and self._done < self._total and self._warm and self._done > self._warm[1]:
            seconds_each = (now - self._warm[0]) / (self._done - self._warm[1])
            left = f", about {clock(seconds_each * (self._total - self._done))} left"
        postfix = f"; {self._postfix}" if self._postfix else ""
        return f"{label}{far} in {clock(now - self._began)}{left}{postfix}"


def _is_terminal(file: TextIO) -> bool:
    with contextlib.suppress(OSError, ValueError, AttributeError):
        return file.isatty()
    return False


@contextlib.contextmanager
def _tamed() -> Iterator[None]:
    """Give warnings of TensorFlow and its like to the run's log alone; errors are shown."""
    shown = warnings.showwarning

    def show(
        message: Warning | str,
        category: type[Warning],
        filename: str,
        lineno: int,
        file: TextIO | None = None,
        line: str | None = None,
    ) -> None:
        text = f"{category.__name__}: {message}"
        run_log.event("warning", logging.WARNING, message=text, place=f"{filename}:{lineno}")
        parts = filename.replace("\\", "/").split("/")
        if not any(package in parts for package in _TAMED_PACKAGES):
            shown(message, category, filename, lineno, file, line)

    warnings.showwarning = show
    for name in _TAMED_LOGGERS:
        logging.getLogger(name).addFilter(_is_serious)
    try:
        yield
    finally:
        for name in _TAMED_LOGGERS:
            logging.getLogger(name).removeFilter(_is_serious)
        if warnings.showwarning is show:
            warnings.showwarning = shown


def _is_serious(record: logging.LogRecord) -> bool:
    """Whether people shall see a record; the run's log has warnings in any case."""
    if record.levelno >= logging.WARNING:
        run_log.to_logs(record)
    return record.levelno >= logging.ERROR
