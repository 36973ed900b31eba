import os
import platform
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import soundfile

import kerasrep
from kerasrep import api
from kerasrep.storage.run_directory import RunDirectory

ROOT = Path(__file__).parents[1]


def test_every_public_name_is_there_and_listed():
    for name in kerasrep.__all__:
        assert getattr(kerasrep, name) is not None
    assert dir(kerasrep) == sorted(kerasrep.__all__)


def test_the_citation_states_the_version_of_the_package():
    assert f"\nversion: {kerasrep.__version__}\n" in (ROOT / "CITATION.cff").read_text(encoding="utf-8")


def test_windows_is_told_no_in_one_line():
    code = "import sys; sys.platform = 'win32'; import kerasrep"
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    message = "ImportError: kerasrep runs on Linux and macOS; on Windows, install it in WSL 2"
    assert (result.returncode, result.stderr.splitlines()[-1]) == (1, message)


@pytest.mark.skipif(platform.machine() != "x86_64", reason="oneDNN is turned on for x86-64")
@pytest.mark.parametrize(("chosen", "expected"), [({}, "1"), ({"TF_ENABLE_ONEDNN_OPTS": "0"}, "0")])
def test_tensorflow_uses_onednn_unless_told_otherwise(chosen, expected):
    kept = {name: value for name, value in os.environ.items() if name != "TF_ENABLE_ONEDNN_OPTS"}
    code = "import kerasrep, os, sys; print(os.environ['TF_ENABLE_ONEDNN_OPTS'], 'tensorflow' in sys.modules)"
    found = subprocess.check_output([sys.executable, "-c", code], env=kept | chosen, text=True)
    assert found.split() == [expected, "False"]


def test_a_program_sees_no_message_of_tensorflow_unless_it_asks_for_them():
    kept = {name: value for name, value in os.environ.items() if name != "TF_CPP_MIN_LOG_LEVEL"}
    embeds = "import numpy, kerasrep; print(kerasrep.load().embed(numpy.ones(22050, 'f'), 22050).shape)"
    adds = "import kerasrep, tensorflow as tf; print((tf.constant(1) + 1).numpy())"
    for code, chosen, printed in (
        (embeds, {}, "(5888,)\n"),
        (adds, {"TF_CPP_MIN_LOG_LEVEL": "0"}, "2\n"),
    ):
        words, environment = [sys.executable, "-c", code], kept | chosen
        result = subprocess.run(words, cwd=ROOT, env=environment, capture_output=True, text=True, check=True)
        assert result.stdout == printed and (result.stderr == "") == (not chosen)


def test_tensorboard_starts_with_what_is_installed_beside_it():
    command = [sys.executable, "-W", "ignore", "-m", "tensorboard.main", "--version_tb"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0 and done.stdout.startswith("2."), done.stderr


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="has no attribute 'lod'"):
        kerasrep.lod  # noqa: B018


def test_recipes_are_read_through_the_package(write_yaml):
    recipe = kerasrep.read_recipe(write_yaml("strategy: ss-r\nsources: [tag]\n"), ["seed=3"])
    assert isinstance(recipe, kerasrep.Recipe)
    assert recipe.seed == 3
    with pytest.raises(kerasrep.KerasrepError, match="seed"):
        kerasrep.read_recipe(write_yaml("strategy: ss-r\nsources: [tag]\n"), ["seed=-3"])


def test_a_recipe_is_trained_exported_and_used_in_one_program(tmp_path, monkeypatch, write_yaml):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    audio = tmp_path / "audio"
    audio.mkdir()
    rng = np.random.default_rng(0)
    for number in range(16):
        soundfile.write(audio / f"{number}.wav", rng.normal(0, 0.1, (60_000, 2)), 22_050)
    rows = [f"{number}.wav,{'low' if number % 2 else 'high'}" for number in range(16)]
    (audio / "tags.csv").write_text("\n".join(["track,item", *rows]))
    recipe = kerasrep.read_recipe(
        write_yaml(
            f"""
            name: tiny
            strategy: ss-r
            sources: [tag]
            corpus: {{name: folder, root: {audio}, tables: {{tag: tags.csv}}, validation_fraction: 0.25}}
            targets: {{size: 2}}
            model: {{width: 0.125}}
            batches: {{size: 4, crops_per_visit: 1}}
            training: {{epochs: 1, tensorboard: scalars}}
            export: {{directory: {tmp_path / "exported"}}}
            """
        )
    )
    done = kerasrep.train(recipe, tmp_path / "run", progress=False)
    assert done.export == tmp_path / "exported" / "tiny" / "1"
    assert [row.source for row in done.summary.rows] == ["tag"]

    (audio / "broken.wav").write_bytes(b"no audio")
    found = kerasrep.embed(done.export, [audio / "3.wav", audio / "broken.wav"])
    assert found.paths == (audio / "3.wav",)
    assert [bad.path.name for bad in found.bad] == ["broken.wav"]
    expected = kerasrep.load(done.run.root).embed(*soundfile.read(audio / "3.wav", dtype="float32"))
    np.testing.assert_allclose(found.embeddings[0], expected, atol=1e-4)


@pytest.mark.slow
def test_resuming_without_a_folder_goes_on_with_the_latest_run(tmp_path, monkeypatch, tiny_recipe):
    monkeypatch.chdir(tmp_path)
    recipe = tiny_recipe("ss-r", training={"epochs": 1}, export={"directory": str(tmp_path / "exported")})
    with pytest.raises(kerasrep.KerasrepError, match="holds no run to resume"):
        kerasrep.train(recipe, resume=True, progress=False)
    assert not (tmp_path / "runs").exists()
    first = kerasrep.train(recipe, progress=False)
    longer = recipe.model_copy(update={"training": recipe.training.model_copy(update={"epochs": 2})})
    second = kerasrep.train(longer, resume=True, progress=False)
    assert second.run == first.run and second.export.name == "2"
    assert second.summary.epochs == 2


def test_a_training_that_is_refused_leaves_no_empty_run_directory(tmp_path):
    for name in ("empty", "begun"):
        run = RunDirectory(tmp_path / "runs" / name / "1")
        run.root.mkdir(parents=True)
        if name == "begun":
            run.log.touch()
        with pytest.raises(kerasrep.KerasrepError), api._removed_where_empty(run):
            raise kerasrep.KerasrepError("refused")
    assert [path.name for path in (tmp_path / "runs").iterdir()] == ["begun"]
