import numpy as np
import pytest

from kerasrep.embedding.listening import nearest
from kerasrep.embedding.listening.nearest import NearestRows


def unit_rows(n, dimension, seed=0):
    rows = np.random.default_rng(seed).normal(size=(n, dimension)).astype(np.float32)
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


def test_exact_rows_are_those_of_brute_force():
    rows, queries = unit_rows(300, 16), unit_rows(20, 16, 1)
    found, similarities = NearestRows(rows, len(queries)).find(queries, 7)
    expected = np.argsort(-(queries @ rows.T), axis=1)[:, :7]
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_allclose(similarities, np.take_along_axis(queries @ rows.T, expected, 1), atol=1e-5)


def test_more_than_there_are_gives_all():
    assert NearestRows(unit_rows(5, 4), 1).find(unit_rows(1, 4), 9)[0].shape == (1, 5)


def test_the_graph_finds_nearly_all_of_them(monkeypatch):
    pytest.importorskip("usearch")
    monkeypatch.setattr(nearest, "GRAPH_ROWS", 2_000)
    monkeypatch.setattr(nearest, "GRAPH_QUERIES", 100)
    rows, queries = unit_rows(4_000, 16), unit_rows(200, 16, 1)
    finder = NearestRows(rows, len(queries))
    assert not finder.is_exact and NearestRows(rows, 5).is_exact
    found, similarities = finder.find(queries, 10)
    expected = np.argsort(-(queries @ rows.T), axis=1)[:, :10]
    shared = [len(set(a) & set(b)) for a, b in zip(found.tolist(), expected.tolist(), strict=True)]
    assert np.mean(shared) >= 9.8
    np.testing.assert_allclose(similarities, np.take_along_axis(queries @ rows.T, found, 1), atol=1e-3)
