"""Training as a whole, on the tones: what it writes, how it stops, and that it goes on exactly."""

import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

from kerasrep.errors import DataError, RecipeError, RunError
from kerasrep.model.restore import restore_run
from kerasrep.recipe_file import write_recipe
from kerasrep.run_directory import PreparedDirectory, RunDirectory, read_arrays, write_arrays
from kerasrep.training.inputs import TrainingData
from kerasrep.training.train import train

TRAIN = (
    "import sys; from pathlib import Path; from kerasrep.cli.command import run;"
    "from kerasrep.recipe_file import read_recipe; from kerasrep.training.train import train;"
    "from kerasrep.run_directory import *;"
    "main = lambda a: (train(read_recipe(a[0]), PreparedDirectory(Path(a[1])), RunDirectory(Path(a[2])),"
    " resume=len(a) > 3), 0)[1];"
    "sys.exit(run(main, 'train'))"
)


def start(recipe_path, prepared, run, *flags):
    command = [sys.executable, "-c", TRAIN, recipe_path, prepared.root, run.root, *flags]
    return subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.05)


def quiet_train(recipe, prepared, root, **options):
    run = RunDirectory(root)
    return run, train(recipe, prepared, run, show_progress=False, say=lambda line: None, **options)


@pytest.fixture(scope="module")
def trained(tone_recipe, prepared_tones, tmp_path_factory):
    recipe = tone_recipe("ms-cr@4", training={"epochs": 12, "schedule": "joint", "learning_rate": 3e-3})
    run, summary = quiet_train(recipe, prepared_tones, tmp_path_factory.mktemp("trained") / "run")
    return recipe, run, summary


def test_training_learns_what_can_be_heard(trained):
    _, _, summary = trained
    rows = {row.source: row for row in summary.rows}
    assert rows["tag"].after < 0.7 * rows["tag"].mean_target
    assert rows["tag"].after < rows["tag"].before
    assert rows["tag"].agreement > 0.7


