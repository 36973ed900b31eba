"""Whitening as the last part of a training: what is measured, where it is kept, that all forms have it."""

import dataclasses

import numpy as np
import pytest

from kerasrep.api import train_prepared
from kerasrep.data.pools import TrackPools
from kerasrep.embedding.baselines.untrained import load_untrained
from kerasrep.embedding.models import load_export, load_keras_file, load_run
from kerasrep.embedding.representations import model_fingerprint
from kerasrep.errors import RunError
from kerasrep.model.restore import restore_run
from kerasrep.model.start import read_start, restore_export
from kerasrep.model.whitening import OF_MEAN, whitening_in
from kerasrep.recipe.file import read_recipe
from kerasrep.serving.export import export_run
from kerasrep.storage.export_directory import read_card
from kerasrep.storage.run_directory import RunDirectory, read_arrays
from kerasrep.training import whitening
from kerasrep.training.inputs import TrainingData
from kerasrep.training.train import Trainer
from kerasrep.training.whitening import tracks_to_whiten_by


@pytest.fixture(scope="module")
def recipe(tone_recipe):
    return tone_recipe(
        "ms-cr@6",
        audio={"segment_seconds": 1.25},
        model={"width": 0.0625},
        training={"epochs": 20, "whitening": 4, "tensorboard": "scalars", "validate_every_epochs": 20},
        export={"default_layers": "all"},
    )


@pytest.fixture(scope="module")
def data(recipe, prepared_tones):
    return TrainingData.open(recipe, prepared_tones)


@pytest.fixture(scope="module")
def trained(recipe, prepared_tones, tmp_path_factory):
    run = RunDirectory(tmp_path_factory.mktemp("whitened"))
    train_prepared(recipe, prepared_tones, run, show_progress=False, say=lambda line: None)
    return restore_run(run.root)


