import numpy as np
import pytest
from catalogues import COLUMNS, grouped_vectors, read_tracks, table_of
from sklearn.metrics.pairwise import cosine_similarity

from kerasrep.embedding.listening import space as space_module
from kerasrep.embedding.listening.space import Space, branch_spaces
from kerasrep.embedding.listening.tracks import Tracks
from kerasrep.errors import DataError


def centred_cosines(vectors):
    centred = vectors.astype(np.float64) - vectors.astype(np.float64).mean(axis=0)
    return cosine_similarity(centred)


def test_similarities_are_cosines_of_centred_rows(tmp_path):
    tracks = read_tracks(tmp_path)
    vectors = tracks.table.embeddings
    found = [Space(tracks).between(vector[None], np.arange(40)) for vector in vectors]
    np.testing.assert_allclose(found, centred_cosines(vectors), atol=1e-5)
    best = Space(tracks).between(vectors[:2], np.arange(40))
    np.testing.assert_allclose(best, centred_cosines(vectors)[:2].max(axis=0), atol=1e-5)


def test_a_branch_is_its_columns_alone(tmp_path):
    tracks = read_tracks(tmp_path)
    vectors = tracks.table.embeddings
    spaces = branch_spaces(tracks)
    assert [space.name for space in spaces] == ["tag", "artist"]
    for space in spaces:
        columns = [n for n, name in enumerate(COLUMNS) if f"/{space.name}/" in name]
        found = [space.between(vector[None], np.arange(40)) for vector in vectors]
        np.testing.assert_allclose(found, centred_cosines(vectors[:, columns]), atol=1e-5)


def test_columns_of_one_branch_or_without_names_have_no_branches():
    vectors = grouped_vectors(10, 2)
    assert branch_spaces(Tracks(table_of(vectors, [str(n) for n in range(10)]))) == []


def test_percentiles_count_pairs_that_are_less_similar(tmp_path):
    tracks = read_tracks(tmp_path)
    pairs = np.sort(centred_cosines(tracks.table.embeddings)[~np.eye(40, dtype=bool)])
    some = pairs[[10, 700, 1300, 1550]].astype(np.float32)
    expected = [100 * np.mean(pairs < one) for one in some]
    np.testing.assert_allclose(Space(tracks).percentile(some), expected, atol=0.2)
    assert Space(tracks).percentile(np.float32([-1.1, 1.1])).tolist() == [0, 100]


def test_percentiles_are_tenths_that_equal_similarities_share(tmp_path):
    space = Space(read_tracks(tmp_path))
    largest = space.quantiles[-1]
    found = space.percentile(np.float32([largest, largest + 2e-5, largest + 1e-3, 0.12341, 0.12344]))
    assert found[:3].tolist() == [99.9, 99.9, 100] and found[3] == found[4] == round(found[3], 1)


def test_too_few_pairs_have_no_percentiles():
    tracks = Tracks(table_of(grouped_vectors(7, 2), list("abcdefg")))
    assert np.isnan(Space(tracks).percentile(np.float32([0.1, 0.9]))).all()


def test_pairs_of_segments_are_a_mean_and_the_nearest_segment_of_another_track():
    vectors = grouped_vectors(36, 9)
    paths = [str(n // 3) for n in range(36)]
    tracks = Tracks(table_of(vectors, paths, 2.5 * (np.arange(36.0) % 3)))
    centre = vectors.mean(axis=0)
    means = vectors.reshape(12, 3, -1).mean(axis=1)
    all_pairs = cosine_similarity(means - centre, vectors - centre).reshape(12, 12, 3).max(axis=2)
    expected = np.quantile(all_pairs[~np.eye(12, dtype=bool)], space_module.SHARES)
    np.testing.assert_allclose(Space(tracks).quantiles, expected, atol=1e-5)
    np.testing.assert_allclose(tracks.vectors, means, atol=1e-6)


def test_the_typical_segment_of_a_table_of_segments_is_nearest_to_the_mean():
    vectors = np.float32([[0, 9], [1, 1], [2, 2], [9, 0], [5, 5], [6, 6]])
    tracks = Tracks(table_of(vectors, list("aaabbb"), np.float64([0, 1, 2, 0, 1, 2])))
    assert tracks.typical_seconds.tolist() == [2, 1]


def test_a_table_that_says_nothing_of_it_plays_from_the_middle():
    assert Tracks(table_of(grouped_vectors(4, 2), list("abcd"))).typical_seconds.tolist() == [4] * 4


def test_few_tracks_are_not_centred():
    tracks = Tracks(table_of(np.float32([[1, 0], [1, 1]]), ["a", "b"]))
    found = Space(tracks).between(np.float32([[2, 0]]), np.array([0, 1]))
    np.testing.assert_allclose(found, [1, 0.5**0.5], rtol=1e-6)


def test_a_zero_embedding_points_nowhere():
    with pytest.raises(DataError, match="points nowhere"):
        Space(Tracks(table_of(np.float32([[1, 0], [0, 0]]), ["a", "b"]))).unit(np.float32([[0, 0]]))
