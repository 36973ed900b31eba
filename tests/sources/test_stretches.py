"""Labels of stretches of time: by hand, and against a search through every row."""

from __future__ import annotations

import time

import numpy as np
import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from kerasrep.sources.stretches import Stretches, Times, reach_of


def made(kind, size, tracks, gaps_negative=False):
    """Stretches of tracks, each a list of (start, end, value) by ascending start; no times where None."""
    rows = [row for track in tracks for row in track]
    first = np.cumsum([0, *map(len, tracks)]).astype(np.int64)
    vectors = kind in ("number", "vector")
    values = np.array([row[2] for row in rows], np.float32 if vectors else np.int32)
    values = values.reshape(-1, size) if vectors else values
    if any(row[0] is None for row in rows):
        return Stretches(kind, size, first, values)
    start, end = (np.array([row[place] for row in rows], np.float64) for place in (0, 1))
    times = Times(start, end, reach_of(first, end))
    return Stretches(kind, size, first, values, times, gaps_negative)


def of(stretches, *crops):
    tracks, begin, end = (np.array(column) for column in zip(*crops, strict=True))
    return stretches.targets(tracks, begin.astype(np.float64), end.astype(np.float64))


def test_classes_get_their_share_of_the_labelled_time():
    classes = made("classes", 3, [[(0, 1, 2), (1, 4, 0), (6, 7, 1)], [(0, 9, 1)]])
    target, known = of(classes, (0, 0, 2), (0, 3, 5.5), (0, 4, 6), (1, 2, 4), (0, 0, 10))
    np.testing.assert_allclose(target, [[0.5, 0, 0.5], [1, 0, 0], [0, 0, 0], [0, 1, 0], [0.6, 0.2, 0.2]])
    assert known.tolist() == [True, True, False, True, True]


@pytest.mark.parametrize("negative", [False, True])
def test_labels_are_there_or_not_also_where_they_sound_together(negative):
    notes = made("labels", 3, [[(0, 5, 0), (1, 2, 1), (4, 4.5, 1)], []], negative)
    target, known = of(notes, (0, 0, 1), (0, 1.5, 3), (0, 2, 4), (0, 5, 7), (1, 0, 1))
    np.testing.assert_array_equal(target, [[1, 0, 0], [1, 1, 0], [1, 0, 0], [0, 0, 0], [0, 0, 0]])
    assert known.tolist() == [True, True, True, negative, negative]


def test_numbers_are_means_weighted_by_time():
    numbers = made("number", 1, [[(0, 1, 10.0), (1, 3, 40.0)]])
    target, known = of(numbers, (0, 0, 3), (0, 0.5, 2), (0, 2.5, 9), (0, 3, 4))
    np.testing.assert_allclose(target[:, 0], [30, 30, 40, 0], rtol=1e-6)
    assert known.tolist() == [True, True, True, False]


def test_vectors_are_interpolated_between_the_middles_of_their_rows():
    vectors = made("vector", 2, [[(0, 2, (0, 4)), (1, 3, (2, 0)), (2, 4, (2, 8))]])
    target, known = of(vectors, (0, 0.5, 2.5), (0, 1, 3), (0, 0, 1), (0, 2.5, 3.5), (0, 4, 6))
    np.testing.assert_allclose(target, [[1, 2], [2, 0], [0, 4], [2, 8], [0, 0]])
    assert known.tolist() == [True, True, True, True, False]


@pytest.mark.parametrize(
    ("kind", "values", "expected"),
    [
        ("classes", [[1], [0], []], [[0, 1], [1, 0], [0, 0]]),
        ("labels", [[0, 1], [1], []], [[1, 1], [0, 1], [0, 0]]),
        ("number", [[0.5], [-1.0], []], [[0.5], [-1], [0]]),
        ("vector", [[(1, 2)], [(3, 4)], []], [[1, 2], [3, 4], [0, 0]]),
    ],
)
def test_labels_of_whole_tracks_are_the_same_for_every_crop(kind, values, expected):
    size = len(expected[0])
    whole = made(kind, size, [[(None, None, value) for value in track] for track in values])
    tracks = np.array([2, 0, 1])
    for times in ((), (np.array([0.0, 1, 2]), np.array([1.0, 2, 3]))):
        target, known = whole.targets(tracks, *times)
        np.testing.assert_array_equal(target, np.array(expected)[tracks])
        assert known.tolist() == [False, True, True]
    taken, known = whole.take(np.array([1, 2])).targets(np.array([0, 1]))
    np.testing.assert_array_equal(taken, np.array(expected)[1:])


