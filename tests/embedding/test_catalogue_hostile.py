"""The command on a folder of hostile files, in a process of its own: no crash, no hang, every file told."""

import csv
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hostile_audio import BAD, GOOD, KINDS, PASSED, make_hostile, remove_hostile

from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.embedding.catalogue.writing import path_text

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 120


@pytest.fixture
def hostile(tmp_path):
    folder = tmp_path / "hostile"
    expected = make_hostile(folder)
    yield folder, expected
    remove_hostile(folder)


def command(*arguments, cwd):
    code = "import sys\nfrom kerasrep.cli.embed import entry\nsys.exit(entry())"
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"},
        cwd=cwd,
        capture_output=True,
        check=False,
        timeout=LIMIT_SECONDS,
    )


def test_every_hostile_file_is_embedded_or_told_and_none_ends_the_work(hostile, tmp_path, small_export):
    folder, expected = hostile
    assert len(KINDS) >= 100
    done = command(".", "-o", tmp_path / "x.parquet", "--model", small_export, cwd=folder)
    assert done.returncode == 1, done.stderr.decode()
    table = read_embeddings(tmp_path / "x.parquet")  # finite, or it is refused
    with (tmp_path / "x.parquet.skipped.csv").open(encoding="utf-8", newline="") as file:
        skipped = {row["path"]: row["reason"] for row in csv.DictReader(file)}
    assert len(set(table.paths)) == len(table.paths)
    assert not set(table.paths) & set(skipped)
    found = dict.fromkeys(table.paths, GOOD) | dict.fromkeys(skipped, BAD)
    for name, outcome in expected.items():
        mine = found.get(path_text(Path(name)), PASSED)
        assert mine == outcome or (outcome == "either" and mine != PASSED), (name, skipped.get(name))
    # What lies deeper than a path may be long is told once, and nothing else is there.
    others = set(found) - {path_text(Path(name)) for name in expected}
    assert len(others) == 1 and "File name too long" in skipped[others.pop()]

    lines = done.stderr.decode().splitlines()  # neither libsndfile's nor TensorFlow's own words
    words = tuple(f"kerasrep-embed: {word}: " for word in ("skipped", "note", "passed over"))
    assert all(line.startswith(words) and line.isprintable() for line in lines)
    assert "kerasrep-embed: passed over: 1 link to a folder" in lines
    assert str(tmp_path / "x.parquet.skipped.csv") in lines[-1]


def test_what_is_heard_of_strange_files_is_what_is_heard_of_plain_ones(hostile, tmp_path, small_model):
    import soundfile

    folder, _ = hostile
    soundfile.write(folder / "plain.wav", soundfile.read(folder / "mp3-inside.wav")[0], 22_050, "FLOAT")
    names = ["mp3-inside.wav", "plain.wav", "UPPER.WAV", "wav-inside.mp3", "two\nlines.wav", "long.rf64"]

    vectors = {name: small_model.embed_file(folder / name) for name in names}
    np.testing.assert_allclose(vectors["mp3-inside.wav"], vectors["plain.wav"], atol=1e-5)
    for name in names[3:]:
        np.testing.assert_array_equal(vectors[name], vectors["UPPER.WAV"])
