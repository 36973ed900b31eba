"""Processes that belong to another one: they end when it does, however it ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any


def end_with_parent(number: int = signal.SIGTERM) -> None:
    """Send this process a signal once the other end of standard input is closed.

    Args:
        number: SIGTERM lets it save its state, SIGKILL does not.
    """

    def wait() -> None:
        # Not through sys.stdin, whose lock a thread may not hold when the interpreter ends.
        with contextlib.suppress(OSError):
            while os.read(0, 4096):
                pass
        os.kill(os.getpid(), number)

    # Workers of Ray hold SIGINT back, and so would every process that they start.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT, signal.SIGTERM})
    threading.Thread(target=wait, daemon=True, name="end with the parent").start()


@contextlib.contextmanager
def child(arguments: Sequence[str], **options: Any) -> Iterator[subprocess.Popen[bytes]]:
    """Start Python; what calls `end_with_parent` there ends with the block, or when this process dies.

    Args:
        arguments: Of the interpreter.
        options: Of `subprocess.Popen`.
    """
    process = subprocess.Popen(
        [sys.executable, *arguments],
        stdin=subprocess.PIPE,
        start_new_session=True,  # a terminal's Ctrl-C reaches this process alone, which hands it on
        **options,
    )
    try:
        yield process
    finally:
        assert process.stdin is not None
        with contextlib.suppress(OSError):
            process.stdin.close()
