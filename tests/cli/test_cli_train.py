"""`kerasrep-train` on the tones: the whole way in one process, and every refusal."""

import contextlib
import io
import json
import re
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kerasrep.cli import command, train
from kerasrep.recipe import strict_yaml
from kerasrep.storage.run_directory import RunDirectory, read_arrays

TINY = {"sources": ["self", "tag"], "model": {"width": 0.0625}, "training": {"epochs": 1}}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    def assert_refused(self, code, message):
        """One line on standard error, and nothing but that line."""
        assert self.code == code, self.err
        assert re.fullmatch(rf"kerasrep-train: error: [^\n]*{message}[^\n]*\n", self.err), self.err


def run_train(where, *arguments):
    """Run the command in the folder `where`."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.chdir(where), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = command.run(train.main, train.PROG, [str(argument) for argument in arguments])
    return Outcome(code, out.getvalue(), err.getvalue())


@pytest.fixture(scope="module")
def recipe_path(tone_values, tmp_path_factory):
    path = tmp_path_factory.mktemp("recipes") / "tones.yaml"
    path.write_text(strict_yaml.dump(tone_values(**TINY)))
    return path


@pytest.fixture(scope="module")
def first(recipe_path, tmp_path_factory):
    """A folder in which the command ran once, and what it said; tests that go on take a copy."""
    folder = tmp_path_factory.mktemp("first")
    return folder, run_train(folder, recipe_path)


def the_run(folder):
    (root,) = (folder / "runs" / "tones").iterdir()
    return RunDirectory(root)


@pytest.fixture
def copy_of_first(first, tmp_path):
    shutil.copytree(first[0], tmp_path, dirs_exist_ok=True)
    return tmp_path


#: Beside the versions of an export.
SERVING_FILES = ["batching_parameters.txt", "card.json", "models.config"]


def test_a_batch_that_is_too_large_is_told_before_anything_is_decoded(recipe_path, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    outcome = run_train(tmp_path, recipe_path, "batches.size=64")
    outcome.assert_refused(2, r"batches\.size: 64 is more than the 32 training tracks; lower it")
    assert not list(tmp_path.rglob("*.tfrecord*")) and not (tmp_path / "runs").exists()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_it_trains_into_runs_and_exports_beside_them(first):
    folder, outcome = first
    assert outcome.code == 0, outcome.err
    assert sorted(path.name for path in folder.iterdir()) == ["exported", "runs"]
    run = the_run(folder)
    assert re.fullmatch(r"\d{8}-\d{6}", run.root.name)
    assert json.loads(run.card.read_text())["ended"] == "done"
    assert f"run directory: {run.root.relative_to(folder)}" in outcome.out
    assert names_in(folder / "exported" / "tones") == ["1", *SERVING_FILES]
    assert "Traceback" not in outcome.err


def test_its_export_embeds_as_the_runs_keras_file_does(first):
    import keras
    import tensorflow as tf

    folder, _ = first
    signatures = tf.saved_model.load(str(folder / "exported" / "tones" / "1")).signatures
    assert set(signatures) == {"serving_default", "embed_track"}
    waveform = np.random.default_rng(0).normal(0, 0.1, (2, 55_125, 2)).astype(np.float32)
    expected = keras.saving.load_model(the_run(folder).model)(waveform)
    found = signatures["serving_default"](waveform=tf.constant(waveform))
    embeddings = {name for name in found if not name.startswith("layer_")}
    assert embeddings == {"embedding", "embedding_self", "embedding_tag"}
    np.testing.assert_allclose(found["embedding"], expected["embedding"], atol=1e-5)


def test_it_prints_the_scores_and_what_to_do_next(first):
    folder, outcome = first
    run = the_run(folder)
    scores = json.loads(run.card.read_text())["scores"]["sources"]
    for source in ("self", "tag"):
        (row,) = re.findall(rf"^{source} +(\S+) +(\S+) +(\S+)", outcome.out, re.MULTILINE)
        for text, key in zip(row, ("before", "after", "mean_target"), strict=True):
            assert float(text) == pytest.approx(scores[source][key], abs=6e-4)
    assert re.search(r"^\d of 2 sources beat the baseline", outcome.out, re.MULTILINE)
    assert re.search(r"tensorboard --logdir runs$", outcome.out, re.MULTILINE)
    assert "kerasrep-embed --model exported/tones/1 AUDIO_OR_FOLDER" in outcome.out
    assert f"tensorflow_model_server --model_name=tones --model_base_path={folder}" in outcome.out


def test_a_second_start_in_the_same_run_directory_is_refused(first, recipe_path):
    folder, _ = first
    run = the_run(folder)
    before = run.card.read_bytes()
    outcome = run_train(folder, recipe_path, "--run-dir", run.root)
    outcome.assert_refused(1, "holds a run already; add --resume, or choose another --run-dir")
    assert run.card.read_bytes() == before


def test_resuming_a_finished_run_says_so_and_changes_nothing(first, recipe_path):
    folder, _ = first
    before = {path: path.stat().st_mtime_ns for path in folder.rglob("*")}
    outcome = run_train(folder, recipe_path, "--resume")
    assert (outcome.code, outcome.err) == (0, "")
    assert re.search(r"runs/tones/\S+: is complete; raise training\.epochs", outcome.out)
    assert {path: path.stat().st_mtime_ns for path in folder.rglob("*")} == before


def test_more_epochs_go_on_in_the_latest_run_and_export_the_next_version(copy_of_first, recipe_path):
    outcome = run_train(copy_of_first, recipe_path, "--resume", "training.epochs=2")
    assert outcome.code == 0, outcome.err
    run = the_run(copy_of_first)
    assert f"resuming {run.root.relative_to(copy_of_first)} after step 4 of 8" in outcome.out
    assert len(run.history.read_text().splitlines()) == 1 + 3  # header, before training, two epochs
    assert json.loads(str(read_arrays(run.last)["meta"]))["step"] == 8
    assert names_in(copy_of_first / "exported" / "tones") == ["1", "2", *SERVING_FILES]


def test_fewer_epochs_than_are_trained_are_refused(copy_of_first, recipe_path):
    run = the_run(copy_of_first)
    recipe = run.recipe.read_text()
    run.recipe.write_text(recipe.replace("epochs: 1\n", "epochs: 2\n", 1))
    meta = json.loads(str((arrays := read_arrays(run.last))["meta"]))
    np.savez(run.last, **(arrays | {"meta": np.asarray(json.dumps(meta | {"step": 8}))}))
    outcome = run_train(copy_of_first, recipe_path, "--resume", "export.name=other")
    outcome.assert_refused(2, "training.epochs: 1, but .* has trained 2; give that many or more")


def test_another_setting_is_refused_on_resume_and_the_run_stays_as_it_was(copy_of_first, recipe_path):
    run = the_run(copy_of_first)
    before = {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()}
    outcome = run_train(copy_of_first, recipe_path, "--resume", "training.learning_rate=0.5")
    outcome.assert_refused(2, r"training\.learning_rate: 0\.5, but the run in .* has 0\.001")
    assert {path: path.read_bytes() for path in run.root.rglob("*") if path.is_file()} == before


def test_resuming_without_any_run_is_refused(recipe_path, tmp_path):
    run_train(tmp_path, recipe_path, "--resume").assert_refused(1, "runs/tones: holds no run to resume")
    outcome = run_train(tmp_path, recipe_path, "--resume", "--run-dir", "nothing")
    outcome.assert_refused(1, "nothing: holds no run to resume; start one without --resume")
    assert list(tmp_path.iterdir()) == []


def test_a_run_directory_that_is_a_file_is_refused(recipe_path, tmp_path):
    (tmp_path / "taken").write_text("mine")
    outcome = run_train(tmp_path, recipe_path, "--run-dir", "taken")
    outcome.assert_refused(1, "taken: is a file; --run-dir takes a folder")
    assert (tmp_path / "taken").read_text() == "mine"


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_a_dry_run_prints_the_plan_and_writes_nothing(schedule, recipe_path, prepared_tones, tmp_path):
    arguments = ("strategy=ms-cr@2", f"training.schedule={schedule}", "training.epochs=10", "model.width=1.0")
    outcome = run_train(tmp_path, recipe_path, "--dry-run", *arguments)
    assert (outcome.code, outcome.err) == (0, "")
    assert "32 to train on, 8 for validation" in outcome.out
    assert re.search(r"steps: +4 an epoch, 40 in all", outcome.out)
    crops = {"joint": "1.0", "alternating": "1.5"}[schedule]  # a step of `self` has pairs
    assert re.search(
        rf"crops: +{crops} of 2.5 s per track and epoch, {float(crops) * 10:.0f} in all", outcome.out
    )
    assert re.search(r"devices: +CPU:0, float32", outcome.out)
    # Published counts, but for heads of 4 topics: conv1 shared, 563,632 - 848 in a branch.
    assert re.search(r"shared\D+848\b", outcome.out)
    assert re.search(rf"tag\D+{563_632 - 848 + 257 * 4:,}", outcome.out)
    assert re.search(rf"self\D+{563_632 - 848 + 66_178:,}", outcome.out)
    assert re.search(r"time: +about (\d+ h )?(\d+ min )?\d+ s in steps \(\d+\.\d{3} s each", outcome.out)
    assert list(tmp_path.iterdir()) == []


def test_a_dry_run_before_the_corpus_is_prepared_prepares_nothing(recipe_path, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    outcome = run_train(tmp_path, recipe_path, "--dry-run", "strategy=ss-r", "sources=[tag]")
    assert (outcome.code, outcome.err) == (0, "")
    assert "about 32 to train on (the corpus is not prepared yet)" in outcome.out
    megabytes = 40 * 3.5 * 22_050 * 4 / 1e6  # tracks of 3 to 4 s
    found = re.search(
        r"shards: +about (\d+\.\d) MB for 0\.0 hours of audio in \S+ \(\d+\.\d GB free\)", outcome.out
    )
    assert float(found.group(1)) == pytest.approx(megabytes, rel=0.01)
    assert list(tmp_path.iterdir()) == []
    outcome = run_train(tmp_path, recipe_path, "--dry-run", "batches.size=64")
    outcome.assert_refused(2, "batches.size: 64 is more than the 32 training tracks")


def test_a_corpus_of_broken_files_is_refused_and_leaves_nothing(recipe_path, tmp_path, monkeypatch):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path / "home"))
    (tmp_path / "broken").mkdir()
    for number in range(5):
        (tmp_path / "broken" / f"t{number}.wav").write_bytes(b"RIFF" + bytes(range(number, 200)))
    rows = "".join(f"t{number},{word}\n" for number, word in enumerate("abcab"))
    (tmp_path / "broken" / "tag.csv").write_text("track,item\n" + rows)
    overrides = (f"corpus.root={tmp_path / 'broken'}", "corpus.tables={tag: tag.csv}", "batches.size=2")
    outcome = run_train(tmp_path, recipe_path, *overrides)
    assert outcome.code == 1
    errors = [line for line in outcome.err.splitlines() if line.startswith("kerasrep-train: error: ")]
    assert len(errors) == 1
    assert re.search(r"none of its \d train tracks can be used; the first, .*t\d\.wav: ", errors[0])
    assert errors[0] == outcome.err.splitlines()[-1]
    assert "Traceback" not in outcome.err
    left = [path for path in (tmp_path / "home").rglob("*") if path.is_file() and path.suffix != ".lock"]
    assert left == []
    assert not (tmp_path / "runs").exists()
    assert not (tmp_path / "exported").exists()


def test_an_unknown_collection_is_refused_with_those_there_are(recipe_path, tmp_path):
    outcome = run_train(tmp_path, recipe_path, "corpus={name: demo, collections: [oneil]}")
    outcome.assert_refused(2, "collection.*'?oneil'?")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.epoch=3", "training.epoch.*training.epochs|epochs"),
        ("strategy=mss-rc", "mss-rc.*mss-cr"),
        ("sources=[tag, taag]", "taag.*tag"),
        ("batches.size=7", "batches.size"),
        ("export.name=a/b", "export.name"),
    ],
)
def test_a_setting_that_is_wrong_is_refused_before_anything_is_written(
    override, message, recipe_path, tmp_path
):
    run_train(tmp_path, recipe_path, override).assert_refused(2, f"(?:{message})")
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_refused_before_the_corpus_is_read(recipe_path, tmp_path):
    (tmp_path / "file").write_text("")
    for overrides in (("export.directory=file/exported",), ("--run-dir", Path("file") / "run")):
        outcome = run_train(tmp_path, recipe_path, *overrides, f"corpus.root={tmp_path / 'missing'}")
        outcome.assert_refused(1, "cannot write there")
