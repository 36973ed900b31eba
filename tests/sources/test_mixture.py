"""Gaussian mixture against SciPy's normal density and planted modes."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import norm

from kerasrep.errors import DataError
from kerasrep.sources.mixture import fit_mixture


def test_planted_modes_are_found_in_ascending_order():
    rng = np.random.default_rng(0)
    values = np.concatenate([rng.normal(mean, 2, size=300) for mean in (160, 70, 110)])
    mixture = fit_mixture(values, 3, seed=1)
    np.testing.assert_allclose(mixture.means, [70, 110, 160], atol=1)
    np.testing.assert_allclose(mixture.deviations, 2, atol=0.4)
    np.testing.assert_allclose(mixture.weights, 1 / 3, atol=0.02)
    assert mixture.converged


def test_posterior_and_likelihood_follow_bayes_rule():
    values = np.random.default_rng(2).normal(120, 30, size=200)
    mixture = fit_mixture(values, 4)
    joint = mixture.weights * norm.pdf(values[:, None], mixture.means, mixture.deviations)
    np.testing.assert_allclose(mixture.posterior(values), joint / joint.sum(axis=1, keepdims=True), atol=1e-9)
    assert mixture.log_likelihood == pytest.approx(np.log(joint.sum(axis=1)).sum())


@settings(max_examples=30, deadline=None)
@given(st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=12), st.integers(1, 6))
def test_any_values_give_a_distribution_over_at_most_as_many_components_as_values(values, n_components):
    values = np.array(values)
    mixture = fit_mixture(values, n_components)
    assert 1 <= len(mixture.means) <= min(n_components, len(set(values.tolist())))
    posterior = mixture.posterior(np.append(values, [1e140, -1e140]))
    assert np.isfinite(posterior).all()
    np.testing.assert_allclose(posterior.sum(axis=1), 1)
    assert (np.diff(mixture.means) >= 0).all()


def test_a_single_value_is_one_component_at_that_value():
    mixture = fit_mixture(np.full(5, 1999.0), 50)
    assert (mixture.means.tolist(), mixture.weights.tolist()) == ([1999.0], [1.0])
    assert mixture.n_distinct_values == 1
    np.testing.assert_array_equal(mixture.posterior(np.array([1900.0, 2024.0])), [[1.0], [1.0]])


def test_fewer_distinct_values_than_components_give_one_component_each():
    values = np.repeat([1960.0, 1985.0, 1999.0, 2008.0], [4, 9, 2, 5])
    mixture = fit_mixture(values, 50)
    assert mixture.n_distinct_values == len(mixture.means) == 4
    np.testing.assert_allclose(mixture.means, [1960, 1985, 1999, 2008], atol=0.1)
    np.testing.assert_allclose(mixture.weights, [0.2, 0.45, 0.1, 0.25], atol=0.01)
    np.testing.assert_array_equal(mixture.posterior(values).argmax(axis=1), np.repeat(range(4), [4, 9, 2, 5]))


@pytest.mark.parametrize("wrong", [0.0, -1e6, 1e9, 1e140])
def test_a_value_far_from_all_others_does_not_change_how_they_are_told_apart(wrong):
    rng = np.random.default_rng(0)
    years = np.round(np.concatenate([rng.normal(mean, 2, size=300) for mean in (1970, 1990, 2005)]))
    clean, spoilt = fit_mixture(years, 3), fit_mixture(np.append(years, wrong), 3)
    assert (clean.n_outliers, spoilt.n_outliers) == (0, 1)
    np.testing.assert_array_equal(spoilt.means, clean.means)
    edge = years.min() if wrong < 1900 else years.max()
    np.testing.assert_array_equal(*spoilt.posterior(np.array([wrong, edge])))


def test_values_of_a_wide_distribution_are_no_outliers():
    values = np.random.default_rng(0).lognormal(5, 0.5, size=5000)
    assert fit_mixture(values, 5).n_outliers == 0


def test_where_most_values_are_one_the_others_still_count():
    values = np.array([2000.0] * 50 + [1980.0, 1990.0])
    mixture = fit_mixture(values, 5)
    assert (mixture.n_outliers, len(mixture.means)) == (0, 3)


def test_same_seed_same_mixture():
    values = np.random.default_rng(0).normal(size=300)
    first, again = (fit_mixture(values, 10, seed=4) for _ in range(2))
    np.testing.assert_array_equal(first.means, again.means)


@pytest.mark.parametrize(
    ("values", "message"),
    [([], "no values"), ([1.0, np.nan], "finite"), ([np.inf], "finite"), ([1.0, -1e200], "within")],
)
def test_no_values_or_non_finite_ones_are_refused(values, message):
    with pytest.raises(DataError, match=message):
        fit_mixture(np.array(values), 3)
