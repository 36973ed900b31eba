"""Standardised features and ridge regression against scikit-learn."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn import linear_model
from sklearn.preprocessing import StandardScaler

from kerasrep.evaluation.recommendation import feature_map
from kerasrep.evaluation.recommendation.feature_map import Ridge, Standardiser


def test_the_standardiser_is_that_of_scikit_learn_and_ignores_constant_features():
    rng = np.random.default_rng(0)
    features = (rng.normal(size=(50, 6)) * [1e-6, 1, 1e6, 1, 1, 1] + [0, 1e4, 0, 5, 0, 0]).astype(np.float32)
    features[:, 4] = 0.1
    expected = StandardScaler().fit_transform(features.astype(np.float64)) * np.sqrt(512 / 5)
    expected[:, 4] = 0
    np.testing.assert_allclose(Standardiser.of(features)(features), expected, atol=1e-9)


@pytest.mark.parametrize("value", [0.0, 0.1, 1e30, -3e38])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_constant_features_are_exactly_zero_wherever_they_stand(value, dtype):
    features = np.full((1000, 2), value, dtype=dtype)
    features[:, 1] = np.arange(1000)
    standardiser = Standardiser.of(features)
    features[:, 0] += 5
    assert (standardiser(features)[:, 0] == 0).all()
    assert standardiser(features)[:, 1].std() == pytest.approx(np.sqrt(512))


@pytest.mark.parametrize("dimension", [1, 12, 40, 41, 90])
@pytest.mark.parametrize("block_values", [1, 100, 1 << 22])
def test_the_ridge_is_that_of_scikit_learn_in_either_form_and_any_block(monkeypatch, dimension, block_values):
    monkeypatch.setattr(feature_map, "BLOCK_VALUES", block_values)
    monkeypatch.setattr(feature_map, "GRAM_BLOCK_VALUES", block_values)
    rng = np.random.default_rng(0)
    features = rng.normal(2, 3, size=(40, dimension)).astype(np.float32)
    standardiser = Standardiser.of(features)
    ridge = Ridge(features, standardiser, 0.7)
    for _ in range(2):  # the factored matrix is kept
        targets = rng.normal(size=(40, 3))
        scale = np.sqrt(512 / dimension)
        standardised = StandardScaler().fit_transform(features.astype(np.float64)) * scale
        oracle = linear_model.Ridge(alpha=0.7, fit_intercept=False, solver="svd").fit(standardised, targets)
        solved = ridge.solve(targets)
        np.testing.assert_allclose(solved, oracle.coef_.T, atol=1e-9)
        np.testing.assert_allclose(ridge.predict(solved), oracle.predict(standardised), atol=1e-9)


def test_repeating_all_features_changes_no_prediction():
    rng = np.random.default_rng(0)
    features, targets = rng.normal(size=(40, 6)), rng.normal(size=(40, 3))
    predicted = []
    for copies in (1, 7, 20):  # 20: more features than items
        repeated = np.tile(features, (1, copies))
        ridge = Ridge(repeated, Standardiser.of(repeated), 0.7)
        predicted.append(ridge.predict(ridge.solve(targets)))
    np.testing.assert_allclose(predicted[1], predicted[0], atol=1e-9)
    np.testing.assert_allclose(predicted[2], predicted[0], atol=1e-9)


def test_what_hardly_varied_in_training_cannot_overwhelm_the_rest():
    rng = np.random.default_rng(0)
    features = rng.normal(size=(50, 3)).astype(np.float32)
    features[:, 1] = 1000
    features[0, 1] = np.nextafter(np.float32(1000), np.float32(2000))  # rounding
    features[:, 2] = 0
    features[0, 2] = 1e-12  # a nearly dead unit
    standardiser = Standardiser.of(features)
    far = features[:1] + np.float32([0, 1, 0.1])
    scaled = standardiser(far)[0]
    assert scaled[1] == 0
    assert abs(scaled[2]) <= 1000 * np.sqrt(512 / 2) * (1 + 1e-12)
