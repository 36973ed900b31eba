"""Factorisation against dense normal equations, gradients, and SciPy's optimiser."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from scipy import optimize, sparse
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler

from kerasrep.errors import DataError
from kerasrep.evaluation.recommendation import feature_map
from kerasrep.evaluation.recommendation import wmf as factorisation
from kerasrep.evaluation.recommendation.wmf import FactorisationSettings, factorise, update_factors

SMALL = FactorisationSettings(n_factors=4, n_sweeps=6, lambda_wh=1e-2)


def problem(seed=0, n_users=20, n_items=30, dimension=5, rate=0.4):
    """Every item is played at least once; some users play nothing."""
    rng = np.random.default_rng(seed)
    plays = rng.poisson(rate, size=(n_users, n_items)).astype(float)
    plays[-2:] = 0
    plays[0, plays.sum(axis=0) == 0] = 1
    return plays, rng.normal(3, 2, size=(n_items, dimension)).astype(np.float32)


def objective(plays, features, users, items, feature_map, settings):
    """As it is written down, with the dense matrix of all pairs; features are standardised already."""
    confidence = 1 + settings.alpha * plays
    misfit = (confidence * ((plays > 0) - users @ items.T) ** 2).sum()
    penalty = (users**2).sum() + ((items - features @ feature_map) ** 2).sum()
    return misfit + settings.lambda_wh * penalty + settings.lambda_phi * (feature_map**2).sum()


def dense_update(plays, others, prior, settings):
    """Normal equations of each row with its whole diagonal matrix of confidences."""
    rows = []
    for played, drawn_to in zip(plays, prior, strict=True):
        confidence = np.diag(1 + settings.alpha * played)
        left = others.T @ confidence @ others + settings.lambda_wh * np.eye(others.shape[1])
        right = others.T @ confidence @ (played > 0) + settings.lambda_wh * drawn_to
        rows.append(np.linalg.solve(left, right))
    return np.array(rows)


def dense_fit(plays, features, settings, seed):
    """The same sweeps from the same start by dense normal equations and scikit-learn's ridge."""
    standardised = StandardScaler().fit_transform(features.astype(np.float64))
    standardised *= np.sqrt(512 / features.shape[1])
    rng = np.random.default_rng(seed)
    items = rng.normal(scale=settings.initial_deviation, size=(plays.shape[1], settings.n_factors))
    mapped = np.zeros_like(items)
    ridge = Ridge(alpha=settings.lambda_phi / settings.lambda_wh, fit_intercept=False, solver="svd")
    objectives = []
    for _ in range(settings.n_sweeps):
        users = dense_update(plays, items, np.zeros((len(plays), settings.n_factors)), settings)
        items = dense_update(plays.T, users, mapped, settings)
        feature_map = ridge.fit(standardised, items).coef_.T
        mapped = standardised @ feature_map
        objectives.append(objective(plays, standardised, users, items, feature_map, settings))
    return users, items, feature_map, objectives


@pytest.mark.parametrize("dimension", [5, 45], ids=["fewer features than items", "more features than items"])
def test_equals_dense_normal_equations_from_the_same_start(dimension):
    plays, features = problem(dimension=dimension)
    fitted = factorise(sparse.csr_matrix(plays), features, SMALL, seed=3)
    users, items, feature_map, objectives = dense_fit(plays, features, SMALL, seed=3)
    np.testing.assert_allclose(fitted.user_factors, users, atol=1e-9)
    np.testing.assert_allclose(fitted.item_factors, items, atol=1e-9)
    np.testing.assert_allclose(fitted.feature_map, feature_map, atol=1e-9)
    np.testing.assert_allclose(fitted.objectives, objectives, rtol=1e-10)


