"""Readers of the public label files: the published forms, and one line for each thing that can be wrong."""

from __future__ import annotations

import math
import sqlite3
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.errors import DataError
from kerasrep.sources.readers.echonest import read_mismatches, read_plays
from kerasrep.sources.readers.genres import read_genres
from kerasrep.sources.readers.lastfm_tags import read_lastfm_tags
from kerasrep.sources.readers.lines import BLOCK_BYTES, read_lines
from kerasrep.sources.readers.metadata import read_track_metadata, read_unique_tracks
from kerasrep.sources.readers.musixmatch import read_lyrics, read_lyrics_text
from kerasrep.sources.readers.track_values import read_tempi, read_years
from kerasrep.storage import limits

A, B, C = "TRAAAAA128F0000001", "TRBBBBB128F0000002", "TRCCCCC128F0000003"
SONG_A, SONG_B = "SOAAAAA12AB0000001", "SOBBBBB12AB0000002"
SONGS = {SONG_A.encode(): A, SONG_B.encode(): f"{B} {C}"}

READ_TEXT = {
    "years": read_years,
    "tempi": read_tempi,
    "genres": read_genres,
    "lyrics": lambda path: read_lyrics_text([path]),
    "plays": lambda path: read_plays(path, SONGS),
    "mismatches": read_mismatches,
    "tracks": read_unique_tracks,
}


