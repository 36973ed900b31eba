import numpy as np
import pytest
from sklearn.metrics import silhouette_score

from kerasrep.embedding.listening import space as projection
from kerasrep.embedding.listening.space import plane


def groups(n, n_groups, seed=0):
    """Unit rows near one of some centres, and which."""
    rng = np.random.default_rng(seed)
    which = np.arange(n) % n_groups
    rows = rng.normal(size=(n_groups, 20))[which] + rng.normal(0, 0.2, (n, 20))
    return (rows / np.linalg.norm(rows, axis=1, keepdims=True)).astype(np.float32), which


@pytest.fixture(params=[pytest.param("umap", marks=pytest.mark.slow), "t-SNE"])
def way(request, monkeypatch):
    if request.param == "umap":
        pytest.importorskip("umap")
    else:
        monkeypatch.setattr(projection, "find_spec", lambda name: None)
    return request.param


def test_groups_stay_together_and_every_call_gives_the_same(way):
    rows, which = groups(60, 4)
    places, how = plane(rows)
    assert way.lower() in how.lower() and places.shape == (60, 2)
    assert silhouette_score(places, which) > 0.6
    np.testing.assert_array_equal(plane(rows)[0], places)


def test_of_many_points_some_are_put_among_their_nearest(monkeypatch):
    monkeypatch.setattr(projection, "find_spec", lambda name: None)
    monkeypatch.setattr(projection, "MOST_TSNE", 50)
    rows, which = groups(200, 4)
    places, how = plane(rows)
    assert silhouette_score(places, which) > 0.6 and "of 50 tracks" in how


@pytest.mark.parametrize("n", [1, 2, 7, 8])
def test_few_points_have_places_too(n, monkeypatch):
    monkeypatch.setattr(projection, "find_spec", lambda name: None)
    assert np.isfinite(plane(groups(n, 2)[0])[0]).all()


@pytest.mark.filterwarnings("error")
def test_tracks_that_are_all_alike_stand_in_one_place():
    places, how = plane(np.zeros((12, 20), np.float32))
    assert places.tolist() == [[0, 0]] * 12 and "same vector" in how
