"""The process of one run, on the tones: stages, what they leave, how it goes on; and a small whole study."""

import os
import signal
import subprocess
import sys

import numpy as np
import pytest
import soundfile

from kerasrep.embedding import identities
from kerasrep.embedding.cache import cached_embeddings
from kerasrep.embedding.representations import ModelRepresentation
from kerasrep.embedding.side_by_side import SideBySide, side_by_side
from kerasrep.errors import DataError
from kerasrep.experiments.job import Job, RunFolder
from kerasrep.experiments.worker import work
from kerasrep.recipe import strict_yaml
from kerasrep.recipe.file import write_recipe
from kerasrep.recipe.schema import Recipe
from kerasrep.storage.run_directory import read_json, write_json

TRAINING = {"epochs": 1, "tensorboard": "scalars"}


@pytest.fixture(scope="module")
def task(tones, tmp_path_factory):
    """Which octave a tone is in."""
    table = tmp_path_factory.mktemp("task") / "octaves.tsv"
    names = sorted(path.name for path in tones.glob("*.wav"))
    rows = [f"{name}\t{('low', 'mid', 'high', 'top')[int(name[1:3]) % 4]}" for name in names]
    table.write_text("\n".join(["path\tlabel", *rows]))
    return {"name": "octaves", "kind": "classification", "table": str(table), "audio": str(tones)}


@pytest.fixture(scope="module")
def give_job(task):
    """A function that writes the job of a run; its name is the folder's."""

    def give(root, kind, **values):
        evaluation = {"tasks": ["octaves"], "probes": ["linear_svm"], "folds": 2}
        values = {"evaluation": evaluation, "own_tasks": [task], "key": f"key of {root.name}"} | values
        job = Job.model_validate({"name": root.name, "kind": kind} | values)
        write_json(RunFolder(root).job, job.model_dump(mode="json"))
        return RunFolder(root)

    return give


@pytest.fixture(scope="module")
def runs(tone_values, give_job, tmp_path_factory):
    """Two single-source runs that were made, one of them exported."""
    root = tmp_path_factory.mktemp("runs")
    for source in ("tag", "bpm"):
        folder = give_job(root / source, "train", export=source == "tag")
        values = tone_values("ss-r", sources=[source], model={"width": 0.125}, training=TRAINING)
        write_recipe(folder.recipe, Recipe.model_validate(values))
        work(folder)
    return root


def test_a_run_leaves_marks_scores_and_what_it_took(runs):
    folder = RunFolder(runs / "tag")
    assert set(folder.seconds()) == {"train", "export", "embed", "evaluate"}
    assert len(list(folder.exports.glob("*/1/saved_model.pb"))) == 1
    assert not RunFolder(runs / "bpm").exports.exists()
    found = read_json(folder.scores)
    assert (found["key"], found["dimension"]) == ("key of tag", 512)
    assert found["steps"] == found["updates_a_source"] > 0
    score = found["tasks"]["octaves"]
    assert (score["metric"], score["probe"], score["n_items"]) == ("accuracy", "linear_svm", 40)
    assert score["low"] <= score["score"] <= score["high"]
    assert read_json(folder.training / "card.json")["ended"] == "done"
    assert not (folder.training / "tensorboard" / "validation" / "embeddings.tsv").exists()


