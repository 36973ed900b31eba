"""Training that begins with a trunk, in whatever strategy, with parts of it frozen or slower."""

import json
import shutil

import numpy as np
import pytest
import tensorflow as tf

from kerasrep.api import train_prepared
from kerasrep.data.identity import Identity
from kerasrep.data.recordings import Identities, read_identities, write_identities
from kerasrep.errors import RecipeError
from kerasrep.model.restore import restore_run, weight_arrays
from kerasrep.model.start import check_start, fill_from_start, read_start
from kerasrep.model.strategies import mean_logits, network_of
from kerasrep.serving.export import export_imported, export_run
from kerasrep.storage.run_directory import RunDirectory, read_arrays


@pytest.fixture(scope="module")
def trunk(make_run):
    """A run whose only branch is shared by all sources."""
    return make_run("ms-sr@fc", ("year", "tag"), model={"width": 0.0625})


def started(trunk, tone_recipe, strategy="ms-sr@fc", **sections):
    sections["model"] = {"width": 0.0625, "start": str(trunk.run.root)} | sections.get("model", {})
    return tone_recipe(strategy, **sections)


@pytest.mark.parametrize("strategy", ["mss-cr", "ms-cr@4", "ms-sr@fc"])
def test_a_trunk_goes_into_the_shared_part_and_into_every_branch(strategy, trunk, tone_recipe):
    recipe = started(trunk, tone_recipe, strategy)
    start = read_start(recipe)
    network = network_of(recipe, {"self": 2, "tag": 4, "bpm": 4}, start.scaler)
    fill_from_start(network, start)
    expected = weight_arrays(trunk.network)
    found = weight_arrays(network)
    trunk_layers = [name for name in found if "_conv" in name or "_fc" in name]
    assert len(trunk_layers) == len(
        [n for n in found if "logits" not in n and not n.startswith("self_hidden")]
    )
    for name in trunk_layers:
        part = name[name.index("_conv") :] if "_conv" in name else name[name.index("_fc") :]
        np.testing.assert_array_equal(found[name], expected[f"shared{part}"], err_msg=name)


@pytest.fixture(scope="module")
def forms(trunk, tmp_path_factory):
    """The same trunk in every form that a training can begin with."""
    folder = tmp_path_factory.mktemp("forms")
    trunk.network.embedder.save(folder / "model.keras")
    export_run(trunk, folder, "export")
    version = export_run(trunk, folder, "half", weights="float16")
    return {
        "run": trunk.run.root,
        "keras": folder / "model.keras",
        "export": folder / "export",
        "half": version,
    }


@pytest.mark.parametrize("form", ["run", "keras", "export", "half"])
def test_a_trunk_comes_from_whatever_holds_it(form, forms, trunk, tone_recipe):
    recipe = started(trunk, tone_recipe, "ms-cr@4", model={"start": str(forms[form])})
    check_start(recipe)
    start = read_start(recipe)
    np.testing.assert_allclose(start.scaler.mean, trunk.network.scaler.mean, rtol=1e-6)
    np.testing.assert_allclose(start.scaler.sd, trunk.network.scaler.sd, rtol=1e-6)
    network = network_of(recipe, {"self": 2, "tag": 4, "bpm": 4}, start.scaler)
    fill_from_start(network, start)
    expected, found = weight_arrays(trunk.network), weight_arrays(network)
    for ours, theirs in (
        ("shared_conv2/kernel", "shared_conv2/kernel"),
        ("tag_conv5_bn/moving_variance", "shared_conv5_bn/moving_variance"),
        ("bpm_fc/kernel", "shared_fc/kernel"),
    ):
        half = form == "half" and theirs == "shared_fc/kernel"  # small kernels are kept whole
        rounded = expected[theirs].astype("float16" if half else "float32")
        np.testing.assert_array_equal(found[ours], rounded, err_msg=ours)


def test_an_export_tells_the_line_of_descent_and_the_terms(forms, trunk, tone_recipe, make_run):
    from kerasrep.serving.card import LICENCES, run_origin

    descent = read_start(started(trunk, tone_recipe, model={"start": str(forms["export"])})).descent
    assert (descent["export"], descent["start"]) == ("export", None)
    assert tuple(descent["licence"][:-1]) == LICENCES["demo"]
    later = run_origin(trunk, {"start": {"path": "runs/x", "corpus": "million_song", "start": descent}}, None)
    assert [line.split(".")[0] for line in later.licence[-3:-1]] == [
        "Training began with the weights of runs/x",
        "Training began with the weights of export",
    ]
    assert "Million Song" in later.licence[-3] and "TimGM6mb" in later.licence[-2]


