import shutil

import numpy as np
import pytest

from kerasrep.embedding.baselines.untrained import load_untrained
from kerasrep.errors import ExportError
from kerasrep.model.export_trunk import read_export_scaler
from kerasrep.storage.export_directory import SAVED_MODEL_FILE


def segments(seed=0, count=3):
    rng = np.random.default_rng(seed)
    loudness = rng.uniform(0.01, 0.5, (count, 1, 1))
    return (loudness * rng.normal(0, 1, (count, 55_125, 2))).astype(np.float32)


@pytest.fixture(scope="module")
def of_run(small_run):
    """Seed 5 of the network of `small_run`."""
    return load_untrained(small_run.run.root, 5)


@pytest.fixture(scope="module")
def shared_export(make_run, tmp_path_factory):
    """An export of one shared branch whose mel bands all have another mean and deviation."""
    from kerasrep.model.restore import TrainedRun, save_scaler
    from kerasrep.model.strategies import Scaler, network_of
    from kerasrep.serving.export import export_run

    trained = make_run("ms-sr@fc")
    rng = np.random.default_rng(1)
    scaler = Scaler(rng.uniform(-60, 5, 128).astype(np.float32), rng.uniform(0.5, 30, 128).astype(np.float32))
    network = network_of(trained.recipe, {"year": 5, "tag": 5}, scaler)
    save_scaler(trained.run.scaler, scaler)
    exported = TrainedRun(trained.run, trained.recipe, network)
    return export_run(exported, tmp_path_factory.mktemp("exported"), "shared"), trained.run.root, scaler


def test_the_standardisation_of_an_export_is_read_from_its_graph(shared_export):
    version, _, expected = shared_export
    found = read_export_scaler(version, 128)
    np.testing.assert_array_equal(found.mean, expected.mean)
    np.testing.assert_allclose(found.sd, expected.sd, rtol=1e-6)


def test_seeds_give_other_networks_that_tell_recordings_apart(small_run, of_run):
    waveforms = segments(1, 6)
    first, other = (m.embed_segments(waveforms) for m in (of_run, load_untrained(small_run.run.root, 6)))
    assert np.abs(first - other).max() > 0.1 * np.abs(first).max()
    for found in (first, other):
        assert np.isfinite(found).all()
        assert (found.std(axis=0) > 1e-6).mean() > 0.25  # the ReLU of some features never opens


def test_every_form_of_the_reference_gives_the_network_before_training(small_run, small_export, of_run):
    from kerasrep.model.strategies import Scaler, network_of

    scaler = Scaler(np.full(128, -30, np.float32), np.full(128, 15, np.float32))  # as in `make_run`
    recipe = small_run.recipe.model_copy(update={"seed": 5})
    at_step_0 = network_of(recipe, {"year": 5, "tag": 5}, scaler)
    waveforms = segments()
    expected = at_step_0.embedder(waveforms, training=False)["embedding"].numpy()
    for model in (of_run, load_untrained(small_export, 5), load_untrained(small_run.run.model, 5)):
        assert (model.sample_rate_hz, model.segment_samples, model.branches) == (
            22_050,
            55_125,
            ("year", "tag"),
        )
        found = model.embed_segments(waveforms)
        np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-6)


def test_a_shared_network_and_its_bands_are_the_references(shared_export):
    version, root, _ = shared_export
    waveforms = segments()
    found = load_untrained(version, 0).embed_segments(waveforms)
    assert found.shape == (3, 256)
    # The exported weights are those of step 0, so the export itself says what is expected.
    from kerasrep.embedding.models import load_export

    np.testing.assert_allclose(found, load_export(version).embed_segments(waveforms), rtol=1e-3, atol=1e-6)
    np.testing.assert_allclose(found, load_untrained(root, 0).embed_segments(waveforms), rtol=1e-3, atol=1e-6)


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda path: path.write_bytes(b"\xff" * 1000), "cannot be read"),
        (lambda path: path.write_bytes(b""), "cannot be read"),
        (
            lambda path: path.write_bytes(path.read_bytes().replace(b"standardise", b"standardisf")),
            "standard",
        ),
    ],
)
def test_an_export_without_standardisation_is_told_in_one_line(tmp_path, small_export, damage, said):
    version = shutil.copytree(small_export, tmp_path / "1")
    damage(version / SAVED_MODEL_FILE)
    with pytest.raises(ExportError) as caught:
        load_untrained(version, 0)
    assert said in str(caught.value)
    assert "give the run" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_card_with_a_recipe_of_another_version_is_told_in_one_line(tmp_path, small_export):
    from kerasrep.storage.export_directory import card_path

    version = shutil.copytree(small_export, tmp_path / "1")
    card = card_path(version)
    card.write_text(card.read_text().replace('"n_mels": 128', '"n_bands": 128'))
    with pytest.raises(ExportError, match="recipe of another version"):
        load_untrained(version, 0)
