"""One vector a track, from any audio.

The public names load their modules when first used: processes that decode alone need none of them.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

#: Public name -> module that defines it under the same name.
_PUBLIC = {
    "AudioEmbedder": "kerasrep.embedding.transformer",
    "Embedder": "kerasrep.embedding.embedder",
    "Embeddings": "kerasrep.embedding.embedder",
    "Table": "kerasrep.embedding.catalogue.reading",
    "TimedEmbeddings": "kerasrep.embedding.embedder",
    "load": "kerasrep.embedding.embedder",
    "read_embeddings": "kerasrep.embedding.catalogue.reading",
}

__all__ = ["AudioEmbedder", "Embedder", "Embeddings", "Table", "TimedEmbeddings", "load", "read_embeddings"]

if TYPE_CHECKING:
    from kerasrep.embedding.catalogue.reading import Table, read_embeddings
    from kerasrep.embedding.embedder import Embedder, Embeddings, TimedEmbeddings, load
    from kerasrep.embedding.transformer import AudioEmbedder


def __getattr__(name: str) -> Any:
    if name not in _PUBLIC:
        raise AttributeError(f"module 'kerasrep.embedding' has no attribute '{name}'")
    value = getattr(importlib.import_module(_PUBLIC[name]), name)
    globals()[name] = value
    return value