def text_file(folder, text, name="file.txt"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def dense(labels):
    """Track -> term -> weight."""
    return {
        track: {
            labels.terms[column]: float(weight)
            for column, weight in enumerate(labels.counts[row].toarray()[0])
            if weight
        }
        for track, row in zip(labels.track_ids, labels.documents, strict=True)
    }


def database(path, schema, **rows):
    with sqlite3.connect(path) as connection:
        connection.executescript(schema)
        for table, values in rows.items():
            if values:
                connection.executemany(
                    f"INSERT INTO {table} VALUES ({','.join('?' * len(values[0]))})", values
                )
    connection.close()
    return path


LASTFM = (
    "CREATE TABLE tids (tid TEXT); CREATE TABLE tags (tag TEXT); "
    "CREATE TABLE tid_tag (tid INT, tag INT, val FLOAT);"
)
MXM = (
    "CREATE TABLE words (word TEXT PRIMARY KEY); "
    "CREATE TABLE lyrics (track_id, mxm_tid INT, word TEXT, count INT, is_test INT);"
)
SONGS_TABLE = (
    "CREATE TABLE songs (track_id text, title text, song_id text, release text, artist_id text, "
    "artist_mbid text, artist_name text, duration real);"
)


def lastfm(folder, tids=((A,), (B,)), tags=(("rock",), ("jazz",)), tid_tag=()):
    return database(folder / "lastfm_tags.db", LASTFM, tids=tids, tags=tags, tid_tag=tid_tag)


def mxm(folder, lyrics, words=(("i",), ("love",))):
    return database(folder / "mxm_dataset.db", MXM, words=words, lyrics=lyrics)


def test_years_are_read_and_what_is_skipped_is_counted_with_its_first_line(tmp_path):
    lines = [f"1999<SEP>{A}<SEP>X<SEP>Y", "", f"2001<SEP>{A}<SEP>X<SEP>Y", f"0<SEP>{B}<SEP>X<SEP>"]
    lines += [f"1970<SEP>{C}<SEP>X<SEP>a <SEP> b", f"1970<SEP>{C[:-1]}4<SEP>X<SEP>Y"]
    path = text_file(tmp_path, "\r\n".join(lines))
    reading = read_years(path, known={A, B, C})
    assert list(reading.labels.track_ids) == [A, C]
    assert reading.labels.values.tolist() == [1999, 1970]
    assert reading.skipped == {
        str(path): {
            "repeat a track (the first counts)": 1,
            "have the value 0, which stands for unknown": 1,
            "name an unknown track": 1,
        }
    }
    (notice,) = reading.notices
    assert "1 lines that repeat a track (the first counts) (first: line 3)" in notice


def test_tempi_may_be_zipped_under_any_name(tmp_path):
    path = tmp_path / "t.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("folder/whatever.txt", f"{A}\t120.5\n{B}\t0\n")
    reading = read_tempi(path)
    assert (list(reading.labels.track_ids), reading.labels.values.tolist()) == ([A], [120.5])
    assert reading.skipped == {str(path): {"have the value 0, which stands for unknown": 1}}


@pytest.mark.parametrize("separator", ["\t", "<SEP>"])
def test_genres_with_either_separator(tmp_path, separator):
    rows = [(A, "Rock & Pop"), (B, "Jazz"), (A, "Jazz"), (A, "Jazz")]
    path = text_file(tmp_path, "".join(f"{track}{separator}{tag}\n" for track, tag in rows))
    reading = read_genres(path)
    assert dense(reading.labels) == {A: {"Rock & Pop": 1, "Jazz": 1}, B: {"Jazz": 1}}
    assert reading.skipped == {str(path): {"repeat a track and genre": 1}}


def test_lastfm_joins_by_row_number_and_counts_what_it_cannot_join(tmp_path):
    pairs = [(1, 2, 100.0), (1, 1, 0.0), (2, 2, 33), (2, 9, 5.0), (7, 1, 5.0), (3, 1, 8.0), (1, 2, 1.0)]
    path = lastfm(tmp_path, tids=[(A,), (B,), (C,)], tid_tag=pairs)
    reading = read_lastfm_tags(path, known={A, B})
    assert dense(reading.labels) == {A: {"jazz": 101, "rock": 1}, B: {"jazz": 33}}
    assert reading.skipped[str(path)] == {
        "name an unknown track": 1,
        "belong to an unknown track": 1,
        "name no row of 'tags'": 1,
        "name no row of 'tids'": 1,
        "repeat a track and tag (weights are added)": 1,
    }
    assert "name no row of 'tags' (first: table 'tid_tag', row 4)" in reading.notices[0]


def test_lastfm_row_numbers_need_not_be_consecutive(tmp_path):
    path = lastfm(tmp_path, tid_tag=[(3, 2, 50.0)])
    with sqlite3.connect(path) as connection:
        connection.execute("DELETE FROM tids WHERE rowid = 1")
        connection.execute("INSERT INTO tids (rowid, tid) VALUES (3, ?)", (C,))
        connection.execute(f"INSERT INTO tids (rowid, tid) VALUES ({2**62}, ?)", (A,))
        connection.execute(f"INSERT INTO tid_tag VALUES ({2**62}, 1, 7)")
    connection.close()
    assert dense(read_lastfm_tags(path).labels) == {C: {"jazz": 50}, A: {"rock": 7}}


def test_lyrics_are_tf_idf_worked_out_by_hand(tmp_path):
    """Two documents: `i` is in both (idf 1), `love` in one (idf ln(3/2) + 1); rows of length 1."""
    path = mxm(tmp_path, [(A, 1, "i", 2, 0), (A, 1, "love", 1, 0), (B, 2, "i", 5, 1)])
    found = dense(read_lyrics(path).labels)
    i, love = 2.0, math.log(3 / 2) + 1
    norm = math.hypot(i, love)
    assert found[A] == pytest.approx({"i": i / norm, "love": love / norm}, rel=1e-6)
    assert found[B] == pytest.approx({"i": 1})


def test_lyrics_as_text_count_words_from_one(tmp_path):
    train = f"# comment\n%i,love,you\n{A},123,1:2,2:1\n{B},456\n{A},123,1:1\n"
    test = f"%i,love,you\n{C},789,3:4\n"
    paths = [text_file(tmp_path, train), text_file(tmp_path, test, "second.txt")]
    reading = read_lyrics_text(paths)
    labels = reading.labels
    assert list(labels.track_ids) == [A, C] and list(labels.terms) == ["i", "love", "you"]
    assert (labels.counts.toarray() > 0).tolist() == [[True, True, False], [False, False, True]]
    assert reading.skipped == {str(paths[0]): {"have no words": 1, "repeat a track (the first counts)": 1}}


def test_plays_of_a_song_belong_to_all_its_tracks(tmp_path):
    lines = [("u1", SONG_A, 3), ("u1", SONG_B, 1), ("u2", SONG_B, 2), ("u1", SONG_A, 4)]
    lines += [("u2", "SOZZZZZ12AB0000009", 1)]
    path = text_file(tmp_path, "".join(f"{u}\t{s}\t{n}\n" for u, s, n in lines))
    reading = read_plays(path, SONGS)
    assert dense(reading.labels) == {A: {"u1": 7}, B: {"u1": 1, "u2": 2}, C: {"u1": 1, "u2": 2}}
    assert reading.labels.counts.shape == (2, 2)  # songs, not tracks
    assert reading.skipped == {
        str(path): {"play a song of no known track": 1, "repeat a user and song (plays are added)": 1}
    }


def test_mismatched_pairs_are_left_out_and_counted(tmp_path):
    text = f"ERROR: <{SONG_A} {A}> a  -  b  !=  c  -  d\nERROR: <{SONG_B} {C}> caf\xe9\n"
    mismatches = read_mismatches(text_file(tmp_path, text.encode("latin-1"), "sid_mismatches.txt"))
    path = text_file(tmp_path, f"u1\t{SONG_A}\t3\nu1\t{SONG_B}\t1\nu2\t{SONG_A}\t3\n")
    reading = read_plays(path, SONGS, mismatches)
    assert dense(reading.labels) == {B: {"u1": 1}}
    assert reading.skipped == {str(path): {"play a song matched to a wrong track": 2}}


def test_tables_of_tracks_say_songs_artists_and_titles(tmp_path):
    rows = [(A, "T1", SONG_A, "R", "AR1", "", "X", 1.0), (B, None, SONG_B, "R", "AR1", "", "X", 1.0)]
    rows += [(C, "T3", SONG_B, "R", "AR2", "", "Y\u00e9", 1.0), (A, "T4", SONG_A, "R", "AR3", "", "Z", 1.0)]
    path = database(tmp_path / "track_metadata.db", SONGS_TABLE, songs=rows)
    table = read_track_metadata(path, describe={B, C})
    assert table.artists == {A: "AR1", B: "AR1", C: "AR2"}
    assert table.songs == {SONG_A.encode(): A, SONG_B.encode(): f"{B} {C}"}
    assert table.described == {B: ("", "X"), C: ("T3", "Y\u00e9")}
    assert "row 4" in table.tally.notices()[0]
    lines = "".join(f"{r[0]}<SEP>{r[2]}<SEP>{r[6]}<SEP>{r[1] or ''}\n" for r in rows)
    listed = read_unique_tracks(text_file(tmp_path, lines), describe={B, C})
    assert (listed.songs, listed.described) == (table.songs, table.described)
    assert listed.artists == {A: "X", B: "X", C: "Y\u00e9"}


@pytest.mark.parametrize(
    ("reader", "text", "message"),
    [
        ("years", f"1999<SEP>{A}<SEP>X", "line 1: YEAR<SEP>TRACK_ID<SEP>ARTIST<SEP>TITLE was expected"),
        ("years", f"MCMX<SEP>{A}<SEP>X<SEP>Y", "line 1: 'MCMX' is not a year"),
        ("years", f"\u0661\u0669<SEP>{A}<SEP>X<SEP>Y", "is not a year"),
        ("years", "1999<SEP>X<SEP>X<SEP>Y", "line 1: 'X' is not a track id; one such as TRMMMYQ128F932D901"),
        ("years", "", "labels no known track; is it the right file?"),
        (
            "years",
            f"0<SEP>{A}<SEP>X<SEP>Y",
            "labels no known track (not used as they stand: 1 lines that have the value 0",
        ),
        ("tempi", f"{A} 120", "line 1: TRACK_ID<TAB>BPM was expected"),
        ("tempi", f"\n{A}\tfast", "line 2: column 'bpm' has 'fast', a number of at least 0"),
        ("tempi", f"{A}\t-1", "line 1: column 'bpm' has '-1'"),
        ("tempi", f"{A}\tnan", "column 'bpm' has 'nan'"),
        ("genres", f"{A}\t", "line 1: TRACK_ID<TAB>TAG was expected"),
        ("genres", f"{A}\t".encode() + b"caf\xe9", "line 1: 'caf\\xe9' is not UTF-8 text"),
        ("lyrics", f"{A},1,1:2", "line 1: a line of words, beginning with '%', was expected first"),
        ("lyrics", "# nothing", "has no line of words"),
        ("lyrics", "%a,b,a", "line 1: has an empty word or one twice"),
        ("lyrics", "%a,b\n%a,b", "line 2: lists the words again"),
        ("lyrics", f"%a,b\n{A},1,0:2", "line 2: TRACK_ID,MXM_TID,INDEX:COUNT,... with whole numbers from 1"),
        ("lyrics", f"%a,b\n{A},1,3:2", "line 2: has word 3 of 2"),
        ("lyrics", f"%a,b\n{A},1,1:-2", "line 2: TRACK_ID,MXM_TID,INDEX:COUNT"),
        ("plays", f"u1\t{SONG_A}", "line 1: USER<TAB>SONG_ID<TAB>PLAYS was expected"),
        ("plays", f"u1\t{SONG_A}\t1\nu1\t{SONG_A}\t1.5", "line 2: USER<TAB>SONG_ID<TAB>PLAYS was expected"),
        ("plays", f"u1\t{SONG_A}\t-1", "line 1: USER<TAB>"),
        ("plays", f"u1\t{SONG_A}\t9999999999", "line 1: USER<TAB>"),
        ("plays", "u1\tMY SONG\t1", "line 1: 'MY SONG' is not a song id; one such as SOQMMHC12AB0180CB8"),
        ("plays", b"\xff\xfe\t" + SONG_A.encode() + b"\t1", "is not UTF-8 text"),
        ("mismatches", f"<{SONG_A} {A}>", "line 1: ERROR: <SONG_ID TRACK_ID> ... was expected"),
        ("mismatches", f"ERROR: <{A} {SONG_A}> x", "line 1: 'TRAAAAA128F0000001' is not a song id"),
        ("tracks", f"{A}<SEP>{SONG_A}<SEP>X", "line 1: TRACK_ID<SEP>SONG_ID<SEP>ARTIST<SEP>TITLE"),
        ("tracks", f"{A}<SEP>{SONG_A}<SEP>".encode() + b"\xe9<SEP>Y", "line 1: '\\xe9' is not UTF-8"),
        ("tracks", "", "holds no track"),
    ],
    ids=lambda value: None if len(value) > 60 else str(value),
)
def test_a_wrong_line_is_refused_in_one_line_that_names_it(tmp_path, reader, text, message):
    path = text_file(tmp_path, text)
    with pytest.raises(DataError) as caught:
        READ_TEXT[reader](path)
    assert str(caught.value).startswith(str(path))
    assert message in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("reader", READ_TEXT)
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"x" * 10_000_000, "line 1: is longer than 1,000,000 characters"),
        (b"# a\n" + b"x" * 1_000_001 + b"\n", "line 2: is longer than 1,000,000 characters"),
        (b"# a\n# b\0\n", "line 2: has a NUL byte; UTF-8 text was expected"),
        ("1999\n".encode("utf-16"), "line 1: has a NUL byte"),
    ],
    ids=["10 MB", "1 MB", "NUL", "UTF-16"],
)
def test_lines_without_end_and_binary_files_are_refused(tmp_path, reader, content, message):
    path = text_file(tmp_path, content)
    with pytest.raises(DataError) as caught:
        READ_TEXT[reader](path)
    assert str(caught.value).startswith(f"{path}, ") and "\n" not in str(caught.value)
    if reader == "lyrics" or b"#" not in content:  # the others refuse the first line already
        assert message in str(caught.value)


