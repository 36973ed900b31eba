"""Labels of stretches of time: classes, labels, numbers and vectors, looked up for any crop of any track.

All rows of a source lie in flat arrays, those of a track side by side by ascending start, so that they can
stay in a file however many they are. A label of a whole track is one row, without times. What a crop gets
is a pure function of the rows and of the crop's times: it is the same after a resumption.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]
Tracks = NDArray[np.int64] | NDArray[np.int32]
Seconds = NDArray[np.float64]
StretchKind = Literal["classes", "labels", "number", "vector"]
STRETCH_KINDS: tuple[StretchKind, ...] = ("classes", "labels", "number", "vector")


@dataclass(frozen=True)
class Times:
    """When the rows are.

    Attributes:
        start: float64 [rows], seconds, ascending within a track.
        end: float64 [rows], seconds, after `start`.
        reach: float64 [rows], the latest end of this and the track's earlier rows; ascends as well.
    """

    start: Seconds
    end: Seconds
    reach: Seconds


@dataclass(frozen=True)
class Stretches:
    """Rows of one source.

    Attributes:
        kind: What they hold.
        size: Dimension of the target: number of classes or labels, 1 for a number, length of a vector.
        first: int64 [tracks + 1]; the rows of track i are `first[i]` up to, without, `first[i + 1]`.
        values: int32 [rows], number of the class or label; or float32 [rows, size].
        times: `None` where every row is about its whole track.
        gaps_negative: Whether a crop that no row overlaps has none of the labels; it is unknown otherwise.
    """

    kind: StretchKind
    size: int
    first: Int
    values: NDArray[Any]
    times: Times | None = None
    gaps_negative: bool = False

    def targets(
        self, tracks: Tracks, begin: Seconds | None = None, end: Seconds | None = None
    ) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
        """What some crops are to be learnt as.

        Classes get their share of the labelled time, labels 0 or 1, numbers the mean weighted by time, and
        vectors the interpolation, at the crop's middle, between the middles of their rows.

        Args:
            tracks: int [crops].
            begin: float64 [crops], seconds; the whole track by default.
            end: float64 [crops], seconds.

        Returns:
            float32 [crops, size], and bool [crops]: whether anything is known; zeros where not.
        """
        n_crops = len(tracks)
        rows, crops, share = self._overlaps(tracks, begin, end)
        time = np.bincount(crops, share, n_crops)
        present = time > 0
        each = np.where(present, time, 1)[:, None]
        target: NDArray[Any]
        if self.kind == "vector":
            middle = None if begin is None or end is None else (begin + end) / 2
            target = np.where(present[:, None], self._vectors(tracks, middle), 0)
        elif self.kind == "number":
            target = np.bincount(crops, share * self.values[rows, 0], n_crops)[:, None] / each
        else:
            cells = crops * self.size + self.values[rows]
            target = np.bincount(cells, share, n_crops * self.size).reshape(n_crops, self.size)
            target = target > 0 if self.kind == "labels" else target / each
        if self.gaps_negative:  # of a track without any row as well: its labels were too rare
            present = np.ones_like(present)
        return target.astype(np.float32), present

    def _overlaps(
        self, tracks: Tracks, begin: Seconds | None, end: Seconds | None
    ) -> tuple[Int, Int, Seconds]:
        """Rows that overlap a crop, which crop, and by how many seconds (1 for rows of whole tracks)."""
        low = self.first[tracks]
        high = np.maximum(low, self.first[tracks + 1])
        if self.times is None:
            rows, crops = _spread(low, high)
            return rows, crops, np.ones(len(rows))
        if begin is None or end is None:
            begin, end = np.zeros(len(tracks)), np.full(len(tracks), np.inf)
        low = _bisect(self.times.reach, low, high, begin, after=True)
        high = np.maximum(low, _bisect(self.times.start, low, high, end, after=False))
        rows, crops = _spread(low, high)
        share = np.minimum(self.times.end[rows], end[crops]) - np.maximum(
            self.times.start[rows], begin[crops]
        )
        return rows[share > 0], crops[share > 0], share[share > 0]

    def _vectors(self, tracks: Tracks, middle: Seconds | None) -> NDArray[np.float32]:
        """Interpolated rows, float32 [crops, size]; anything where a track has none."""
        first, last = self.first[tracks], self.first[tracks + 1]
        final = np.maximum(last - 1, 0)
        lowest = np.minimum(first, final)
        if self.times is None:
            return np.asarray(self.values[lowest], np.float32)
        if middle is None:  # that of what is labelled
            middle = (self.times.start[lowest] + self.times.reach[final]) / 2
        middles = _Middles(self.times)
        right = _bisect(middles, first, last, middle, after=True)
        left, right = np.clip(right - 1, lowest, final), np.minimum(right, final)
        before, after = middles[left], middles[right]
        weight = np.clip((middle - before) / np.where(after > before, after - before, 1), 0, 1)[:, None]
        return np.asarray(self.values[left] * (1 - weight) + self.values[right] * weight, np.float32)

    def take(self, tracks: Int) -> Stretches:
        """The rows of some tracks alone, in their order."""
        rows, _ = _spread(self.first[tracks], self.first[tracks + 1])
        lengths = self.first[tracks + 1] - self.first[tracks]
        times = self.times and Times(self.times.start[rows], self.times.end[rows], self.times.reach[rows])
        return Stretches(
            self.kind,
            self.size,
            np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
            self.values[rows],
            times,
            self.gaps_negative,
        )

    def durations(self) -> Seconds:
        """Seconds of each row; ones where rows are about whole tracks."""
        return np.ones(len(self.values)) if self.times is None else self.times.end - self.times.start

    def labelled_seconds(self, length: Seconds | None = None) -> float:
        """Time that any row covers, over all tracks; 0 where rows are about whole tracks.

        Args:
            length: float64 [tracks], seconds; what lies behind is not counted.
        """
        if self.times is None:
            return 0.0
        before = np.concatenate([[0.0], self.times.reach[:-1]])
        before[self.first[:-1][self.first[:-1] < len(before)]] = 0.0
        end = self.times.end if length is None else np.minimum(self.times.end, self._of_rows(length))
        return float(np.maximum(0, end - np.maximum(self.times.start, before)).sum())

    def n_behind(self, length: Seconds) -> int:
        """Rows that begin where their track has ended, of which no crop gets anything.

        Args:
            length: float64 [tracks], seconds.
        """
        return 0 if self.times is None else int((self.times.start >= self._of_rows(length)).sum())

    def _of_rows(self, of_tracks: Seconds) -> Seconds:
        """What each row's track has."""
        return np.repeat(of_tracks, np.diff(self.first))


