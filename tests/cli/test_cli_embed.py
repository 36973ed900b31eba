import csv
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import soundfile
from pyarrow import parquet

from kerasrep.cli import command, embed
from kerasrep.storage import export_directory as starter

ROOT = Path(__file__).parents[2]


@pytest.fixture
def audio(tmp_path):
    """A folder with two good files at different rates."""
    folder = tmp_path / "audio"
    (folder / "sub").mkdir(parents=True)
    rng = np.random.default_rng(0)
    soundfile.write(folder / "b.wav", rng.normal(0, 0.1, (30_000, 2)), 22_050)
    soundfile.write(folder / "sub" / "c.flac", rng.normal(0, 0.1, 60_000), 44_100)
    return folder


@pytest.fixture
def run_embed(small_export, capsys):
    """A function that runs the command: exit code, lines of standard output, lines of standard error."""

    def run(*arguments, model=small_export):
        code = command.run(embed.main, embed.PROG, [*map(str, arguments), "--model", str(model)])
        captured = capsys.readouterr()
        return code, captured.out.splitlines(), captured.err.splitlines()

    return run


def entries(folder):
    """All that lies there but for logs, which every call that begins leaves."""
    return sorted(path.name for path in folder.iterdir() if not path.name.endswith(".log.jsonl"))


def test_a_folder_becomes_an_npz_table(audio, tmp_path, run_embed, small_model):
    output = tmp_path / "out" / "x.npz"
    code, out, err = run_embed(audio, "-o", output)
    assert (code, err) == (0, [])
    assert "2 files" in out[-1]
    assert ", 2.7 s of audio in " in out[-1] and "times real time" in out[-1]
    with np.load(output, allow_pickle=False) as table:
        assert sorted(table.files) == [
            "about",
            "columns",
            "embeddings",
            "paths",
            "seconds",
            "typical_seconds",
        ]
        np.testing.assert_allclose(table["seconds"], [30_000 / 22_050, 60_000 / 44_100], atol=1e-3)
        assert table["paths"].tolist() == [str(audio / "b.wav"), str(audio / "sub" / "c.flac")]
        assert table["embeddings"].dtype == np.float32
        assert table["columns"].tolist() == list(small_model.columns)
        for path, embedding in zip(table["paths"], table["embeddings"], strict=True):
            np.testing.assert_allclose(embedding, small_model.embed_file(path), atol=1e-6)
    assert entries(output.parent) == ["x.npz"]


def test_parquet_holds_the_same(audio, tmp_path, run_embed, small_run):
    assert run_embed(audio, "-o", tmp_path / "x.npz")[0] == 0
    assert run_embed(audio, "-o", tmp_path / "x.parquet", model=small_run.run.root)[0] == 0
    table = parquet.read_table(tmp_path / "x.parquet")
    assert table.column_names == ["path", "seconds", "typical_seconds", "embedding"]
    with np.load(tmp_path / "x.npz") as expected:
        assert table["path"].to_pylist() == expected["paths"].tolist()
        np.testing.assert_allclose(
            np.array(table["embedding"].to_pylist()), expected["embeddings"], atol=1e-5
        )
        assert table.schema.field("embedding").type.list_size == expected["embeddings"].shape[1]


