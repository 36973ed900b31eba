"""Embeddings in memory: of files, and of the segments of one recording."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.files import BadFile
from kerasrep.report.page import render


@dataclass(frozen=True)
class Embeddings:
    """Embeddings of files.

    Attributes:
        paths: Files that were embedded, in the order of the rows.
        embeddings: float32 [files, dimension].
        columns: Name of each dimension.
        bad: Files and folders that could not be used, with reasons.
    """

    paths: tuple[Path, ...]
    embeddings: NDArray[np.float32]
    columns: tuple[str, ...]
    bad: tuple[BadFile, ...]

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        files, values = self.embeddings.shape
        rows = [("files", f"{files:,}"), ("dimensions", f"{values:,}"), ("skipped", f"{len(self.bad):,}")]
        rows += [
            (path.name, " ".join(f"{value:.3f}" for value in row[:4]) + " ...")
            for path, row in zip(self.paths[:5], self.embeddings, strict=False)
        ]
        return render("repr.html", title="Embeddings", rows=rows)


@dataclass(frozen=True)
class TimedEmbeddings:
    """Embeddings of the segments of one recording.

    Attributes:
        start_seconds: float64 [segments]: where each segment begins.
        embeddings: float32 [segments, dimension]; half the dimensions of a recording's embedding, as nothing
            is pooled over time.
        columns: Name of each dimension.
        segment_seconds: Length of a segment; the last one is filled with silence.
    """

    start_seconds: NDArray[np.float64]
    embeddings: NDArray[np.float32]
    columns: tuple[str, ...]
    segment_seconds: float
