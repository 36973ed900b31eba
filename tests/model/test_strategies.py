import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrep import constants
from kerasrep.model.blocks import BATCH_NORM_EPSILON, BatchNorm, BlockOptions
from kerasrep.model.picture import describe_network, draw_strategy
from kerasrep.model.restore import load_weights, save_weights
from kerasrep.model.strategies import Scaler, build_network

FULL_SIZES = {source: constants.SELF_CLASSES if source == "self" else 50 for source in constants.SOURCES}
SMALL = BlockOptions(width=0.125, seed=5)
TWO = ("self", "tag")
TWO_SIZES = {"self": 2, "tag": 5}


def build(strategy, **options):
    sources = ("tag",) if strategy == "ss-r" else TWO
    return build_network(strategy, sources, TWO_SIZES, options=BlockOptions(width=0.125, seed=5, **options))


def mels(batch=2, seed=0):
    return np.random.default_rng(seed).normal(size=(batch, 216, 128, 2)).astype(np.float32)


@pytest.mark.parametrize(
    ("strategy", "total", "shared"),
    [
        ("mss-cr", 4_665_184, None),
        ("ms-cr@2", 4_659_248, 848),
        ("ms-cr@4", 4_495_952, 24_176),
        ("ms-cr@6", 3_717_776, 135_344),
        ("ms-sr@fc", 719_760, 563_632),
    ],
)
def test_parameter_counts_are_those_of_the_published_network(strategy, total, shared):
    parameters = build_network(strategy, constants.SOURCES, FULL_SIZES).parameters()
    assert sum(parameters.values()) == total
    assert parameters.get("shared") == shared


def test_a_single_source_has_one_full_branch_and_one_head():
    assert build_network("ss-r", ("tag",), FULL_SIZES).parameters() == {"tag": 563_632 + 12_850}
    assert build_network("ss-r", ("self",), FULL_SIZES).parameters() == {"self": 563_632 + 66_178}


@pytest.mark.parametrize("strategy", constants.STRATEGIES)
def test_every_strategy_names_its_outputs_and_places_branches_side_by_side(strategy):
    network = build(strategy)
    outputs = network.embedder(np.zeros((2, constants.SEGMENT_SAMPLES, 2), np.float32))
    branches = {"ss-r": ["tag"], "ms-sr@fc": []}.get(strategy, list(TWO))
    assert set(outputs) == {"embedding"} | {f"embedding_{branch}" for branch in branches}
    assert outputs["embedding"].shape == (2, 256 * max(1, len(branches)))
    if branches:
        parts = [outputs[f"embedding_{branch}"].numpy() for branch in branches]
        np.testing.assert_array_equal(outputs["embedding"].numpy(), np.concatenate(parts, 1))
    assert (outputs["embedding"].numpy() >= 0).all()


@pytest.mark.parametrize("strategy", constants.STRATEGIES[1:])
def test_shared_layers_are_those_that_the_strategy_names(strategy):
    network = build(strategy)
    shared = (
        {v.path.split("/")[0].split("_")[1] for v in network.variables("shared")}
        if ("shared" in network.groups)
        else set()
    )
    blocks = {f"conv{number}" for number in range(1, constants.N_SHARED_BLOCKS[strategy] + 1)}
    assert shared == blocks | ({"fc"} if strategy == "ms-sr@fc" else set())


@pytest.mark.parametrize("strategy", constants.STRATEGIES)
def test_weights_survive_saving_and_the_model_survives_as_a_keras_file(strategy, tmp_path):
    network, waveform = build(strategy), np.random.default_rng(0).normal(0, 0.1, (2, 55_125, 2))
    expected = network.embedder(waveform.astype(np.float32))["embedding"].numpy()
    save_weights(tmp_path / "weights.npz", network)
    sources = network.sources
    other = build_network(strategy, sources, TWO_SIZES, options=BlockOptions(width=0.125, seed=6))
    assert np.abs(other.embedder(waveform)["embedding"].numpy() - expected).max() > 1e-3
    load_weights(tmp_path / "weights.npz", other)
    np.testing.assert_array_equal(other.embedder(waveform)["embedding"].numpy(), expected)
    network.embedder.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras")
    np.testing.assert_array_equal(loaded(waveform)["embedding"].numpy(), expected)


