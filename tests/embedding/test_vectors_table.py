"""Vectors that something else computed, as a representation."""

from pathlib import Path

import numpy as np
import pytest
import soundfile

from kerasrep.cli import command, evaluate
from kerasrep.embedding.files import BadFile
from kerasrep.embedding.representations import open_representation, open_representations
from kerasrep.errors import DataError, RecipeError

VECTORS = np.random.default_rng(0).normal(size=(3, 4)).astype(np.float32)


@pytest.fixture(params=["csv", "tsv", "npz"])
def table(request, tmp_path):
    path = tmp_path / f"mert.{request.param}"
    paths = ["a/x.wav", "b/x.wav", "/elsewhere/y.wav"]
    if request.param == "npz":
        np.savez(path, paths=paths, embeddings=VECTORS, columns=list("0123"))
    else:
        between = "," if request.param == "csv" else "\t"
        rows = [["0", "path", "1", "2", "3"]]
        rows += [
            [repr(float(v[0])), p, *(repr(float(x)) for x in v[1:])]
            for p, v in zip(paths, VECTORS, strict=True)
        ]
        path.write_text("\n".join(between.join(row) for row in rows) + "\n")
    return path


def test_a_file_has_the_row_whose_path_ends_its_own(table):
    found = open_representation(f"vectors:{table}")
    assert (found.name, found.dimension) == ("vectors:mert", 4)
    paths = [Path("music/b/x.wav"), Path("/elsewhere/y.wav"), Path("a/x.wav"), Path("x.wav"), Path("y.wav")]
    results = list(found.embed_files(paths))
    for result, row in zip(results[:3], (1, 2, 0), strict=True):
        np.testing.assert_array_equal(result.embedding, VECTORS[row])
    assert all(isinstance(result, BadFile) and "has no row in" in result.reason for result in results[3:])
    with pytest.raises(RecipeError, match="cannot embed another recording"):
        found.embed(np.zeros(100), 22_050)


def test_another_table_has_another_fingerprint(tmp_path):
    prints = set()
    for value in (1, 2):
        path = tmp_path / f"{value}.csv"
        path.write_text(f"path,x\na.wav,{value}\n")
        prints.add(open_representation(f"vectors:{path}").fingerprint)
    assert len(prints) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("file,x\na.wav,1\n", "must name a column 'path'"),
        ("path,x\na.wav,one\n", "line 2"),
        ("path,x\na.wav,1\na.wav,2\n", "'a.wav' stands twice"),
        ("path,x\n", "has no row"),
        ("path,x,y\na.wav,1\n", "line 2: has 2 fields"),
    ],
)
def test_a_table_that_cannot_be_is_refused_in_one_line(text, message, tmp_path):
    path = tmp_path / "t.csv"
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        list(open_representation(f"vectors:{path}").embed_files([Path("a.wav")]))


def test_a_table_that_is_missing_is_refused_when_it_is_named(tmp_path):
    with pytest.raises(DataError, match=r"t\.csv: cannot be read"):
        open_representations(["mfcc", f"vectors:{tmp_path / 't.csv'}"])


def test_neighbours_of_computed_vectors_are_evaluated(tmp_path, capsys):
    """Two classes that the vectors tell apart, in the table and on the page."""
    rng = np.random.default_rng(0)
    rows, labels = ["path,x,y"], ["path,label,group"]
    for number in range(16):
        soundfile.write(tmp_path / f"{number}.wav", rng.normal(0, 0.1, 22_050), 22_050)
        rows.append(f"{number}.wav,{number % 2 + rng.normal(0, 0.1)},{1 - number % 2}")
        labels.append(f"{number}.wav,{'ab'[number % 2]},g{number // 4}")
    (tmp_path / "mine.csv").write_text("\n".join(rows))
    (tmp_path / "labels.csv").write_text("\n".join(labels))
    task = f"{{name: same, kind: neighbours, table: {tmp_path / 'labels.csv'}}}"
    (tmp_path / "tasks.yaml").write_text(f"tasks: [{task}]\n")
    arguments = [f"vectors:{tmp_path / 'mine.csv'}", "mfcc", "--recipe", tmp_path / "tasks.yaml"]
    arguments += ["--tasks", "same", "-o", tmp_path / "out"]
    assert command.run(evaluate.main, evaluate.PROG, [str(argument) for argument in arguments]) == 0
    said = capsys.readouterr().out
    assert "vectors:mine" in said and "first neighbour" in said
    scores = (tmp_path / "out" / "scores.csv").read_text()
    assert "first_five" in scores
    assert (tmp_path / "out" / "report.html").is_file()
