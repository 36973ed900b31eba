"""One vector a track, from any audio."""

from kerasrep.embedding.embedder import Embedder, load

__all__ = ["Embedder", "load"]
