"""A few files as rows of a layout, in memory; one that cannot be used ends it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from kerasrep.embedding.catalogue.layout import Layout
from kerasrep.embedding.decoding import Cutting, Failure, decode_parts
from kerasrep.embedding.models import SegmentModel
from kerasrep.embedding.segments import SegmentStatistics
from kerasrep.embedding.stream import Rows, embed_parts
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
    cutting = Cutting(layout.sample_rate_hz, layout.segment_samples, layout.hop_samples, decoder)
    parts = decode_parts(enumerate(paths), cutting)
    begun: dict[int, SegmentStatistics] = {}
    done: dict[int, NDArray[np.float32]] = {}
    try:
        next_key = 0
        for event in embed_parts(parts, model.embed_segments):
            if isinstance(event, Failure):
                raise DataError(event.bad.reason)
            if isinstance(event, Rows):
                begun.setdefault(event.key, layout.new_statistics()).add(layout.keep(event.values))
                continue
            done[event.key] = layout.pooled(begun.pop(event.key))
            while next_key in done:
                yield done.pop(next_key)
                next_key += 1
    finally:
        parts.close()
