import json
import shutil

import numpy as np
import pytest

from kerasrep.cli import command, export
from kerasrep.embedding.embedder import load
from kerasrep.embedding.representations import model_fingerprint
from kerasrep.storage.export_directory import read_card
from kerasrep.storage.run_directory import RunDirectory, write_json


def run_export(capsys, *arguments):
    code = command.run(export.main, export.PROG, list(map(str, arguments)))
    captured = capsys.readouterr()
    return code, captured.out.splitlines(), captured.err.splitlines()


def test_a_run_becomes_the_next_version_under_the_recipes_name(plain_run, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "exported" / "small" / "1").mkdir(parents=True)
    code, out, err = run_export(capsys, plain_run.run.root)
    assert (code, err) == (0, [])
    assert out[0] == "exported exported/small/2"
    assert "tensorflow_model_server" in "\n".join(out)
    assert "kerasrep-embed --model exported/small/2" in "\n".join(out)
    track = np.random.default_rng(0).normal(0, 0.1, 30_000)
    of_export, of_run = load("exported/small"), load(plain_run.run.root)
    np.testing.assert_allclose(of_export.embed(track, 22_050), of_run.embed(track, 22_050), atol=1e-5)


def test_directory_and_name_can_be_chosen(plain_run, tmp_path, capsys):
    code, out, _ = run_export(
        capsys, plain_run.run.root, "--directory", tmp_path / "there", "--name", "other"
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


@pytest.mark.parametrize("option", ["--layers", "--default-layers"])
@pytest.mark.parametrize("layers", ["", "conv9"])
def test_layers_that_there_are_not_are_refused_before_the_run_is_read(tmp_path, capsys, option, layers):
    code, out, err = run_export(capsys, tmp_path, option, layers)
    assert (code, out, len(err)) == (2, [], 1)
    assert f"layers '{layers}': give last, all, or some of" in err[0]


def test_a_missing_run_is_refused(tmp_path, capsys):
    code, _, err = run_export(capsys, tmp_path / "none")
    assert (code, len(err)) == (2, 1)
    assert "no such run directory" in err[0]


def test_a_folder_that_is_no_run_is_refused(tmp_path, capsys):
    code, _, err = run_export(capsys, tmp_path)
    assert (code, len(err)) == (1, 1)
    assert "is not a run directory" in err[0]


@pytest.fixture
def run_with_card(small_run, tmp_path):
    run = RunDirectory(shutil.copytree(small_run.run.root, tmp_path / "run"))
    write_json(run.card, {"written": "today"})
    return run


def write_scores(path, *models):
    probe = {"probe": "logistic", "mean": 0.5, "low": 0.4, "high": 0.6}
    evaluation = {"task": "t", "metric": "accuracy", "n_items": 9, "probes": [probe]}
    evaluations = [evaluation | {"representation": f"name {number}"} for number in range(len(models))]
    judged = {f"name {number}": model_fingerprint(model) for number, model in enumerate(models)}
    write_json(path, {"provenance": {"representations": judged}, "evaluations": evaluations})
    return path


def test_scores_of_the_run_or_of_an_export_of_it_go_into_the_card(
    run_with_card, small_export, tmp_path, capsys
):
    scores, place = tmp_path / "scores.json", ("--directory", tmp_path / "exported")
    write_scores(scores, small_export, run_with_card.root)
    formats = "savedmodel,keras"
    code, _, err = run_export(capsys, run_with_card.root, *place, "--scores", scores, "--format", formats)
    assert (code, err) == (0, [])
    version = tmp_path / "exported" / "small" / "1"
    assert set(read_card(version).scores["downstream"]["t"]["scores"]) == {"name 0", "name 1"}
    beside = version.parent / "runtimes" / "1" / "model.keras"
    for model in (version, beside, run_with_card.model):
        export._check_scores(write_scores(scores, model), run_with_card, [version.parent])


@pytest.mark.parametrize("exported", [True, False])
def test_scores_of_other_models_alone_are_refused(
    run_with_card, make_run, small_export, tmp_path, capsys, exported
):
    """Also those of an export that lies where this run's would, made of a run with another card."""
    directory = tmp_path / "exported"
    if exported:
        other = shutil.copytree(small_export, directory / "small" / "1")
    else:
        other = make_run("ss-r", ("tag",)).run.root
    scores = write_scores(tmp_path / "scores.json", other)
    code, out, err = run_export(capsys, run_with_card.root, "--directory", directory, "--scores", scores)
    assert (code, out, len(err)) == (1, [], 1)
    assert f"holds no scores of {run_with_card.root}" in err[0]
    assert not (directory / "small" / "2").exists() and directory.exists() == exported


def test_scores_that_do_not_say_of_what_are_refused(small_run, tmp_path, capsys):
    scores = write_scores(tmp_path / "scores.json", small_run.run.root)
    write_json(scores, {"evaluations": json.loads(scores.read_text())["evaluations"]})
    code, out, err = run_export(capsys, small_run.run.root, "--directory", tmp_path / "x", "--scores", scores)
    assert (code, out, len(err)) == (1, [], 1)
    assert "is not the scores.json of kerasrep-evaluate" in err[0]
