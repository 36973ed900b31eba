"""TensorFlow's threads do not survive a fork: what it is asked in the child waits for ever."""

from __future__ import annotations

import os

from kerasrep.errors import RunError

#: The process that was the first to load or train a model: this one, or one that it was forked from.
_loaded_in: list[int] = []


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