def test_an_imported_checkpoint_is_a_trunk_to_begin_with(trunk, tone_recipe, tmp_path):
    version = export_imported(trunk.network, {"checkpoint": "theirs.pt"}, tmp_path, "imported")
    recipe = started(trunk, tone_recipe, model={"start": str(version)})
    with pytest.raises(RecipeError, match=r"model\.width 1\.0, this recipe has 0.0625"):
        check_start(recipe)  # a checkpoint has the paper's width
    full = started(trunk, tone_recipe, model={"start": str(version), "width": 1.0})
    with pytest.raises(
        RecipeError, match=r"'shared_conv1/kernel' is \[5, 5, 2, 16\] here and \[5, 5, 2, 1\]"
    ):
        check_start(full)


def test_exports_of_folded_weights_alone_are_refused(trunk, forms, tone_recipe, tmp_path):
    version = shutil.copytree(forms["export"] / "1", tmp_path / "1")
    folded = tf.Module()
    embed = tf.function(
        lambda waveform: {"embedding": waveform[:, :256, 0]},
        input_signature=[tf.TensorSpec((None, 55_125, 2), name="waveform")],
    )
    tf.saved_model.save(folded, str(tmp_path / "graph"), signatures=embed)
    (version / "saved_model.pb").write_bytes((tmp_path / "graph" / "saved_model.pb").read_bytes())
    with pytest.raises(RecipeError, match=r"has folded weights alone.*them; export its run again"):
        check_start(started(trunk, tone_recipe, model={"start": str(version)}))


def test_frozen_blocks_and_their_statistics_stay_and_the_rest_learns(
    trunk, tone_recipe, prepared_tones, tmp_path
):
    recipe = started(
        trunk,
        tone_recipe,
        "ms-cr@2",
        sources=["tag", "bpm"],
        model={"freeze": ["conv1", "conv3"]},
        training={"epochs": 1, "average": 0.9},  # nor does the average round them
    )
    run = RunDirectory(tmp_path / "run")
    before_that = Identities.of([Identity(b"recorded", np.zeros(0, np.uint16))])
    write_identities(trunk.run.identities, before_that)
    train_prepared(recipe, prepared_tones, run, show_progress=False, say=lambda line: None)
    trained_on = read_identities(run.identities).digests.tolist()
    assert len(trained_on) == 33 and set(before_that.digests.tolist()) < set(trained_on)
    after, before = read_arrays(run.best), weight_arrays(trunk.network)
    for name in (
        "shared_conv1/kernel",
        "shared_conv1_bn/moving_mean",
        "tag_conv3/kernel",
        "tag_conv3_bn/gamma",
    ):
        np.testing.assert_array_equal(after[name], before[name.replace("tag", "shared")], err_msg=name)
    state, first = read_arrays(run.last), before["shared_conv1/kernel"].ravel()
    assert not state["shared.statistics"].size  # what replicas add up, which rounds, and divide again
    np.testing.assert_array_equal(state["shared.frozen"][: first.size], first)
    for name in ("tag_conv2/kernel", "tag_conv2_bn/moving_mean", "tag_fc/kernel"):
        assert not np.array_equal(after[name], before[name.replace("tag", "shared")]), name
    card = json.loads(run.card.read_text())
    assert card["start"]["path"] == str(trunk.run.root) and len(card["start"]["weights_sha256"]) == 16
    assert restore_run(run.root).network.sources == recipe.sources


def test_a_slower_trunk_moves_by_its_factor_of_a_whole_step(trunk, tone_recipe, prepared_tones, tmp_path):
    moved = {}
    for rate in (1.0, 0.1):
        recipe = started(
            trunk,
            tone_recipe,
            sources=["tag", "bpm"],
            batches={"size": 32},  # one step
            training={"epochs": 1, "schedule": "joint", "trunk_rate": rate},
        )
        run = RunDirectory(tmp_path / str(rate))
        train_prepared(recipe, prepared_tones, run, show_progress=False, say=lambda line: None)
        state, first = read_arrays(run.last), weight_arrays(trunk.network)["shared_conv1/kernel"].ravel()
        moved[rate] = state["shared.weights"][: first.size] - first
    assert np.abs(moved[1.0]).max() > 1e-5
    np.testing.assert_allclose(moved[0.1], 0.1 * moved[1.0], rtol=0.02, atol=1e-7)


