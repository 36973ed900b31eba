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
from kerasrep.sources.plsa import fit_plsa, fold_in


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


def looped(counts, doc_topic, term_topic, n_updates):
    """EM as published, one posterior P(z|d,w) at a time, in plain Python."""
    n_documents, n_terms = counts.shape
    n_topics = len(doc_topic[0])
    for _ in range(n_updates):
        new_doc = [[0.0] * n_topics for _ in range(n_documents)]
        new_term = [[0.0] * n_topics for _ in range(n_terms)]
        for d in range(n_documents):
            for w in range(n_terms):
                joint = [doc_topic[d][z] * term_topic[w][z] for z in range(n_topics)]
                for z in range(n_topics):
                    weight = counts[d][w] * joint[z] / sum(joint)
                    new_doc[d][z] += weight
                    new_term[w][z] += weight
        mass = [sum(new_term[w][z] for w in range(n_terms)) for z in range(n_topics)]
        doc_topic = [[value / sum(row) for value in row] for row in new_doc]
        term_topic = [[row[z] / mass[z] for z in range(n_topics)] for row in new_term]
    return np.array(doc_topic), np.array(term_topic)


def test_equals_plain_loops_from_the_same_start():
    counts = random_counts(seed=3, shape=(12, 9))
    start = random_start(counts.shape, 4)
    ours = fit_plsa(counts, 4, n_iterations=25, tolerance=0, initial=start)
    doc_topic, term_topic = looped(counts, *(part.tolist() for part in start), 25)
    np.testing.assert_allclose(ours.doc_topic, doc_topic, atol=1e-9)
    np.testing.assert_allclose(ours.term_topic, term_topic, atol=1e-9)


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


def skewed(seed=0, n_groups=6, documents=150, terms=60, noise=0.2):
    """Groups as in `planted`, but terms by Zipf's law, documents of very unlike length, and 20% noise."""
    rng = np.random.default_rng(seed)
    group = np.repeat(np.arange(n_groups), documents)
    popularity = 1 / np.arange(1, terms + 1)
    own = np.kron(np.eye(n_groups), popularity / popularity.sum())
    anywhere = own.mean(axis=0)
    rates = (1 - noise) * own[group] + noise * anywhere
    length = 15 + rng.geometric(1 / 60, size=len(group))
    counts = np.array([rng.multinomial(n, rate) for n, rate in zip(length, rates, strict=True)])
    return counts, group, np.repeat(np.arange(n_groups), terms)


def test_planted_groups_of_documents_and_terms_are_recovered():
    from sklearn.metrics import adjusted_mutual_info_score

    counts, group, owner = skewed()
    fitted = fit_plsa(sparse.csr_matrix(counts), 6, n_iterations=200, seed=3)
    assert adjusted_mutual_info_score(group, fitted.doc_topic.argmax(axis=1)) > 0.9
    used = counts.sum(axis=0) > 10  # of rarer terms chance decides
    assert adjusted_mutual_info_score(owner[used], fitted.term_topic.argmax(axis=1)[used]) > 0.9


def test_no_groups_are_recovered_where_each_terms_counts_are_permuted():
    from sklearn.metrics import adjusted_mutual_info_score

    counts, group, _ = skewed()
    permuted = np.random.default_rng(1).permuted(counts, axis=0)
    fitted = fit_plsa(sparse.csr_matrix(permuted), 6, n_iterations=200, seed=3)
    assert abs(adjusted_mutual_info_score(group, fitted.doc_topic.argmax(axis=1))) < 0.05


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


def test_one_topic_is_the_distribution_of_all_counts():
    counts = random_counts()
    fitted = fit_plsa(counts, 1, n_iterations=1, tolerance=0)
    np.testing.assert_array_equal(fitted.doc_topic, np.ones((30, 1)))
    np.testing.assert_allclose(fitted.term_topic[:, 0], counts.sum(axis=0) / counts.sum(), rtol=1e-12)


def test_more_topics_than_documents_explain_each_document_alone():
    counts = random_counts(shape=(3, 8), rate=3)
    fitted = fit_plsa(counts, 7, n_iterations=3000, tolerance=0)
    np.testing.assert_allclose(fitted.doc_topic.sum(axis=1), 1)
    observed = counts / counts.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fitted.doc_topic @ fitted.term_topic.T, observed, atol=0.01)


