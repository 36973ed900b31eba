"""What is to be embedded: patterns, lists and tables of paths."""

import io
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from kerasrep.embedding.files import named_inputs
from kerasrep.errors import DataError, RecipeError


@pytest.fixture
def music(tmp_path, monkeypatch):
    """Three files, one with a name that is no UTF-8 and has a line end."""
    monkeypatch.chdir(tmp_path)
    names = ["a/one.wav", "b/c/two.wav", os.fsdecode(b"b/odd\xff\n.wav")]
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    return [Path(name) for name in names]


def test_patterns_are_expanded_and_names_with_brackets_are_names(music):
    Path("x[1].wav").touch()
    assert named_inputs([Path("**/*.wav")], []) == sorted([*music, Path("x[1].wav")])
    assert named_inputs([Path("x[1].wav"), Path("missing.wav"), Path("a")], []) == [
        Path("x[1].wav"),
        Path("missing.wav"),
        Path("a"),
    ]
    with pytest.raises(RecipeError, match=r"^z\*: no file has such a name"):
        named_inputs([Path("z*")], [])


@pytest.mark.parametrize("ends", ["\n", "\r\n"])
def test_a_list_has_a_path_a_line(music, ends):
    Path("list.txt").write_bytes(f"\ufeffa/one.wav{ends}{ends} b/c/two.wav{ends}".encode())
    assert named_inputs([Path("b")], ["list.txt"]) == [Path("b"), Path("a/one.wav"), Path(" b/c/two.wav")]


def test_what_find_prints_with_nul_characters_is_read_from_standard_input(music, monkeypatch):
    found = subprocess.run(["find", ".", "-name", "*.wav", "-print0"], capture_output=True, check=True)
    monkeypatch.setattr("sys.stdin", SimpleNamespace(buffer=io.BytesIO(found.stdout)))
    assert sorted(named_inputs([], ["-"])) == sorted(music)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.parquet"])
def test_a_table_has_a_column_of_paths_that_start_in_its_folder(music, tmp_path, name):
    if name == "t.parquet":
        pq.write_table(pa.table({"label": ["x"], "path": ["one.wav"]}), f"a/{name}")
    else:
        mark = "," if name == "t.csv" else "\t"
        Path("a", name).write_text(f"label{mark}path\nx{mark}one.wav\n")
    assert named_inputs([], [f"a/{name}"]) == [Path("a/one.wav")]


@pytest.mark.parametrize(
    ("lists", "error", "message"),
    [
        ([], RecipeError, "give audio files or folders, or --files LIST"),
        (["empty.txt"], RecipeError, "empty.txt names no file; give audio"),
        (["none.txt"], DataError, "--files none.txt: cannot be read (No such file or directory)"),
        (["bad.csv"], DataError, "bad.csv, line 1: lacks the column 'path'"),
    ],
)
def test_a_list_that_names_nothing_is_refused(music, lists, error, message):
    Path("empty.txt").touch()
    Path("bad.csv").write_text("file\nx\n")
    with pytest.raises(error) as caught:
        named_inputs([], lists)
    assert message in str(caught.value)
