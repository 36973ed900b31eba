import keras
import numpy as np
import pytest

from kerasrep import constants
from kerasrep.model.blocks import BatchNorm, BlockOptions
from kerasrep.model.folding import fold_batch_norm
from kerasrep.model.strategies import build_network


def randomise(trunk, seed=0):
    """Weights and running statistics far from their initial values."""
    rng = np.random.default_rng(seed)
    for variable in trunk.variables:
        if variable.path.endswith(("beta", "moving_mean", "bias")):
            variable.assign(rng.normal(0, 0.3, variable.shape))
        elif variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.3, 2.0, variable.shape))


def norms(model):
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from norms(layer)
        elif isinstance(layer, keras.layers.BatchNormalization) and layer._inbound_nodes:
            yield layer


@pytest.mark.parametrize("strategy", constants.STRATEGIES)
def test_every_strategy_embeds_alike_with_its_batch_norm_folded(strategy):
    sources = ("tag",) if strategy == "ss-r" else ("self", "tag")
    network = build_network(strategy, sources, {"self": 2, "tag": 5}, options=BlockOptions(width=0.5, seed=5))
    randomise(network.trunk)
    folded = fold_batch_norm(network.embedder)
    waveform = np.random.default_rng(1).normal(0, 0.1, (3, constants.SEGMENT_SAMPLES, 2)).astype(np.float32)
    expected, found = (model(waveform, training=False) for model in (network.embedder, folded))
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert values.numpy().std() > 0.1  # a network that says nothing would pass anything
        np.testing.assert_allclose(found[name].numpy(), values.numpy(), rtol=1e-4, atol=1e-4)
    assert not list(norms(folded))
    assert list(norms(network.embedder))


def test_the_weights_of_the_copy_are_its_own():
    network = build_network("ss-r", ("tag",), {"tag": 5}, options=BlockOptions(width=0.125))
    folded = fold_batch_norm(network.embedder)
    mel = np.random.default_rng(0).normal(size=(1, 216, 128, 2)).astype(np.float32)
    before = folded.get_layer("trunk")(mel)["tag"].numpy()
    for variable in network.trunk.variables:
        variable.assign(np.zeros(variable.shape))
    np.testing.assert_array_equal(folded.get_layer("trunk")(mel)["tag"].numpy(), before)


def test_a_batch_norm_stays_where_its_convolution_bends_or_feeds_something_else():
    inputs = keras.Input((8, 8, 3))
    bent = keras.layers.Conv2D(4, 3, activation="relu", name="bent")(inputs)
    shared = keras.layers.Conv2D(4, 3, name="shared")(inputs)
    alone = keras.layers.Conv2D(4, 3, name="alone")(inputs)
    # The other layer, and not an output, sees what the norm sees.
    other = keras.layers.ReLU(name="other")(shared)
    outputs = {
        "bent": BatchNorm(name="of_the_bent")(bent),
        "shared": keras.layers.Add()([BatchNorm(name="of_the_shared")(shared), other]),
        "alone": BatchNorm(name="of_the_lone")(alone),
    }
    model = keras.Model(inputs, outputs)
    randomise(model)
    folded = fold_batch_norm(model)
    assert sorted(layer.name for layer in norms(folded)) == ["of_the_bent", "of_the_shared"]
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    for name, values in model(images, training=False).items():
        np.testing.assert_allclose(folded(images, training=False)[name].numpy(), values.numpy(), atol=1e-5)


def test_a_batch_norm_stays_where_nothing_can_take_it_up():
    inputs = keras.Input((8, 8, 3))
    first = BatchNorm(name="of_the_input")(inputs)
    convolved = keras.layers.Conv2D(4, 3, name="convolution")(first)
    outputs = {"normalised": BatchNorm(name="of_one_of_two")(convolved), "bare": convolved}
    model = keras.Model(inputs, outputs)
    randomise(model)
    folded = fold_batch_norm(model)
    assert sorted(layer.name for layer in norms(folded)) == ["of_one_of_two", "of_the_input"]
    images = np.random.default_rng(0).normal(size=(2, 8, 8, 3)).astype(np.float32)
    for name, values in model(images, training=False).items():
        np.testing.assert_allclose(folded(images, training=False)[name].numpy(), values.numpy(), atol=1e-5)