@pytest.mark.parametrize("factor", [1e-40, 1e-9, 1e9, 1e40])
def test_factors_do_not_depend_on_the_unit_of_the_counts(factor):
    counts = random_counts()
    ours, scaled = (fit_plsa(c, 3, n_iterations=20, tolerance=0) for c in (counts, counts * factor))
    np.testing.assert_allclose(scaled.doc_topic, ours.doc_topic, atol=1e-10)
    np.testing.assert_allclose(scaled.term_topic, ours.term_topic, atol=1e-10)
    np.testing.assert_allclose(scaled.log_likelihoods, np.array(ours.log_likelihoods) * factor, rtol=1e-10)


@pytest.mark.parametrize("factor", [1e-80, 1e80, 1e306])
def test_counts_that_leave_the_range_of_numbers_are_refused(factor):
    with pytest.raises(DataError, match="rescale") as caught:
        fit_plsa(random_counts() * factor, 3)
    assert "\n" not in str(caught.value)


def test_counts_of_very_unlike_size_keep_the_likelihood_from_falling():
    counts = random_counts()
    counts[:, 0] *= 1e15
    counts[4] *= 1e-12
    likelihoods = np.array(fit_plsa(counts, 4, n_iterations=200, tolerance=0).log_likelihoods)
    assert np.isfinite(likelihoods).all()
    rounding = 4 * np.finfo(float).eps * counts.sum()  # of n ln P where P is nearly 1
    assert (np.diff(likelihoods) >= -rounding).all()
    assert rounding < likelihoods[-1] - likelihoods[1]


@pytest.mark.parametrize("form", ["csr", "csc", "coo", "dense"])
@pytest.mark.parametrize("kind", ["float32", "int64", "uint8", "bool", "longdouble"])
def test_all_kinds_of_numbers_and_matrices_give_the_same_factors(kind, form):
    counts = np.minimum(random_counts(), 1 if kind == "bool" else 200)
    given = counts.astype(kind) if form == "dense" else sparse.csr_array(counts.astype(kind)).asformat(form)
    expected = fit_plsa(sparse.csr_matrix(counts), 3, n_iterations=10)
    fitted = fit_plsa(given, 3, n_iterations=10)
    np.testing.assert_allclose(fitted.doc_topic, expected.doc_topic, atol=1e-10)
    np.testing.assert_allclose(fitted.log_likelihoods, expected.log_likelihoods, rtol=1e-12)


def test_whole_numbers_that_float32_cannot_hold_are_not_rounded():
    counts = np.array([[2**24 + 1, 1], [3, 2**30 + 1]])
    fitted = fit_plsa(sparse.csr_matrix(counts), 1, n_iterations=1, tolerance=0)
    np.testing.assert_allclose(fitted.term_topic[:, 0], counts.sum(axis=0) / counts.sum(), rtol=1e-15)


def test_unsorted_duplicate_and_zero_entries_are_the_counts_they_add_up_to():
    values = np.array([1.0, 2.0, 3.0, 0.0, 4.0, 5.0], np.float32)
    untidy = sparse.csr_matrix((values, [2, 0, 2, 1, 1, 0], [0, 4, 6]), shape=(2, 3))
    before = untidy.data.copy(), untidy.indices.copy()
    start = random_start((2, 3), 2)
    fitted = fit_plsa(untidy, 2, n_iterations=9, initial=start)
    expected = fit_plsa([[2.0, 0, 4], [5, 4, 0]], 2, n_iterations=9, initial=start)
    np.testing.assert_array_equal(fitted.doc_topic, expected.doc_topic)
    np.testing.assert_array_equal(untidy.data, before[0])
    np.testing.assert_array_equal(untidy.indices, before[1])


def test_counts_that_cannot_be_written_to_are_read():
    counts = sparse.csr_matrix(random_counts())
    for part in (counts.data, counts.indices, counts.indptr):
        part.flags.writeable = False
    assert fit_plsa(counts, 2, n_iterations=2).doc_topic.shape == (30, 2)


def test_documents_of_many_blocks_and_no_copy_of_the_counts_bound_the_memory():
    """Traced allocations: two copies of P(z|d), one of P(w|z), the counts once more; no nonzeros x topics."""
    import tracemalloc

    rng = np.random.default_rng(0)
    counts = sparse.random(2000, 1500, density=0.1, format="csr", random_state=rng)
    n_topics = 40
    tracemalloc.start()
    try:
        fit_plsa(counts, n_topics, n_iterations=2, tolerance=0)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    factor_bytes = 8 * n_topics * (2 * 2000 + 1500)
    assert peak < 1.5 * (factor_bytes + 12 * counts.nnz) < 8 * counts.nnz * n_topics / 5


