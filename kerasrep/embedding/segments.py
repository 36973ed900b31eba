"""A recording of any length as batches of segments, and what becomes of their embeddings."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants

#: Segments that the model gets at once on a CPU and on a GPU; 16 of 2.5 s are 7 MB of samples.
BATCH_SEGMENTS, GPU_BATCH_SEGMENTS = 16, 128
#: Fewer segments than this are kept of a recording, to find the typical one.
KEPT_SEGMENTS = 256


def segment_count(samples: int, segment_samples: int, hop_samples: int) -> int:
    """Segments of a recording: they begin at multiples of the hop and the last one reaches its end.

    Where the hop is longer than a segment, what lies between segments is passed over, and no segment begins
    beyond the end. A recording without samples has one segment.
    """
    covering = 1 + -(-max(0, samples - segment_samples) // hop_samples)
    return min(covering, max(1, -(-samples // hop_samples)))


def segment_batches(
    blocks: Iterable[NDArray[np.float32]],
    segment_samples: int,
    batch_segments: int = BATCH_SEGMENTS,
    hop_samples: int | None = None,
) -> Iterator[NDArray[np.float32]]:
    """Cut consecutive blocks of one recording into segments.

    Args:
        blocks: float32 [samples, 2], of any lengths.
        segment_samples: Samples a channel in one segment.
        batch_segments: Segments in a batch; the last one may have fewer.
        hop_samples: From the beginning of a segment to that of the next one; by default `segment_samples`.

    Yields:
        float32 [segments, segment_samples, 2], as many as `segment_count` says, the recording's last segment
        padded with zeros; views that share what overlaps. A recording without samples is one silent segment.
    """
    hop_samples = hop_samples or segment_samples
    if hop_samples > segment_samples:  # without what lies between them, segments are side by side
        blocks = _without_gaps(blocks, segment_samples, hop_samples)
        hop_samples = segment_samples
    size, step = (batch_segments - 1) * hop_samples + segment_samples, batch_segments * hop_samples
    buffer = np.empty((size, constants.N_CHANNELS), np.float32)
    filled, total, cut = 0, 0, 0
    for block in blocks:
        taken, total = 0, total + len(block)
        while taken < len(block):
            part = block[taken : taken + size - filled]
            buffer[filled : filled + len(part)] = part
            filled, taken = filled + len(part), taken + len(part)
            if filled == size:
                yield segments_of(buffer, batch_segments, segment_samples, hop_samples)
                rest = buffer[step:]
                buffer = np.empty_like(buffer)  # the consumer may still hold the other one
                buffer[: len(rest)] = rest
                filled, cut = len(rest), cut + batch_segments
    left = segment_count(total, segment_samples, hop_samples) - cut
    if left:
        buffer[filled:] = 0
        yield segments_of(buffer, left, segment_samples, hop_samples)


def _without_gaps(
    blocks: Iterable[NDArray[np.float32]], segment_samples: int, hop_samples: int
) -> Iterator[NDArray[np.float32]]:
    """The first `segment_samples` of every `hop_samples`, in pieces."""
    place = 0  # since the last segment began
    for block in blocks:
        taken = 0
        while taken < len(block):
            end = segment_samples if place < segment_samples else hop_samples
            part = block[taken : taken + end - place]
            if place < segment_samples:
                yield part
            taken, place = taken + len(part), (place + len(part)) % hop_samples


def segments_of(
    buffer: NDArray[np.float32], count: int, segment_samples: int, hop_samples: int
) -> NDArray[np.float32]:
    """A view of the first segments of float32 [samples, 2]."""
    if hop_samples == segment_samples:
        return buffer[: count * hop_samples].reshape(count, segment_samples, constants.N_CHANNELS)
    windows = np.lib.stride_tricks.sliding_window_view(buffer, segment_samples, axis=0)
    return windows[: count * hop_samples : hop_samples].transpose(0, 2, 1)


def stretch_of(segments: NDArray[np.float32]) -> tuple[NDArray[np.float32], int]:
    """The samples that segments of `segment_batches` are views of, each once.

    Args:
        segments: float32 [segments, segment_samples, 2].

    Returns:
        float32 [samples, 2], and the hop in samples.
    """
    hop_samples = segments.strides[0] // segments.strides[1]
    samples = (len(segments) - 1) * hop_samples + segments.shape[1]
    shape = (samples, segments.shape[2])
    return np.lib.stride_tricks.as_strided(segments, shape, segments.strides[1:]), hop_samples


class SegmentStatistics:
    """Mean and standard deviation over segments that come in batches.

    Segments are taken in one by one in float64 (Welford 1962), so that the result is the same, bit by bit,
    however they are divided into batches, and a feature that does not vary has a deviation of 0 however
    large it is. For the typical segment every one is kept, then every second, every fourth and so on.
    """

    def __init__(self, dimension: int) -> None:
        self._count = 0
        self._mean = np.zeros(dimension)
        self._squares = np.zeros(dimension)  # sum of squared deviations from the mean
        self._kept: list[NDArray[np.float32]] = []
        self._step = 1  # from one that is kept to the next one

    def add(self, embeddings: NDArray[np.float32]) -> None:
        """Take in [segments, dimension], at least one segment."""
        for single, value in zip(embeddings, embeddings.astype(np.float64), strict=True):
            if self._count % self._step == 0:
                self._keep(single)
            self._count += 1
            difference = value - self._mean
            self._mean += difference / self._count
            self._squares += difference * (value - self._mean)

    def _keep(self, embedding: NDArray[np.float32]) -> None:
        self._kept.append(embedding.copy())
        if len(self._kept) == KEPT_SEGMENTS:
            self._kept = self._kept[::2]
            self._step *= 2

    def typical(self) -> int:
        """Which segment is nearest to the mean; of recordings of 256 segments or more, among some of them."""
        distances = np.square(np.stack(self._kept) - self._mean).sum(axis=1)
        return int(np.argmin(distances)) * self._step

    def result(self) -> NDArray[np.float32]:
        """All means, then all standard deviations (ddof 0): float32 [2 x dimension]."""
        both = np.concatenate([self._mean, np.sqrt(self._squares / self._count)])
        return both.astype(np.float32)  # type: ignore[no-any-return]
