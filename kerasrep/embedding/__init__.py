"""One vector a track, from any audio."""

from kerasrep.embedding.catalogue.reading import Table, read_embeddings
from kerasrep.embedding.embedder import Embedder, load

__all__ = ["Embedder", "Table", "load", "read_embeddings"]
