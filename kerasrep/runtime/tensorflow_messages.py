"""TensorFlow without its messages, unless somebody asks for them.

What it prints while it is imported, of GPUs that are not there, and of operations that fall back to others
is for TensorFlow's own developers. Nothing here imports it.
"""

from __future__ import annotations

import importlib.util
import os
import sys
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType

from kerasrep.runtime.native_messages import silenced

#: Read when TensorFlow is imported: it leaves out messages below this level.
LEVEL = "TF_CPP_MIN_LOG_LEVEL"
#: CUDA's factories and oneDNN complain at level 2.
NONE = "3"


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


def hide() -> None:
    """Hide TensorFlow's messages, where it is not imported yet and the environment does not ask for them."""
    if "tensorflow" in sys.modules or os.environ.get(LEVEL) == "0" or _finders():
        return
    sys.meta_path.insert(0, _SilentTensorFlow(LEVEL not in os.environ))
    os.environ.setdefault(LEVEL, NONE)


def show() -> None:
    """Undo `hide`, where TensorFlow is not imported yet."""
    for finder in _finders():
        sys.meta_path.remove(finder)
        if finder.sets_level:
            os.environ.pop(LEVEL, None)


def _finders() -> list[_SilentTensorFlow]:
    return [finder for finder in sys.meta_path if isinstance(finder, _SilentTensorFlow)]
