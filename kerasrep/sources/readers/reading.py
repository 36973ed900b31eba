"""What a reader of a label file hands back, and how it counts what it skips.

A reader takes the file (text is plain or zipped), `known`, the tracks of the data set (others are skipped;
by default all are taken), and `progress`, whether people see how far it is. A file, line or row that is
malformed, or a value that is none of its column, is a `DataError` that names it.
"""

from __future__ import annotations

import re
from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from kerasrep.errors import DataError, one_line
from kerasrep.sources.labels import CountLabels, RawLabels, ValueLabels

#: `TR` or `SO`, then letters and digits (16 as published), as in TRMMMYQ128F932D901.
_TRACK_ID = re.compile(rb"TR[A-Z0-9]{1,38}")
_SONG_ID = re.compile(rb"SO[A-Z0-9]{1,38}")
_SHOWN_BYTES = 40


@dataclass(frozen=True)
class Reading:
    """Labels of one source and what was left out of them.

    Attributes:
        labels: For `bpm` and `year` values, else counts.
        skipped: File -> reason -> how many lines or rows.
        notices: The same for people, one line a file.
    """

    labels: RawLabels
    skipped: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    notices: Sequence[str] = ()


class Tally:
    """Counts what one file has that is not used as it stands, and where each reason was met first.

    Args:
        path: The file.
        unit: What is counted: `lines`, or `rows` of a database.
    """

    def __init__(self, path: Path, unit: str = "lines") -> None:
        self.path = path
        self._unit = unit
        self._counts: dict[str, int] = {}
        self._first: dict[str, str] = {}

    def skip(self, reason: str, place: str = "", count: int = 1) -> None:
        """Count `count` lines; `place` is such as `FILE, line 7`, where known, and is kept for the first."""
        if count:
            self._counts[reason] = self._counts.get(reason, 0) + count
            self._first.setdefault(reason, place.removeprefix(f"{self.path}, "))

    @property
    def counts(self) -> dict[str, int]:
        """Reason -> how many."""
        return dict(sorted(self._counts.items()))

    def reading(self, labels: RawLabels, *others: Tally) -> Reading:
        """`labels` with the counts of this file and of `others`.

        Raises:
            DataError: Where no track is left.
        """
        tallies = [tally for tally in (self, *others) if tally._counts]
        notices = [notice for tally in tallies for notice in tally.notices()]
        if not len(labels.track_ids):
            why = f" ({notices[0].partition(': ')[2]})" if notices else ""
            raise DataError(f"{self.path}: labels no known track{why}; is it the right file?")
        return Reading(labels, {str(tally.path): tally.counts for tally in tallies}, notices)

    def notices(self) -> list[str]:
        """One line for people, the commonest reason first; none where nothing was skipped."""
        parts = [
            f"{count} {self._unit} that {reason}{self._where(reason)}"
            for reason, count in sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))
        ]
        return [f"{self.path}: not used as they stand: " + ", ".join(parts)] if parts else []

    def _where(self, reason: str) -> str:
        return f" (first: {self._first[reason]})" if self._first[reason] else ""


class CountBuilder:
    """Collects weights of documents and terms in three flat arrays, 12 bytes an entry.

    `rows`, `columns` and `weights` may be appended to directly, where a call for each would be slow.
    """

    def __init__(self) -> None:
        self.rows, self.columns, self.weights = array("i"), array("i"), array("f")

    def extend(
        self, rows: NDArray[np.int32], columns: NDArray[np.int32], weights: NDArray[np.float32]
    ) -> None:
        """Append arrays of equal length."""
        self.rows.frombytes(np.ascontiguousarray(rows, np.int32).tobytes())
        self.columns.frombytes(np.ascontiguousarray(columns, np.int32).tobytes())
        self.weights.frombytes(np.ascontiguousarray(weights, np.float32).tobytes())

    def finish(self, n_documents: int, n_terms: int) -> tuple[sparse.csr_matrix, int]:
        """Add up equal pairs; empties the builder.

        Returns:
            float32 [n_documents, n_terms], and how many entries repeated a pair.
        """
        n_entries = len(self.rows)
        rows = np.frombuffer(self.rows, np.int32)
        columns = np.frombuffer(self.columns, np.int32)
        weights = np.frombuffer(self.weights, np.float32)
        counts = sparse.csr_matrix((weights, (rows, columns)), shape=(n_documents, n_terms))
        self.rows, self.columns, self.weights = array("i"), array("i"), array("f")
        counts.sum_duplicates()
        return counts, n_entries - counts.nnz


def count_labels(counts: sparse.csr_matrix, terms: Sequence[str], track_ids: Sequence[str]) -> CountLabels:
    """Labels whose documents are the tracks; those without any term are left out."""
    filled = np.flatnonzero(np.diff(counts.indptr))
    if len(filled) < counts.shape[0]:
        counts = counts[filled]
        track_ids = [track_ids[row] for row in filled]
    return CountLabels(counts, terms, track_ids, np.arange(counts.shape[0], dtype=np.int64))


def value_labels(values: Mapping[str, float]) -> ValueLabels:
    """Labels from track -> value, in that order."""
    return ValueLabels(list(values), np.fromiter(values.values(), np.float64, len(values)))


def track_id(text: bytes, place: str) -> str:
    """A track id.

    Raises:
        DataError: Where `text` is none; names `place`.
    """
    if not _TRACK_ID.fullmatch(text):
        raise DataError(
            f"{place}: {shown(text)} is not a track id; one such as TRMMMYQ128F932D901 was expected"
        )
    return text.decode("ascii")


def song_id(text: bytes, place: str) -> bytes:
    """A song id, as bytes: there are a million, and they are only looked up.

    Raises:
        DataError: Where `text` is none; names `place`.
    """
    if not _SONG_ID.fullmatch(text):
        raise DataError(
            f"{place}: {shown(text)} is not a song id; one such as SOQMMHC12AB0180CB8 was expected"
        )
    return text


def decoded(text: bytes, place: str) -> str:
    """UTF-8 text.

    Raises:
        DataError: Where `text` is in another encoding; names `place`.
    """
    try:
        return text.decode("utf-8")
    except UnicodeDecodeError as error:
        raise DataError(f"{place}: {shown(text)} is not UTF-8 text; copy the file as published") from error


def shown(value: object) -> str:
    """The beginning of a field, for messages."""
    if isinstance(value, bytes):
        return f"'{one_line(value[:_SHOWN_BYTES].decode('utf-8', 'backslashreplace'))}'"
    return repr(value)[:_SHOWN_BYTES]