def test_features_that_say_nothing_give_plain_implicit_least_squares():
    plays, features = problem()
    features[:] = 0.1
    fitted = factorise(sparse.csr_matrix(plays), features, SMALL, seed=3)
    items = np.random.default_rng(3).normal(scale=SMALL.initial_deviation, size=(30, 4))
    for _ in range(SMALL.n_sweeps):
        users = dense_update(plays, items, np.zeros((20, 4)), SMALL)
        items = dense_update(plays.T, users, np.zeros((30, 4)), SMALL)
    assert (fitted.feature_map == 0).all()
    assert (fitted.map_features(features + 7) == 0).all()
    np.testing.assert_allclose(fitted.user_factors, users, atol=1e-9)
    np.testing.assert_allclose(fitted.item_factors, items, atol=1e-9)


@pytest.mark.parametrize("with_prior", [False, True])
def test_an_update_is_the_minimiser_that_a_general_optimiser_finds(with_prior):
    plays, _ = problem(n_users=6, n_items=8)
    rng = np.random.default_rng(1)
    others, prior = rng.normal(size=(8, 4)), rng.normal(size=(6, 4))
    if not with_prior:
        prior[:] = 0

    def loss(flat):
        rows = flat.reshape(6, 4)
        misfit = (1 + SMALL.alpha * plays) * ((plays > 0) - rows @ others.T) ** 2
        return misfit.sum() + SMALL.lambda_wh * ((rows - prior) ** 2).sum()

    found = update_factors(sparse.csr_matrix(plays), others, prior if with_prior else None, SMALL)
    searched = optimize.minimize(loss, np.zeros(24), method="BFGS", options={"gtol": 1e-7, "maxiter": 2000})
    assert loss(found.ravel()) <= searched.fun + 1e-12
    np.testing.assert_allclose(found.ravel(), searched.x, atol=1e-4)


def test_the_map_is_where_the_gradient_of_the_objective_vanishes():
    """Central differences of the whole objective, at the map of the last sweep."""
    plays, features = problem(n_users=8, n_items=12, dimension=3)
    settings = FactorisationSettings(n_factors=2, n_sweeps=3, lambda_wh=0.5)
    fitted = factorise(sparse.csr_matrix(plays), features, settings)
    standardised = StandardScaler().fit_transform(features.astype(np.float64))
    standardised *= np.sqrt(512 / features.shape[1])

    def loss(flat):
        pair = fitted.user_factors, fitted.item_factors
        return objective(plays, standardised, *pair, flat.reshape(3, 2), settings)

    best = fitted.feature_map.ravel()
    gradient = [(loss(best + step) - loss(best - step)) / 2e-5 for step in 1e-5 * np.eye(best.size)]
    assert np.abs(gradient).max() < 1e-5
    assert np.abs(optimize.approx_fprime(best + 0.1, loss, 1e-7)).max() > 0.1


@hypothesis_settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10**6),
    n_factors=st.integers(1, 8),
    alpha=st.sampled_from([0.0, 0.1, 40.0]),
    lambda_wh=st.sampled_from([1e-5, 1e-2, 10.0]),
    lambda_phi=st.sampled_from([1e-3, 0.1, 100.0]),
    dimension=st.integers(1, 20),
)
def test_no_sweep_raises_the_objective(seed, n_factors, alpha, lambda_wh, lambda_phi, dimension):
    plays, features = problem(seed, n_users=12, n_items=15, dimension=dimension)
    settings = FactorisationSettings(n_factors, alpha, lambda_phi, lambda_wh, n_sweeps=12)
    objectives = np.array(factorise(sparse.csr_matrix(plays), features, settings, seed).objectives)
    assert len(objectives) == 12
    assert (np.diff(objectives) <= 1e-9 * objectives[:-1] + 1e-9).all()


def test_the_objective_falls_with_the_default_settings():
    plays, features = problem(n_users=80, n_items=120, dimension=30)
    objectives = np.array(factorise(sparse.csr_matrix(plays), features).objectives)
    assert len(objectives) == 15
    assert (np.diff(objectives) < 0).all()


