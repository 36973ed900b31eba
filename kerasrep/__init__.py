"""Music representations learnt from eight sources under six sharing strategies.

The public names load their modules when first used; importing kerasrep imports no TensorFlow.
"""

from __future__ import annotations

import importlib
import os
import platform
import sys
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if sys.platform == "win32":
    raise ImportError("kerasrep runs on Linux and macOS; on Windows, install it in WSL 2")

from kerasrep.runtime import native_messages  # which imports what Windows does not have

# TensorFlow leaves oneDNN off on processors with AVX2 alone, where it trains 2.4 times as fast with it.
# Read when TensorFlow is imported.
if platform.machine() == "x86_64":
    os.environ.setdefault("TF_ENABLE_ONEDNN_OPTS", "1")

# A program that wants TensorFlow's messages sets TF_CPP_MIN_LOG_LEVEL.
native_messages.hide_tensorflow()

#: Public name -> module that defines it under the same name.
_PUBLIC = {
    "load": "kerasrep.embedding",
    "train": "kerasrep.api",
    "embed": "kerasrep.embedding.embedder",
    "neighbours": "kerasrep.embedding.listening.found",
    "read_recipe": "kerasrep.recipe.file",
    "write_recipe": "kerasrep.recipe.file",
    "Recipe": "kerasrep.recipe.schema",
    "KerasrepError": "kerasrep.errors",
}

__all__ = [
    "KerasrepError",
    "Recipe",
    "__version__",
    "embed",
    "load",
    "neighbours",
    "read_recipe",
    "train",
    "write_recipe",
]

if TYPE_CHECKING:
    from kerasrep.api import train
    from kerasrep.embedding.embedder import embed, load
    from kerasrep.embedding.listening.found import neighbours
    from kerasrep.errors import KerasrepError
    from kerasrep.recipe.file import read_recipe, write_recipe
    from kerasrep.recipe.schema import Recipe


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kerasrep' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
