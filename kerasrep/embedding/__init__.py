"""One vector a track, from any audio."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from kerasrep.embedding.catalogue.reading import Table, read_embeddings
from kerasrep.embedding.embedder import Embedder, Embeddings, TimedEmbeddings, load

if TYPE_CHECKING:
    from kerasrep.embedding.transformer import AudioEmbedder

__all__ = ["AudioEmbedder", "Embedder", "Embeddings", "Table", "TimedEmbeddings", "load", "read_embeddings"]


def __getattr__(name: str) -> Any:
    """Load scikit-learn when its transformer is first asked for: it takes a second."""
    if name != "AudioEmbedder":
        raise AttributeError(f"module 'kerasrep.embedding' has no attribute '{name}'")
    value = importlib.import_module("kerasrep.embedding.transformer").AudioEmbedder
    globals()[name] = value
    return value
