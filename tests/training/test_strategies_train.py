"""Every strategy trains, and its export gives the embeddings of the network that was trained."""

import numpy as np
import pytest

from kerasrep import constants
from kerasrep.api import train_prepared
from kerasrep.model.restore import load_scaler, restore_run, weight_arrays
from kerasrep.model.strategies import network_of
from kerasrep.serving.export import export_run
from kerasrep.storage.run_directory import RunDirectory, read_arrays
from kerasrep.training.inputs import TrainingData
from kerasrep.training.vectors import GroupLayout


def tones_and_noise(batch, seed):
    rng = np.random.default_rng(seed)
    seconds = np.arange(constants.SEGMENT_SAMPLES)[:, np.newaxis] / constants.SAMPLE_RATE_HZ
    pitch_hz = rng.uniform(100, 2000, (batch, 1, 2))
    waveform = 0.3 * np.sin(2 * np.pi * pitch_hz * seconds) + rng.normal(0, 0.02, (batch, len(seconds), 2))
    return waveform.astype(np.float32)


def fill_from_last_state(network, run):
    """Cut the vectors that training kept into the variables of a network."""
    arrays = read_arrays(run.last)
    for group in network.groups:
        layout = GroupLayout.of(network, group)
        layout.weights.set(arrays[f"{group}.weights"])
        layout.statistics.set(arrays[f"{group}.statistics"])


#: Of the two kinds in between, one; of a single source, none: other tests train them.
QUICK = ("mss-cr", "ms-cr@4", "ms-sr@fc")


@pytest.mark.parametrize(
    "strategy", [s if s in QUICK else pytest.param(s, marks=pytest.mark.slow) for s in constants.STRATEGIES]
)
def test_a_strategy_trains_and_its_export_equals_the_trained_network(
    strategy, tiny_recipe, prepared_tones, tmp_path
):
    import tensorflow as tf

    recipe, run = tiny_recipe(strategy, training={"epochs": 1}), RunDirectory(tmp_path / "run")
    summary = train_prepared(recipe, prepared_tones, run, show_progress=False, say=lambda line: None)
    assert [row.source for row in summary.rows] == list(recipe.sources)
    assert all(np.isfinite(row.after) for row in summary.rows)
    sizes = TrainingData.open(recipe, prepared_tones).sizes
    network = network_of(recipe, sizes, load_scaler(run.scaler, constants.N_MELS))
    initial = weight_arrays(network)
    fill_from_last_state(network, run)  # after one epoch the best state too
    final = weight_arrays(network)
    assert all(np.isfinite(value).all() for value in final.values())
    for group in network.groups:
        kernels = [v.path for v in network.variables(group) if v.path.endswith("kernel")]
        assert any(not np.array_equal(initial[path], final[path]) for path in kernels), group
    version = export_run(restore_run(run.root), tmp_path / "exported", recipe.name, layers="last")
    serve = tf.saved_model.load(str(version)).signatures["serving_default"]
    for batch in (1, 3):
        waveform = tones_and_noise(batch, seed=batch)
        expected = network.embedder(waveform, training=False)
        found = serve(waveform=tf.constant(waveform))
        assert found.keys() == expected.keys()
        branches = 1 if strategy == "ms-sr@fc" else len(recipe.sources)
        assert found["embedding"].shape == (batch, 256 * branches)
        assert np.ptp(found["embedding"].numpy()) > 0.1  # an embedding of zeros would equal anything
        for name, value in found.items():
            np.testing.assert_allclose(value, expected[name], rtol=0, atol=1e-5, err_msg=name)