def test_the_same_seed_gives_the_same_weights_and_another_seed_others():
    def weights(seed):
        network = build_network("ms-cr@2", TWO, TWO_SIZES, options=BlockOptions(width=0.125, seed=seed))
        return {v.path: v.numpy() for group in network.groups for v in network.variables(group)}

    first, again, other = weights(1), weights(1), weights(2)
    for path, value in first.items():
        np.testing.assert_array_equal(value, again[path])
    assert not np.array_equal(first["tag_conv2/kernel"], other["tag_conv2/kernel"])
    assert not np.array_equal(first["tag_conv2/kernel"], first["self_conv2/kernel"])


def test_initial_values_are_those_of_glorot_and_of_torch():
    network = build_network("ss-r", ("tag",), FULL_SIZES)
    values = {v.path: v.numpy() for v in network.variables("tag")}
    glorot = np.sqrt(6 / (5 * 5 * 2 + 5 * 5 * 16))
    assert 0.95 * glorot < np.abs(values["tag_conv1/kernel"]).max() <= glorot
    for path, fan_in in {"tag_conv1/bias": 50, "tag_fc/bias": 256, "tag_logits/kernel": 256}.items():
        assert 0.7 / np.sqrt(fan_in) < np.abs(values[path]).max() <= 1 / np.sqrt(fan_in)


def test_strided_convolutions_are_padded_alike_on_both_sides():
    network = build_network("ss-r", ("tag",), {"tag": 3}, options=BlockOptions(width=0.125))
    layer = network.trunk.get_layer("tag_conv1")
    inner = keras.Model(network.trunk.inputs, layer.output)
    mel = mels(1)
    kernel, bias = (value.numpy() for value in layer.weights)
    padded = np.pad(mel[0], ((2, 2), (2, 2), (0, 0)))
    found = inner(mel).numpy()[0]
    assert found.shape[:2] == (108, 128)
    for frame, band in ((0, 0), (107, 127), (50, 3)):
        patch = padded[2 * frame : 2 * frame + 5, band : band + 5]
        expected = np.einsum("tmc,tmcf->f", patch, kernel) + bias
        np.testing.assert_allclose(found[frame, band], expected, atol=1e-4)


def test_batch_norm_keeps_the_unbiased_running_variance():
    layer = BatchNorm(momentum=0.9, epsilon=BATCH_NORM_EPSILON)
    values = np.random.default_rng(0).normal(3.0, 2.0, (5, 4)).astype(np.float32)
    outputs = layer(values, training=True).numpy()
    np.testing.assert_allclose(layer.moving_mean.numpy(), 0.1 * values.mean(0), rtol=1e-5)
    np.testing.assert_allclose(layer.moving_variance.numpy(), 0.9 + 0.1 * values.var(0, ddof=1), rtol=1e-5)
    expected = (values - values.mean(0)) / np.sqrt(values.var(0) + BATCH_NORM_EPSILON)
    np.testing.assert_allclose(outputs, expected, atol=1e-4)


