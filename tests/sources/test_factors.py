"""pLSA against a dense brute force, planted structure, and scikit-learn's KL-NMF."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import sparse
from scipy.special import xlogy

from kerasrep.errors import DataError
from kerasrep.sources import passes
from kerasrep.sources.factors import fit_plsa, fold_in


def brute_force(counts, doc_topic, term_topic, n_updates):
    """EM as published, with the whole posterior P(z|d,w) in memory."""
    likelihoods = []
    for _ in range(n_updates):
        joint = doc_topic[:, None, :] * term_topic[None, :, :]  # [documents, terms, topics]
        predicted = joint.sum(axis=2)
        likelihoods.append((counts * np.log(predicted)).sum())
        weighted = counts[:, :, None] * joint / predicted[:, :, None]
        term_topic = weighted.sum(axis=0) / weighted.sum(axis=(0, 1))
        doc_topic = weighted.sum(axis=1) / weighted.sum(axis=(1, 2))[:, None]
    likelihoods.append((counts * np.log(doc_topic @ term_topic.T)).sum())
    return doc_topic, term_topic, likelihoods


def random_counts(seed=0, shape=(30, 20), rate=0.7):
    counts = np.random.default_rng(seed).poisson(rate, size=shape).astype(float)
    counts[counts.sum(axis=1) == 0, 0] = 1
    return counts


def random_start(shape, n_topics, seed=1):
    rng = np.random.default_rng(seed)
    return (
        rng.dirichlet(np.ones(n_topics), size=shape[0]),
        rng.dirichlet(np.ones(shape[1]), size=n_topics).T,
    )


def planted(seed=0, n_groups=4, documents=40, terms=15):
    """Each group of documents draws nine in ten of its terms from its own vocabulary."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), documents)
    owner = np.repeat(np.arange(n_groups), terms)
    rates = np.where(group[:, None] == owner[None, :], 0.9, 0.1 / (n_groups - 1)) * 40 / terms
    return sparse.csr_matrix(rng.poisson(rates).astype(float)), group, owner


def test_equals_brute_force_em_from_the_same_start():
    counts = random_counts()
    start = random_start(counts.shape, 5)
    ours = fit_plsa(sparse.csr_matrix(counts), 5, n_iterations=40, tolerance=0, initial=start)
    doc_topic, term_topic, likelihoods = brute_force(counts, *start, 40)
    np.testing.assert_allclose(ours.doc_topic, doc_topic, atol=1e-9)
    np.testing.assert_allclose(ours.term_topic, term_topic, atol=1e-9)
    np.testing.assert_allclose(ours.log_likelihoods, likelihoods, rtol=1e-12)


def test_one_update_by_hand():
    """Two documents, two terms, two topics; worked out on paper."""
    start = ([[0.5, 0.5], [0.5, 0.5]], [[0.8, 0.4], [0.2, 0.6]])
    fitted = fit_plsa([[3.0, 0.0], [0.0, 2.0]], 2, n_iterations=1, tolerance=0, initial=start)
    # P(z|d0,w0) = (2/3, 1/3), P(z|d1,w1) = (1/4, 3/4)
    np.testing.assert_allclose(fitted.doc_topic, [[2 / 3, 1 / 3], [1 / 4, 3 / 4]])
    np.testing.assert_allclose(fitted.term_topic, [[2 / 2.5, 1 / 2.5], [0.5 / 2.5, 1.5 / 2.5]])
    assert fitted.log_likelihoods[0] == pytest.approx(3 * np.log(0.6) + 2 * np.log(0.4))


@settings(max_examples=40, deadline=None)
@given(
    counts=hnp.arrays(
        float, st.tuples(st.integers(1, 8), st.integers(1, 8)), elements=st.integers(0, 1000).map(float)
    ),
    n_topics=st.integers(1, 6),
    seed=st.integers(0, 2**31 - 1),
)
def test_any_counts_give_distributions_and_a_likelihood_that_never_falls(counts, n_topics, seed):
    if not counts.any():
        with pytest.raises(DataError, match="nothing to factorise"):
            fit_plsa(counts, n_topics, seed=seed)
        return
    fitted = fit_plsa(counts, n_topics, n_iterations=30, tolerance=0, seed=seed)
    np.testing.assert_allclose(fitted.doc_topic.sum(axis=1), 1, atol=1e-12)
    np.testing.assert_allclose(fitted.term_topic.sum(axis=0), 1, atol=1e-12)
    assert (fitted.doc_topic >= 0).all() and (fitted.term_topic >= 0).all()
    likelihoods = np.array(fitted.log_likelihoods)
    assert len(likelihoods) == 31
    assert (np.diff(likelihoods) >= -1e-9 * np.abs(likelihoods[1:]) - 1e-9).all()


def test_number_of_threads_and_another_order_of_work_change_no_bit(monkeypatch):
    monkeypatch.setattr(passes, "BLOCK_NONZEROS", 50)
    counts = sparse.csr_matrix(random_counts(shape=(200, 60)))
    single, double, many = (fit_plsa(counts, 7, n_iterations=15, n_threads=n) for n in (1, 2, 5))
    for other in (double, many):
        np.testing.assert_array_equal(other.doc_topic, single.doc_topic)
        np.testing.assert_array_equal(other.term_topic, single.term_topic)
        assert other.log_likelihoods == single.log_likelihoods


def test_blocks_change_nothing_but_rounding(monkeypatch):
    counts = sparse.csr_matrix(random_counts(shape=(50, 30)))
    whole = fit_plsa(counts, 4, n_iterations=20)
    monkeypatch.setattr(passes, "BLOCK_NONZEROS", 1)  # more blocks than documents: some are empty
    single = fit_plsa(counts, 4, n_iterations=20)
    np.testing.assert_allclose(single.doc_topic, whole.doc_topic, atol=1e-10)
    np.testing.assert_allclose(single.term_topic, whole.term_topic, atol=1e-10)


