"""A few files as rows of a layout, in memory; one that cannot be used ends it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.layout import WHOLE, Layout
from kerasrep.embedding.files import BadFile, FileEmbedding
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.stream import embed_in_order
from kerasrep.errors import DataError


def rows_of_files(
    paths: Sequence[Path], model: SegmentModel, layout: Layout, decoder: str = "soundfile"
) -> Iterator[NDArray[np.float32]]:
    """Embed files, several of them decoded side by side.

    Args:
        paths: Audio files.
        model: What embeds them.
        layout: Of the rows; it has to pool.
        decoder: `soundfile`, or `tensorflow-io`.

    Yields:
        float32 [dimension] a file, in the order of the paths.

    Raises:
        DataError: At the first file that cannot be used.
    """
    if model.embed_file is not None and layout.pool == WHOLE:
        yield from map(_row, map(model.embed_file, paths))
        return
    with contextlib.closing(embed_in_order(paths, model.embed_segments, layout, decoder)) as results:
        yield from map(_row, results)


def _row(result: FileEmbedding | BadFile) -> NDArray[np.float32]:
    if isinstance(result, BadFile):
        raise DataError(result.reason)
    return result.embedding