@pytest.mark.parametrize("reader", READ_TEXT)
@given(
    st.lists(
        st.one_of(
            st.binary(max_size=40),
            st.sampled_from([A, SONG_A, "<SEP>", "\t", "1999", "%i,love", ",1,1:2", "\n"]).map(str.encode),
        ),
        max_size=12,
    )
)
def test_no_content_gives_anything_but_labels_or_one_line(tmp_path_factory, reader, parts):
    path = text_file(tmp_path_factory.mktemp("any"), b"".join(parts))
    try:
        READ_TEXT[reader](path)
    except DataError as error:
        assert str(error).startswith(str(path)) and str(error).isprintable()


@given(
    st.lists(st.binary(max_size=30).map(lambda b: b.translate(None, b"\r\n\0")), max_size=30), st.booleans()
)
def test_lines_are_those_of_the_file_whatever_the_blocks(tmp_path_factory, lines, ends):
    """Compared with Python's own lines; blocks of 7 bytes cut everywhere."""
    path = text_file(tmp_path_factory.mktemp("lines"), b"\n".join(lines) + b"\n" * ends)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("kerasrep.sources.readers.lines.BLOCK_BYTES", 7)
        found = list(read_lines(path, "any"))
    with path.open("rb") as file:
        expected = [(number, line.rstrip(b"\n")) for number, line in enumerate(file, 1)]
    if expected:
        expected[0] = (1, expected[0][1].removeprefix(b"\xef\xbb\xbf"))
    assert found == [(f"{path}, line {n}", line) for n, line in expected if line and not line.isspace()]


def test_memory_does_not_grow_with_the_file(tmp_path):
    import tracemalloc

    path = tmp_path / "plays.zip"
    n_lines = 400_000
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("x", "w") as file:
        for number in range(n_lines):
            file.write(b"%040x\t%s\t%d\n" % (number // 400, SONG_A.encode(), number % 7 + 1))
    tracemalloc.start()
    reading = read_plays(path, SONGS)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert reading.labels.counts.sum() == sum(n % 7 + 1 for n in range(n_lines))
    assert (
        peak < 12 * n_lines * 2.5 + 12 * BLOCK_BYTES + limits.LINE_CHARACTERS.default
    )  # arrays, matrix, one block of lines
    assert np.issubdtype(reading.labels.counts.dtype, np.float32)
