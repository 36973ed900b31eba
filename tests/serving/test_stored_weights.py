"""What exports keep of the weights, and which layers they give by default."""

import numpy as np
import pytest
import tensorflow as tf

from kerasrep.embedding import AudioEmbedder, hear, load
from kerasrep.embedding.representations import open_representation
from kerasrep.errors import ExportError, RecipeError
from kerasrep.model.restore import weight_arrays
from kerasrep.serving.check import compare
from kerasrep.serving.export import export_run
from kerasrep.storage.export_directory import read_card, warmup_path

SEGMENT = 55_125
#: Values of a segment of a residual trunk of width 0.25, all layers.
ALL_VALUES = 256 + 2 * (12 + 12 + 24 + 48 + 48 + 96 + 96)


@pytest.fixture(scope="module")
def trained(make_run):
    sections = {"model": {"width": 0.25, "trunk": "residual"}, "corpus": {"name": "folder", "root": "music"}}
    return make_run("ms-sr@fc", **sections)


@pytest.fixture(scope="module")
def exported(trained, tmp_path_factory):
    """The same trunk with kernels in either type."""
    folder = tmp_path_factory.mktemp("exported")
    return {
        weights: export_run(trained, folder, weights, weights=weights, default_layers="all")
        for weights in ("float32", "float16")
    }


@pytest.fixture(scope="module")
def loaded(exported):
    return {weights: tf.saved_model.load(str(version)) for weights, version in exported.items()}


@pytest.fixture(scope="module")
def music():
    seconds = np.arange(2 * SEGMENT) / 22_050
    tones = [np.sin(2 * np.pi * hz * seconds) for hz in (220, 331, 1760)]
    noise = np.random.default_rng(0).normal(0, 0.05, (2, 2 * SEGMENT, 2))
    return (noise + 0.3 * np.stack([tones[0] + tones[2], tones[1]], -1)).astype(np.float32)


@pytest.mark.parametrize("signature", ["serving_default", "embed_track"])
def test_half_precision_kernels_give_the_same_vectors_but_for_rounding(loaded, music, signature):
    inputs = {"waveform": tf.constant(music[:, :SEGMENT])}
    if signature == "embed_track":
        inputs = {"waveform": tf.constant(music), "length_samples": tf.constant([2 * SEGMENT, 700])}
    full, half = (loaded[weights].signatures[signature](**inputs) for weights in ("float32", "float16"))
    assert set(full) == set(half) == {"embedding", *(f"layer_conv{number}" for number in range(1, 8))}
    different = 0
    for name in full:
        one, other = full[name].numpy().astype(np.float64), half[name].numpy().astype(np.float64)
        sizes = np.linalg.norm(one, axis=1)
        assert (np.linalg.norm(one - other, axis=1) < 1e-3 * sizes).all(), name
        cosines = (one * other).sum(1) / sizes / np.linalg.norm(other, axis=1)
        assert (cosines > 0.99999).all(), name
        different += not np.array_equal(one, other)
    assert different


def test_one_set_of_weights_is_kept_as_it_was_trained(trained, exported, loaded):
    arrays = weight_arrays(trained.network)
    for weights, version in exported.items():
        stored = loaded[weights].stored
        assert set(stored) == {name for name in arrays if "logits" not in name}
        for name, variable in stored.items():
            kind = variable.dtype.name
            if len(variable.shape) < 2 or name in ("shared_conv1/kernel", "shared_conv3skip/kernel"):
                assert kind == "float32"  # rounding them would move the outputs most
            elif name in ("shared_conv4b/kernel", "shared_conv7b/kernel", "shared_fc/kernel"):
                assert kind == weights
            np.testing.assert_array_equal(variable.numpy(), arrays[name].astype(kind), err_msg=name)
        in_file = sum(path.stat().st_size for path in (version / "variables").iterdir())
        values = sum(variable.numpy().nbytes for variable in stored.values())
        assert values < in_file < values + 30_000
        whole = sum(v.shape.num_elements() for v in stored.values() if v.dtype == tf.float32)
        assert weights == "float32" or whole < 0.08 * sum(v.shape.num_elements() for v in stored.values())


def test_values_that_half_precision_cannot_hold_are_refused(make_run, tmp_path):
    broken = make_run("ms-sr@fc", model={"width": 0.0625})
    trunk = broken.network.trunk
    layer, norm = trunk.get_layer("shared_conv6"), trunk.get_layer("shared_conv6_bn")
    layer.kernel.assign(layer.kernel * 2.0**20)
    layer.bias.assign(layer.bias * 2.0**20)
    norm.moving_mean.assign(norm.moving_mean * 2.0**20)
    norm.moving_variance.assign(norm.moving_variance * 2.0**40)
    export_run(broken, tmp_path, "full")
    with pytest.raises(ExportError, match="allowed is 1e-03"):
        export_run(broken, tmp_path, "half", weights="float16")
    assert not (tmp_path / "half").exists()


@pytest.mark.parametrize(("rounding", "passes"), [(9e-4, True), (1.1e-3, False)])
def test_half_precision_may_move_a_vector_by_a_thousandth_of_its_length(rounding, passes, plain_run):
    vector = np.array([[3.0, 4.0]])
    moved = {"embedding": vector + np.array([0.0, 5 * rounding])}
    if passes:
        assert compare("x", 1, {"embedding": vector}, moved, plain_run.network, "float16") == pytest.approx(
            rounding
        )
    else:
        with pytest.raises(ExportError, match=r"allowed is 1e-03; nothing was exported; .*--weights float32"):
            compare("x", 1, {"embedding": vector}, moved, plain_run.network, "float16")


def test_an_export_says_what_its_embeddings_are_made_of(exported, music, tmp_path):
    version = exported["float16"]
    card = read_card(version)
    assert (card.weights, card.default_layers, card.default_dimension) == ("float16", "all", 2 * ALL_VALUES)
    vector = load(version).embed(music[0], 22_050)
    np.testing.assert_array_equal(vector, load(version, layers="all").embed(music[0], 22_050))
    assert load(version, layers="last").dimension == 512
    assert hear.load_model(str(version)).scene_embedding_size == 2 * ALL_VALUES
    np.testing.assert_allclose(AudioEmbedder(version).fit_transform([music[0]])[0], vector, atol=1e-6)
    own, last = open_representation(str(version)), open_representation(f"{version}:last")
    assert (own.name, own.dimension) == ("float16/1", 2 * ALL_VALUES)
    assert (last.name, last.dimension) == ("float16/1:last", 512)
    assert own.fingerprint == open_representation(f"{version}:all").fingerprint != last.fingerprint


def test_a_run_has_the_defaults_of_its_recipe(make_run, tmp_path):
    model, export = {"width": 0.0625}, {"default_layers": "last,conv2", "weights": "float16"}
    trained = make_run("ms-sr@fc", model=model, export=export)
    version = export_run(trained, tmp_path, "small")
    assert read_card(version).weights == "float16"
    for path in (trained.run.root, version):
        assert load(path).layout.layers == "last,conv2"


def test_default_layers_that_the_export_does_not_give_are_refused(trained, tmp_path):
    with pytest.raises(RecipeError, match="default layers conv5"):
        export_run(trained, tmp_path, "small", layers="conv2", default_layers="conv2,conv5")
    assert not list(tmp_path.iterdir())


def test_warm_up_requests_take_little_room(exported):
    assert warmup_path(exported["float16"]).stat().st_size < 400_000
