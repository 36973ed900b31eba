"""A recording of any length as batches of segments, and what becomes of their embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants

#: Segments that the model gets at once; 16 of 2.5 s are 7 MB of samples.
BATCH_SEGMENTS = 16


def segment_batches(
    blocks: Iterable[NDArray[np.float32]], segment_samples: int, batch_segments: int = BATCH_SEGMENTS
) -> Iterator[NDArray[np.float32]]:
    """Cut consecutive blocks of one recording into segments.

    Args:
        blocks: float32 [samples, 2], of any lengths.
        segment_samples: Samples a channel in one segment.
        batch_segments: Segments in a batch; the last one may have fewer.

    Yields:
        float32 [segments, segment_samples, 2], the recording's last segment padded with zeros. A recording
        without samples is one silent segment.
    """
    size = batch_segments * segment_samples
    buffer = np.zeros((size, constants.N_CHANNELS), np.float32)
    filled, whole_batches = 0, 0
    for block in blocks:
        taken = 0
        while taken < len(block):
            part = block[taken : taken + size - filled]
            buffer[filled : filled + len(part)] = part
            filled, taken = filled + len(part), taken + len(part)
            if filled == size:
                yield buffer.reshape(batch_segments, segment_samples, constants.N_CHANNELS)
                buffer = np.zeros_like(buffer)  # the consumer may still hold the other one
                filled, whole_batches = 0, whole_batches + 1
    if filled or not whole_batches:
        n_segments = max(1, -(-filled // segment_samples))
        yield buffer[: n_segments * segment_samples].reshape(
            n_segments, segment_samples, constants.N_CHANNELS
        )


class SegmentStatistics:
    """Mean and standard deviation over segments that come in batches.

    Batches are merged in float64 (Chan, Golub, LeVeque 1979), as the exported `embed_track` does: a feature
    that does not vary has a deviation of 0 however large it is.
    """

    def __init__(self, dimension: int) -> None:
        self._count = 0
        self._mean = np.zeros(dimension)
        self._squares = np.zeros(dimension)  # sum of squared deviations from the mean

    def add(self, embeddings: NDArray[np.float32]) -> None:
        """Take in [segments, dimension], at least one segment."""
        values = embeddings.astype(np.float64)
        mean = values.mean(axis=0)
        total = self._count + len(values)
        difference = mean - self._mean
        self._squares += np.square(values - mean).sum(axis=0)
        self._squares += np.square(difference) * self._count * len(values) / total
        self._mean += difference * len(values) / total
        self._count = total

    def result(self) -> NDArray[np.float32]:
        """All means, then all standard deviations (ddof 0): float32 [2 x dimension]."""
        both = np.concatenate([self._mean, np.sqrt(self._squares / self._count)])
        return both.astype(np.float32)  # type: ignore[no-any-return]