@pytest.mark.parametrize("centre", [0.0, 30.0])
def test_the_fused_batch_norm_equals_keras_s_composed_one_with_its_gradients(centre):
    inputs = np.random.default_rng(0).normal(centre, 0.5, (8, 9, 5, 3)).astype(np.float32)
    results = []
    for fused in (True, False):
        layer = BatchNorm(momentum=0.9, epsilon=BATCH_NORM_EPSILON)
        layer.build(inputs.shape)
        layer.fused = fused
        layer.gamma.assign([0.5, 1.0, 2.0])
        layer.beta.assign([0.1, 0.0, -0.3])
        x = tf.constant(inputs)
        with tf.GradientTape() as tape:
            tape.watch(x)
            outputs = layer(x, training=True)
            total = tf.reduce_sum(outputs**3)
        slopes = tape.gradient(total, [x, layer.gamma.value, layer.beta.value])
        results.append([outputs, *slopes, layer.moving_mean.numpy(), layer.moving_variance.numpy()])
    rows = inputs.reshape(-1, 3)
    np.testing.assert_allclose(results[0][4], 0.1 * rows.mean(0), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(results[0][5], 0.9 + 0.1 * rows.var(0, ddof=1), rtol=1e-4)
    for found, expected in zip(*results, strict=True):
        scale = np.abs(expected).max()
        np.testing.assert_allclose(found, expected, atol=(1e-3 if centre else 2e-5) * scale)


def test_standardisation_subtracts_the_mean_and_divides_by_the_deviation_of_each_band():
    rng = np.random.default_rng(0)
    scaler = Scaler(rng.normal(-30, 5, 128).astype(np.float32), rng.uniform(5, 20, 128).astype(np.float32))
    plain = build_network("ss-r", ("tag",), {"tag": 3}, options=SMALL)
    scaled = build_network("ss-r", ("tag",), {"tag": 3}, options=SMALL, scaler=scaler)
    waveform = rng.normal(0, 0.1, (1, 55_125, 2)).astype(np.float32)
    expected = (plain.features(waveform).numpy() - scaler.mean[:, None]) / scaler.sd[:, None]
    np.testing.assert_allclose(scaled.features(waveform).numpy(), expected, atol=1e-4)


def test_self_sees_left_and_right_as_two_batches():
    network, pairs = build("mss-cr", dropout=0.0), mels(6)
    left, right = (network.encoders["self"](half, training=True).numpy() for half in np.split(pairs, 2))
    network = build("mss-cr", dropout=0.0)
    expected = network.heads["self"](np.concatenate([left, right], 1), training=True).numpy()
    network = build("mss-cr", dropout=0.0)
    np.testing.assert_allclose(network.logits("self", tf.constant(pairs), True).numpy(), expected, atol=1e-5)


@pytest.mark.parametrize("strategy", ["mss-cr", "ms-sr@fc"])
def test_logits_of_all_sources_equal_those_of_each_alone(strategy):
    network, mel = build(strategy), tf.constant(mels(4))
    together = network.all_logits(mel, training=False)
    for source in network.sources:
        alone = network.logits(source, mel, training=False).numpy()
        np.testing.assert_allclose(together[source].numpy(), alone, atol=1e-5)


def test_a_half_precision_trunk_keeps_float32_weights_and_embeddings():
    network = build("ms-cr@4", precision="mixed_bfloat16")
    outputs = network.embedder(np.zeros((1, 55_125, 2), np.float32))
    assert {value.dtype for value in outputs.values()} == {tf.float32}
    assert {v.dtype for group in network.groups for v in network.variables(group)} == {"float32"}


def test_the_description_and_the_picture_show_shared_and_branch_parameters(tmp_path):
    network = build_network("ms-cr@2", constants.SOURCES, FULL_SIZES)
    text = describe_network(network)
    assert "4,659,248" in text
    assert "shared part" in text
    assert "848" in text
    draw_strategy(network, tmp_path / "strategy.png")
    from matplotlib.image import imread

    assert imread(tmp_path / "strategy.png").std() > 0.1


@pytest.mark.parametrize("compiled", [False, True])
def test_what_several_devices_run_holds_no_tensor_of_one_of_them(compiled):
    features = build("mss-cr", compiled=compiled).features
    waveform = tf.TensorSpec((2, constants.SEGMENT_SAMPLES, 2), tf.float32)
    function = tf.function(features, autograph=False).get_concrete_function(waveform)
    assert function.captured_inputs == []
