"""Pooled layers against numbers made by hand from the network's own intermediate outputs."""

import keras
import numpy as np
import pytest

from kerasrep import constants
from kerasrep.embedding.models import model_of_keras
from kerasrep.model.blocks import BlockOptions
from kerasrep.model.folding import fold_batch_norm
from kerasrep.model.keras_file import read_keras_file
from kerasrep.model.layers import layer_pieces, with_layers
from kerasrep.model.strategies import build_network
from kerasrep.storage.segment_vector import LAYERS, Piece, embedding_pieces

SEGMENT = constants.SEGMENT_SAMPLES
SOURCES = ("year", "tag")


@pytest.fixture(scope="module")
def waveform():
    return np.random.default_rng(1).normal(0, 0.1, (2, SEGMENT, 2)).astype(np.float32)


@pytest.fixture(scope="module", params=["published", "residual"])
def network(request):
    """Conv1 to conv3 in common; weights and statistics as a trained network's."""
    options = BlockOptions(trunk=request.param, width=0.25, seed=5)
    network = build_network("ms-cr@4", SOURCES, dict.fromkeys(SOURCES, 5), options=options)
    rng = np.random.default_rng(0)
    for variable in network.trunk.variables:
        if variable.path.endswith(("beta", "moving_mean", "bias")):
            variable.assign(rng.normal(0, 0.3, variable.shape))
        elif variable.path.endswith(("gamma", "moving_variance")):
            variable.assign(rng.uniform(0.3, 2.0, variable.shape))
    return network


def by_hand(network, waveform, owner, layer):
    """Mean over frames and bands, and maximum over frames of the mean over bands, in NumPy."""
    relu = network.trunk.get_layer(f"{owner}_{layer}_relu")
    inner = keras.Model(network.trunk.input, relu.output)
    values = inner(network.features(waveform)).numpy().astype(np.float64)  # [batch, frames, bands, channels]
    return np.concatenate([values.mean(axis=(1, 2)), values.mean(axis=2).max(axis=1)], axis=1)


def test_each_layer_is_the_mean_and_the_highest_frame_of_its_output(network, waveform):
    found = with_layers(network.embedder, network.branches, LAYERS)(waveform, training=False)
    expected = {name: network.embedder(waveform)[name].numpy() for name in network.embedder.output}
    for layer in LAYERS[:3]:
        expected[f"layer_{layer}"] = by_hand(network, waveform, "shared", layer)
    for layer in LAYERS[3:]:
        each = {source: by_hand(network, waveform, source, layer) for source in SOURCES}
        expected |= {f"layer_{layer}_{source}": values for source, values in each.items()}
        expected[f"layer_{layer}"] = np.concatenate([each[source] for source in SOURCES], axis=1)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert found[name].dtype == np.float32
        np.testing.assert_allclose(found[name].numpy(), values, rtol=1e-4, atol=1e-5)


def test_every_output_is_the_same_with_batch_norm_folded(network, waveform):
    layered = with_layers(network.embedder, network.branches, LAYERS)
    folded = fold_batch_norm(layered)
    expected, found = layered(waveform, training=False), folded(waveform, training=False)
    assert set(found) == set(expected)
    for name, values in expected.items():
        assert values.numpy().std() > 0.01
        np.testing.assert_allclose(found[name].numpy(), values.numpy(), rtol=1e-4, atol=1e-4)
    left = [
        one for one in folded.get_layer("trunk").layers if isinstance(one, keras.layers.BatchNormalization)
    ]
    assert not [one for one in left if one._inbound_nodes]


def test_a_model_gives_its_pieces_in_the_order_asked_for_and_the_last_as_before(network, waveform):
    model = model_of_keras(network.embedder, constants.SAMPLE_RATE_HZ, SEGMENT, network.branches)
    plain = model.embed_segments(waveform)
    pieces = (*embedding_pieces(SOURCES), *model.layers)
    assert model.layers == layer_pieces(network.embedder, network.branches)
    owners = [(piece.layer, piece.branch) for piece in model.layers]
    assert owners == [(layer, "shared") for layer in LAYERS[:3]] + [
        (layer, source) for layer in LAYERS[3:] for source in SOURCES
    ]
    everything = model.only(pieces).embed_segments(waveform)
    assert everything.shape == (2, sum(piece.width for piece in pieces))
    np.testing.assert_allclose(everything[:, :512], plain, atol=1e-5)
    conv5 = next(p for p in model.layers if (p.layer, p.branch) == ("conv5", "tag"))
    found = model.only((conv5,)).embed_segments(waveform)
    np.testing.assert_allclose(found, by_hand(network, waveform, "tag", "conv5"), rtol=1e-4, atol=1e-4)


def test_layers_are_kept_in_a_keras_file(network, waveform, tmp_path):
    layered = with_layers(network.embedder, network.branches, ("conv2", "conv6"))
    layered.save(tmp_path / "model.keras")
    again = read_keras_file(tmp_path / "model.keras")
    expected, found = layered(waveform), again(waveform)
    assert set(found) == {
        *("embedding", "embedding_year", "embedding_tag", "layer_conv2"),
        *("layer_conv6", "layer_conv6_year", "layer_conv6_tag"),
    }
    for name, values in expected.items():
        np.testing.assert_allclose(found[name].numpy(), values.numpy(), atol=1e-6)
    # And others can be had of it.
    assert "layer_conv3" in with_layers(again, SOURCES, LAYERS)(waveform)


def test_the_columns_of_a_piece_say_what_they_are():
    assert Piece("last", "tag", 3).columns == ("tag/0", "tag/1", "tag/2")
    expected = ("shared/conv3/mean/0", "shared/conv3/mean/1", "shared/conv3/max/0", "shared/conv3/max/1")
    assert Piece("conv3", "shared", 4).columns == expected
