"""Silence what native libraries write to standard error themselves, past Python.

libsndfile's MPEG decoder prints several lines for a damaged file; what matters is in our own error.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import TextIO


@contextlib.contextmanager
def silenced() -> Iterator[TextIO]:
    """Point the process's standard error at nothing; give a file that still reaches the old one.

    The whole process is concerned, so enter it once around threads, not in each of them. Exceptions
    raised inside are reported after it, as usual.
    """
    if sys.stderr is None:  # the process was started without one; its number may be that of another file
        with open(os.devnull, "w", encoding="utf-8") as nothing:  # noqa: PTH123
            yield nothing
        return
    sys.stderr.flush()
    try:
        kept = os.dup(2)
    except OSError:  # it was closed later
        yield sys.stderr
        return
    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, 2)
    os.close(null)
    try:
        with os.fdopen(os.dup(kept), "w", encoding="utf-8", errors="replace") as loud:
            yield loud
    finally:
        sys.stderr.flush()
        os.dup2(kept, 2)
        os.close(kept)
