"""Training as a whole, on the tones: what it writes, how it stops, and that it goes on exactly."""

import contextlib
import csv
import dataclasses
import functools
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import yaml

from kerasrep.api import train_prepared
from kerasrep.data.batches import TrainingBatches
from kerasrep.data.recordings import read_identities
from kerasrep.data.schedule import Schedule
from kerasrep.data.shards import load_index
from kerasrep.errors import DataError, RecipeError, RunError
from kerasrep.model.restore import restore_run
from kerasrep.model.strategies import Scaler, network_of
from kerasrep.recipe.augment import AugmentSettings
from kerasrep.recipe.file import write_recipe
from kerasrep.storage.run_directory import PreparedDirectory, RunDirectory, read_arrays, write_arrays
from kerasrep.training.card import _sessions_before
from kerasrep.training.devices import choose_execution
from kerasrep.training.inputs import TrainingData, steps_of_tracks
from kerasrep.training.loop import MultiStep, row_length
from kerasrep.training.step import Step
from kerasrep.training.tensorboard import Board
from kerasrep.training.vectors import GroupLayout, GroupState

TRAIN = (
    "import sys; from pathlib import Path; from kerasrep.cli.command import run;"
    "from kerasrep.recipe.file import read_recipe; from kerasrep.api import train_prepared;"
    "from kerasrep.storage.run_directory import *;"
    "main = lambda a: (train_prepared(read_recipe(a[0], a[3:]), PreparedDirectory(Path(a[1])),"
    " RunDirectory(Path(a[2]))), 0)[1];"
    "sys.exit(run(main, 'train'))"
)

SESSION = ("started", "written", "ended", "steps", "peak_memory_mib")


def start(recipe_path, prepared, run, *overrides):
    command = [sys.executable, "-c", TRAIN, recipe_path, prepared.root, run.root, *overrides]
    return subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)


def wait_for(condition, process, seconds=120):
    end = time.monotonic() + seconds
    while not condition():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end, "waited too long"
        time.sleep(0.01)


def quiet_train(recipe, prepared, root, **options):
    run = RunDirectory(root)
    return run, train_prepared(recipe, prepared, run, show_progress=False, say=lambda line: None, **options)


@pytest.fixture(scope="module")
def trained(tone_recipe, prepared_tones, tmp_path_factory):
    recipe = tone_recipe(
        "ms-cr@6",
        model={"width": 0.125},
        training={"epochs": 12, "schedule": "joint", "learning_rate": 3e-3, "tensorboard": "full"},
    )
    run, summary = quiet_train(recipe, prepared_tones, tmp_path_factory.mktemp("trained") / "run")
    return recipe, run, summary


def test_training_learns_what_can_be_heard(trained):
    _, _, summary = trained
    rows = {row.source: row for row in summary.rows}
    assert rows["tag"].after < 0.7 * rows["tag"].mean_target
    assert rows["tag"].after < rows["tag"].before
    assert rows["tag"].accuracy > 0.7


