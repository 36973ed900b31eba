"""Journals of a catalogue that somebody spoilt: the work goes on, or one line says how to begin anew."""

import contextlib
import json
import os
import shutil
import sqlite3
import time
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kerasrep.embedding.catalogue.journal import Journal, journal_folder
from kerasrep.embedding.catalogue.layout import About
from kerasrep.errors import KerasrepError

ABOUT = About("m", "f", ("a",), ("a",), "none", 2.5, 2.5, 22_050, "soundfile", "1")
DIMENSION = 4
FUZZ = settings(max_examples=30, deadline=60_000, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(scope="module")
def begun(tmp_path_factory):
    """A journal with files in each state, and how they were."""
    root = tmp_path_factory.mktemp("begun")
    paths = [root / f"{number}.wav" for number in range(40)]
    for path in paths:
        path.write_bytes(b"x")
    with Journal(root / "v.npz", ABOUT) as journal:
        journal.list_files(paths)
        for key, path in list(journal.todo())[:30]:
            number = int(path.stem)
            if number % 5 == 4:
                journal.fail(key, f"{path}: is no audio")
                continue
            for first in range(0, 1 + number % 3):
                journal.add(key, first, np.full((1, DIMENSION), number, np.float32))
            journal.finish(key, 2.5)
    return paths, journal_folder(root / "v.npz") / "journal.sqlite"


def go_on(folder, paths, restart=False):
    """All that a command reads and writes of a journal."""
    with Journal(folder / "v.npz", ABOUT, restart) as journal:
        journal.list_files(paths)
        waiting = [file.path for file in journal.waiting()]
        assert [path for _, path in journal.todo()] == waiting
        for key, _ in list(journal.todo())[:3]:
            journal.add(key, 0, np.zeros((1, DIMENSION), np.float32))
            journal.finish(key, 1.0)
        rows = list(journal.rows(DIMENSION))
        assert all(stored.values.shape[1] == DIMENSION for stored in rows)
        return waiting, list(journal.bad()), list(journal.paths()), rows


def check(folder, paths, content=None):
    """What was spoilt is told with its folder; begun anew, all files wait."""
    output, began = folder / "v.npz", time.process_time()
    path = journal_folder(output) / "journal.sqlite"
    if content is not None:
        path.write_bytes(content)
    try:
        go_on(folder, paths)
    except KerasrepError as error:
        assert str(error).startswith(str(journal_folder(output))) and "\n" not in str(error)
    with contextlib.suppress(KerasrepError):  # where not even that can be, it is told as well
        assert go_on(folder, paths, restart=True)[0] == paths
    assert time.process_time() - began < 20
    assert {entry.name for entry in folder.iterdir()} <= {".v.npz.parts"}
    assert not {entry.name for entry in Path().iterdir()} & {"evil", "x"}


def place(tmp_path, begun):
    shutil.rmtree(tmp_path, ignore_errors=True)
    folder = journal_folder(tmp_path / "v.npz")
    folder.mkdir(parents=True)
    shutil.copyfile(begun[1], folder / "journal.sqlite")
    return folder / "journal.sqlite"


def test_what_the_fuzzing_starts_from_goes_on(tmp_path, begun):
    place(tmp_path, begun)
    waiting, bad, done, rows = go_on(tmp_path, begun[0])
    assert (len(waiting), len(bad), len(done), len(rows)) == (16, 0, 27, 51)  # bad ones are tried again


@FUZZ
@given(
    changes=st.lists(
        st.tuples(
            st.integers(0, 10**6)
            | st.integers(16, 2_000)
            | st.builds(lambda page, byte: 16_384 * page + byte, st.integers(0, 6), st.integers(0, 16)),
            st.integers(0, 255),
        ),
        max_size=12,
    ),
    part=st.none() | st.floats(0, 1),
)
def test_any_damage_is_told(tmp_path, begun, changes, part):
    path = place(tmp_path, begun)
    content = bytearray(path.read_bytes())
    for position, value in changes:
        content[position % len(content)] = value
    check(tmp_path, begun[0], bytes(content if part is None else content[: int(part * len(content))]))


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT * FROM n"
VALUES = ["NULL", "-1", "'text'", "x'ff00'", "1e999", "x''", "9223372036854775807", "0.5", "'[]'", "'{}'"]
STATEMENTS = [
    *(f"UPDATE files SET {column} = {{v}} WHERE id % 7 = {{n}}"
      for column in ("path", "position", "size", "modified", "state", "seconds", "reason")),
    "UPDATE files SET id = {v} WHERE id = {n}", "UPDATE vectors SET vectors = {v} WHERE id % 7 = {n}",
    "UPDATE vectors SET id = {v} WHERE id % 7 = {n}", "UPDATE about SET settings = {v}", "DELETE FROM about",
    "INSERT INTO about VALUES ({v})", "DROP TABLE files", "DROP TABLE vectors", "PRAGMA user_version = {n}",
    f"CREATE TRIGGER t AFTER UPDATE ON files BEGIN SELECT count(*) FROM ({ENDLESS}); END",
    f"DROP TABLE vectors; CREATE VIEW vectors AS {ENDLESS}", "CREATE INDEX i ON files (lower(reason))",
    "CREATE TABLE files2 (x)", "ALTER TABLE files ADD COLUMN more", "CREATE VIRTUAL TABLE f USING fts5(x)",
    "CREATE TRIGGER t AFTER INSERT ON files BEGIN SELECT load_extension('evil'); END",
]  # fmt: skip


@FUZZ
@given(
    st.lists(
        st.tuples(st.sampled_from(STATEMENTS), st.sampled_from(VALUES), st.integers(0, 6)),
        min_size=1,
        max_size=4,
    )
)
def test_any_tables_and_values_are_told(tmp_path, begun, statements):
    path = place(tmp_path, begun)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA synchronous = OFF")
        connection.set_progress_handler(lambda: True, 1_000_000)  # ends what would run for ever here already
        for statement, value, number in statements:
            with contextlib.suppress(sqlite3.Error):
                connection.executescript(statement.format(v=value, n=number))
    check(tmp_path, begun[0])


@settings(FUZZ, max_examples=15)
@given(
    st.dictionaries(
        st.sampled_from([*ABOUT.__dataclass_fields__]), st.sampled_from([None, 0, "x", [], {}, [1]])
    )
)
def test_any_settings_are_told(tmp_path, begun, changed):
    path = place(tmp_path, begun)
    with contextlib.closing(sqlite3.connect(path)) as connection:
        connection.execute(
            "UPDATE about SET settings = ?", (json.dumps(json.loads(ABOUT.to_json()) | changed),)
        )
        connection.commit()
    check(tmp_path, begun[0])


def test_files_that_wait_are_listed_without_a_query_a_file(tmp_path, begun):
    paths = [Path(os.fsdecode(b"/music/%05d.wav" % number)) for number in range(2_500)]
    with Journal(tmp_path / "v.npz", ABOUT) as journal:
        journal.list_files(paths)
        asked = []
        journal._connection.set_trace_callback(asked.append)
        assert [file.path for file in journal.waiting()] == paths
    assert len(asked) <= 5
