"""Baselines as models of catalogues and searches: whole files as evaluate takes them, or segments."""

import shutil

import numpy as np
import pytest
import soundfile

from kerasrep.embedding.catalogue.job import Settings, embed_catalogue
from kerasrep.embedding.catalogue.reading import read_embeddings
from kerasrep.embedding.listening.tracks import Tracks
from kerasrep.embedding.named import named_model
from kerasrep.embedding.representations import open_representation
from kerasrep.embedding.search import open_model, query_of, search
from kerasrep.errors import DataError, ExportError, RecipeError
from kerasrep.sources.readers.vectors import read_vectors

RATE_HZ = 22_050
SECONDS = (3.0, 6.2, 7.1)
MODULE = """
import numpy as np

class Model:
    sample_rate, scene_embedding_size = 22050, 2

def load_model(path=""):
    return Model()

def get_scene_embeddings(audio, model):
    audio = np.asarray(audio)
    return np.stack([audio.mean(1) + 1, audio.std(1)], 1).astype("float32")
"""


@pytest.fixture(scope="module")
def songs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("songs")
    rng = np.random.default_rng(1)
    for number, seconds in enumerate(SECONDS):
        noise = rng.normal(0, 0.05 * (number + 1), (round(seconds * RATE_HZ), 2))
        soundfile.write(folder / f"{number}.wav", noise, RATE_HZ, subtype="FLOAT")
    return folder


@pytest.fixture
def module(tmp_path, monkeypatch):
    (tmp_path / "tiny_teacher.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(tmp_path))
    return "hear:tiny_teacher"


def table_of(model, songs, tmp_path, **settings):
    output = tmp_path / "out.parquet"
    embed_catalogue(model, [songs], output, Settings(**settings))
    return read_embeddings(output)


def test_whole_files_get_the_vectors_that_evaluate_compares(songs, tmp_path):
    table = table_of("mfcc", songs, tmp_path)
    paths = [songs / f"{number}.wav" for number in range(3)]
    expected = [result.embedding for result in open_representation("mfcc").embed_files(paths)]
    assert table.paths == tuple(map(str, paths)) and table.start_seconds is None
    np.testing.assert_array_equal(table.embeddings, expected)
    np.testing.assert_allclose(table.seconds, SECONDS, atol=1e-3)
    assert (table.about.model, table.about.pool, table.columns[119]) == ("mfcc", "whole", "mfcc/119")


def test_with_a_hop_each_segment_is_embedded_by_itself(songs, module, tmp_path):
    table = table_of(module, songs, tmp_path, hop_seconds=1.0)
    own = [row for row, path in enumerate(table.paths) if path.endswith("1.wav")]
    audio = soundfile.read(songs / "1.wav", dtype="float32")[0].mean(1)
    np.testing.assert_allclose(table.start_seconds[own], np.arange(5))
    for row, start in zip(own[:4], range(4), strict=True):
        segment = audio[start * RATE_HZ :][: round(2.5 * RATE_HZ)]
        expected = [segment.mean() + 1, segment.std()]
        np.testing.assert_allclose(table.embeddings[row], expected, rtol=1e-4)
    taught = read_vectors(tmp_path / "out.parquet", None, None, None, None, "teacher")
    np.testing.assert_allclose(taught.times[1] - taught.times[0], 2.5)
    assert taught.vectors.shape == (len(table.paths), 2)


def test_vectors_teach_alike_from_npz_and_parquet(songs, module, tmp_path):
    tables = []
    for name in ("v.npz", "v.parquet"):
        embed_catalogue(module, [songs], tmp_path / name, Settings(hop_seconds=1.0))
        tables.append(read_vectors(tmp_path / name, None, None, None, None, "teacher"))
    (first, second) = tables
    assert list(first.keys) == list(second.keys)
    np.testing.assert_array_equal(first.vectors, second.vectors)
    np.testing.assert_array_equal(first.times, second.times)
    np.savez(tmp_path / "odd.npz", paths=np.array(["a", "b"]), embeddings=np.zeros((3, 2), np.float32))
    with pytest.raises(DataError, match=r"odd.npz: has \(2,\) paths for embeddings \[3, 2\]"):
        read_vectors(tmp_path / "odd.npz", None, None, None, None, "teacher")


def test_a_search_takes_the_baseline_that_the_table_names(songs, module, tmp_path):
    table = table_of(module, songs, tmp_path)
    tracks, other = Tracks(table), tmp_path / "other.wav"
    shutil.copy(songs / "1.wav", other)
    for path, nearest in ((songs / "1.wav", (0, 2)), (other, (1,))):
        query = query_of(tracks, path, lambda: open_model(table, None))
        np.testing.assert_allclose(query.vectors[0], table.embeddings[1], rtol=1e-6)
        (found,) = search(tracks, [query], n_neighbours=len(nearest))
        assert {neighbour.path for neighbour in found} == {str(songs / f"{n}.wav") for n in nearest}
    with pytest.raises(RecipeError, match="takes whole files; leave out --at"):
        query_of(tracks, other, lambda: open_model(table, None), (0.0, 1.0))
    with pytest.raises(RecipeError, match="mfcc: is not the model that made the index"):
        open_model(table, "mfcc")


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"layers": "all"}, ExportError, "layers conv1.*the model gives last alone"),
        ({"sources": ("tag",)}, RecipeError, "no such branch; it has mfcc"),
        pytest.param(
            {"decoder": "tensorflow-io"},
            RecipeError,
            "mfcc takes whole files by soundfile alone",
            marks=pytest.mark.io,
        ),
    ],
)
def test_what_a_baseline_cannot_do_is_refused(settings, error, message, songs, tmp_path):
    with pytest.raises(error, match=message):
        embed_catalogue("mfcc", [songs], tmp_path / "x.parquet", Settings(**settings))
    assert not (tmp_path / "x.parquet").exists()


def test_names_that_are_no_model_are_refused(tmp_path, monkeypatch):
    monkeypatch.setenv("MUSICNN_WHEEL", str(tmp_path))
    with pytest.raises(DataError, match=r"musicnn: .* cannot be read"):
        named_model("musicnn")
    with pytest.raises(DataError, match="there is no module 'no_such_module'"):
        named_model("hear:no_such_module")
    with pytest.raises(ExportError, match="random: does not exist"):
        named_model("random")