def test_a_run_leaves_everything_it_promises(trained):
    recipe, run, summary = trained
    for path in (run.recipe, run.prepared, run.scaler, run.last, run.best, run.picture, run.model):
        assert path.stat().st_size > 0
    prepared = PreparedDirectory(Path(json.loads(run.prepared.read_text())["root"]))
    of_training = read_identities(prepared.identities).take(load_index(prepared).rows("train"))
    assert len(of_training) == 32
    assert read_identities(run.identities).digests.tolist() == of_training.digests.tolist()
    card = json.loads(run.card.read_text())
    assert card["ended"] == "done"
    assert card["sessions"] == [{key: card[key] for key in SESSION}]
    assert card["peak_memory_mib"] > 100
    assert card["recipe"] == recipe.as_dict()
    assert card["scores"]["sources"]["tag"]["after"] == pytest.approx(summary.rows[1].after)
    assert card["steps"] == 12 * (32 // 8)
    lines = run.history.read_text().splitlines()
    assert len(lines) == 1 + 13  # header, before training, 12 epochs
    events = [json.loads(line) for line in run.log.read_text().splitlines()]
    assert [events[0]["event"], events[-1]["event"], events[-1]["ended"]] == ["started", "ended", "done"]
    epochs = [line for line in events if line["event"] == "epoch"]
    assert [line["epoch"] for line in epochs] == list(range(13))
    rows = list(csv.DictReader(lines))
    assert epochs[-1]["validation_loss/tag"] == pytest.approx(float(rows[-1]["validation_loss/tag"]))
    assert not list(run.root.rglob(".*"))


def test_the_best_state_is_kept_beside_the_last(trained):
    _, run, summary = trained
    meta = json.loads(str(read_arrays(run.last)["meta"]))
    losses = [row["validation_loss/mean"] for row in meta["history"]]
    assert meta["best"]["all"]["epoch"] == int(np.argmin(losses[1:])) + 1
    assert {row.best_epoch for row in summary.rows} == {meta["best"]["all"]["epoch"]}
    network = restore_run(run.root).network
    assert network.sources == ("self", "tag", "bpm")


@pytest.fixture(scope="module")
def boards(trained):
    """What TensorBoard reads of both folders of a run."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = trained[1].tensorboard
    return {
        part: EventAccumulator(str(folder / part), size_guidance={"tensors": 0}).Reload()
        for part in ("training", "validation")
    }


def test_tensorboard_shows_training_and_validation_in_one_chart_the_losses_first(trained, boards):
    history = list(csv.DictReader(trained[1].history.read_text().splitlines()))
    charts = {part: events.Tags()["tensors"] for part, events in boards.items()}
    for source in ("self", "tag", "bpm"):
        for kind in ("loss", "top_1_accuracy"):
            assert all(f"{kind}/{source}" in tags for tags in charts.values())
    columns = {"training": "train_loss/tag", "validation": "validation_loss/tag"}
    for (part, column), points in zip(columns.items(), (12, 13), strict=True):
        found = boards[part].Tensors("loss/tag")
        rows = [row for row in history if row[column]]
        assert [event.step for event in found] == [int(row["step"]) for row in rows]
        values = [float(tf_value(event)) for event in found]
        np.testing.assert_allclose(values, [float(row[column]) for row in rows], rtol=1e-5)
        assert len(values) == points
    groups = {tag.split("/")[0] for tags in charts.values() for tag in tags if not tag.startswith("_")}
    assert min(groups - {"graph"}) == "loss" and not groups & {"epoch", "epochs"}
    for part, events in boards.items():
        for tag in charts[part]:
            if tag.startswith(("loss", "top_1", "progress", "sound")):
                assert events.SummaryMetadata(tag).summary_description, tag


def tf_value(event):
    from tensorboard.util.tensor_util import make_ndarray

    return make_ndarray(event.tensor_proto)


def test_tensorboard_shows_the_recipe_log_mels_and_lets_them_be_heard(trained, boards):
    import soundfile

    recipe, _, _ = trained
    (event,) = boards["training"].Tensors("recipe")
    text = tf_value(event).item().decode()
    lines = "\n".join(line.removeprefix("    ") for line in text.splitlines())
    assert yaml.safe_load(lines)["training"]["epochs"] == recipe.training.epochs
    (event,) = boards["validation"].Tensors("sound/log_mel")
    width, height, *pictures = tf_value(event).tolist()
    assert len(pictures) == 4 and int(width) > 400 and int(height) > 300
    assert all(picture.startswith(b"\x89PNG") for picture in pictures)
    assert len(set(pictures)) == 4
    (event,) = boards["validation"].Tensors("sound/crop")
    sounds = [content for content, _ in tf_value(event).reshape(-1, 2)]
    for content in sounds:
        samples, rate_hz = soundfile.read(io.BytesIO(content))
        assert (samples.shape, rate_hz) == ((55_125, 2), 22_050)
        assert np.abs(samples).max() > 0.01
    described = boards["validation"].SummaryMetadata("sound/crop").summary_description
    assert len(re.findall(r"^\d: \S+", described, re.MULTILINE)) == 4


def test_tensorboard_lets_crops_be_compared_before_and_after_augmentation(trained, prepared_tones, tmp_path):
    import soundfile
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    recipe, run, _ = trained
    changed = recipe.model_copy(
        update={"augment": AugmentSettings(gain_db=(-6.0206, -6.0206), swap=1.0, equaliser=1.0)}
    )
    index, board = load_index(prepared_tones), Board(tmp_path)
    rows = index.rows("validation")
    board.crops(restore_run(run.root).network, changed, index, rows, prepared_tones.tracks)
    board.close()
    events = EventAccumulator(str(tmp_path / "validation"), size_guidance={"tensors": 0}).Reload()
    heard = {}
    for tag in ("sound/crop", "sound/crop_augmented"):
        contents = [content for content, _ in tf_value(events.Tensors(tag)[0]).reshape(-1, 2)]
        heard[tag] = np.stack([soundfile.read(io.BytesIO(content))[0] for content in contents])
    before, after = heard.values()
    np.testing.assert_allclose(after, before[..., ::-1] / 2, atol=2 / 32768)  # half as loud, channels swapped
    seen = [tf_value(events.Tensors(tag)[0])[2:] for tag in ("sound/log_mel", "sound/log_mel_augmented")]
    assert len(seen[1]) == 4 and not set(seen[0]) & set(seen[1])
    described = events.SummaryMetadata("sound/crop_augmented").summary_description
    assert "gain, swap, equaliser" in described and "equaliser can be seen, not heard" in described


def test_tensorboard_has_graph_histograms_projector_and_hparams(trained, boards):
    from tensorboard.plugins.hparams import plugin_data_pb2

    recipe, run, _ = trained
    tags = boards["training"].Tags()["tensors"]
    assert boards["training"].Tags()["graph"]
    histograms = [tag for tag in tags if "/kernel" in tag]
    assert "weights/tag/tag_conv7/kernel" in histograms
    assert "weights/shared/shared_conv1/kernel" in histograms
    assert len(histograms) == len(set(histograms))
    buckets = tf_value(boards["training"].Tensors("weights/shared/shared_conv1/kernel")[-1])
    assert buckets.shape == (30, 3) and buckets[:, 2].sum() == 5 * 5 * 2 * 2  # from, to, how many values
    content = boards["validation"].PluginTagToContent("hparams")["_hparams_/session_start_info"]
    start = plugin_data_pb2.HParamsPluginData.FromString(content).session_start_info
    assert start.group_name == f"{recipe.name} {run.root.name}"
    assert start.hparams["training.learning_rate"].number_value == pytest.approx(3e-3)
    folder = run.tensorboard / "validation"
    rows = (folder / "embeddings.tsv").read_text().splitlines()
    labels = (folder / "metadata.tsv").read_text().splitlines()
    assert len(rows) == len(labels) - 1 == 8
    assert len(rows[0].split("\t")) == 3 * 256
    assert labels[0].split("\t") == ["track_id", "label", "artist", "title", "tag target", "bpm target"]
    config = (folder / "projector_config.pbtxt").read_text()
    assert "embeddings.tsv" in config and "thumbnails.png" in config


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


def sessions_of(run):
    return [(one["ended"], one["steps"]) for one in json.loads(run.card.read_text())["sessions"]]


@pytest.mark.parametrize(
    "content", ["{", "[]", '{"sessions": 3}', '{"sittings": [1, {"ended": "unfinished"}]}']
)
def test_a_card_that_somebody_spoilt_does_not_stop_a_run(tmp_path, content):
    (tmp_path / "card.json").write_text(content)
    assert _sessions_before(tmp_path / "card.json") == ([{"ended": "killed"}] if "{" in content[5:] else [])


EPOCHS, EPOCH_STEPS = 4, 4


KINDS = ("alternating", "augmented", "joint", "two replicas", "augmented joint")
QUICK_KINDS = KINDS[:2]

CONTRAST = {"size": 4, "kinds": {"self": "contrast"}}

#: A residual trunk by contrast, with every change of crops and everything that an optimiser can do.
AUGMENTED = {
    "targets": {"kinds": {"self": "contrast"}},
    "model": {"trunk": "residual", "width": 0.0625},
    "augment": {
        "gain_db": [-15, 6],
        **dict.fromkeys(("mix", "noise", "swap", "mono", "equaliser", "band_limit"), 0.4),
        "masks": 1,
        "alike": ["mono", "masks"],
        "leave_out": {"tag": ["gain"]},
    },
}
OPTIMISED = {
    "optimizer": "adamw",
    "weight_decay": 1e-4,
    "warmup_steps": 3,
    "clip_norm": 1.0,
    "average": 0.9,
    "source_weights": {"self": 0.5},
}


def exact_recipe(tiny_recipe, kind, epochs=EPOCHS):
    """Saves every second epoch; a call makes 3 of the 4 steps of an epoch, so that the first ends within."""
    training = {"epochs": epochs, "checkpoint_every_epochs": 2, "steps_per_call": 3}
    if kind == "two replicas":
        return tiny_recipe("ss-r", training=training, distribution={"devices": 2})
    if kind.startswith("augmented"):
        training |= OPTIMISED | {"schedule": "joint" if "joint" in kind else "alternating"}
        return tiny_recipe("ms-sr@fc", training=training, **AUGMENTED)
    return tiny_recipe(training=training | {"schedule": kind})


@pytest.fixture(scope="module")
def whole(tiny_recipe, prepared_tones, tmp_path_factory):
    """A function that gives the run of a kind that nothing interrupted."""
    root = tmp_path_factory.mktemp("whole")

    @functools.cache
    def make(kind):
        return quiet_train(exact_recipe(tiny_recipe, kind), prepared_tones, root / kind)[0]

    return make


def meta_of(run):
    return json.loads(str(read_arrays(run.last)["meta"]))


def without_times(meta):
    def keep(row):
        return {k: v for k, v in row.items() if k not in ("seconds", "segments_per_second")}

    return keep(meta) | {"history": [keep(row) for row in meta["history"]]}


def assert_same_state(first, second):
    for path in ("last", "best"):
        one, other = read_arrays(getattr(first, path)), read_arrays(getattr(second, path))
        assert one.keys() == other.keys()
        for name in one.keys() - {"meta"}:
            np.testing.assert_array_equal(one[name], other[name], err_msg=f"{path}: {name}")
    found, expected = without_times(meta_of(first)), without_times(meta_of(second))
    assert found == expected
    assert found["step"] == found["history"][-1]["step"] == EPOCHS * EPOCH_STEPS


@contextlib.contextmanager
def terminate_once_the_loop_listens():
    """Send SIGTERM to this process as soon as training has taken the signal over, so in its first call."""
    missed = []

    def not_taken(number, frame):
        missed.append(number)  # and the tests live on

    def send():
        end = time.monotonic() + 60
        while signal.getsignal(signal.SIGTERM) is not_taken and time.monotonic() < end:
            time.sleep(0.005)
        os.kill(os.getpid(), signal.SIGTERM)

    before = signal.signal(signal.SIGTERM, not_taken)
    sender = threading.Thread(target=send)
    sender.start()
    try:
        yield
    finally:
        sender.join()
        signal.signal(signal.SIGTERM, before)
    assert not missed


@pytest.mark.parametrize(
    "kind", [k if k in QUICK_KINDS else pytest.param(k, marks=pytest.mark.slow) for k in KINDS]
)
def test_a_run_stopped_within_an_epoch_and_given_more_epochs_equals_one_long_training(
    kind, whole, tiny_recipe, prepared_tones, tmp_path
):
    short = exact_recipe(tiny_recipe, kind, epochs=1)
    run = RunDirectory(tmp_path / "run")
    message = rf"stopped by SIGTERM after step 3 of {EPOCH_STEPS}, state saved; add --resume"
    with terminate_once_the_loop_listens(), pytest.raises(RunError, match=message) as stopped:
        quiet_train(short, prepared_tones, run.root)
    assert stopped.value.exit_code == 128 + signal.SIGTERM
    assert json.loads(run.card.read_text())["ended"] == "stopped by SIGTERM"
    assert meta_of(run)["step"] == 3
    assert read_arrays(run.last)["sums"][2].sum() == (6 if "joint" in kind else 3)  # open epoch
    quiet_train(exact_recipe(tiny_recipe, kind), prepared_tones, run.root, resume=True)
    assert_same_state(run, whole(kind))
    assert len(run.history.read_text().splitlines()) == 1 + 1 + EPOCHS
    assert sessions_of(run) == [("stopped by SIGTERM", 3), ("done", EPOCHS * EPOCH_STEPS)]
    ends = [json.loads(line).get("ended") for line in run.log.read_text().splitlines()]
    assert [end for end in ends if end] == ["stopped by SIGTERM", "done"]


@pytest.mark.slow
def test_killed_in_mid_training_then_resumed_equals_an_uninterrupted_run(
    whole, tiny_recipe, prepared_tones, tmp_path
):
    recipe, run = exact_recipe(tiny_recipe, "alternating"), RunDirectory(tmp_path / "killed")
    write_recipe(tmp_path / "tones.yaml", recipe)
    process = start(tmp_path / "tones.yaml", prepared_tones, run)
    wait_for(lambda: run.last.exists() and meta_of(run)["step"] > 0, process)
    process.kill()
    assert process.wait() == -signal.SIGKILL
    assert json.loads(run.card.read_text())["ended"] == "unfinished"
    assert meta_of(run)["step"] in (2 * EPOCH_STEPS, EPOCHS * EPOCH_STEPS)  # the latter if the kill was late
    quiet_train(recipe, prepared_tones, run.root, resume=True)
    assert_same_state(run, whole("alternating"))
    assert sessions_of(run) == [("killed", 0), ("done", EPOCHS * EPOCH_STEPS)]


def test_ctrl_c_saves_the_state_says_so_in_one_line_and_exits_with_130(tiny_recipe, prepared_tones, tmp_path):
    write_recipe(tmp_path / "tones.yaml", tiny_recipe("ms-sr@fc", sources=["tag", "bpm"]))
    run = RunDirectory(tmp_path / "run")
    process = start(tmp_path / "tones.yaml", prepared_tones, run, "training.epochs=5000")
    wait_for(run.best.exists, process)
    assert run.last.exists()  # killed here, the run could still be resumed
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=120) == 128 + signal.SIGINT
    last_line = process.stderr.read().strip().splitlines()[-1]
    assert re.search(
        r"error: stopped by SIGINT after step \d+ of 20000, state saved; add --resume", last_line
    )
    assert meta_of(run)["step"] == int(re.search(r"after step (\d+)", last_line)[1]) > 0
    assert json.loads(run.card.read_text())["ended"] == "stopped by SIGINT"


@pytest.mark.parametrize(
    ("schedule", "strategy", "sections"),
    [
        pytest.param("alternating", "ms-cr@2", {}, marks=pytest.mark.slow),
        pytest.param("joint", "ms-cr@6", {}, marks=pytest.mark.slow),
        ("joint", "ms-cr@2", {"targets": CONTRAST, "contrast": {"negatives": "all"}}),
    ],
)
def test_two_replicas_equal_one_where_they_wait_for_each_other(
    schedule, strategy, sections, tiny_recipe, prepared_tones, tmp_path
):
    def recipe(devices):
        return tiny_recipe(
            strategy,
            **sections,
            model={"width": 0.0625, "dropout": 0.5},
            # A rate at which rounding cannot grow: Adam makes full steps of even the smallest gradients.
            training={"epochs": 1, "schedule": schedule, "learning_rate": 1e-7},
            distribution={"devices": devices, "batch_norm": "synchronised"},
        )

    one, _ = quiet_train(recipe(1), prepared_tones, tmp_path / "one")
    two, _ = quiet_train(recipe(2), prepared_tones, tmp_path / "two")
    assert json.loads(two.card.read_text())["execution"]["devices"] == ["CPU:0", "CPU:1"]
    first, second = read_arrays(one.last), read_arrays(two.last)
    # Gradients of a convolution before a batch norm nearly cancel: 0.4% is what rounding was seen to leave.
    bounds = {"weights": 2e-6, "statistics": 2e-5, "first_moment": 0.01, "second_moment": 0.01}
    for name in first.keys() - {"meta", "sums"}:
        scale = np.abs(first[name]).max(initial=1e-12)
        bound = bounds[name.rpartition(".")[2]]
        np.testing.assert_allclose(second[name] / scale, first[name] / scale, atol=bound, err_msg=name)
    losses = [json.loads(str(arrays["meta"]))["history"][-1] for arrays in (first, second)]
    for source in ("self", "tag"):
        for kind in ("train_loss", "validation_loss"):
            name = f"{kind}/{source}"
            assert losses[1][name] == pytest.approx(losses[0][name], abs=1e-5), name


def test_contrast_learns_to_find_the_other_crop_and_the_average_is_what_is_kept(
    tone_recipe, prepared_tones, tmp_path
):
    recipe = tone_recipe(
        "ms-sr@fc",
        targets=CONTRAST,
        model={"width": 0.125, "dropout": 0.0},
        training={"epochs": 12, "schedule": "joint", "learning_rate": 3e-3, "average": 0.9},
    )
    run, summary = quiet_train(recipe, prepared_tones, tmp_path / "run")
    found = summary.rows[0]
    assert found.mean_target == pytest.approx(np.log(8))  # so many validation tracks
    assert found.after < 0.8 * found.mean_target and found.accuracy > 2 / 8
    state, best = read_arrays(run.last), read_arrays(run.best)
    assert not np.array_equal(state["shared.average_weights"], state["shared.weights"])
    kept = np.concatenate([best[name].ravel() for name in sorted(best) if name.startswith("shared_conv1/")])
    assert np.isin(kept, state["shared.average_weights"]).all() or summary.rows[0].best_epoch < 12


def two_replicas(recipe, prepared, n_steps, rows=False):
    """Vectors, and what trains them on two devices of the CPU."""
    data, execution = TrainingData.open(recipe, prepared), choose_execution(recipe)
    network = network_of(recipe, data.sizes, Scaler.identity(128), replicas=execution.replicas)
    states = {g: GroupState(g, GroupLayout.of(network, g), execution.distribution) for g in network.groups}
    schedule = Schedule(recipe, data.train.by_source, data.index.samples, n_steps, execution.replicas)
    step = Step(recipe, network, states, [data.sizes[s] for s in recipe.sources], n_steps, execution.xla)
    batches = TrainingBatches(schedule, data.index, 0, execution.distribution)
    return states, schedule, MultiStep(step, dataclasses.replace(execution, rows=rows), batches, n_steps)


@pytest.mark.parametrize("schedule", ["alternating", pytest.param("joint", marks=pytest.mark.slow)])
def test_steps_that_the_host_starts_in_rows_are_the_steps_that_it_starts_one_by_one(
    schedule, tiny_recipe, prepared_tones, monkeypatch
):
    monkeypatch.setattr("kerasrep.training.loop.ROW_PAYS_STEPS", 0)
    monkeypatch.setattr("kerasrep.training.loop.ROW_STEPS", 2)
    # Heads of two sizes, so that the gradients of one source are shorter than those of the other.
    settings = {"training": {"schedule": schedule}, "distribution": {"devices": 2}}
    recipe = tiny_recipe("ms-sr@fc", targets=CONTRAST, **settings)
    found = []
    for rows in (False, True):
        states, plans, make = two_replicas(recipe, prepared_tones, 5, rows)
        sums, fault = make(plans.source_of_step.tolist())
        assert fault is None
        assert ("row" in make._functions) == rows
        arrays = [state.arrays() for state in states.values()]
        found.append({"sums": sums} | {name: array for group in arrays for name, array in group.items()})
    assert schedule == "joint" or len(set(plans.source_of_step[:4].tolist())) == 2
    for name, array in found[0].items():
        np.testing.assert_array_equal(found[1][name], array, err_msg=name)


@pytest.mark.parametrize(
    ("branches", "n_steps", "steps_per_call", "length"),
    [
        (1, 10_000, 50, 10),
        (1, 9_999, 50, 1),  # tracing would take longer than what it saves
        (8, 40_000, 50, 5),
        (8, 39_999, 50, 1),
        (1, 10_000, 4, 4),  # losses are looked at after so many
        (100, 10**6, 50, 1),
    ],
)
def test_the_host_starts_rows_of_steps_where_tracing_them_pays(
    branches, n_steps, steps_per_call, length, tiny_recipe
):
    execution = dataclasses.replace(choose_execution(tiny_recipe()), rows=True, steps_per_call=steps_per_call)
    assert row_length(execution, branches, n_steps) == length


def test_replicas_that_average_their_statistics_hold_equal_vectors(tiny_recipe, prepared_tones):
    recipe = tiny_recipe("ms-sr@fc", training={"epochs": 1}, distribution={"devices": 2})
    states, schedule, make = two_replicas(recipe, prepared_tones, 4)
    before = {group: state.arrays() for group, state in states.items()}
    sums, fault = make(schedule.source_of_step.tolist())
    assert fault is None
    drawn = np.bincount(schedule.source_of_step, minlength=len(recipe.sources))
    np.testing.assert_allclose(sums[2], drawn, rtol=1e-6)  # each step uses its source once
    for function in make._functions.values():  # nothing of a step is decided on the host
        graph = function.get_concrete_function().graph.as_graph_def()
        nodes = [
            node.op for part in (graph.node, *(f.node_def for f in graph.library.function)) for node in part
        ]
        assert "CollectiveReduceV2" in nodes or "AddN" in nodes
        assert not {op for op in nodes if "Optional" in op}
        assert not function.get_concrete_function().outputs
    for group, state in states.items():
        for part, variable in state.variables.items():
            first, second = state.distribution.experimental_local_results(variable)
            assert first.device != second.device
            np.testing.assert_array_equal(first, second, err_msg=f"{group}.{part}")
            if first.shape[0]:
                assert not np.array_equal(first, before[group][f"{group}.{part}"])


def test_bfloat16_trains_float32_weights_with_finite_losses(tiny_recipe, prepared_tones, tmp_path):
    recipe = tiny_recipe(training={"epochs": 1, "precision": "mixed_bfloat16"})
    run, summary = quiet_train(recipe, prepared_tones, tmp_path / "run")
    assert json.loads(run.card.read_text())["execution"]["precision"] == "mixed_bfloat16"
    assert all(np.isfinite(row.after) and row.after != row.before for row in summary.rows)
    for path in (run.last, run.best):
        arrays = {name: array for name, array in read_arrays(path).items() if name not in ("meta", "sums")}
        assert {str(array.dtype) for array in arrays.values()} == {"float32"}
        assert all(np.isfinite(array).all() for array in arrays.values())


def test_a_loss_that_is_not_finite_stops_the_run_and_names_step_source_and_batch(
    whole, tiny_recipe, prepared_tones, tmp_path
):
    run = RunDirectory(tmp_path / "run")
    shutil.copytree(whole("alternating").root, run.root)
    arrays = read_arrays(run.last)
    arrays["tag.weights"][5] = np.nan
    write_arrays(run.last, arrays)
    recipe, done = exact_recipe(tiny_recipe, "alternating", EPOCHS + 1), EPOCHS * EPOCH_STEPS
    data = TrainingData.open(recipe, prepared_tones)
    plan = Schedule(recipe, data.train.by_source, data.index.samples, done + EPOCH_STEPS, 1).source_of_step
    step = done + plan[done:].tolist().index(recipe.sources.index("tag"))
    said = f"step {step}: the loss of source 'tag', or its gradient, is not finite"
    with pytest.raises(RunError, match=rf"{said}.*t\d\d\.wav"):
        quiet_train(recipe, prepared_tones, run.root, resume=True)
    assert json.loads(run.card.read_text())["ended"].startswith(f"failed: {said}")
    assert np.isnan(read_arrays(run.last)["tag.weights"][5])  # nothing was saved over it


def test_a_batch_larger_than_the_training_set_is_refused(tone_recipe, prepared_tones, tmp_path):
    with pytest.raises(RecipeError, match=r"batches\.size: 64 is more than the 32 training tracks"):
        quiet_train(tone_recipe(batches={"size": 64}), prepared_tones, tmp_path / "run")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(("schedule", "unit"), [("alternating", 2), ("joint", 4)])
def test_fewer_tracks_than_pairs_need_are_refused_without_advice_that_cannot_be_followed(
    tone_recipe, schedule, unit
):
    recipe = tone_recipe(training={"schedule": schedule})
    assert "self" in recipe.sources
    said = rf"^batches\.size: the {unit - 1} training tracks are too few for any, 'self' needs {unit} for"
    with pytest.raises(RecipeError, match=said):
        steps_of_tracks(recipe, unit - 1)


def test_a_source_without_labels_is_refused_before_anything_is_written(tone_recipe, prepared_tones, tmp_path):
    with pytest.raises(DataError, match="no labels for 'lyrics'; it has self, bpm, tag"):
        quiet_train(tone_recipe(sources=["tag", "lyrics"]), prepared_tones, tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_prepared_data_of_another_rate_are_refused(tone_recipe, prepared_tones):
    recipe = tone_recipe(audio={"sample_rate_hz": 16_000})
    with pytest.raises(DataError, match="shards are at 22050 Hz, the recipe asks for 16000"):
        TrainingData.open(recipe, PreparedDirectory(prepared_tones.root))


def test_a_shard_cut_short_is_reported_in_one_line(tone_recipe, prepared_tones, tmp_path):
    copy = PreparedDirectory(tmp_path / prepared_tones.root.name)
    shutil.copytree(prepared_tones.root, copy.root)
    shard = next(copy.root.glob("shard-*"))
    os.truncate(shard, shard.stat().st_size // 2)
    with pytest.raises(DataError, match=rf"{shard.name}: has \d+ bytes instead of"):
        quiet_train(tone_recipe(), copy, tmp_path / "run")