def test_what_is_finished_is_not_done_again(runs):
    folder = RunFolder(runs / "tag")
    before = {path: path.stat().st_mtime_ns for path in folder.training.rglob("*") if path.is_file()}
    scores = read_json(folder.scores)["tasks"]
    folder.scores.unlink()
    work(folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert read_json(folder.scores)["tasks"] == scores


def test_a_concatenation_has_all_means_before_all_deviations_and_trains_nothing(runs, tones, give_job):
    folder = give_job(runs / "both", "concatenate", parts=("tag", "bpm"))
    work(folder)
    assert not folder.training.exists()
    found, tag, bpm = (read_json(RunFolder(runs / name).scores) for name in ("both", "tag", "bpm"))
    assert found["dimension"] == 1024
    for name in ("parameters", "steps", "segments"):
        assert found[name] == tag[name] + bpm[name]
    assert found["updates_a_source"] == pytest.approx((tag["updates_a_source"] + bpm["updates_a_source"]) / 2)
    paths = sorted(tones.glob("*.wav"))[:3]
    parts = [ModelRepresentation(RunFolder(runs / name).training) for name in ("tag", "bpm")]
    matrix, rows, bad = cached_embeddings(SideBySide(parts, "both"), paths, progress=False)
    assert (rows.tolist(), bad) == ([0, 1, 2], [])
    one, other = (cached_embeddings(part, paths, progress=False)[0] for part in parts)
    expected = np.concatenate([one[:, :256], other[:, :256], one[:, 256:], other[:, 256:]], axis=1)
    np.testing.assert_array_equal(matrix, expected)


def test_files_that_a_part_cannot_use_are_bad_with_its_reason(runs, tones, tmp_path):
    broken = tmp_path / "broken.wav"
    broken.write_bytes(b"RIFF")
    good = min(tones.glob("*.wav"))
    parts = [ModelRepresentation(RunFolder(runs / name).training) for name in ("tag", "bpm")]
    both = SideBySide(parts, "both")
    matrix, rows, bad = cached_embeddings(both, [broken, good], progress=False)
    assert (matrix.shape, rows.tolist(), len(bad)) == ((1, 1024), [1], 1)
    assert "broken.wav" in bad[0].reason
    samples, rate_hz = soundfile.read(good, dtype="float32")
    np.testing.assert_allclose(both.embed(samples, rate_hz), matrix[0], rtol=1e-4, atol=1e-5)


def test_side_by_side_keeps_leading_dimensions():
    one, other = np.arange(4.0, dtype=np.float32), np.arange(10.0, 16.0, dtype=np.float32)
    assert side_by_side([one, other]).tolist() == [0, 1, 10, 11, 12, 2, 3, 13, 14, 15]
    assert side_by_side([one[None, None], other[None, None]]).shape == (1, 1, 10)


def test_the_untrained_baseline_has_the_network_of_the_run_it_refers_to(runs, give_job):
    folder = give_job(runs / "random", "baseline", representation="random:3", parts=("tag",))
    work(folder)
    assert read_json(folder.scores)["dimension"] == 512


def test_a_check_tells_what_tasks_lack_and_writes_no_scores(runs, give_job, task, tmp_path):
    folder = give_job(runs / "check", "check")
    work(folder)
    assert not folder.scores.exists()
    give_job(runs / "check", "check", own_tasks=[dict(task, audio=str(tmp_path))])
    with pytest.raises(DataError, match="octaves: 40 of 40 items have no audio; the first"):
        work(folder)


def test_a_check_finds_what_tells_copies_so_that_no_run_decodes_for_it(
    runs, give_job, task, tones, tmp_path, monkeypatch
):
    monkeypatch.setenv("KERASREP_HOME", str(tmp_path))
    work(give_job(runs / "check again", "check"))
    monkeypatch.setattr(identities, "_identity", None)  # would raise if anything were decoded
    found, rows = identities.cached_identities(sorted(tones.glob("*.wav")), progress=False)
    assert len(found) == len(rows) == 40


def test_a_training_that_diverged_begins_anew_and_one_that_was_cut_short_goes_on(runs):
    folder = RunFolder(runs / "bpm")
    card = read_json(folder.training / "card.json")
    history = (folder.training / "history.csv").read_bytes()
    (folder.root / "done" / "train.json").unlink()
    for ended in ("interrupted", "failed: StorageError: the disk is full"):
        write_json(folder.training / "card.json", card | {"ended": ended})
        work(folder)
        assert (folder.training / "history.csv").read_bytes() == history  # nothing was left to train
        (folder.root / "done" / "train.json").unlink()
    (folder.training / "here before").touch()
    write_json(folder.training / "card.json", card | {"ended": "failed: RunError: not finite"})
    work(folder)
    assert not (folder.training / "here before").exists()


@pytest.mark.slow
def test_a_study_that_is_killed_goes_on_and_ends_with_a_report(tone_values, task, tmp_path):
    """3 single-source runs, 4 sets of sources under 2 strategies, 2 baselines; killed after the first run."""
    base = tone_values("ms-cr@2", model={"width": 0.125}, training=TRAINING)
    base = {key: value for key, value in base.items() if key not in {"name", "strategy", "sources", "seed"}}
    study = {
        "recipe": base | {"tasks": [task]},
        "design": {"kind": "full", "sources": ["self", "tag", "bpm"], "strategies": ["mss-cr", "ms-sr@fc"]},
        "evaluation": {"tasks": ["octaves"], "probes": ["linear_svm"], "folds": 2},
        "export": False,
    }
    path, out = tmp_path / "small.yaml", tmp_path / "out"
    path.write_text(strict_yaml.dump(study))
    code = "import sys; from kerasrep.cli.study import entry; sys.exit(entry())"
    command = [sys.executable, "-c", code, str(path), "-o", str(out)]
    environment = os.environ | {"CUDA_VISIBLE_DEVICES": ""}
    first = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
    for line in first.stdout:
        if "1 of 13 runs done" in line:
            break
    first.kill()
    assert first.wait() == -signal.SIGKILL
    first.stdout.close()
    done = {path: path.stat().st_mtime_ns for path in out.glob("runs/*/scores.json")}
    assert done
    second = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert second.returncode == 0, second.stdout + second.stderr
    assert "13 of 13 runs done, 0 running, 0 failed" in second.stdout
    assert {path: path.stat().st_mtime_ns for path in done} == done
    assert "Scores by strategy" in (out / "report.html").read_text()
    third = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert "13 runs, 13 done already" in third.stdout
