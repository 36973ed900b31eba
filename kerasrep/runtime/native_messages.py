"""Silence what native libraries write to standard error themselves, past Python.

libsndfile's MPEG decoder prints several lines for a damaged file; what matters is in our own error. What
TensorFlow prints while it is imported, of GPUs that are not there, and of operations that fall back to others
is for its own developers. Nothing here imports it.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import sys
from collections.abc import Iterator
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import TextIO

#: Read when TensorFlow is imported: it leaves out messages below this level.
LEVEL = "TF_CPP_MIN_LOG_LEVEL"
#: CUDA's factories and oneDNN complain at level 2.
NONE = "3"


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


class _SilentTensorFlow(MetaPathFinder):
    """Imports TensorFlow without what 2.21 prints until it has read its log level."""

    def __init__(self, sets_level: bool) -> None:
        self.sets_level = sets_level

    def find_spec(self, name: str, path: object = None, target: object = None) -> ModuleSpec | None:
        """Wrap the loader of TensorFlow itself, once."""
        if name != "tensorflow":
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(name)
        if spec is None or spec.loader is None:
            return spec
        execute = spec.loader.exec_module

        def exec_module(module: ModuleType) -> None:
            with silenced():
                execute(module)

        spec.loader.exec_module = exec_module  # type: ignore[method-assign]
        return spec


def hide_tensorflow() -> None:
    """Hide TensorFlow's messages, where it is not imported yet and the environment does not ask for them."""
    if "tensorflow" in sys.modules or os.environ.get(LEVEL) == "0" or _finders():
        return
    sys.meta_path.insert(0, _SilentTensorFlow(LEVEL not in os.environ))
    os.environ.setdefault(LEVEL, NONE)


def show_tensorflow() -> None:
    """Undo `hide_tensorflow`, where TensorFlow is not imported yet."""
    for finder in _finders():
        sys.meta_path.remove(finder)
        if finder.sets_level:
            os.environ.pop(LEVEL, None)


def _finders() -> list[_SilentTensorFlow]:
    return [finder for finder in sys.meta_path if isinstance(finder, _SilentTensorFlow)]
