"""Ranking metrics against every order of tied items, scikit-learn, and values worked out on paper."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import sparse
from sklearn.metrics import average_precision_score, ndcg_score

from kerasrep.errors import DataError
from kerasrep.evaluation.recommendation import ranking
from kerasrep.evaluation.recommendation.ranking import ranking_scores


def of_one_order(relevant, k):
    """AP, recall and NDCG at K of items in ranked order, straight from their definitions."""
    k, total = min(k, len(relevant)), sum(relevant)
    ap = sum(sum(relevant[: j + 1]) / (j + 1) for j in range(k) if relevant[j]) / min(k, total)
    dcg = sum(relevant[j] / math.log2(j + 2) for j in range(k))
    ideal = sum(1 / math.log2(j + 2) for j in range(min(k, total)))
    return ap, sum(relevant[:k]) / total, dcg / ideal


def brute_force(scores, relevant, k):
    """Mean over all orders that the scores allow."""
    if not any(relevant):
        return (math.nan,) * 3
    found = [
        of_one_order([relevant[i] for i in order], k)
        for order in itertools.permutations(range(len(scores)))
        if all(scores[a] >= scores[b] for a, b in itertools.pairwise(order))
    ]
    return tuple(np.mean(found, axis=0))


def table(scores, relevant, k):
    found = ranking_scores(scores, relevant, k)
    return np.stack([found.ap, found.recall, found.ndcg], axis=1)


def untied(seed=0, n_users=60, n_items=40):
    rng = np.random.default_rng(seed)
    relevant = rng.random((n_users, n_items)) < 0.2
    relevant[:, 0] |= ~relevant.any(axis=1)
    return rng.normal(size=relevant.shape), relevant


def test_values_worked_out_on_paper():
    # Ranked: hit, miss, hit, miss; three relevant items, K = 3.
    found = ranking_scores([[0.9, 0.8, 0.7, 0.6, 0.5]], np.array([[1, 0, 1, 0, 1]]), 3)
    assert found.ap[0] == pytest.approx((1 + 2 / 3) / 3)
    assert found.recall[0] == pytest.approx(2 / 3)
    assert found.ndcg[0] == pytest.approx((1 + 1 / 2) / (1 + 1 / math.log2(3) + 1 / 2))


@settings(max_examples=150, deadline=None)
@given(
    rows=st.integers(1, 6).flatmap(
        lambda n: st.lists(
            st.tuples(
                st.lists(st.sampled_from([-1.0, 0.0, 0.5, 2.0]), min_size=n, max_size=n),
                st.lists(st.integers(0, 1), min_size=n, max_size=n),
            ),
            min_size=1,
            max_size=3,
        )
    ),
    k=st.integers(1, 8),
)
def test_equals_the_mean_over_all_orders_of_ties(rows, k):
    scores, relevant = (np.array(part) for part in zip(*rows, strict=True))
    expected = [brute_force(s, r, k) for s, r in rows]
    np.testing.assert_allclose(table(scores, relevant, k), expected, rtol=1e-12, atol=1e-12)


def test_a_constant_scorer_stands_where_random_rankings_stand_on_average():
    _, relevant = untied(n_users=3)
    constant = table(np.zeros(relevant.shape), relevant, 10)
    rng = np.random.default_rng(1)
    drawn = np.array([table(rng.random(relevant.shape), relevant, 10) for _ in range(4000)])
    error = drawn.std(axis=0) / math.sqrt(len(drawn))
    assert (np.abs(drawn.mean(axis=0) - constant) < 4.5 * error).all()
    np.testing.assert_allclose(constant[:, 1], 10 / 40)


@pytest.mark.parametrize("k", [1, 5, 40, 1000])
@pytest.mark.parametrize("tied", [False, True])
def test_ndcg_is_that_of_scikit_learn(k, tied):
    scores, relevant = untied()
    if tied:
        scores = np.round(scores)
    expected = [
        ndcg_score(relevant[[user]], scores[[user]], k=min(k, scores.shape[1])) for user in range(len(scores))
    ]
    np.testing.assert_allclose(ranking_scores(scores, relevant, k).ndcg, expected, rtol=1e-12)


def test_ap_without_cutoff_and_ties_is_that_of_scikit_learn():
    scores, relevant = untied()
    expected = [average_precision_score(r, s) for s, r in zip(scores, relevant, strict=True)]
    np.testing.assert_allclose(ranking_scores(scores, relevant, 40).ap, expected, rtol=1e-12)


def test_a_perfect_ranking_scores_one_where_k_is_not_below_the_relevant_items():
    _, relevant = untied()
    perfect = table(relevant.astype(float) + np.linspace(0, 0.5, relevant.shape[1]), relevant, 5)
    np.testing.assert_allclose(perfect[:, [0, 2]], 1)
    np.testing.assert_allclose(perfect[:, 1], np.minimum(5, relevant.sum(axis=1)) / relevant.sum(axis=1))


def test_the_reverse_of_a_perfect_ranking_scores_zero():
    relevant = np.array([[1, 1, 0, 0, 0]])
    assert (table(-relevant.astype(float), relevant, 3) == 0).all()


def test_users_without_relevant_items_have_no_score_and_change_no_other():
    scores, relevant = untied()
    expected = table(scores, relevant, 7)
    relevant[[0, 5]] = False
    found = table(scores, relevant, 7)
    assert np.isnan(found[[0, 5]]).all()
    kept = np.setdiff1d(np.arange(len(scores)), [0, 5])
    np.testing.assert_array_equal(found[kept], expected[kept])


def test_k_beyond_the_catalogue_means_all_items():
    scores, relevant = untied()
    np.testing.assert_array_equal(table(scores, relevant, 10**9), table(scores, relevant, 40))
    np.testing.assert_allclose(ranking_scores(scores, relevant, 10**9).recall, 1)


@pytest.mark.parametrize("block_values", [1, 39, 100, 10**6])
def test_blocks_change_nothing_and_relevance_may_be_sparse(monkeypatch, block_values):
    scores, relevant = untied()
    expected = table(scores, relevant, 7)
    monkeypatch.setattr(ranking, "BLOCK_VALUES", block_values)
    np.testing.assert_array_equal(table(scores, sparse.csr_matrix(relevant * 3.0), 7), expected)
    covered = [user for rows in ranking.user_blocks(60, 40) for user in range(60)[rows]]
    assert covered == list(range(60))


@settings(max_examples=60, deadline=None)
@given(seed=st.integers(0, 10**6), k=st.integers(1, 12))
def test_the_order_of_items_and_users_and_the_scale_of_scores_do_not_matter(seed, k):
    rng = np.random.default_rng(seed)
    scores = rng.integers(0, 4, size=(5, 9)).astype(float)
    relevant = rng.random((5, 9)) < 0.4
    expected = table(scores, relevant, k)
    users, items = rng.permutation(5), rng.permutation(9)
    moved = table(np.exp(scores)[users][:, items], relevant[users][:, items], k)
    np.testing.assert_allclose(moved, expected[users], rtol=1e-12)
    assert ((expected >= 0) & (expected <= 1 + 1e-12) | np.isnan(expected)).all()


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_scores_that_are_not_finite_are_refused(wrong):
    scores, relevant = untied()
    scores[3, 4] = wrong
    with pytest.raises(DataError, match="NaN or infinite"):
        ranking_scores(scores, relevant, 5)


@pytest.mark.parametrize(
    ("scores", "relevant", "k"),
    [
        (np.zeros((2, 3)), np.zeros((3, 2)), 1),
        (np.zeros((2, 0)), np.zeros((2, 0)), 1),
        (np.zeros((2, 3)), np.zeros((2, 3)), 0),
        (np.zeros(3), np.zeros(3), 1),
    ],
)
def test_impossible_shapes_and_k_are_refused(scores, relevant, k):
    with pytest.raises(ValueError, match="users, items"):
        ranking_scores(scores, relevant, k)