@pytest.fixture(scope="module")
def segments(recipe, data):
    """All segments of the tracks that it was measured by, a list a track."""
    from kerasrep.data.crops import read_crops

    size, found = recipe.audio.segment_samples, []
    for row in tracks_to_whiten_by(recipe, data):
        samples = int(data.index.samples[row])
        starts = np.linspace(0, samples - size, samples // size).astype(np.int64)
        found.append(
            read_crops(data.index, np.full(len(starts), row), starts, size).astype(np.float32) / 32768
        )
    return found


def test_values_are_standardised_over_the_segments_of_training_tracks(trained, segments):
    model, layout = load_run(trained.run.root).arranged()
    assert layout.layers == "all"
    values = np.concatenate([model.embed_segments(track) for track in segments])
    arrays, place, varying = read_arrays(trained.run.whitening), 0, 0
    for piece in layout.pieces:
        own = values[:, place : place + piece.width].astype(np.float64)
        place += piece.width
        name = f"whitening/{piece.layer}_{piece.branch}"
        taken = arrays[f"{name}_directions"].astype(np.float64)
        left = own @ np.linalg.inv(np.eye(piece.width) - taken @ taken.T)  # before directions were shrunk
        np.testing.assert_allclose(left.mean(0), 0, atol=0.01)
        mean, scale = arrays[f"{name}_mean_scale"]
        kept = np.abs(mean * scale) < 0.99 / OF_MEAN  # others are nearly constant, and are divided by more
        varies = kept & (scale < 0.99 * scale.max())
        np.testing.assert_allclose(left.std(0)[varies], 1, atol=0.01)
        assert (left.std(0) < 1.01).all()
        varying += varies.sum()
    assert varying > values.shape[1] / 4


@pytest.fixture(scope="module")
def version(trained, tmp_path_factory):
    return export_run(trained, tmp_path_factory.mktemp("exported"), "whitened")


def test_run_keras_file_and_export_give_the_same(trained, version, segments):
    again = restore_export(version)
    models = {
        "run": load_run(trained.run.root),
        "keras": load_keras_file(trained.run.model),
        "export": load_export(version),
    }
    expected = models["run"].arranged(layers="all")[0].embed_segments(segments[0])
    for name, model in models.items():
        found = model.arranged(layers="all")[0].embed_segments(segments[0])
        np.testing.assert_allclose(found, expected, atol=2e-3, err_msg=name)
    np.testing.assert_allclose(
        again.embedder(segments[0])["embedding"],
        trained.network.embedder(segments[0])["embedding"],
        atol=1e-3,
    )
    assert models["export"].default_layers == "all"


def test_a_trunk_to_begin_with_is_the_one_that_was_trained(trained, version, tone_recipe):
    for form in (trained.run.root, trained.run.model, version):
        start = read_start(
            tone_recipe(
                "ms-cr@6", audio={"segment_seconds": 1.25}, model={"width": 0.0625, "start": str(form)}
            )
        )
        assert not any("whitening" in name for of in start.weights.values() for name in of)
        assert {"shared", "self", "tag", "bpm"} >= start.weights.keys() >= {"shared"}


def test_a_run_that_is_trained_on_is_refused_until_it_has_ended(trained, recipe, prepared_tones, monkeypatch):
    """What was measured on earlier weights must not be put behind later ones."""

    def resume():
        train_prepared(
            recipe, prepared_tones, trained.run, resume=True, show_progress=False, say=lambda line: None
        )

    content, before = trained.run.whitening.read_bytes(), model_fingerprint(trained.run.root)
    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "_train", lambda self: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            resume()
    with pytest.raises(RunError, match=r"has no whitening\.npz, its training has not ended; resume it"):
        restore_run(trained.run.root)
    assert model_fingerprint(trained.run.root) != before
    read_start(
        recipe.model_copy(update={"model": recipe.model.model_copy(update={"start": str(trained.run.root)})})
    )  # which takes the trunk alone
    resume()
    assert trained.run.whitening.read_bytes() == content
    assert model_fingerprint(trained.run.root) == before


def test_an_untrained_network_of_its_kind_is_not_whitened(trained, version, segments):
    found = [
        load_untrained(form, 5).arranged(layers="all")[0].embed_segments(segments[0])
        for form in (trained.run.root, trained.run.model, version)
    ]
    for values in found[1:]:
        np.testing.assert_allclose(values, found[0], rtol=1e-4, atol=1e-5)


def test_half_precision_may_move_whitened_vectors_by_more(trained, tmp_path):
    card = read_card(export_run(trained, tmp_path, "half", weights="float16"))
    assert card.check["tolerance"] == 1e-2  # a cosine of 0.99995
    assert 0 < card.check["largest_difference"] <= 1e-2


def test_tracks_are_drawn_from_pools_by_their_shares(recipe, data, monkeypatch):
    monkeypatch.setattr(whitening, "MAX_TRACKS", 12)
    of_row = (np.arange(len(data.index.samples)) % 2).astype(np.int8)
    pooled = dataclasses.replace(data, pools=TrackPools(of_row, (0.75, 0.25)))
    rows = tracks_to_whiten_by(recipe, pooled)
    assert len(set(rows.tolist())) == len(rows) == 12
    assert set(rows.tolist()) <= set(data.train.rows.tolist())
    assert np.bincount(of_row[rows]).tolist() == [9, 3]


def test_with_too_few_tracks_of_two_segments_a_run_is_not_whitened_and_says_so(
    tone_recipe, prepared_tones, tmp_path
):
    recipe = tone_recipe("ms-cr@6", training={"epochs": 1, "whitening": 4})  # tones have less than 5 s
    run, said = RunDirectory(tmp_path), []
    train_prepared(recipe, prepared_tones, run, show_progress=False, say=said.append)
    assert said[0] == (
        "note: training.whitening: only 0 training tracks of two segments (5 s) or more, 10 are needed: "
        "embeddings are not whitened"
    )
    assert read_recipe(run.recipe).training.whitening == 0
    assert not run.whitening.exists()
    assert whitening_in(restore_run(run.root).network.embedder) is None
    train_prepared(recipe, prepared_tones, run, resume=True, show_progress=False, say=said.append)  # the same
