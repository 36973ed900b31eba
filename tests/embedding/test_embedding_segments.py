import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.embedding.segments import SegmentStatistics, segment_batches, segment_count

SEGMENT = 7


@given(
    lengths=st.lists(st.integers(0, 60), max_size=8),
    batch_segments=st.integers(1, 5),
)
def test_however_the_blocks_are_cut_the_segments_are_those_of_the_padded_recording(lengths, batch_segments):
    recording = np.random.default_rng(0).normal(size=(sum(lengths), 2)).astype(np.float32)
    blocks = np.split(recording, np.cumsum(lengths)[:-1]) if lengths else []
    batches = list(segment_batches(blocks, SEGMENT, batch_segments))
    n_segments = max(1, -(-len(recording) // SEGMENT))
    padded = np.zeros((n_segments * SEGMENT, 2), np.float32)
    padded[: len(recording)] = recording
    np.testing.assert_array_equal(np.concatenate(batches), padded.reshape(n_segments, SEGMENT, 2))
    assert all(len(batch) == batch_segments for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_segments


@given(
    lengths=st.lists(st.integers(0, 60), max_size=6),
    batch_segments=st.integers(1, 5),
    hop=st.integers(1, 40),
)
def test_segments_of_any_hop_are_windows_of_the_recording(lengths, batch_segments, hop):
    recording = np.random.default_rng(0).normal(size=(sum(lengths), 2)).astype(np.float32)
    blocks = np.split(recording, np.cumsum(lengths)[:-1]) if lengths else []
    batches = list(segment_batches(blocks, SEGMENT, batch_segments, hop))
    # Window after window until one reaches the end, or the next one would begin beyond it.
    expected, start = [], 0
    while True:
        window = np.zeros((SEGMENT, 2), np.float32)
        window[: len(recording[start : start + SEGMENT])] = recording[start : start + SEGMENT]
        expected.append(window)
        if start + SEGMENT >= len(recording) or start + hop >= len(recording):
            break
        start += hop
    np.testing.assert_array_equal(np.concatenate(batches), expected)
    assert segment_count(len(recording), SEGMENT, hop) == len(expected)
    assert all(len(batch) == batch_segments for batch in batches[:-1])
    assert 1 <= len(batches[-1]) <= batch_segments


@pytest.mark.parametrize("hop", [SEGMENT + 1, 13_000, 10**9])
def test_however_long_the_hop_only_segments_are_held(hop):
    blocks = [np.ones((10_000, 2), np.float32) for _ in range(20)]
    tracemalloc.start()
    try:
        batches = [len(batch) for batch in segment_batches(blocks, SEGMENT, 16, hop)]
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert sum(batches) == -(-200_000 // hop)
    assert peak_bytes < 20_000 + 100 * len(batches)  # a batch has 16 x 7 x 2 x 4 = 896 bytes


def test_statistics_of_batches_are_those_of_all_segments():
    embeddings = np.random.default_rng(0).gamma(1, 2, (23, 6)).astype(np.float32)
    statistics = SegmentStatistics(6)
    for part in np.split(embeddings, [4, 5, 16]):
        statistics.add(part)
    exact = embeddings.astype(np.float64)
    expected = np.concatenate([exact.mean(axis=0), exact.std(axis=0)])
    np.testing.assert_allclose(statistics.result(), expected, rtol=1e-6)
    assert statistics.result().dtype == np.float32


def test_a_large_value_that_does_not_vary_has_no_deviation():
    statistics = SegmentStatistics(1)
    for _ in range(1000):
        statistics.add(np.full((16, 1), 1234.567, np.float32))
    mean, deviation = statistics.result()
    assert mean == np.float32(1234.567)
    assert deviation < 1e-9


@given(cuts=st.lists(st.integers(0, 16), max_size=6), seed=st.integers(0, 1000))
def test_statistics_are_the_same_bit_by_bit_however_segments_are_divided_into_batches(cuts, seed):
    # Means of a power of two of values lie half-way between two float32: the smallest rounding decides.
    embeddings = np.random.default_rng(seed).gamma(1, 2, (16, 64)).astype(np.float32)
    together, divided = SegmentStatistics(64), SegmentStatistics(64)
    together.add(embeddings)
    for part in np.split(embeddings, sorted(cuts)):
        divided.add(part)
    np.testing.assert_array_equal(divided.result(), together.result())


@pytest.mark.parametrize("n", [1, 255, 256, 1000])
def test_the_typical_segment_is_near_the_mean_however_many_there_are(n):
    values = np.random.default_rng(n).normal(size=(n, 3)).astype(np.float32)
    values[n // 2 - n // 2 % 8] = values.mean(axis=0)  # one that is kept of a thousand, too
    statistics = SegmentStatistics(3)
    for batch in np.array_split(values, 7):
        statistics.add(batch)
    assert statistics.typical() == n // 2 - n // 2 % 8