def test_a_run_goes_on_where_the_trunk_that_it_began_with_is_gone(
    make_run, tiny_recipe, prepared_tones, tmp_path
):
    own = make_run("ms-sr@fc", ("year", "tag"), model={"width": 0.0625})
    gone = own.run.root.rename(tmp_path / "gone")
    sections = {
        "sources": ["tag", "bpm"],
        "model": {"width": 0.0625, "start": str(gone), "freeze": ["conv1"]},
    }
    training = {"epochs": 1, "trunk_rate": 0.5}
    recipe = tiny_recipe("ms-cr@2", training=training, **sections)  # all that is shared is frozen
    run = RunDirectory(tmp_path / "run")
    train_prepared(recipe, prepared_tones, run, show_progress=False, say=lambda line: None)
    first = json.loads(run.card.read_text())["start"]
    shutil.rmtree(gone)
    sections["model"]["start"] = "elsewhere"
    longer = tiny_recipe("ms-cr@2", training=training | {"epochs": 2}, **sections)
    train_prepared(longer, prepared_tones, run, resume=True, show_progress=False, say=lambda line: None)
    assert json.loads(run.card.read_text())["start"] == first
    np.testing.assert_array_equal(
        read_arrays(run.best)["shared_conv1/kernel"], weight_arrays(own.network)["shared_conv1/kernel"]
    )


def test_the_standardisation_comes_along(trunk, tone_recipe):
    np.testing.assert_array_equal(
        read_start(started(trunk, tone_recipe)).scaler.mean, trunk.network.scaler.mean
    )


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        ({"audio": {"n_mels": 64}}, "audio.n_mels 128, this recipe has 64; set audio.n_mels=128"),
        ({"model": {"width": 0.125}}, "model.width 0.0625, this recipe has 0.125"),
        ({"model": {"trunk": "residual"}}, "model.trunk published, this recipe has residual"),
        (
            {"model": {"start": "nowhere"}},
            "model.start: nowhere: is not a run directory, export or .keras file",
        ),
    ],
)
def test_a_trunk_that_does_not_fit_is_refused_in_one_line(sections, message, trunk, tone_recipe):
    with pytest.raises(RecipeError, match=message):
        read_start(started(trunk, tone_recipe, **sections))


def test_branches_of_other_sources_are_refused_by_name(make_run, tone_recipe):
    branches = make_run("mss-cr", ("year", "artist"), model={"width": 0.0625})
    recipe = started(branches, tone_recipe)
    start = read_start(recipe)
    network = network_of(recipe, {"self": 2, "tag": 4, "bpm": 4}, start.scaler)
    with pytest.raises(
        RecipeError, match="has nothing for 'shared_conv1/kernel'; its branches are year, artist"
    ):
        fill_from_start(network, start)


def test_freezing_without_a_trunk_is_refused(make_recipe):
    with pytest.raises(ValueError, match="needs a trunk to begin with"):
        make_recipe(model={"freeze": ["conv1"]})


def test_heads_may_begin_with_the_mean_target(tone_recipe, prepared_tones, tmp_path):
    sections = {"sources": ["tag", "bpm"], "model": {"width": 0.0625, "heads": "mean"}}
    recipe = tone_recipe("ms-sr@fc", **sections, training={"epochs": 1})
    summary = train_prepared(
        recipe, prepared_tones, RunDirectory(tmp_path / "run"), show_progress=False, say=lambda line: None
    )
    by_source = {row.source: row for row in summary.rows}
    for source in ("tag", "bpm"):
        assert by_source[source].before == pytest.approx(by_source[source].mean_target, rel=1e-4)


@pytest.mark.parametrize(
    ("loss", "mean", "logits"),
    [
        ("divergence", [0.25, 0.75], [np.log(0.25), np.log(0.75)]),
        ("sigmoid", [0.5, 0.2], [0.0, np.log(0.2 / 0.8)]),
        ("squared", [-0.5, 0.1], [-0.5, 0.1]),
    ],
)
def test_the_mean_target_is_what_a_head_predicts_without_any_weight(loss, mean, logits):
    np.testing.assert_allclose(mean_logits(loss, np.array(mean)), logits, rtol=1e-6)