def test_bad_files_are_listed_and_the_good_ones_saved(audio, tmp_path, run_embed):
    (audio / "a\nb.wav").write_text("no audio")
    code, out, err = run_embed(audio, tmp_path / "missing.mp3", "-o", tmp_path / "x.npz")
    assert code == 1
    assert "2 files" in out[-2]
    assert "2 skipped" in out[-1]
    assert len(err) == 2
    assert "a\\nb.wav: is no audio" in err[0]
    assert "missing.mp3: cannot be read" in err[1]
    with (tmp_path / "x.npz.skipped.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["path"] for row in rows] == [str(audio / "a\nb.wav"), str(tmp_path / "missing.mp3")]
    assert all(row["reason"].startswith(row["path"]) for row in rows)
    with np.load(tmp_path / "x.npz") as table:
        assert len(table["paths"]) == 2


def test_a_named_file_is_tried_whatever_its_suffix(audio, tmp_path, run_embed):
    named = (audio / "b.wav").rename(audio / "b.dat")
    assert run_embed(named, "-o", tmp_path / "x.npz")[0] == 0


def test_without_one_good_file_nothing_is_written(tmp_path, run_embed):
    (tmp_path / "bad.wav").write_text("no audio")
    (tmp_path / "empty").mkdir()
    code, out, err = run_embed(tmp_path / "bad.wav", tmp_path / "empty", "-o", tmp_path / "x.npz")
    assert (code, out) == (1, [])
    assert len(err) == 3
    assert "no file could be embedded" in err[-1]
    assert entries(tmp_path) == ["bad.wav", "empty", "x.npz.skipped.csv"]


def test_an_existing_output_survives_a_failure(tmp_path, run_embed):
    (tmp_path / "x.npz").write_text("old")
    assert run_embed(tmp_path / "none.wav", "-o", tmp_path / "x.npz")[0] == 1
    assert (tmp_path / "x.npz").read_text() == "old"
    assert entries(tmp_path) == ["x.npz", "x.npz.skipped.csv"]


@pytest.mark.parametrize("name", ["x.tsv", "x", "x.NPZ.gz"])
def test_an_unknown_output_suffix_is_refused_before_any_work(tmp_path, run_embed, name):
    code, out, err = run_embed(tmp_path, "-o", tmp_path / name)
    assert (code, out, len(err)) == (2, [], 1)
    assert ".npz or .parquet" in err[0]
    assert entries(tmp_path) == []


def test_a_folder_as_output_is_refused(tmp_path, run_embed):
    (tmp_path / "x.npz").mkdir()
    code, _, err = run_embed(tmp_path, "-o", tmp_path / "x.npz")
    assert (code, len(err)) == (2, 1)


def test_the_skipped_files_of_two_tables_of_one_stem_stay_apart(audio, tmp_path, run_embed):
    (tmp_path / "bad.wav").write_text("no audio")
    assert run_embed(audio, tmp_path / "bad.wav", "-o", tmp_path / "v.npz")[0] == 1
    assert run_embed(audio, "-o", tmp_path / "v.parquet")[0] == 0
    assert entries(tmp_path) == ["audio", "bad.wav", "v.npz", "v.npz.skipped.csv", "v.parquet"]


def test_a_table_of_skipped_files_that_cannot_be_written_is_told_before_any_work(audio, tmp_path, run_embed):
    (tmp_path / "x.npz.skipped.csv").mkdir()
    code, out, err = run_embed(audio, "-o", tmp_path / "x.npz")
    assert (code, out, len(err)) == (2, [], 1)
    assert "x.npz.skipped.csv, the table of skipped files, is a folder" in err[0]


@pytest.mark.parametrize(
    "name", ["n" * 227 + ".npz", "é" * 120 + ".npz", "n" * 300 + ".npz", "n" * 300 + "/x.npz"]
)
def test_an_output_whose_name_is_too_long_is_told_before_any_work(audio, tmp_path, run_embed, name):
    code, out, err = run_embed(audio, "-o", tmp_path / name)
    assert (code, out, len(err)) == (2, [], 1)
    assert "bytes; shorten it" in err[0] or "File name too long" in err[0]
    assert entries(tmp_path) == ["audio"]


def test_the_longest_name_of_an_output_works(tmp_path, run_embed):
    (tmp_path / "bad.wav").write_text("no audio")
    name = "n" * 226 + ".npz"
    assert run_embed(tmp_path / "bad.wav", "-o", tmp_path / name)[0] == 1
    assert entries(tmp_path) == ["bad.wav", f"{name}.skipped.csv"]


@pytest.mark.parametrize("name", [".", "..", "/", ""])
def test_an_output_without_a_name_is_refused(audio, tmp_path, monkeypatch, run_embed, name):
    monkeypatch.chdir(tmp_path)
    code, out, err = run_embed(audio, "-o", name)
    assert (code, out, len(err)) == (2, [], 1)


def test_a_model_whose_name_is_too_long_is_told(audio, tmp_path, run_embed):
    code, out, err = run_embed(audio, "-o", tmp_path / "x.npz", model="n" * 300)
    assert (code, out, len(err)) == (2, [], 1)
    assert "File name too long" in err[0]


def test_a_missing_model_is_refused(audio, tmp_path, run_embed):
    code, out, err = run_embed(audio, "-o", tmp_path / "x.npz", model=tmp_path / "none")
    assert (code, out, len(err)) == (2, [], 1)
    assert "does not exist; give an export" in err[0]
    assert entries(tmp_path) == ["audio"]


def test_a_trunk_that_comes_along_is_used_and_said_where_no_model_is_named(
    audio, tmp_path, capsys, monkeypatch, small_export
):
    (tmp_path / "exported").mkdir()
    (tmp_path / "exported" / starter.STARTER).symlink_to(small_export.parent)
    monkeypatch.setattr(starter, "STARTER_PLACES", (tmp_path / "nowhere", tmp_path / "exported"))
    arguments = [str(audio), "-o", str(tmp_path / "x.npz")]
    assert command.run(embed.main, embed.PROG, arguments) == 0
    assert f"model: {tmp_path / 'exported' / starter.STARTER / '1'}" in capsys.readouterr().out
    monkeypatch.setattr(starter, "STARTER_PLACES", (tmp_path / "nowhere",))
    assert command.run(embed.main, embed.PROG, arguments) == 2
    assert "lacks the trunk that comes with kerasrep" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--sources", "tag,artst"], "source 'artst': the model has no such branch; it has year, tag"),
        (["--sources", "yaer"], "did you mean 'year'?"),
        (["--sources", ","], "none named"),
        (["--hop-seconds", "0"], "hop of 0.0 s: give seconds from 0.01"),
        (["--hop-seconds", "nan"], "hop of nan s"),
        (["--workers", "0"], "--workers 0"),
        (["--shard-rows", "-1"], "--shard-rows -1"),
        (["--shard-rows", "5"], "shards are Parquet"),
    ],
)
def test_impossible_settings_are_told_in_one_line(audio, tmp_path, run_embed, options, said):
    code, out, err = run_embed(audio, "-o", tmp_path / "x.npz", *options)
    assert (code, out, len(err)) == (2, [], 1)
    assert said in err[0]
    assert entries(tmp_path) == ["audio"]


