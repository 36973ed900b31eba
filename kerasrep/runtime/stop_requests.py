"""Signals as requests, so that long work ends where its state can be kept; else as exceptions."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import termios
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from types import FrameType

#: What asks a process to end; a terminal that is closed sends SIGHUP.
TERMINATION = (signal.SIGTERM, signal.SIGHUP)


class Terminated(KeyboardInterrupt):
    """SIGTERM or SIGHUP, where nothing waits for a request: it unwinds as Ctrl-C does, files are tidied up.

    Attributes:
        number: The signal.
    """

    def __init__(self, number: int = signal.SIGTERM) -> None:
        super().__init__()
        self.number = number


@dataclass
class StopRequest:
    """Set by a signal handler, read between calls.

    Attributes:
        number: The signal, or 0.
    """

    number: int = 0


@contextlib.contextmanager
def stop_requests() -> Iterator[StopRequest]:
    """Turn the first signal into a request; a second one ends the process as usual.

    SIGHUP stays ignored where it is, as under `nohup`.
    """
    request = StopRequest()
    if threading.current_thread() is not threading.main_thread():
        yield request
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, *TERMINATION)}
    if before[signal.SIGHUP] is signal.SIG_IGN:
        del before[signal.SIGHUP]

    def note(number: int, frame: FrameType | None) -> None:
        del frame
        _leave_dead_terminal()
        request.number = number
        for each, handler in before.items():
            signal.signal(each, handler)

    for number in before:
        signal.signal(number, note)
    try:
        yield request
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextlib.contextmanager
def termination_unwinds() -> Iterator[None]:
    """Let SIGTERM and SIGHUP raise `Terminated`, unless somebody handles or ignores them already."""
    ours = threading.current_thread() is threading.main_thread()
    free = [number for number in TERMINATION if ours and signal.getsignal(number) is signal.SIG_DFL]

    def stop(number: int, frame: FrameType | None) -> None:
        del frame
        _leave_dead_terminal()
        raise Terminated(number)

    for number in free:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number in free:
            signal.signal(number, signal.SIG_DFL)


def _leave_dead_terminal() -> None:
    """Let what is printed go nowhere where the terminal is closed: writing would fail."""
    for number in (1, 2):
        try:
            termios.tcgetattr(number)
        except termios.error as error:
            if error.args[0] == errno.EIO:
                null = os.open(os.devnull, os.O_WRONLY)
                os.dup2(null, number)
                os.close(null)
