import pickle

import numpy as np
import pytest
import soundfile
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerasrep.embedding import AudioEmbedder, transformer
from kerasrep.errors import DataError, ExportError, RecipeError
from kerasrep.storage import export_directory as starter

RATE_HZ = 22_050


@pytest.fixture(scope="module")
def sounds(tmp_path_factory):
    """Paths of low and high tones in turn, and which is which."""
    folder = tmp_path_factory.mktemp("sounds")
    paths, labels = [], []
    for number in range(12):
        label = ("low", "high")[number % 2]
        time = np.arange(int((0.5 + 0.4 * number) * RATE_HZ)) / RATE_HZ
        tone = 0.3 * np.sin(2 * np.pi * (150 if label == "low" else 2_500) * (1 + number / 50) * time)
        noise = np.random.default_rng(number).normal(0, 0.02, tone.shape)
        path = folder / f"{number:02d}.wav"
        soundfile.write(path, tone + noise, RATE_HZ, subtype="FLOAT")
        paths.append(str(path))
        labels.append(label)
    return paths, np.array(labels)


@pytest.fixture(scope="module")
def embedder(small_export):
    return AudioEmbedder(small_export)


def test_paths_become_the_rows_that_each_file_gives_alone(embedder, sounds, small_model):
    paths, _ = sounds
    matrix = embedder.fit_transform(paths)
    assert matrix.dtype == np.float32
    np.testing.assert_allclose(matrix, [small_model.embed_file(path) for path in paths], atol=1e-6)
    assert embedder.get_feature_names_out().tolist() == list(small_model.columns)
    assert embedder.n_features_out_ == matrix.shape[1]
    column = np.array(paths)[:, None]
    np.testing.assert_array_equal(embedder.transform(column), matrix)


def test_waveforms_of_any_form_become_rows(embedder, sounds, small_export, small_model):
    waveforms = [soundfile.read(path, dtype="float32")[0] for path in sounds[0]]
    expected = embedder.fit_transform(sounds[0])
    np.testing.assert_allclose(embedder.transform(waveforms), expected, atol=1e-6)
    stereo = [np.stack([wave, wave], axis=1) for wave in waveforms]
    np.testing.assert_allclose(embedder.transform(stereo), expected, atol=1e-6)
    equal = np.stack([wave[:9000] for wave in waveforms])
    rows = embedder.transform(equal)
    np.testing.assert_array_equal(rows, embedder.transform(equal[:, :, None]))
    other = AudioEmbedder(small_export, sample_rate_hz=44_100).fit(None).transform(equal[:2])
    np.testing.assert_allclose(other[0], small_model.embed(equal[0], 44_100), atol=1e-6)


def test_a_clone_and_a_pickle_carry_no_model(embedder, sounds):
    copy = clone(embedder.fit(None))
    assert copy.get_params() == embedder.get_params()
    assert not hasattr(copy, "columns_")
    packed = pickle.dumps(embedder)
    assert len(packed) < 100_000
    paths = sounds[0][:2]
    np.testing.assert_array_equal(pickle.loads(packed).transform(paths), embedder.transform(paths))


def test_a_grid_is_searched_over_its_own_parameters_and_those_after_it(embedder, sounds):
    paths, labels = sounds
    pipeline = make_pipeline(clone(embedder), StandardScaler(), LogisticRegression())
    grid = {
        "audioembedder__pool": ["mean", "mean-std"],
        "audioembedder__sources": [None, ["tag"]],
        "logisticregression__C": [1.0],
    }
    search = GridSearchCV(pipeline, grid, cv=2, error_score="raise").fit(paths, labels)
    assert search.score(paths, labels) == 1.0
    assert search.best_estimator_[:-1].get_feature_names_out()[0].startswith("mean/")
    assert transformer._load.cache_info().hits > 8


def test_parameters_choose_what_is_kept(small_export, sounds):
    paths = sounds[0][-2:]
    full = AudioEmbedder(small_export).fit(paths)
    mean = AudioEmbedder(small_export, pool="mean", sources=["tag"]).fit(paths)
    names = full.get_feature_names_out().tolist()
    kept = [names.index(name) for name in mean.get_feature_names_out()]
    assert len(kept) == 256
    np.testing.assert_array_equal(mean.transform(paths), full.transform(paths)[:, kept])
    for sources in (np.array(["tag", "year"]), ("tag", "year"), {"year", "tag"}):
        same = AudioEmbedder(small_export, sources=sources).fit(paths)
        assert same.get_feature_names_out().tolist() == names
    dense = AudioEmbedder(small_export, hop_seconds=np.float32(0.5)).fit(paths)
    assert not np.allclose(dense.transform(paths), full.transform(paths))


@pytest.mark.parametrize(
    ("options", "kind", "said"),
    [
        ({"pool": "none"}, RecipeError, "a recording is one row"),
        ({"pool": "max"}, RecipeError, "give mean-std or mean"),
        ({"sources": ["artist"]}, RecipeError, "no such branch"),
        ({"hop_seconds": -1}, RecipeError, "hop of -1 s"),
        ({"hop_seconds": "0.5"}, RecipeError, "hop of '0.5': give seconds"),
        ({"hop_seconds": True}, RecipeError, "hop of True"),
        ({"hop_seconds": 10**400}, RecipeError, "hop of 1000"),
        ({"hop_seconds": np.ones(2)}, RecipeError, "hop of array"),
        ({"sources": "tag"}, RecipeError, "sources 'tag': give a list of names"),
        ({"sources": 5}, RecipeError, "sources 5: give a list"),
        ({"sources": ["tag", 5]}, RecipeError, "give a list"),
        ({"sources": np.array([])}, RecipeError, "none named"),
        ({"pool": ["mean"]}, RecipeError, "a recording is one row"),
        ({"pool": np.array(["mean", "none"])}, RecipeError, "a recording is one row"),
        ({"model": 5}, ExportError, "model 5: is not a path"),
        ({"model": "n" * 300}, ExportError, "File name too long"),
        ({"model": "nowhere"}, ExportError, "does not exist"),
    ],
)
def test_impossible_parameters_are_told_when_fitted(small_export, options, kind, said):
    with pytest.raises(kind, match=said):
        AudioEmbedder(**{"model": small_export} | options).fit([])


def test_what_is_no_recording_is_told(embedder, sounds, tmp_path):
    embedder.fit(None)
    (tmp_path / "bad.wav").write_text("no audio")
    for wrong, said in (
        ([*sounds[0], str(tmp_path / "bad.wav")], "bad.wav: is no audio"),
        ([sounds[0][0], np.zeros(5)], "paths and waveforms"),
        (sounds[0][0], "is one path"),
        ([np.zeros(9, np.float32), np.full(9, np.nan)], r"X\[1\]: waveform: has NaN"),
        (np.zeros(9), "has shape"),
        (np.array([["a", "b"]]), "2 columns"),
        (7, "is int"),
    ):
        with pytest.raises(DataError, match=said):
            embedder.transform(wrong)


def test_without_a_model_the_trunk_that_comes_along_is_used(monkeypatch, tmp_path, small_export, sounds):
    (tmp_path / starter.STARTER).symlink_to(small_export.parent)
    monkeypatch.setattr(starter, "STARTER_PLACES", (tmp_path,))
    paths = sounds[0][:1]
    found = AudioEmbedder().fit_transform(paths)
    np.testing.assert_array_equal(found, AudioEmbedder(small_export).fit_transform(paths))
    monkeypatch.setattr(starter, "STARTER_PLACES", ())
    with pytest.raises(ExportError, match="lacks the trunk that comes with kerasrep"):
        AudioEmbedder().fit(paths)
