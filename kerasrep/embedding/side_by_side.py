"""Embeddings of several models as if they were the branches of one network that shares nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from kerasrep.embedding.cache import cached_embeddings
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.embedding.representations import Representation
from kerasrep.recipe.schema import fingerprint


def side_by_side(embeddings: Sequence[NDArray[np.float32]]) -> NDArray[np.float32]:
    """All means, then all deviations, as an `mss-cr` network lays out a track's embedding.

    Args:
        embeddings: float32 [..., 2 x size] each, means before deviations.

    Returns:
        float32 [..., sum of the dimensions].
    """
    means = [one[..., : one.shape[-1] // 2] for one in embeddings]
    deviations = [one[..., one.shape[-1] // 2 :] for one in embeddings]
    return np.concatenate([*means, *deviations], axis=-1)


class SideBySide:
    """Representations side by side; what they embedded before is taken from the cache.

    Args:
        parts: Track embeddings of single networks, in the order of the branches.
        name: In tables.
    """

    def __init__(self, parts: Sequence[Representation], name: str) -> None:
        self._parts, self.name = tuple(parts), name
        self.fingerprint = fingerprint(["side by side", [part.fingerprint for part in parts]])

    @property
    def dimension(self) -> int:
        """Dimensions of an embedding."""
        return sum(part.dimension for part in self._parts)

    def embed(self, waveform: ArrayLike, sample_rate_hz: float) -> NDArray[np.float32]:
        """See `Embedder.embed`."""
        return side_by_side([part.embed(waveform, sample_rate_hz) for part in self._parts])

    def embed_files(self, paths: Sequence[Path]) -> Iterator[FileEmbedding | BadFile]:
        """Embed files; one that a part cannot use is bad, with that part's reason."""
        if not paths:
            return
        columns: list[dict[int, NDArray[np.float32]]] = []
        bad: dict[Path, BadFile] = {}
        for part in self._parts:
            matrix, rows, refused = cached_embeddings(part, paths, progress=False)
            columns.append(dict(zip(rows.tolist(), matrix, strict=True)))
            bad |= {one.path: one for one in refused}
        for row, path in enumerate(paths):
            if all(row in column for column in columns):
                yield FileEmbedding(path, side_by_side([column[row] for column in columns]), 0.0)
            else:
                yield bad[path]
