from dataclasses import replace

import numpy as np
import pytest
from catalogues import table_of

from kerasrep.embedding.listening.nearest import duplicates
from kerasrep.embedding.listening.tracks import Tracks


def catalogue():
    """Twenty tracks; 20 is track 3 again, 21 and 22 are track 7 again."""
    rng = np.random.default_rng(0)
    vectors = rng.uniform(0, 1, (20, 64))
    copies = vectors[[3, 7, 7]] + rng.normal(0, 0.01, (3, 64))
    return table_of(np.concatenate([vectors, copies]).astype(np.float32), [str(n) for n in range(23)])


def test_every_pair_of_copies_is_found_and_no_other():
    pairs = {(pair.first, pair.second) for pair in duplicates(Tracks(catalogue()))}
    assert pairs == {("3", "20"), ("7", "21"), ("7", "22"), ("21", "22")}


def test_similarities_are_those_of_centred_vectors():
    table = catalogue()
    centred = table.embeddings - table.embeddings.mean(axis=0)
    for pair in duplicates(Tracks(table)):
        one, other = centred[int(pair.first)], centred[int(pair.second)]
        expected = one @ other / np.linalg.norm(one) / np.linalg.norm(other)
        assert pair.similarity == pytest.approx(expected, abs=1e-5)


def test_tracks_of_other_lengths_are_no_copies():
    seconds = np.full(23, 100.0)
    seconds[20], seconds[21] = 101.9, 103.0  # 2 percent, and more
    pairs = {(pair.first, pair.second) for pair in duplicates(Tracks(replace(catalogue(), seconds=seconds)))}
    assert pairs == {("3", "20"), ("7", "22")}


def test_a_pair_below_the_certain_similarity_has_to_be_mutual():
    rng = np.random.default_rng(1)
    vectors = rng.uniform(0, 1, (30, 64))
    vectors[1] = vectors[0] + rng.normal(0, 0.03, 64)
    vectors[2] = vectors[0] + rng.normal(0, 0.15, 64)  # near 0, which has a nearer one
    table = table_of(vectors.astype(np.float32), [str(n) for n in range(30)])
    centred = vectors - vectors.mean(axis=0)
    assert 0.7 < centred[0] @ centred[2] / np.linalg.norm(centred[0]) / np.linalg.norm(centred[2]) < 0.97
    assert {(pair.first, pair.second) for pair in duplicates(Tracks(table))} == {("0", "1")}