def test_planted_groups_of_documents_and_terms_are_recovered():
    from sklearn.metrics import adjusted_mutual_info_score

    counts, group, owner = planted()
    fitted = fit_plsa(counts, 4, n_iterations=200, seed=3)
    assert adjusted_mutual_info_score(group, fitted.doc_topic.argmax(axis=1)) > 0.95
    assert adjusted_mutual_info_score(owner, fitted.term_topic.argmax(axis=1)) > 0.95
    shuffled = np.random.default_rng(0).permutation(group)
    assert abs(adjusted_mutual_info_score(shuffled, fitted.doc_topic.argmax(axis=1))) < 0.1


def test_likelihood_reached_is_that_of_sklearns_kl_nmf():
    """KL-NMF is the same model by other iterates: W H, rows scaled to sum to 1, is P(w|d)."""
    from sklearn.decomposition import NMF

    counts, _, _ = planted(seed=5)
    start = random_start(counts.shape, 4)
    nmf = NMF(4, beta_loss="kullback-leibler", solver="mu", max_iter=500, tol=0, init="custom")
    mass = np.asarray(counts.sum(axis=1))
    loadings = nmf.fit_transform(counts, W=start[0] * mass, H=np.ascontiguousarray(start[1].T))
    predicted = loadings @ nmf.components_
    predicted /= predicted.sum(axis=1, keepdims=True)
    reference = xlogy(counts.toarray(), predicted).sum()
    ours = fit_plsa(counts, 4, n_iterations=500, tolerance=0, initial=start)
    assert ours.log_likelihoods[-1] == pytest.approx(reference, rel=1e-4)
    assert ours.log_likelihoods[-1] - ours.log_likelihoods[0] > 1000  # nats: both have learnt something


def test_same_seed_same_factors_and_another_seed_others():
    counts = sparse.csr_matrix(random_counts())
    first, again, other = (fit_plsa(counts, 3, n_iterations=5, seed=seed) for seed in (7, 7, 8))
    np.testing.assert_array_equal(first.doc_topic, again.doc_topic)
    np.testing.assert_array_equal(first.term_topic, again.term_topic)
    assert not np.allclose(first.doc_topic, other.doc_topic)


def test_tolerance_stops_early_and_ends_with_the_likelihood_of_what_is_returned():
    counts = random_counts()
    fitted = fit_plsa(counts, 3, n_iterations=1000, tolerance=1e-4)
    assert 2 < len(fitted.log_likelihoods) < 1000
    final = (counts * np.log(fitted.doc_topic @ fitted.term_topic.T)).sum()
    assert fitted.log_likelihoods[-1] == pytest.approx(final)
    gain = fitted.log_likelihoods[-1] - fitted.log_likelihoods[-2]
    assert gain <= 1e-4 * abs(fitted.log_likelihoods[-2])


def test_empty_documents_get_the_mean_of_the_others_and_are_counted():
    counts = random_counts()
    counts[[2, 5]] = 0
    fitted = fit_plsa(counts, 3)
    assert fitted.n_empty_documents == 2
    np.testing.assert_allclose(fitted.doc_topic[2], np.delete(fitted.doc_topic, [2, 5], axis=0).mean(axis=0))
    np.testing.assert_array_equal(fitted.doc_topic[2], fitted.doc_topic[5])


def test_input_is_left_as_it_was():
    counts = sparse.csr_matrix(([1.0, 0.0, 2.0], ([0, 0, 1], [0, 1, 1])), shape=(2, 2))
    fit_plsa(counts, 2)
    assert counts.nnz == 3
    np.testing.assert_array_equal(counts.data, [1, 0, 2])


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_negative_or_non_finite_counts_are_refused(bad):
    with pytest.raises(DataError, match="negative or non-finite"):
        fit_plsa([[1.0, bad]], 2)


@pytest.mark.parametrize(
    "initial",
    [(np.ones((3, 2)), np.ones((2, 2))), (np.ones((2, 2)), -np.ones((2, 2)))],
    ids=["shape", "sign"],
)
def test_an_impossible_start_is_refused(initial):
    with pytest.raises(ValueError, match="initial"):
        fit_plsa(np.ones((2, 2)), 2, initial=initial)


def test_folding_in_recovers_the_mixture_that_made_a_document():
    rng = np.random.default_rng(0)
    term_topic = rng.dirichlet(np.full(60, 0.1), size=3).T
    mixture = np.array([[0.7, 0.2, 0.1], [0.0, 0.5, 0.5]])
    counts = 1e5 * mixture @ term_topic.T  # expected counts: the optimum is the mixture itself
    folded, unknown = fold_in(counts, term_topic, n_iterations=2000, tolerance=0)
    np.testing.assert_allclose(folded, mixture, atol=1e-3)
    assert not unknown.any()


def test_documents_without_known_terms_fold_in_to_the_default():
    term_topic = np.array([[0.9, 0.1], [0.1, 0.9], [0.0, 0.0]])
    counts = [[0, 0, 5], [0, 0, 0], [4, 0, 7]]
    folded, unknown = fold_in(counts, term_topic, default=np.array([0.3, 0.7]))
    np.testing.assert_array_equal(unknown, [True, True, False])
    np.testing.assert_allclose(folded[:2], [[0.3, 0.7]] * 2)
    np.testing.assert_allclose(folded[2], fold_in([[4, 0, 0]], term_topic)[0][0])