def test_no_updates_give_the_start_and_its_likelihood():
    counts = random_counts()
    start = random_start(counts.shape, 3)
    fitted = fit_plsa(counts, 3, n_iterations=0, initial=start)
    np.testing.assert_allclose(fitted.doc_topic, start[0], rtol=1e-12)
    assert fitted.log_likelihoods == pytest.approx([(counts * np.log(start[0] @ start[1].T)).sum()])


def test_a_bar_is_shown_only_where_it_is_asked_for(capsys, monkeypatch):
    monkeypatch.setattr("kerasrep.runtime.console._is_terminal", lambda file: True)
    fit_plsa(random_counts(), 2, n_iterations=3)
    assert capsys.readouterr().err == ""
    fit_plsa(random_counts(), 2, n_iterations=3, tolerance=0, progress=True, label="topics of tag")
    shown = capsys.readouterr().err
    assert "topics of tag" in shown and "3/3" in shown and "log-likelihood" in shown


@pytest.mark.parametrize(
    "limits",
    [
        {"n_topics": 0},
        {"n_topics": 2, "n_iterations": -1},
        {"n_topics": 2, "tolerance": np.nan},
        {"n_topics": 2, "n_threads": 0},
    ],
    ids=str,
)
def test_impossible_limits_are_refused(limits):
    with pytest.raises(ValueError, match="at least"):
        fit_plsa(np.ones((2, 2)), **limits)


def test_a_start_that_rules_out_an_observed_term_is_refused():
    start = [[1.0, 0.0], [0.0, 1.0]], [[1.0, 0.0], [0.0, 1.0]]
    with pytest.raises(ValueError, match="probability 0"):
        fit_plsa([[1.0, 1.0], [0.0, 1.0]], 2, initial=start)
    assert fit_plsa([[1.0, 0.0], [0.0, 1.0]], 2, initial=start).log_likelihoods[0] == 0


def test_a_topic_without_any_weight_is_uniform():
    start = [[1.0, 0.0], [1.0, 0.0]], [[0.5, 0.5], [0.5, 0.5]]
    fitted = fit_plsa([[3.0, 1.0], [0.0, 4.0]], 2, n_iterations=2, tolerance=0, initial=start)
    np.testing.assert_allclose(fitted.term_topic, [[3 / 8, 1 / 2], [5 / 8, 1 / 2]])


@pytest.mark.parametrize("bad", [-1.0, np.nan, np.inf])
def test_negative_or_non_finite_counts_are_refused(bad):
    with pytest.raises(DataError, match="negative or non-finite"):
        fit_plsa([[1.0, bad]], 2)


@pytest.mark.parametrize("form", [np.array, sparse.csr_matrix, sparse.coo_matrix])
def test_complex_counts_are_refused_instead_of_losing_a_part(form):
    with pytest.raises(ValueError, match="real"):
        fit_plsa(form([[1 + 2j, 3]]), 1)


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


def test_a_document_folds_in_the_same_beside_whatever_others():
    counts = random_counts(shape=(40, 20))
    term_topic = fit_plsa(counts, 4).term_topic
    together, _ = fold_in(counts, term_topic)
    for row in (0, 7, 39):
        np.testing.assert_array_equal(fold_in(counts[row : row + 1], term_topic)[0][0], together[row])


def test_folding_in_reaches_the_maximum_of_the_likelihood():
    """At the maximum of a concave likelihood over the simplex no topic gains more than the mixture does."""
    counts = random_counts(shape=(25, 20), rate=2)
    term_topic = fit_plsa(random_counts(seed=9, shape=(60, 20), rate=2), 3).term_topic
    folded, _ = fold_in(counts, term_topic, n_iterations=20_000, tolerance=0)
    gradient = counts / (folded @ term_topic.T) @ term_topic / counts.sum(axis=1, keepdims=True)
    assert gradient.max() < 1 + 1e-6
    np.testing.assert_allclose((gradient * folded).sum(axis=1), 1)


def test_folding_in_refuses_counts_of_other_terms():
    with pytest.raises(ValueError, match="5 terms"):
        fold_in(np.ones((2, 5)), np.full((4, 2), 0.25))
