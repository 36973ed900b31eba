"""TensorFlow's threads do not survive a fork: what it is asked in the child waits for ever."""

from __future__ import annotations

import os

from kerasrep.errors import RunError

#: The process that was the first to load a model: this one, or one that it was forked from.
_loaded_in: list[int] = []


def check_not_forked() -> None:
    """Called before a model is loaded or used.

    Raises:
        RunError: Where the process that this one was forked from has loaded a model.
    """
    if not _loaded_in:
        _loaded_in.append(os.getpid())
    elif _loaded_in != [os.getpid()]:
        raise RunError(
            "a model was loaded before this process was forked, and TensorFlow would wait for ever here; "
            'start workers with multiprocessing.get_context("spawn") (joblib: loky), or load in each worker '
            "and not before"
        )
