"""What `kerasrep-study` refuses before any work."""

import pytest

from kerasrep.cli.study import main
from kerasrep.errors import RecipeError, RunError

TEXT = """
recipe:
  training: {epochs: 1}
  tasks: [{name: octaves, kind: classification, table: HERE/octaves.csv, audio: HERE}]
design: {kind: random, runs: 9}
evaluation: {tasks: [octaves]}
baselines: []
"""


@pytest.fixture
def recipe(tmp_path, write_yaml):
    return str(write_yaml(TEXT.replace("HERE", str(tmp_path)), "small.yaml"))


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("evaluation.tasks=[octave]", "task 'octave' is not known; did you mean 'octaves'"),
        ("evaluation.probes=[svm]", r"^evaluation\.probes: there is no probe 'svm'"),
        ("evaluation.probes=[ridge]", r"^evaluation\.probes: none of them is for octaves"),
    ],
)
def test_a_dry_run_refuses_tasks_and_probes_that_are_not_there(recipe, override, words):
    with pytest.raises(RecipeError, match=words):
        main([recipe, "--dry-run", override])


def test_a_dry_run_shows_design_and_runs_and_writes_nothing(recipe, tmp_path, capsys):
    assert main([recipe, "--dry-run", "-o", str(tmp_path / "out")]) == 0
    out = capsys.readouterr().out
    assert "9 of 1,235 possible runs" in out
    assert (
        "note:    The model 'strategy × presence of each source' is not fitted: 14 runs for 13 terms." in out
    )
    assert not (tmp_path / "out").exists()


def test_tasks_are_looked_at_before_the_corpus_is_prepared(recipe, tmp_path):
    table = tmp_path / "octaves.csv"
    table.write_text("path,label\n" + "".join(f"{i}.wav,{'ab'[i % 2]}\n" for i in range(20)))
    with pytest.raises(RunError, match="octaves: 20 of 20 items have no audio"):
        main([recipe, "-o", str(tmp_path / "out")])
    assert not list((tmp_path / "out").glob("prepare.*"))
