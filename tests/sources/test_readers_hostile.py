"""Databases and archives made to do harm: refused in one line, nothing executed, nothing written."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import struct
import time
import zipfile

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.errors import DataError
from kerasrep.sources.readers.lastfm_tags import read_lastfm_tags
from kerasrep.sources.readers.metadata import read_track_metadata
from kerasrep.sources.readers.musixmatch import read_lyrics
from kerasrep.sources.readers.track_values import read_tempi

A, B = "TRAAAAA128F0000001", "TRBBBBB128F0000002"
GOOD = f"""
CREATE TABLE tids (tid TEXT); CREATE TABLE tags (tag TEXT);
CREATE TABLE tid_tag (tid INT, tag INT, val FLOAT);
INSERT INTO tids VALUES ('{A}'), ('{B}'); INSERT INTO tags VALUES ('rock'), ('jazz');
INSERT INTO tid_tag VALUES (1, 1, 100), (2, 2, 50);
"""


def database(folder, script, name="lastfm_tags.db"):
    path = folder / name
    connection = sqlite3.connect(path)
    connection.executescript(script)
    connection.close()
    return path


def refused(read, path, message):
    before = sorted(path.parent.iterdir()), path.read_bytes()
    with pytest.raises(DataError) as caught:
        read(path)
    assert str(caught.value).startswith(str(path)) and "\n" not in str(caught.value)
    assert message in str(caught.value)
    assert (sorted(path.parent.iterdir()), path.read_bytes()) == before


def test_the_good_database_is_read(tmp_path):
    assert list(read_lastfm_tags(database(tmp_path, GOOD)).labels.track_ids) == [A, B]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("DROP TABLE tags", "lacks the table 'tags' (tag)"),
        ("ALTER TABLE tid_tag RENAME COLUMN val TO weight", "table 'tid_tag' lacks the column 'val'"),
        (
            "ALTER TABLE tid_tag RENAME TO t; CREATE VIEW tid_tag AS SELECT * FROM t",
            "'tid_tag' is a view; a plain table was expected",
        ),
        (
            "DROP TABLE tags; CREATE VIRTUAL TABLE tags USING fts5(tag)",
            "'tags' is a virtual table; a plain table was expected",
        ),
        (
            "DROP TABLE tids; CREATE TABLE tids (x, tid TEXT GENERATED ALWAYS AS (upper(x)) VIRTUAL)",
            "column 'tid' of table 'tids' is computed; not read",
        ),
        ("DROP TABLE tids; CREATE TABLE tids (tid TEXT PRIMARY KEY) WITHOUT ROWID", "no such column: rowid"),
        ("INSERT INTO tids VALUES (NULL)", "table 'tids', row 3: column 'tid' has None, text was expected"),
        ("INSERT INTO tids VALUES (7.5)", "table 'tids', row 3: '7.5' is not a track id"),
        ("INSERT INTO tags VALUES (x'ff00ff')", "table 'tags', row 3: '\\xff\\x00\\xff' is not UTF-8"),
        ("INSERT INTO tid_tag VALUES (1, 'two', 1)", "row 3: column 'tag' has 'two', a whole number"),
        ("INSERT INTO tid_tag VALUES (1, 2, 'loud')", "column 'val' has 'loud', a number was expected"),
        ("INSERT INTO tid_tag VALUES (1, 2, NULL)", "row 3: column 'val' has None, a number was expected"),
        ("INSERT INTO tid_tag VALUES (1, 2, -1)", "row 3: column 'val' has -1.0, a weight of at least 0"),
        ("INSERT INTO tid_tag VALUES (1, 2, 9e999)", "row 3: column 'val' has inf, a weight of at least 0"),
        (
            "INSERT INTO tags VALUES (replace(hex(zeroblob(600000)), '0', 'x'))",
            "string or blob too big); if it is right and you trust it, raise KERASREP_MAX_DATA",
        ),
        ("DELETE FROM tid_tag", "labels no known track"),
    ],
    ids=lambda value: value[:60],
)
def test_another_schema_or_value_is_refused(tmp_path, change, message):
    refused(read_lastfm_tags, database(tmp_path, f"{GOOD};{change};"), message)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is not an SQLite database"),
        (b"SQLite format 3\0", "is not an SQLite database"),
        (b"\x80\x04\x95cposix\nsystem\n(S'touch pwned'\ntR." + b"." * 200, "is not an SQLite database"),
        (b"SQLite format 3\0" + bytes(range(1, 256)) * 2, "cannot be read as a database"),
    ],
    ids=["empty", "header", "pickle", "noise"],
)
@pytest.mark.parametrize("read", [read_lastfm_tags, read_lyrics, read_track_metadata])
def test_what_is_no_database_is_refused(tmp_path, read, content, message):
    path = tmp_path / "any.db"
    path.write_bytes(content)
    refused(read, path, message)


def many_rows(folder):
    return database(
        folder,
        GOOD + "WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 2000) "
        "INSERT INTO tid_tag SELECT 1, 2, i FROM n;",
    )


def test_a_truncated_database_is_refused_at_any_length(tmp_path):
    path = many_rows(tmp_path)
    whole = path.read_bytes()
    for length in (*range(200, len(whole), 1777), len(whole) - 1):
        path.write_bytes(whole[:length])
        refused(read_lastfm_tags, path, "bytes instead of")


def test_a_tree_that_leads_back_to_itself_ends(tmp_path):
    """An inner page whose children are all one leaf would give rows for ever, or more than there are."""
    path = many_rows(tmp_path)
    content = bytearray(path.read_bytes())
    page_size = struct.unpack(">H", content[16:18])[0]
    inner = [n for n in range(1, len(content) // page_size) if content[n * page_size] == 0x05]
    assert inner  # the table has more than one page
    for number in inner:
        start = number * page_size
        n_cells = struct.unpack(">H", content[start + 3 : start + 5])[0]
        last = content[start + 8 : start + 12]
        for cell in range(n_cells):
            at = start + struct.unpack(">H", content[start + 12 + 2 * cell : start + 14 + 2 * cell])[0]
            content[at : at + 4] = last
    path.write_bytes(content)
    try:
        labels = read_lastfm_tags(path).labels
        assert labels.counts.nnz <= 4
    except DataError as error:
        assert str(path) in str(error)


METADATA = f"""
CREATE TABLE songs (track_id TEXT, song_id TEXT, artist_id TEXT, artist_name TEXT, title TEXT);
INSERT INTO songs VALUES ('{A}', 'SOQMMHC12AB0180CB8', 'ARMJAGH1187FB546F3', 'one', 'first');
INSERT INTO songs VALUES ('{B}', 'SOVFVAK12A8C1350D9', 'ARMJAGH1187FB546F3', NULL, NULL);
"""
LYRICS = f"""
CREATE TABLE words (word TEXT); CREATE TABLE lyrics (track_id TEXT, mxm_tid, word TEXT, count INT, is_test);
INSERT INTO words VALUES ('love'), ('rain'), ('night');
WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 600)
INSERT INTO lyrics SELECT '{A}', 1, 'love', i, 0 FROM n UNION ALL SELECT '{B}', 2, 'rain', i, 1 FROM n;
"""
READERS = {
    "lastfm_tags.db": (read_lastfm_tags, GOOD),
    "mxm_dataset.db": (read_lyrics, LYRICS),
    "track_metadata.db": (lambda path: read_track_metadata(path, {A, B}), METADATA),
}


@pytest.fixture(scope="module")
def whole_databases(tmp_path_factory):
    """A folder of good databases of small pages, so that there are many kinds of them."""
    folder = tmp_path_factory.mktemp("whole")
    more = "WITH RECURSIVE n(i) AS (SELECT 3 UNION ALL SELECT i + 1 FROM n WHERE i < 900) "
    more += "INSERT INTO tid_tag SELECT 1, 2, i FROM n;"
    for name, (read, script) in READERS.items():
        rows = more if read is read_lastfm_tags else ""
        path = database(folder, f"PRAGMA page_size = 512; {script} {rows}", name)
        read(path)
    return folder


def read_or_told(name, path):
    """Labels or one line; nothing is written, and nothing takes long."""
    before, began = path.read_bytes(), time.process_time()
    try:
        READERS[name][0](path)
    except DataError as error:
        assert str(path) in str(error) and "\n" not in str(error)
    assert time.process_time() - began < 10
    assert list(path.parent.iterdir()) == [path] and path.read_bytes() == before


@pytest.mark.parametrize("name", READERS)
@given(
    # Anywhere, and in the header, the schema and the first bytes of pages, where much hangs on one byte.
    changes=st.lists(
        st.tuples(
            st.integers(0, 10**6)
            | st.integers(16, 1_000)
            | st.builds(lambda page, byte: 512 * page + byte, st.integers(0, 60), st.integers(0, 16)),
            st.integers(0, 255),
        ),
        max_size=12,
    ),
    length=st.none() | st.integers(0, 10**5),
)
def test_a_damaged_database_gives_labels_or_one_line(
    name, whole_databases, tmp_path_factory, changes, length
):
    content = bytearray((whole_databases / name).read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    path = tmp_path_factory.mktemp("damaged") / name
    path.write_bytes(content if length is None else content[:length] + bytes(max(0, length - len(content))))
    read_or_told(name, path)


SCHEMA_PARTS = [
    "CREATE TABLE {t} ({c})", "CREATE TABLE {t} ({c}) WITHOUT ROWID", "CREATE VIEW {t} AS SELECT {s}",
    "CREATE VIRTUAL TABLE {t} USING fts5({c})", "CREATE VIRTUAL TABLE {t} USING rtree(id, a, b)",
    "CREATE TRIGGER g{t} AFTER INSERT ON {t} BEGIN SELECT {s}; END", "CREATE INDEX i{t} ON {t} ({c})",
    "CREATE TABLE {t} (x, {c} GENERATED ALWAYS AS ({s}) VIRTUAL)", "DROP TABLE {t}",
    "INSERT INTO {t} SELECT {s}",
    "PRAGMA user_version = 7", "ALTER TABLE {t} RENAME TO old{t}", "PRAGMA encoding = 'UTF-16'", "VACUUM",
    "CREATE TABLE {t} AS SELECT {s}", "PRAGMA journal_mode = WAL", "PRAGMA auto_vacuum = FULL",
]  # fmt: skip
SELECTED = [
    "1", "NULL, 2", "x'00ff', 'a', 3", "zeroblob(100000)", "load_extension('x.so')",
    "writefile('x', 'y')",
    "readfile('/etc/passwd')", "upper('a'), random()", "1e999, -1e999, ''", "fts3_tokenizer('x', x'00')",
]  # fmt: skip
COLUMNS = ["tid", "tag", "tid, tag, val", "tid PRIMARY KEY", "word", "track_id, word, count", "a UNIQUE, b"]
TABLES = ["tids", "tags", "tid_tag", "words", "lyrics", "songs"]


@pytest.mark.parametrize("name", READERS)
@given(
    st.lists(
        st.tuples(*(st.sampled_from(part) for part in (SCHEMA_PARTS, TABLES, COLUMNS, SELECTED))), max_size=6
    )
)
def test_any_schema_gives_labels_or_one_line(name, whole_databases, tmp_path_factory, statements):
    path = tmp_path_factory.mktemp("schema") / name
    shutil.copyfile(whole_databases / name, path)
    with contextlib.closing(sqlite3.connect(path, isolation_level=None)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        for form, table, columns, selected in statements:
            with contextlib.suppress(sqlite3.Error):
                connection.execute(form.format(t=table, c=columns, s=selected))
        with contextlib.suppress(sqlite3.Error):
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
    read_or_told(name, path)


def test_triggers_and_functions_of_the_schema_do_not_run(tmp_path):
    """What would run on writing or in expressions of the schema never does: nothing is written."""
    script = f"{GOOD} CREATE TRIGGER t AFTER INSERT ON tags BEGIN DELETE FROM tids; END; "
    script += "CREATE INDEX i ON tags (upper(tag));"
    path = database(tmp_path, script)
    before = path.read_bytes()
    assert len(read_lastfm_tags(path).labels.track_ids) == 2
    assert path.read_bytes() == before and sorted(tmp_path.iterdir()) == [path]


def test_a_journal_beside_the_database_is_not_played_back(tmp_path):
    """A hot journal from elsewhere could change what is read; the file is taken as it is."""
    path = database(tmp_path, GOOD)
    journal = tmp_path / f"{path.name}-journal"
    journal.write_bytes(b"\xd9\xd5\x05\xf9\x20\xa1\x63\xd7" + b"\0" * 2000)
    read_lastfm_tags(path)
    assert journal.exists()


def test_names_that_look_like_uri_parameters_are_names(tmp_path):
    path = database(tmp_path, GOOD, name="a?mode=rwc#b%20.db")
    assert len(read_lastfm_tags(path).labels.track_ids) == 2
    missing = tmp_path / "none?mode=rwc"
    with pytest.raises(DataError, match="cannot be read"):
        read_lastfm_tags(missing)
    assert sorted(tmp_path.iterdir()) == [path]


def test_what_is_no_regular_file_is_refused(tmp_path):
    os.mkfifo(tmp_path / "fifo")
    for read in (read_lastfm_tags, read_tempi):
        for name in ("fifo", "."):
            with pytest.raises(DataError, match="is not a regular file"):
                read(tmp_path / name)


def archive(folder, *members, name="tempo.zip"):
    path = folder / name
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for member, content in members:
            file.writestr(member, content)
    return path


TEMPI = ("msd_tempo_est.txt", f"{A}\t120\n")


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([TEMPI, ("../evil.txt", "x")], "holds the name '../evil.txt', which leads elsewhere; not read"),
        ([TEMPI, ("a/../../evil.txt", "x")], "which leads elsewhere"),
        ([TEMPI, ("/etc/evil", "x")], "which leads elsewhere"),
        ([TEMPI, ("..\\evil.txt", "x")], "which leads elsewhere"),
        (
            [("a.txt", "x"), ("b.txt", "x")],
            "must hold the file 'msd_tempo_est.txt' once; holds 'a.txt', 'b.txt'",
        ),
        ([TEMPI, ("copy/msd_tempo_est.txt", "x")], "must hold the file 'msd_tempo_est.txt' once"),
        ([], "holds nothing"),
        (
            [("msd_tempo_est.txt", b"\n" * 70_000_000)],
            "more than 100 times; if it is right and you trust it, raise KERASREP_MAX_ZIP",
        ),
    ],
    ids=lambda value: None if isinstance(value, list) else value[:40],
)
def test_an_archive_that_could_do_harm_is_refused(tmp_path, members, message):
    (tmp_path / "inner").mkdir()
    path = archive(tmp_path / "inner", *members)
    refused(read_tempi, path, message)
    assert sorted(tmp_path.iterdir()) == [tmp_path / "inner"]


def test_a_member_that_lies_about_its_size_is_refused(tmp_path):
    path = archive(tmp_path, ("msd_tempo_est.txt", f"{A}\t120\n" * 10_000))
    content = bytearray(path.read_bytes())
    central = content.index(b"PK\x01\x02")
    content[central + 24 : central + 28] = struct.pack("<I", 1000)
    path.write_bytes(content)
    refused(read_tempi, path, "is not a usable zip archive")


def test_encrypted_truncated_and_false_archives_are_refused(tmp_path):
    path = archive(tmp_path, ("msd_tempo_est.txt", f"{A}\t120\n" * 1000), ("other.txt", "x"))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    refused(read_tempi, path, "is not a usable zip archive")
    path.write_bytes(b"no archive")
    refused(read_tempi, path, "is not a usable zip archive")
    content = bytearray(whole)
    for signature, offset in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        content[content.index(signature) + offset] |= 1
    path.write_bytes(content)
    refused(read_tempi, path, "is encrypted; unpack it first")
    content = bytearray(whole)
    content[100] ^= 0xFF
    path.write_bytes(content)
    refused(read_tempi, path, str(path))