def test_a_run_leaves_everything_it_promises(trained):
    recipe, run, summary = trained
    for path in (run.recipe, run.prepared, run.scaler, run.last, run.best, run.picture, run.model):
        assert path.stat().st_size > 0
    card = json.loads(run.card.read_text())
    assert card["ended"] == "done"
    assert card["recipe"] == recipe.as_dict()
    assert card["scores"]["sources"]["tag"]["after"] == pytest.approx(summary.rows[1].after)
    assert card["steps"] == 12 * (32 // 8)
    lines = run.history.read_text().splitlines()
    assert len(lines) == 1 + 13  # header, before training, 12 epochs
    assert not list(run.root.rglob(".*"))


def test_the_best_state_is_kept_beside_the_last(trained):
    _, run, summary = trained
    meta = json.loads(str(read_arrays(run.last)["meta"]))
    losses = [row["validation_loss/mean"] for row in meta["history"]]
    assert meta["best_epoch"] == summary.best_epoch == int(np.argmin(losses[1:])) + 1
    network = restore_run(run.root).network
    assert network.sources == ("self", "tag", "bpm")


def test_tensorboard_has_scalars_images_graph_histograms_projector_and_hparams(trained):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    _, run, _ = trained
    events = EventAccumulator(str(run.tensorboard), size_guidance={"tensors": 0})
    events.Reload()
    tags = events.Tags()["tensors"]
    for source in ("self", "tag", "bpm"):
        for kind in ("train_loss", "validation_loss", "train_agreement", "validation_agreement"):
            assert f"{kind}/{source}" in tags
    assert {"learning_rate", "segments_per_second", "log_mel"} <= set(tags)
    assert len(events.Tensors("validation_loss/tag")) == 13
    histograms = [tag for tag in tags if "/kernel" in tag]
    assert "tag/tag_conv7/kernel" in histograms
    assert "shared/shared_conv1/kernel" in histograms
    assert len(histograms) == len(set(histograms))
    assert "_hparams_/session_start_info" in tags
    rows = (run.tensorboard / "embeddings.tsv").read_text().splitlines()
    labels = (run.tensorboard / "metadata.tsv").read_text().splitlines()
    assert len(rows) == len(labels) - 1 == 8
    assert len(rows[0].split("\t")) == 3 * 256
    assert "embeddings.tsv" in (run.tensorboard / "projector_config.pbtxt").read_text()


def test_the_keras_file_gives_the_embeddings_of_the_best_network(trained):
    import keras

    _, run, _ = trained
    waveform = np.random.default_rng(0).normal(0, 0.1, (2, 55_125, 2)).astype(np.float32)
    expected = restore_run(run.root).network.embedder(waveform)["embedding"].numpy()
    found = keras.saving.load_model(run.model)(waveform)["embedding"].numpy()
    np.testing.assert_allclose(found, expected, atol=1e-5)


def test_a_second_run_does_not_overwrite_the_first(trained, prepared_tones):
    recipe, run, _ = trained
    with pytest.raises(RunError, match="holds a run already; add --resume"):
        quiet_train(recipe, prepared_tones, run.root)


def test_resuming_with_another_setting_is_refused_and_named(trained, prepared_tones, tone_recipe):
    recipe, run, _ = trained
    other = recipe.model_copy(update={"model": recipe.model.model_copy(update={"dropout": 0.1})})
    with pytest.raises(RecipeError, match=r"model\.dropout: 0\.1, but the run in .* has 0\.5"):
        quiet_train(other, prepared_tones, run.root, resume=True)


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_more_epochs_can_be_added_and_equal_one_long_training(
    schedule, tone_recipe, prepared_tones, tmp_path
):
    def recipe(epochs):
        return tone_recipe(training={"epochs": epochs, "schedule": schedule})

    quiet_train(recipe(1), prepared_tones, tmp_path / "parts")
    parts, _ = quiet_train(recipe(2), prepared_tones, tmp_path / "parts", resume=True)
    whole, _ = quiet_train(recipe(2), prepared_tones, tmp_path / "whole")
    assert_same_state(parts, whole)


def assert_same_state(first: RunDirectory, second: RunDirectory):
    for path in ("last", "best"):
        one, other = read_arrays(getattr(first, path)), read_arrays(getattr(second, path))
        assert one.keys() == other.keys()
        for name in one:
            if name != "meta":  # has times
                np.testing.assert_array_equal(one[name], other[name], err_msg=f"{path}: {name}")


def test_kill_in_mid_training_then_resume_equals_an_uninterrupted_run(tone_recipe, prepared_tones, tmp_path):
    recipe = tone_recipe(training={"epochs": 8, "checkpoint_every_epochs": 3, "steps_per_call": 3})
    write_recipe(tmp_path / "tones.yaml", recipe)
    killed, whole = RunDirectory(tmp_path / "killed"), RunDirectory(tmp_path / "whole")
    process = start(tmp_path / "tones.yaml", prepared_tones, killed)
    wait_for(killed.last.exists, process)
    time.sleep(0.4)  # somewhere behind the checkpoint
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert json.loads(killed.card.read_text())["ended"] == "running"
    resumed = start(tmp_path / "tones.yaml", prepared_tones, killed, "--resume")
    assert resumed.wait() == 0, resumed.stderr.read()
    process = start(tmp_path / "tones.yaml", prepared_tones, whole)
    assert process.wait() == 0, process.stderr.read()
    assert_same_state(killed, whole)


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_saves_the_state_and_exits_with_its_code(
    number, code, tone_recipe, prepared_tones, tmp_path
):
    write_recipe(tmp_path / "tones.yaml", tone_recipe(training={"epochs": 5000}))
    run = RunDirectory(tmp_path / "run")
    process = start(tmp_path / "tones.yaml", prepared_tones, run)
    wait_for(run.best.exists, process)
    process.send_signal(number)
    assert process.wait(timeout=60) == code
    last_line = process.stderr.read().strip().splitlines()[-1]
    assert f"stopped by {signal.Signals(number).name} after step" in last_line
    assert "--resume" in last_line
    meta = json.loads(str(read_arrays(run.last)["meta"]))
    assert meta["step"] > 0
    assert json.loads(run.card.read_text())["ended"] == "interrupted"


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_two_replicas_equal_one_with_synchronised_batch_norm(schedule, tone_recipe, prepared_tones, tmp_path):
    def recipe(devices):
        return tone_recipe(
            "ms-cr@2",
            model={"width": 0.25, "dropout": 0.0},
            # A rate at which rounding cannot grow: Adam makes full steps of even the smallest gradients.
            training={"epochs": 1, "schedule": schedule, "learning_rate": 1e-7},
            distribution={"devices": devices, "batch_norm": "synchronised"},
        )

    one, _ = quiet_train(recipe(1), prepared_tones, tmp_path / "one")
    two, _ = quiet_train(recipe(2), prepared_tones, tmp_path / "two")
    assert json.loads(two.card.read_text())["execution"]["devices"] == ["CPU:0", "CPU:1"]
    first, second = read_arrays(one.last), read_arrays(two.last)
    for name in first:
        if name.endswith((".first_moment", ".statistics")):
            scale = np.abs(first[name]).max() + 1e-12
            np.testing.assert_allclose(second[name] / scale, first[name] / scale, atol=0.02, err_msg=name)


def test_averaged_statistics_train_on_two_replicas(tone_recipe, prepared_tones, tmp_path):
    recipe = tone_recipe("ms-sr@fc", training={"epochs": 1}, distribution={"devices": 2})
    run, summary = quiet_train(recipe, prepared_tones, tmp_path / "run")
    assert all(np.isfinite(row.after) for row in summary.rows)
    assert json.loads(run.card.read_text())["batch_norm_over_replicas"] == "averaged"


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_source_and_batch(
    tone_recipe, prepared_tones, tmp_path
):
    def recipe(epochs):
        return tone_recipe("ss-r", sources=["tag"], training={"epochs": epochs})

    run, _ = quiet_train(recipe(1), prepared_tones, tmp_path / "run")
    arrays = read_arrays(run.last)
    arrays["tag.weights"][5] = np.nan
    write_arrays(run.last, arrays)
    with pytest.raises(RunError, match=r"step 4: the loss of source 'tag' is not finite.*tracks t\d\d\.wav"):
        quiet_train(recipe(2), prepared_tones, run.root, resume=True)
    assert json.loads(run.card.read_text())["ended"].startswith("failed: RunError")


def test_a_batch_larger_than_the_training_set_is_refused(tone_recipe, prepared_tones, tmp_path):
    with pytest.raises(RecipeError, match=r"batches\.size: 64 is more than the 32 training tracks"):
        quiet_train(tone_recipe(batches={"size": 64}), prepared_tones, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_a_source_without_labels_is_refused_before_anything_is_written(tone_recipe, prepared_tones, tmp_path):
    with pytest.raises(DataError, match="no labels for 'lyrics'; it has self, bpm, tag"):
        quiet_train(tone_recipe(sources=["tag", "lyrics"]), prepared_tones, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_prepared_data_of_another_rate_are_refused(tone_recipe, prepared_tones):
    recipe = tone_recipe(audio={"sample_rate_hz": 16_000})
    with pytest.raises(DataError, match="shards are at 22050 Hz, the recipe asks for 16000"):
        TrainingData.open(recipe, PreparedDirectory(prepared_tones.root))


def test_a_shard_cut_short_is_reported_in_one_line(tone_recipe, prepared_tones, tmp_path):
    import shutil

    copy = PreparedDirectory(tmp_path / prepared_tones.root.name)
    shutil.copytree(prepared_tones.root, copy.root)
    shard = next(copy.root.glob("shard-*"))
    os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(DataError, match=rf"{shard.name}: has \d+ bytes instead of"):
        quiet_train(tone_recipe(), copy, tmp_path / "run")
