"""Words of lyrics, stemmed and counted: `mxm_dataset.db`, or the text files it was made from.

Database form: SQLite, two tables. `words(word)` holds the 5,000 commonest stems, and
`lyrics(track_id, mxm_tid, word, count, is_test)` one row a track and stem, where `word` is the stem itself
and `mxm_tid` musiXmatch's own number of the track. As published 237,662 tracks, 19,045,332 rows.

Text form (`mxm_dataset_train.txt`, `mxm_dataset_test.txt`, also zipped): UTF-8; lines that begin with `#`
are comments; one line begins with `%` and lists the stems, separated by commas; every other line is
`TRACK_ID,MXM_TID,INDEX:COUNT,INDEX:COUNT,...`, where INDEX 1 is the first stem of the list.

Tracks that the publisher set apart as test set are taken like the others: it is not our test set.

Described at: http://millionsongdataset.com/musixmatch/
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from pathlib import Path

import numpy as np
from scipy import sparse

from kerasrep.errors import DataError
from kerasrep.sources.labels import CountLabels
from kerasrep.sources.readers import reading
from kerasrep.sources.readers.lines import read_lines
from kerasrep.sources.readers.sqlite import Database, opened_database

FILE = "mxm_dataset.db"
TEXT_FILES = ("mxm_dataset_train.txt", "mxm_dataset_test.txt")
_TABLES = {"words": ("word",), "lyrics": ("track_id", "word", "count")}
_COUNTS = re.compile(rb"[1-9][0-9]{0,8}:[1-9][0-9]{0,8}(?:,[1-9][0-9]{0,8}:[1-9][0-9]{0,8})*")
_SKIPPED = -1


def read_lyrics(path: Path, known: Container[str] | None = None, progress: bool = False) -> reading.Reading:
    """TF-IDF weights of the stems of each track, from the database; see `reading` for the rest."""
    tally, builder = reading.Tally(path, "rows"), reading.CountBuilder()
    documents: dict[bytes, int] = {}
    tracks: list[str] = []
    with opened_database(path, _TABLES) as database:
        columns = _stems(database)
        for number, (ids, words, counts) in database.blocks("lyrics", _TABLES["lyrics"], progress):
            _check_block(database, number, ids, words, counts)
            for offset, text in enumerate(ids):
                row = documents.get(text)
                if row is None:
                    row = _new_document(database, number + offset, text, known, documents, tracks)
                column = columns.get(words[offset], _SKIPPED)
                if min(row, column) == _SKIPPED:
                    reason = "name an unknown track" if row == _SKIPPED else "have a word not in 'words'"
                    tally.skip(reason, f"table 'lyrics', row {number + offset}")
                    continue
                builder.rows.append(row)
                builder.columns.append(column)
                builder.weights.append(counts[offset])
    terms = [reading.decoded(word, f"{path}, table 'words'") for word in columns]
    matrix, n_repeated = builder.finish(len(tracks), len(terms))
    tally.skip("repeat a track and word (counts are added)", "table 'lyrics'", n_repeated)
    return tally.reading(_weighted(reading.count_labels(matrix, terms, tracks)))


def read_lyrics_text(
    paths: Sequence[Path], known: Container[str] | None = None, progress: bool = False
) -> reading.Reading:
    """TF-IDF weights of the stems of each track, from one or more files of the text form.

    Args:
        paths: Files with the same list of stems, plain or zipped.
        known: Tracks of the data set; others are skipped. By default all are taken.
        progress: Show a bar.

    Raises:
        DataError: Where a file or line is malformed, or two files list other stems; names the line.
    """
    builder = reading.CountBuilder()
    documents: dict[str, int] = {}
    terms: list[str] = []
    tallies = [
        _read_text(path, member, known, progress, terms, documents, builder)
        for path, member in zip(paths, TEXT_FILES, strict=False)
    ]
    matrix, n_repeated = builder.finish(len(documents), len(terms))
    tallies[0].skip("give a word twice (counts are added)", count=n_repeated)
    labels = _weighted(reading.count_labels(matrix, terms, list(documents)))
    return tallies[0].reading(labels, *tallies[1:])


def tf_idf(counts: sparse.csr_matrix) -> sparse.csr_matrix:
    """Counts weighted by rarity, rows of length 1, as scikit-learn does by default.

    The weight of a term is its count times ln((1 + n) / (1 + n with the term)) + 1 for n documents; each
    row is then divided by its Euclidean norm.

    Args:
        counts: [documents, terms], non-negative.

    Returns:
        Same shape and zeros.
    """
    from sklearn.feature_extraction.text import TfidfTransformer

    return sparse.csr_matrix(TfidfTransformer().fit_transform(counts))


def _weighted(labels: CountLabels) -> CountLabels:
    counts = tf_idf(labels.counts) if len(labels.track_ids) else labels.counts
    return CountLabels(counts, labels.terms, labels.track_ids, labels.documents)


def _stems(database: Database) -> dict[bytes, int]:
    """Stem -> column."""
    columns: dict[bytes, int] = {}
    for number, (words,) in database.blocks("words", ("word",)):
        database.check_types("words", number, "word", words, bytes)
        for word in words:
            columns.setdefault(word, len(columns))
    return columns


def _check_block(
    database: Database, number: int, ids: Sequence[bytes], words: Sequence[bytes], counts: Sequence[int]
) -> None:
    database.check_types("lyrics", number, "track_id", ids, bytes)
    database.check_types("lyrics", number, "word", words, bytes)
    database.check_types("lyrics", number, "count", counts, int)
    if min(counts) < 1 or max(counts) > 10**9:
        row, value = next((i, v) for i, v in enumerate(counts) if not 1 <= v <= 10**9)
        raise DataError(
            f"{database.place('lyrics', number + row)}: column 'count' has {value}, 1 or more was expected"
        )


def _new_document(
    database: Database,
    number: int,
    text: bytes,
    known: Container[str] | None,
    documents: dict[bytes, int],
    tracks: list[str],
) -> int:
    """Row of a track met for the first time, or `_SKIPPED`."""
    track = reading.track_id(text, database.place("lyrics", number))
    if known is not None and track not in known:
        documents[text] = _SKIPPED
    else:
        documents[text] = len(tracks)
        tracks.append(track)
    return documents[text]


def _read_text(
    path: Path,
    member: str,
    known: Container[str] | None,
    progress: bool,
    terms: list[str],
    documents: dict[str, int],
    builder: reading.CountBuilder,
) -> reading.Tally:
    """Add one file to `documents` and `builder`; the first file fills `terms`."""
    tally = reading.Tally(path)
    listed = False
    for place, line in read_lines(path, member, progress):
        if line.startswith(b"#"):
            continue
        if line.startswith(b"%"):
            if listed:
                raise DataError(f"{place}: lists the words again; one such line was expected")
            _take_words(place, line, terms)
            listed = True
            continue
        if not listed:
            raise DataError(f"{place}: a line of words, beginning with '%', was expected first")
        text, _, rest = line.partition(b",")
        track = reading.track_id(text, place)
        _, comma, pairs = rest.partition(b",")
        if not comma:
            tally.skip("have no words", place)
        elif known is not None and track not in known:
            tally.skip("name an unknown track", place)
        elif track in documents:
            tally.skip("repeat a track (the first counts)", place)
        else:
            _add_pairs(place, pairs, len(terms), documents.setdefault(track, len(documents)), builder)
    if not listed:
        raise DataError(f"{path}: has no line of words, which begins with '%'; is it the right file?")
    return tally


def _take_words(place: str, line: bytes, terms: list[str]) -> None:
    words = reading.decoded(line[1:], place).strip().split(",")
    if not all(words) or len(set(words)) != len(words):
        raise DataError(f"{place}: has an empty word or one twice; %WORD,WORD,... was expected")
    if terms and terms != words:
        raise DataError(f"{place}: lists other words than the first file; use files of one release")
    terms[:] = words


def _add_pairs(place: str, pairs: bytes, n_terms: int, row: int, builder: reading.CountBuilder) -> None:
    if not _COUNTS.fullmatch(pairs):
        raise DataError(
            f"{place}: TRACK_ID,MXM_TID,INDEX:COUNT,... with whole numbers from 1 was expected, "
            f"not {reading.shown(pairs)}"
        )
    numbers = np.array(pairs.replace(b":", b",").split(b",")).astype(np.int64)
    columns = numbers[0::2] - 1
    if columns.max() >= n_terms:
        raise DataError(f"{place}: has word {columns.max() + 1} of {n_terms}")
    rows = np.full(len(columns), row, np.int32)
    builder.extend(rows, columns.astype(np.int32), numbers[1::2].astype(np.float32))