def test_without_times_a_crop_is_the_whole_track():
    tracks = [[(0, 1, 0), (1, 4, 1)], [(2, 3, 1)]]
    target, _ = made("classes", 2, tracks).targets(np.array([1, 0]))
    np.testing.assert_allclose(target, [[0, 1], [0.25, 0.75]])
    assert made("classes", 2, tracks).labelled_seconds() == 5
    assert made("labels", 2, [[(0, 5, 0), (1, 2, 1)], [(0, 1, 0), (3, 4, 0)]]).labelled_seconds() == 7


def test_what_lies_behind_the_end_of_a_track_is_not_labelled_time():
    stretches = made("labels", 2, [[(0, 5, 0), (1, 2, 1)], [(0, 1, 0), (3, 4, 0)]])
    assert stretches.labelled_seconds(np.array([4.0, 3.0])) == 5
    assert stretches.n_behind(np.array([4.0, 3.0])) == 1 and stretches.n_behind(np.array([0.5, 0.0])) == 3


def overlap(row, begin, end):
    return max(0.0, min(row[1], end) - max(row[0], begin))


def sought(kind, size, track, begin, end, negative):
    """The same by looking at every row."""
    rows = [row for row in track if overlap(row, begin, end) > 0]
    if kind == "labels":
        return np.array([any(r[2] == item for r in rows) for item in range(size)]), bool(rows) or negative
    if not rows:
        return np.zeros(size), False
    shares = np.array([overlap(row, begin, end) for row in rows])
    if kind == "classes":
        found = [sum(s for r, s in zip(rows, shares, strict=True) if r[2] == item) for item in range(size)]
        return np.array(found) / shares.sum(), True
    if kind == "number":
        return np.array([np.average([r[2] for r in rows], weights=shares)]), True
    middles = [(r[0] + r[1]) / 2 for r in track]
    values = np.array([r[2] for r in track], float)
    return np.array([np.interp((begin + end) / 2, middles, values[:, d]) for d in range(size)]), True


@st.composite
def labelled_tracks(draw):
    """A kind, and tracks of rows at quarters of a second: side by side or, for labels, anyhow."""
    kind = draw(st.sampled_from(["classes", "labels", "number", "vector"]))
    size = {"number": 1, "vector": 2}.get(kind, 4)
    tracks = []
    for _ in range(draw(st.integers(1, 4))):
        times = sorted(draw(st.sets(st.integers(0, 80), max_size=16)))
        if kind == "labels":
            spans = [(start, start + draw(st.integers(1, 60))) for start in times]
        elif kind == "vector":
            spans = [(start, start + 9) for start in times]
        else:
            spans = list(zip(times[::2], times[1::2], strict=False))
        values = {"number": st.integers(-9, 9), "vector": st.tuples(*[st.integers(-9, 9)] * 2)}
        value = values.get(kind, st.integers(0, size - 1))
        tracks.append([(start / 4, end / 4, draw(value)) for start, end in spans])
    return kind, size, tracks


@given(
    labelled_tracks(),
    st.lists(st.tuples(st.integers(0, 3), st.integers(0, 90), st.integers(1, 30)), min_size=1, max_size=12),
    st.booleans(),
)
def test_every_crop_gets_what_a_search_through_all_rows_finds(given_tracks, crops, negative):
    kind, size, tracks = given_tracks
    assume(any(tracks))
    negative = negative and kind == "labels"
    stretches = made(kind, size, tracks, negative)
    crops = [(track % len(tracks), begin / 4, (begin + length) / 4) for track, begin, length in crops]
    target, known = of(stretches, *crops)
    for row, (track, begin, end) in enumerate(crops):
        expected, is_known = sought(kind, size, tracks[track], begin, end, negative)
        np.testing.assert_allclose(target[row], expected, atol=1e-5)
        assert known[row] == is_known


def test_ten_thousand_labels_a_track_are_looked_up_in_milliseconds():
    rng = np.random.default_rng(0)
    n_tracks, n_rows, size = 20, 10_000, 88
    start = np.sort(rng.uniform(0, 600, (n_tracks, n_rows)), axis=1)
    end = start + rng.exponential(0.4, start.shape)
    values = rng.integers(0, size, start.shape).astype(np.int32)
    first = np.arange(n_tracks + 1, dtype=np.int64) * n_rows
    times = Times(start.ravel(), end.ravel(), reach_of(first, end.ravel()))
    notes = Stretches("labels", size, first, values.ravel(), times)
    tracks, begin = rng.integers(0, n_tracks, 128), rng.uniform(0, 590, 128)
    began = time.perf_counter()
    for _ in range(10):
        target, known = notes.targets(tracks, begin, begin + 2.5)
    assert time.perf_counter() - began < 2  # 0.01 s on one core
    assert known.all()
    for crop in range(0, 128, 16):
        t = tracks[crop]
        there = (start[t] < begin[crop] + 2.5) & (end[t] > begin[crop])
        np.testing.assert_array_equal(np.flatnonzero(target[crop]), np.unique(values[t][there]))
