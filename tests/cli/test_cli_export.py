import numpy as np
import pytest

from kerasrep.cli import command, export
from kerasrep.embedding.embedder import load


def run_export(capsys, *arguments):
    code = command.run(export.main, export.PROG, list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def test_a_run_becomes_the_next_version_under_the_recipes_name(small_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported" / "small" / "1").mkdir(parents=True)
    code, out, err = run_export(capsys, small_run.run.root)
    assert (code, err) == (0, [])
    assert out[0] == "exported exported/small/2"
    assert "tensorflow_model_server" in "\n".join(out)
    assert "kerasrep-embed --model exported/small/2" in "\n".join(out)
    track = np.random.default_rng(0).normal(0, 0.1, 30_000)
    of_export, of_run = load("exported/small"), load(small_run.run.root)
    np.testing.assert_allclose(of_export.embed(track, 22_050), of_run.embed(track, 22_050), atol=1e-5)


def test_directory_and_name_can_be_chosen(small_run, tmp_path, capsys):
    code, out, _ = run_export(
        capsys, small_run.run.root, "--directory", tmp_path / "there", "--name", "other"
    )
    assert code == 0
    assert out[0] == f"exported {tmp_path}/there/other/1"
    assert (tmp_path / "there" / "other" / "1" / "saved_model.pb").is_file()


@pytest.mark.parametrize("name", ["", "a/b", "..", ".hidden", "x" * 101])
def test_a_name_that_is_no_folder_name_is_refused(small_run, tmp_path, capsys, name):
    code, out, err = run_export(capsys, small_run.run.root, "--directory", tmp_path, "--name", name)
    assert (code, out, len(err)) == (2, [], 1)
    assert "--name" in err[0]
    assert list(tmp_path.iterdir()) == []


def test_a_missing_run_is_refused(tmp_path, capsys):
    code, _, err = run_export(capsys, tmp_path / "none")
    assert (code, len(err)) == (2, 1)
    assert "no such run directory" in err[0]


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    code, _, err = run_export(capsys, tmp_path)
    assert (code, len(err)) == (1, 1)
    assert "is not a run directory" in err[0]
