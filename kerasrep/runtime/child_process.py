"""Processes that belong to another one: they end when it does, however it ends.

TensorFlow's threads do not survive a fork: what it is asked in a forked child waits for ever.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator, Sequence
from typing import Any

from kerasrep.errors import RunError

#: The process that was the first to load or train a model: this one, or one that it was forked from.
_loaded_in: list[int] = []


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


def check_not_forked() -> None:
    """Called before a model is loaded, used or trained.

    Raises:
        RunError: Where the process that this one was forked from has loaded or trained a model.
    """
    if not _loaded_in:
        _loaded_in.append(os.getpid())
    elif _loaded_in != [os.getpid()]:
        raise RunError(
            "a model was loaded or trained before this process was forked, and TensorFlow would wait for "
            'ever here; start workers with multiprocessing.get_context("spawn") (joblib: loky), or begin in '
            "each worker and not before"
        )