class _Middles:
    """Middle of each row, computed where it is looked at."""

    def __init__(self, times: Times) -> None:
        self._times = times

    def __len__(self) -> int:
        return len(self._times.start)

    def __getitem__(self, rows: Int) -> Seconds:
        return (self._times.start[rows] + self._times.end[rows]) / 2


def reach_of(first: Int, end: Seconds) -> Seconds:
    """`Times.reach` of rows that are in order."""
    reach = np.empty_like(end)
    for low, high in zip(first[:-1].tolist(), first[1:].tolist(), strict=True):
        np.maximum.accumulate(end[low:high], out=reach[low:high])
    return reach


def _spread(low: Int, high: Int) -> tuple[Int, Int]:
    """All rows from `low` up to `high` of every crop, and the crop that each is of."""
    lengths = high - low
    crops = np.repeat(np.arange(len(low), dtype=np.int64), lengths)
    offsets = np.cumsum(lengths) - lengths
    return np.arange(len(crops), dtype=np.int64) + np.repeat(low - offsets, lengths), crops


def _bisect(ascending: Any, low: Int, high: Int, wanted: Seconds, after: bool) -> Int:
    """First place from `low` up to `high` whose value is at least (`after`: above) the one wanted."""
    low, high = low.copy(), high.copy()
    while (searching := low < high).any():
        middle = np.minimum((low + high) // 2, len(ascending) - 1)
        found = ascending[middle]
        right = searching & ((found <= wanted) if after else (found < wanted))
        low = np.where(right, middle + 1, low)
        high = np.where(searching & ~right, middle, high)
    return low