def test_help_answers_at_once():
    start_seconds = time.monotonic()
    done = subprocess.run(
        [sys.executable, "-c", "from kerasrep.cli.embed import entry; entry()", "--help"],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0
    assert "AUDIO_OR_FOLDER" in done.stdout
    # The rule is half a second; a busy machine gets some more.
    assert time.monotonic() - start_seconds < 2


def test_quiet_prints_the_path_alone_and_the_log_tells_what_happened(tmp_path, capsys):
    rng = np.random.default_rng(0)
    soundfile.write(tmp_path / "a.wav", rng.normal(0, 0.1, (22_050, 2)), 22_050)
    (tmp_path / "b.wav").write_text("no audio")
    output = tmp_path / "x.npz"
    inputs = [str(tmp_path / "a.wav"), str(tmp_path / "b.wav")]
    assert command.run(embed.main, embed.PROG, [*inputs, "-o", str(output), "--quiet"]) == 1
    captured = capsys.readouterr()
    assert captured.out == f"{output}\n"
    assert captured.err.count("\n") == 1
    lines = [json.loads(line) for line in (tmp_path / "x.npz.log.jsonl").read_text().splitlines()]
    assert [line["event"] for line in lines] == ["started", "listed", "skipped", "written", "ended"]
    assert (lines[2]["path"], lines[3]["files"], lines[4]["ended"]) == (inputs[1], 1, "done")
