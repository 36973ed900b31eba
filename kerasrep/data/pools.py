"""Pools of tracks, such as real and rendered music: each has its share of the tracks of every step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Int = NDArray[np.int64]

#: Places after which the order of the pools begins anew; shares are kept to a thousandth.
PERIOD_PLACES = 1000


@dataclass(frozen=True)
class TrackPools:
    """Which pool each track is in.

    Attributes:
        of_row: int8 [tracks of the index], position in `shares`; -1 for tracks that are in none.
        shares: Of the tracks drawn; they sum to 1.
    """

    of_row: NDArray[np.int8]
    shares: tuple[float, ...]


class PoolSequence:
    """An endless sequence of places, each of one pool: any stretch of it has the shares within one or two.

    Attributes:
        members: One a pool: int64, positions among the rows that the sequence is made for.
    """

    def __init__(self, pools: TrackPools, rows: Int) -> None:
        """Spread the places; pools without any of `rows` are passed over, others keep their proportions."""
        found = [np.flatnonzero(pools.of_row[rows] == pool) for pool in range(len(pools.shares))]
        there = [pool for pool, members in enumerate(found) if len(members)]
        self.members: Sequence[Int] = [found[pool] for pool in there]
        shares = np.array([pools.shares[pool] for pool in there])
        bounds = np.round(np.cumsum(shares / shares.sum()) * PERIOD_PLACES).astype(np.int64)
        self._counts = np.maximum(1, np.diff(bounds, prepend=0))
        spread = np.concatenate([(np.arange(count) + 0.5) / count for count in self._counts])
        order = np.argsort(spread, kind="stable")
        self._pool = np.repeat(np.arange(len(there)), self._counts)[order]
        self._rank = np.concatenate([np.arange(count) for count in self._counts])[order]

    def of(self, places: Int) -> tuple[Int, Int]:
        """Pool of each place, and which place among those of its pool it is; int64 [places]."""
        periods, within = np.divmod(places, len(self._pool))
        pool = self._pool[within]
        return pool, periods * self._counts[pool] + self._rank[within]
