"""What only a GPU can show; run with `-m gpu`."""

import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context

import numpy as np
import pytest
import tensorflow as tf

from kerasrep.api import train_prepared
from kerasrep.model.restore import restore_run
from kerasrep.storage.run_directory import RunDirectory, read_arrays

pytestmark = pytest.mark.gpu


@pytest.fixture(autouse=True)
def _rows_of_steps(monkeypatch):
    """Also in short trainings."""
    monkeypatch.setattr("kerasrep.training.loop.ROW_PAYS_STEPS", 0)


def gpu_train(recipe, prepared, root, **options):
    run = RunDirectory(root)
    return run, train_prepared(recipe, prepared, run, show_progress=False, say=lambda line: None, **options)


@pytest.mark.parametrize("strategy", ["mss-cr", "ms-cr@4", "ms-sr@fc"])
@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_auto_takes_every_gpu_and_learns(strategy, schedule, tone_recipe, prepared_tones, tmp_path):
    # As many examples a GPU as on one, and as many steps: batch norm over a few examples learns nothing.
    count = len(tf.config.list_physical_devices("GPU"))
    training = {"epochs": 30 * count, "schedule": schedule, "learning_rate": 3e-3}
    recipe = tone_recipe(strategy, training=training, model={"width": 1.0}, batches={"size": 8 * count})
    run, summary = gpu_train(recipe, prepared_tones, tmp_path / "run")
    execution = json.loads(run.card.read_text())["execution"]
    assert execution["devices"] == [f"GPU:{number}" for number in range(count)]
    assert execution["xla"] is True
    assert execution["precision"] == "mixed_bfloat16"
    tag = next(row for row in summary.rows if row.source == "tag")
    assert tag.after < 0.7 * tag.mean_target
    outputs = restore_run(run.root).network.embedder(np.zeros((1, 55_125, 2), np.float32))
    assert np.isfinite(outputs["embedding"].numpy()).all()


def resumed_and_whole(recipes, prepared, root):
    """States of a run of two epochs resumed for two more, and of one of four.

    Args:
        recipes: Of two epochs and of four.
    """
    run, _ = gpu_train(recipes[0], prepared, root / "run")
    gpu_train(recipes[1], prepared, run.root, resume=True)
    whole, _ = gpu_train(recipes[1], prepared, root / "whole")
    return read_arrays(run.last), read_arrays(whole.last)


def two_and_four_epochs(tone_recipe, **training):
    return [
        tone_recipe("ms-cr@2", training={"epochs": epochs, "precision": "float32", **training})
        for epochs in (2, 4)
    ]


def test_a_compiled_gpu_training_resumes_where_it_stopped(tone_recipe, prepared_tones, tmp_path):
    both = resumed_and_whole(two_and_four_epochs(tone_recipe), prepared_tones, tmp_path)
    parts, whole = (json.loads(str(arrays["meta"]))["history"] for arrays in both)
    assert [row["step"] for row in parts] == [row["step"] for row in whole]
    # Compiled steps do not repeat bit by bit, and Adam makes whole steps of noise: losses agree roughly.
    for one, other in zip(parts, whole, strict=True):
        losses = {key: value for key, value in other.items() if "_loss/" in key}
        assert losses.keys() == {key for key in one if "_loss/" in key}
        for key, value in losses.items():
            assert one[key] == pytest.approx(value, rel=0.1), (one["epoch"], key)


@pytest.mark.parametrize("strategy", ["ms-sr@fc", "ms-cr@4"])
@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_a_residual_trunk_learns_by_contrast_from_augmented_crops(
    strategy, schedule, tone_recipe, prepared_tones, tmp_path
):
    recipe = tone_recipe(
        strategy,
        targets={"size": 4, "kinds": {"self": "contrast"}},
        model={"trunk": "residual", "width": 0.5, "dropout": 0.2},
        batches={"size": 16},
        augment={"gain_db": [-15, 6], "mix": 0.25, "noise": 0.2, "swap": 0.5, "mono": 0.2, "equaliser": 0.5},
        training={
            "epochs": 60,
            "schedule": schedule,
            "optimizer": "adamw",
            "learning_rate": 2e-3,
            "weight_decay": 1e-4,
            "warmup_steps": 10,
            "clip_norm": 5.0,
            "average": 0.98,
        },
    )
    _, summary = gpu_train(recipe, prepared_tones, tmp_path / "run")
    rows = {row.source: row for row in summary.rows}
    assert rows["tag"].after < 0.7 * rows["tag"].mean_target
    assert rows["self"].after < 0.8 * rows["self"].mean_target


def test_synchronised_batch_norm_trains_on_every_gpu(tone_recipe, prepared_tones, tmp_path):
    recipe = tone_recipe(
        "ms-cr@2",
        training={"epochs": 2, "precision": "float32"},
        distribution={"batch_norm": "synchronised"},
    )
    _, summary = gpu_train(recipe, prepared_tones, tmp_path / "run")
    assert all(np.isfinite(row.after) for row in summary.rows)


def test_a_deterministic_gpu_training_resumes_bit_by_bit(tone_recipe, prepared_tones, tmp_path):
    recipes = two_and_four_epochs(tone_recipe, deterministic=True, xla=False)
    # A process of its own: determinism cannot be switched off again, and the convolutions that TensorFlow
    # chose for an earlier training of this process, which need not repeat, are used again.
    with ProcessPoolExecutor(1, get_context("spawn")) as own:
        parts, whole = own.submit(resumed_and_whole, recipes, prepared_tones, tmp_path).result()
    assert parts.keys() == whole.keys()
    for name in parts.keys() - {"meta"}:  # which holds times
        np.testing.assert_array_equal(parts[name], whole[name], err_msg=name)
