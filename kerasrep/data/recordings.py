"""Which of many identities are the same recording.

All places of all prints are sorted by the 64 bits from there on, 16 a second, and each is compared with the
next `_NEIGHBOURS`; a minute of both prints is compared where the places differ little. So the work grows
with the number of places (240 a minute) as sorting does, and memory is that of the prints (480 bytes a
minute) and of one part of the places.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from kerasrep.data.identity import IDENTITY_VERSION, LEAST_WORDS, N_BANDS, Identity
from kerasrep.errors import DataError
from kerasrep.storage.run_directory import read_arrays, write_arrays

#: Share of equal bits minus that of others, from which two recordings are one; docs/reliability.md has what
#: was measured.
SAME_FROM = 0.45
#: Words that two prints must share: 8 s; of shorter ones this part, and then more bits must be equal.
_LEAST_OVERLAP, _LEAST_PART, _SHORT_SAME_FROM = 32, 0.8, 0.55
#: Words around a place that are compared, a quarter of them before it at least: a minute. Where one recording
#: is faster than the other, places far away are not at the same shift.
_COMPARED = 240
#: Versions of identities that can be compared: the first one had prints of the first minute alone.
_COMPARABLE = (1, IDENTITY_VERSION)
#: Steps between the words of a place: one second.
_STRIDE = 4
_WORDS_A_PLACE = 4
#: Places are compared whose first 16 bits are equal. Where there are very many, those of few recordings are
#: looked for by the first 24.
_KEY_SHIFT, _LONG_KEY_SHIFT = np.uint64(48), np.uint64(40)
#: Bits of a place that may differ.
_MOST_DIFFERENT = 14
_NEIGHBOURS = 16
_PLACES_AT_ONCE = 1 << 23
_ROWS_AT_ONCE = 1 << 14
_PAIRS_AT_ONCE = 1 << 13

_ONES = np.array([bin(word).count("1") for word in range(1 << N_BANDS)], np.uint8)


@dataclass(frozen=True)
class Identities:
    """Identities of many recordings.

    Attributes:
        digests: uint64 [recordings].
        lengths: int64 [recordings], words of each print.
        words: uint16 [sum of `lengths`], the prints one behind the other.
    """

    digests: NDArray[np.uint64]
    lengths: NDArray[np.int64]
    words: NDArray[np.uint16]

    @classmethod
    def of(cls, identities: Sequence[Identity]) -> Identities:
        """Put identities together, in their order."""
        digests = b"".join(one.digest for one in identities)
        return cls(
            np.frombuffer(digests, "<u8").astype(np.uint64),
            np.array([len(one.words) for one in identities], np.int64),
            np.concatenate([np.zeros(0, np.uint16), *(one.words for one in identities)]),
        )

    def __len__(self) -> int:
        return len(self.digests)

    @cached_property
    def starts(self) -> NDArray[np.int64]:
        """int64 [recordings], where each print begins in `words`."""
        return np.cumsum(self.lengths) - self.lengths

    def take(self, rows: NDArray[np.intp]) -> Identities:
        """Those of some rows, in the order of `rows`."""
        lengths = self.lengths[rows]
        within = np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)
        words = self.words[np.repeat(self.starts[rows], lengths) + within]
        return Identities(self.digests[rows], lengths, words)

    @classmethod
    def joined(cls, parts: Sequence[Identities]) -> Identities:
        """Some, then others."""
        names = ("digests", "lengths", "words")
        return cls(*(np.concatenate([getattr(part, name) for part in parts]) for name in names))


def write_identities(path: Path, identities: Identities) -> None:
    """Write them as NPZ, whole or not at all.

    int64 `version` [] (`IDENTITY_VERSION`), uint64 `digests`, uint16 `lengths`, uint16 `words`.
    """
    arrays = {"version": np.array(IDENTITY_VERSION), "digests": identities.digests}
    arrays |= {"lengths": identities.lengths.astype(np.uint16), "words": identities.words}
    write_arrays(path, arrays, compressed=True)  # they come with exports


def read_identities(path: Path) -> Identities:
    """Read what `write_identities` wrote.

    Raises:
        DataError: Where the file is missing or damaged, or of another version.
    """
    arrays = read_arrays(path)
    found = {name: (str(array.dtype), array.ndim) for name, array in arrays.items()}
    wanted = {
        "version": ("int64", 0),
        "digests": ("uint64", 1),
        "lengths": ("uint16", 1),
        "words": ("uint16", 1),
    }
    if found != wanted or len(arrays["digests"]) != len(arrays["lengths"]):
        raise DataError(f"{path}: holds no identities of recordings; delete it, or copy it again")
    if arrays["version"] not in _COMPARABLE:
        raise DataError(
            f"{path}: has identities of version {arrays['version']}, this is version {IDENTITY_VERSION}; "
            "delete it, and what a model has seen is not known"
        )
    lengths = arrays["lengths"].astype(np.int64)
    if lengths.sum() != len(arrays["words"]):
        raise DataError(f"{path}: prints are missing or too many; delete it, or copy it again")
    return Identities(arrays["digests"], lengths, arrays["words"])


def first_of_each(identities: Identities, n_asked: int | None = None) -> NDArray[np.int64]:
    """For each recording, the first one that is the same, directly or by way of others; its own row for most.

    Args:
        identities: Of up to some millions of recordings.
        n_asked: Only what is the same as one of the first so many is looked for; by default as any.

    Returns:
        int64 [recordings], rows.
    """
    _, first, inverse = np.unique(identities.digests, return_index=True, return_inverse=True)
    ones, others = [np.arange(len(identities))], [first[inverse.reshape(-1)]]
    for pairs in _equal_prints(identities, np.sort(first), n_asked):
        ones.append(pairs[:, 0])
        others.append(pairs[:, 1])
    # Older versions of SciPy fail on 64-bit indices, and say so on standard error alone.
    one, other = np.concatenate(ones).astype(np.int32), np.concatenate(others).astype(np.int32)
    graph = coo_array((np.ones(len(one), bool), (one, other)), shape=(len(identities),) * 2)
    _, cluster = connected_components(graph, directed=False)
    _, first, inverse = np.unique(cluster, return_index=True, return_inverse=True)
    rows: NDArray[np.int64] = first[inverse.reshape(-1)].astype(np.int64)
    return rows


#: 64 bits from a place on, row of the recording, and place in its print: each [places].
_Places = tuple[NDArray[np.uint64], NDArray[np.int64], NDArray[np.int64]]


def _equal_prints(
    identities: Identities, rows: NDArray[np.int64], n_asked: int | None
) -> Iterator[NDArray[np.int64]]:
    """Pairs of recordings whose prints are alike, int64 [pairs, 2], in several parts."""
    rows = rows[identities.lengths[rows] >= LEAST_WORDS]
    n_parts = -(-int(identities.lengths[rows].sum()) // _PLACES_AT_ONCE)
    blocks = np.array_split(rows, -(-len(rows) // _ROWS_AT_ONCE) or 1)
    for part in range(n_parts):
        asked = None
        if n_asked is not None and n_parts > 1:
            asked = np.unique(_places(identities, rows[rows < n_asked], part, n_parts)[0] >> _LONG_KEY_SHIFT)
        found = [_places(identities, block, part, n_parts, asked) for block in blocks]
        place, of_row, frame = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        order = np.argsort(place)
        yield from _neighbours(identities, place[order], of_row[order], frame[order])


def _places(
    identities: Identities,
    rows: NDArray[np.int64],
    part: int,
    n_parts: int,
    asked: NDArray[np.uint64] | None = None,
) -> _Places:
    """The places of some prints that belong to a part, and only those of `asked` keys."""
    n_places = identities.lengths[rows] - _STRIDE * (_WORDS_A_PLACE - 1)
    of_row = np.repeat(rows, n_places)
    frame = np.arange(len(of_row)) - np.repeat(np.cumsum(n_places) - n_places, n_places)
    start = np.repeat(identities.starts[rows], n_places) + frame
    chosen = identities.words[start] % n_parts == part
    of_row, frame, start = of_row[chosen], frame[chosen], start[chosen]
    place = np.zeros(len(start), np.uint64)
    for word in range(_WORDS_A_PLACE):
        place = place << np.uint64(N_BANDS) | identities.words[start + word * _STRIDE]
    if asked is not None:
        kept = np.isin(place >> _LONG_KEY_SHIFT, asked)
        place, of_row, frame = place[kept], of_row[kept], frame[kept]
    return place, of_row, frame


def _neighbours(
    identities: Identities,
    place: NDArray[np.uint64],
    of_row: NDArray[np.int64],
    frame: NDArray[np.int64],
) -> Iterator[NDArray[np.int64]]:
    """Pairs of recordings that are alike, among those whose places stand near each other in their order."""
    key = place >> _KEY_SHIFT
    for distance in range(1, min(_NEIGHBOURS, len(place) - 1) + 1):
        near = np.flatnonzero((key[:-distance] == key[distance:]) & (of_row[:-distance] != of_row[distance:]))
        different = (place[near] ^ place[near + distance]).view(np.uint16).reshape(-1, _WORDS_A_PLACE)
        near = near[_ONES[different].sum(axis=1) <= _MOST_DIFFERENT]
        shift = frame[near + distance] - frame[near]
        turned = of_row[near] > of_row[near + distance]
        half = _COMPARED // 2  # many places of two prints give the same part to compare
        begin = np.where(turned, frame[near + distance], frame[near]) // half * half - half // 2
        found = np.stack([of_row[near], of_row[near + distance], shift, begin], axis=1)
        found[turned] = found[turned][:, [1, 0, 2, 3]] * [1, 1, -1, 1]
        found = np.unique(found, axis=0)
        for start in range(0, len(found), _PAIRS_AT_ONCE):
            block = found[start : start + _PAIRS_AT_ONCE]
            yield block[correlations(identities, *block.T) >= SAME_FROM, :2]


def correlations(
    identities: Identities,
    one: NDArray[np.int64],
    other: NDArray[np.int64],
    shift: NDArray[np.int64],
    begin: NDArray[np.int64],
) -> NDArray[np.float64]:
    """Share of equal bits minus that of others, where a minute of two prints overlaps.

    It is 0 where the overlap is less than 8 s, but for short prints that share most of themselves and nearly
    all of that.

    Args:
        identities: Of all recordings.
        one: int64 [pairs], rows.
        other: int64 [pairs], rows.
        shift: int64 [pairs], words by which the same sound comes later in `other`.
        begin: int64 [pairs], the first word of `one` that is compared, if it is there.
    """
    end = np.minimum(begin + _COMPARED, identities.lengths[other] - shift)
    end = np.minimum(end, identities.lengths[one])
    begin = np.maximum(np.maximum(0, begin), -shift)
    length = np.maximum(0, end - begin)
    at = np.arange(length.max(initial=0))
    inside = at < length[:, None]
    first = (identities.starts[one] + begin)[:, None] + at
    second = (identities.starts[other] + begin + shift)[:, None] + at
    words = identities.words
    different = words[np.where(inside, first, 0)] ^ words[np.where(inside, second, 0)]
    wrong = (_ONES[different] * inside).sum(axis=1, dtype=np.int64)
    alike = 1 - 2 * wrong / np.maximum(1, N_BANDS * length)
    part = _LEAST_PART * np.minimum(identities.lengths[one], identities.lengths[other])
    enough = (length >= _LEAST_OVERLAP) | ((length >= part) & (alike >= _SHORT_SAME_FROM))
    return np.where(enough, alike, 0.0)
