"""Whitening against the definition: standardise, then multiply by a power of the covariance within tracks."""

import keras
import numpy as np
import pytest

from kerasrep import constants
from kerasrep.embedding.models import model_of_keras
from kerasrep.errors import DataError
from kerasrep.model.blocks import BlockOptions
from kerasrep.model.keras_file import read_keras_file
from kerasrep.model.layers import layer_pieces, with_layers
from kerasrep.model.restore import with_whitening
from kerasrep.model.strategies import build_network
from kerasrep.model.whitening import FLOOR, Moments, Whitening, arrays_of, layer_of, piece_name
from kerasrep.storage.segment_vector import LAYERS, embedding_pieces

SOURCES = ("year", "tag")


def tracks_of(rng, count, width, noise):
    """Segments of tracks: a place of each track, and differences within it in the directions of `noise`."""
    return [
        (1 + rng.normal(size=width) + rng.normal(size=(6, len(noise))) @ noise).astype(np.float32)
        for _ in range(count)
    ]


def moments_of(tracks):
    moments = Moments(tracks[0].shape[1])
    for track in tracks:
        moments.add(track)
    return moments


def applied(arrays, values):
    """The formula in NumPy."""
    mean, scale = arrays["mean_scale"].astype(np.float64)
    standardised = (values - mean) * scale
    return standardised - standardised @ arrays["directions"] @ arrays["directions"].T


def test_it_is_the_inverse_root_of_the_covariance_within_tracks_in_its_leading_directions():
    rng = np.random.default_rng(0)
    width, count = 10, 3
    tracks = tracks_of(rng, 200, width, noise=rng.normal(size=(count, width)) * [[5], [3], [2]])
    segments = np.concatenate(tracks).astype(np.float64)
    standardised = [(track - segments.mean(0)) / segments.std(0) for track in tracks]
    apart = np.concatenate([track - track.mean(0) for track in standardised])
    _, values, axes = np.linalg.svd(apart, full_matrices=False)  # not the way that is taken
    variances = values**2 / len(apart)
    roots = (variances + FLOOR * variances.mean()) ** -0.5
    roots /= roots[count:].mean()
    roots[count:] = 1  # the other directions as they are
    found = applied(moments_of(tracks).arrays(count), segments)
    np.testing.assert_allclose(found, np.concatenate(standardised) @ (axes.T * roots) @ axes, atol=1e-5)
    # What it is for: tracks are told apart better.
    means = np.array([part.mean(0) for part in np.split(found, len(tracks))])
    before = np.array([track.mean(0) for track in standardised])
    assert ratio(found, means) > 2 * ratio(np.concatenate(standardised), before)


def ratio(segments, means):
    """Variance of tracks' means over that within tracks."""
    within = segments - np.repeat(means, len(segments) // len(means), axis=0)
    return np.square(means - means.mean(0)).sum() / len(means) / (np.square(within).sum() / len(segments))


def test_tracks_of_one_segment_and_values_that_never_change_do_no_harm():
    rng = np.random.default_rng(1)
    tracks = tracks_of(rng, 20, 6, noise=rng.normal(size=(2, 6)))
    for track in tracks:
        track[:, 0] = 7.0
    moments = moments_of([*tracks, tracks[0][:1]])
    found = applied(moments.arrays(2), np.concatenate(tracks))
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-5)
    alone = moments_of([track[:1] for track in tracks]).arrays(2)
    assert np.isfinite(applied(alone, np.concatenate(tracks))).all()


def test_no_more_than_half_of_the_directions_are_shrunk():
    tracks = tracks_of(np.random.default_rng(2), 20, 6, noise=np.eye(6))
    assert moments_of(tracks).arrays(32)["directions"].shape == (6, 3)


@pytest.fixture(scope="module")
def waveform():
    return np.random.default_rng(3).normal(0, 0.1, (3, constants.SEGMENT_SAMPLES, 2)).astype(np.float32)


@pytest.fixture(scope="module", params=["mss-cr", "ms-sr@fc"])
def network(request):
    return build_network(request.param, SOURCES, dict.fromkeys(SOURCES, 5), options=BlockOptions(width=0.125))