def test_items_without_plays_take_no_part_and_are_mapped_from_their_features():
    plays, features = problem()
    alone = factorise(sparse.csr_matrix(plays), features, SMALL)
    strange = np.full((3, features.shape[1]), 1e6, dtype=np.float32)
    more = factorise(
        sparse.csr_matrix(np.hstack([np.zeros((20, 3)), plays])), np.vstack([strange, features]), SMALL
    )
    np.testing.assert_array_equal(more.user_factors, alone.user_factors)
    np.testing.assert_array_equal(more.feature_map, alone.feature_map)
    np.testing.assert_array_equal(more.item_factors[3:], alone.item_factors)
    np.testing.assert_array_equal(more.item_factors[:3], alone.map_features(strange))
    assert (more.objectives, more.n_unplayed_items) == (alone.objectives, 3)


def test_users_without_plays_have_factors_of_zero():
    plays, features = problem()
    fitted = factorise(sparse.csr_matrix(plays), features, SMALL)
    assert (fitted.user_factors[-2:] == 0).all()
    assert (fitted.user_factors[:-2] != 0).any(axis=1).all()


@pytest.mark.parametrize("dimension", [5, 45])
def test_small_blocks_give_the_same_fit(monkeypatch, dimension):
    plays, features = problem(dimension=dimension)
    whole = factorise(sparse.csr_matrix(plays), features, SMALL)
    monkeypatch.setattr(factorisation, "BLOCK_VALUES", 64)
    monkeypatch.setattr(feature_map, "BLOCK_VALUES", 64)
    monkeypatch.setattr(feature_map, "GRAM_BLOCK_VALUES", 64)
    blocks = list(factorisation._even_blocks(np.array([0, 0, 1, 2, 9, 30]), 4))
    assert [(b.start, b.stop) for b in blocks] == [(0, 4), (4, 5), (5, 6)]
    parts = factorise(sparse.csr_matrix(plays), features, SMALL)
    np.testing.assert_allclose(parts.user_factors, whole.user_factors, atol=1e-9)
    np.testing.assert_allclose(parts.feature_map, whole.feature_map, atol=1e-9)
    np.testing.assert_allclose(parts.objectives, whole.objectives, rtol=1e-10)
    np.testing.assert_allclose(parts.map_features(features), whole.map_features(features), atol=1e-9)


def test_stored_zeros_and_duplicates_are_no_plays_of_their_own():
    plays, features = problem()
    row, column = np.nonzero(plays)
    value = plays[row, column] / 2
    entries = np.r_[value, value, 0.0], (np.r_[row, row, 19], np.r_[column, column, 0])
    twice = sparse.coo_matrix(entries, shape=plays.shape)
    expected = factorise(sparse.csr_matrix(plays), features, SMALL)
    np.testing.assert_array_equal(factorise(twice, features, SMALL).feature_map, expected.feature_map)


def test_same_arguments_same_result_and_another_seed_another_start():
    plays, features = problem()
    first, second, other = (
        factorise(sparse.csr_matrix(plays), features, SMALL, seed) for seed in ((1, 2), (1, 2), (1, 3))
    )
    np.testing.assert_array_equal(first.item_factors, second.item_factors)
    assert (first.item_factors != other.item_factors).any()


def test_nothing_to_learn_from_is_one_line():
    with pytest.raises(DataError, match=r"^plays of the items to learn from are all zero.*$"):
        factorise(sparse.csr_matrix((3, 4)), np.ones((4, 2), dtype=np.float32))


def test_plays_beyond_all_bounds_are_one_line():
    plays, features = problem()
    with pytest.raises(DataError, match=r"^[^\n]*(finite|extreme)[^\n]*$"):
        factorise(sparse.csr_matrix(np.minimum(plays, 1) * 1e308), features, SMALL)


@pytest.mark.parametrize(
    "wrong",
    [{"n_factors": 0}, {"n_sweeps": 0}, {"alpha": -1}, {"lambda_wh": 0}, {"lambda_phi": float("nan")}],
)
def test_impossible_settings_are_refused(wrong):
    with pytest.raises(ValueError, match="impossible"):
        FactorisationSettings(**wrong)


def test_shapes_that_do_not_fit_are_refused():
    with pytest.raises(ValueError, match="same items"):
        factorise(sparse.csr_matrix(np.ones((3, 4))), np.ones((5, 2), dtype=np.float32))