@pytest.fixture(scope="module")
def arrays(network):
    """Of every layer, measured on noise."""
    rng, moments = np.random.default_rng(4), {}
    for piece in (*embedding_pieces(network.branches), *layer_pieces(network.embedder, network.branches)):
        tracks = tracks_of(rng, 8, piece.width, noise=rng.normal(size=(2, piece.width)))
        moments[piece_name(piece.layer, piece.branch)] = moments_of(tracks)
    return arrays_of(moments, 4)


def expected_of(network, arrays, waveform):
    """Each output, made by NumPy from what the network gives without whitening."""
    plain = with_layers(network.embedder, network.branches, LAYERS)(waveform, training=False)
    pieces = (*embedding_pieces(network.branches), *layer_pieces(network.embedder, network.branches))
    found = {}
    for piece in pieces:
        name = f"whitening/{piece_name(piece.layer, piece.branch)}"
        own = {part: arrays[f"{name}_{part}"] for part in ("mean_scale", "directions")}
        found[piece.output] = applied(own, plain[piece.output].numpy().astype(np.float64))
    return found


def test_the_embedding_and_every_layer_are_whitened_in_all_forms(network, arrays, waveform, tmp_path):
    whitened = with_whitening(network, tmp_path, arrays)
    whitened.embedder.save(tmp_path / "model.keras")
    expected = expected_of(network, arrays, waveform)
    forms = {
        "network": whitened.embedder,
        "file": read_keras_file(tmp_path / "model.keras"),
    }
    for form, model in forms.items():
        found = with_layers(model, network.branches, LAYERS)(waveform, training=False)
        for name, values in expected.items():
            np.testing.assert_allclose(
                found[name].numpy(), values, rtol=1e-3, atol=1e-3, err_msg=f"{form} {name}"
            )
        folded, layout = model_of_keras(model, 22_050, waveform.shape[1], network.branches).arranged(
            layers="all"
        )
        side = np.concatenate([expected[piece.output] for piece in layout.pieces], axis=1)
        np.testing.assert_allclose(folded.embed_segments(waveform), side, rtol=1e-3, atol=1e-3, err_msg=form)


def test_what_does_not_fit_is_refused_in_one_line(network, arrays, tmp_path):
    def refused(changed, message):
        with pytest.raises(DataError, match=message):
            with_whitening(network, tmp_path, changed)

    name = next(iter(arrays))
    refused(
        {k: v for k, v in arrays.items() if "conv3" not in k},
        "is of another network; resume the run's training",
    )
    lacking = {k: v for k, v in arrays.items() if not ("conv3" in k and k.endswith("mean_scale"))}
    refused(lacking, r"'whitening/conv3_\w+_mean_scale' is missing or malformed")
    flat = {k: v.ravel() if k.endswith("directions") else v for k, v in arrays.items()}
    refused(flat, "whitening is damaged; resume")
    refused({}, "whitening is damaged")
    refused({"shared_conv1/kernel": np.zeros(3)}, "whitening is damaged")
    for value in (
        np.full_like(arrays[name], np.nan),
        arrays[name].astype(np.float64),
        arrays[name].astype(str),
    ):
        refused(arrays | {name: value}, f"'{name}' is missing or malformed")
    refused(arrays | {"whitening/x": arrays[name]}, "'whitening/x' is unknown")


@pytest.mark.parametrize(("width", "alive"), [(128, 0), (128, 20), (512, 5), (96, 48)])
def test_fewer_directions_than_are_asked_for_give_numbers(width, alive):
    """Dead channels have equal variances, whose mean rounding may put below each of them."""
    for seed in range(10):
        rng = np.random.default_rng(seed)
        noise = rng.normal(size=(max(1, alive), width)) * (np.arange(width) < alive)
        tracks = [
            rng.normal(size=(2, len(noise))).astype(np.float32) @ noise.astype(np.float32) for _ in range(10)
        ]
        found = moments_of(tracks).arrays(32)
        assert all(np.isfinite(values).all() for values in found.values())
        assert np.isfinite(applied(found, np.concatenate(tracks))).all()


def test_the_layer_is_made_again_from_its_settings(arrays, tmp_path):
    layer = layer_of(tmp_path, arrays)
    again = Whitening.from_config(layer.get_config())
    again.build(None)
    assert [v.path for v in again.variables] == [v.path for v in layer.variables]
    assert not any(v.trainable for v in layer.variables)
    assert isinstance(layer, keras.layers.Layer)
