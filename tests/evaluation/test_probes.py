"""Probes against plain scikit-learn on the same items, and against what embeddings can hold."""

import gc
import warnings

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.model_selection import StratifiedKFold
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC, LinearSVR

from kerasrep.errors import RecipeError
from kerasrep.evaluation.probing.folds import Fold
from kerasrep.evaluation.probing.perceptron import PerceptronClassifier, PerceptronRegressor
from kerasrep.evaluation.probing.probes import (
    C_GRID,
    PROBES,
    Probe,
    Standardise,
    TrainingSpan,
    fit_probe,
    probes_of,
)

KINDS = {"classification": ("linear_svm", "logistic", "mlp"), "regression": ("ridge", "svr", "mlp")}
EVERY = [(kind, name) for kind, names in KINDS.items() for name in (*names, "chance")]


def problem(kind, n_items=120, dimension=30, seed=0, noise=1.0):
    """Embeddings with some signal, as float32 of unlike scales, and labels."""
    rng = np.random.default_rng(seed)
    hidden = rng.normal(size=(n_items, 3))
    mixed = hidden @ rng.normal(size=(3, dimension)) + noise * rng.normal(size=(n_items, dimension))
    embeddings = (5 + mixed * rng.uniform(0.1, 10, size=dimension)).astype(np.float32)
    if kind == "regression":
        return embeddings, 100 + 30 * hidden[:, 0]
    return embeddings, np.array(["a", "b", "c"])[hidden.argmax(axis=1)]


def probe_named(kind, name):
    return next(probe for probe in PROBES[kind] if probe.name == name)


@pytest.mark.parametrize("dimension", [30, 400])  # fewer and more features than items
@pytest.mark.parametrize("name", ["linear_svm", "logistic"])
def test_linear_classifiers_decide_as_scikit_learn_does_with_c_over_the_dimension(name, dimension):
    embeddings, labels = problem("classification", dimension=dimension)
    train, test = slice(0, 90), slice(90, None)
    model, details = fit_probe(
        probe_named("classification", name), "classification", embeddings[train], labels[train]
    )
    scaler = StandardScaler().fit(embeddings[train].astype(np.float64))
    plain = {
        # Dividing rows by the root of the dimension is a weaker C and a heavier constant feature.
        "linear_svm": LinearSVC(C=1 / dimension, intercept_scaling=dimension**0.5, tol=1e-7, max_iter=10**5),
        "logistic": LogisticRegression(C=1 / dimension, tol=1e-8, max_iter=10**4),
    }[name].fit(scaler.transform(embeddings[train]), labels[train])
    expected = plain.decision_function(scaler.transform(embeddings[test]))
    np.testing.assert_allclose(model.decision_function(embeddings[test]), expected, atol=0.02)
    assert details["C"] == 1.0
    assert details["warnings"] == []


@pytest.mark.parametrize("dimension", [30, 400])
@pytest.mark.parametrize("name", ["ridge", "svr"])
def test_linear_regressors_predict_as_scikit_learn_does_on_standardised_values(name, dimension):
    embeddings, values = problem("regression", dimension=dimension)
    train, test = slice(0, 90), slice(90, None)
    model, _ = fit_probe(probe_named("regression", name), "regression", embeddings[train], values[train])
    scaler = StandardScaler().fit(embeddings[train].astype(np.float64))
    mean, deviation = values[train].mean(), values[train].std()
    loss = "squared_epsilon_insensitive"
    scale = dimension**0.5
    plain = {
        "ridge": Ridge(alpha=dimension, solver="cholesky"),
        "svr": LinearSVR(
            C=1 / dimension, epsilon=0.1, loss=loss, intercept_scaling=scale, tol=1e-7, max_iter=10**5
        ),
    }[name].fit(scaler.transform(embeddings[train]), (values[train] - mean) / deviation)
    expected = mean + deviation * plain.predict(scaler.transform(embeddings[test]))
    np.testing.assert_allclose(model.predict(embeddings[test]), expected, atol=0.01 * deviation)


def test_rows_have_unit_mean_square_norm_whatever_dimension_and_scale():
    for dimension in (3, 700):
        embeddings, _ = problem("classification", dimension=dimension)
        rows = Standardise().fit_transform(embeddings)
        assert rows.dtype == np.float32
        assert np.square(rows, dtype=np.float64).sum(axis=1).mean() == pytest.approx(1, rel=1e-4)
        np.testing.assert_allclose(rows.mean(axis=0), 0, atol=1e-5)


def test_the_span_of_the_training_items_loses_nothing_of_them():
    embeddings, _ = problem("classification", n_items=40, dimension=500)
    rows = Standardise().fit_transform(embeddings)
    coordinates = TrainingSpan().fit_transform(rows)
    assert coordinates.shape == (40, 39)  # the mean was taken away
    np.testing.assert_allclose(coordinates @ coordinates.T, rows @ rows.T, atol=1e-5)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_constant_features_change_no_prediction(kind, name):
    embeddings, labels = problem(kind, n_items=60, dimension=80)
    constants = np.repeat(np.array([[0, -7.1, 1e30, 0.1]], np.float32), 60, axis=0)
    widened = np.concatenate([constants, embeddings], axis=1)
    unlike_in_test = widened[40:] + np.array([3, 1, 0, 2] + [0] * 80, np.float32)
    probe = probe_named(kind, name)
    plain, _ = fit_probe(probe, kind, embeddings[:40], labels[:40])
    wide, _ = fit_probe(probe, kind, widened[:40], labels[:40])
    expected = plain.predict(embeddings[40:])
    for given in (widened[40:], unlike_in_test):
        if kind == "classification":
            assert wide.predict(given).tolist() == expected.tolist()
        else:
            np.testing.assert_allclose(wide.predict(given), expected, rtol=1e-3)


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_embeddings_that_are_all_alike_give_finite_predictions_of_known_labels(kind, name):
    _, labels = problem(kind, n_items=30)
    model, _ = fit_probe(probe_named(kind, name), kind, np.full((30, 5), 2, np.float32), labels)
    predictions = model.predict(np.full((4, 5), 9, np.float32))
    if kind == "classification":
        assert set(predictions) <= set(labels)
    else:
        np.testing.assert_allclose(predictions, labels.mean(), atol=3 * labels.std())


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_the_largest_and_smallest_floats_do_not_overflow(kind, name):
    embeddings, labels = problem(kind, n_items=40, dimension=6)
    embeddings *= np.array([1e37, 1e-37, 1e-44, 1, 1, 1], np.float32) / np.abs(embeddings).max()
    model, details = fit_probe(probe_named(kind, name), kind, embeddings, labels)
    extreme = np.array([[3e38] * 6, [-3e38] * 6, [1e-45] * 6], np.float32)
    predictions = model.predict(extreme)
    assert len(predictions) == 3
    if kind == "regression":
        assert np.isfinite(predictions).all()
    assert not [line for line in details["warnings"] if "RuntimeWarning" in line]


@pytest.mark.parametrize(("kind", "name"), EVERY)
def test_the_same_seed_gives_the_same_predictions_and_only_stochastic_probes_heed_it(kind, name):
    embeddings, labels = problem(kind, n_items=60, dimension=90)
    probe = probe_named(kind, name)
    first, again, other = (
        fit_probe(probe, kind, embeddings[:40], labels[:40], seed=seed)[0].predict(embeddings[40:])
        for seed in (0, 0, 1)
    )
    assert (first == again).all()
    if kind == "regression" and probe.is_stochastic:
        assert not np.allclose(first, other)
    elif kind == "regression":
        np.testing.assert_allclose(first, other, rtol=1e-3)
    elif not probe.is_stochastic:
        assert (first == other).mean() > 0.9  # solvers stop at a tolerance


def test_the_perceptron_learns_what_no_linear_probe_can():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(600, 4)).astype(np.float32)
    labels = np.where(embeddings[:, 0] * embeddings[:, 1] > 0, "same sign", "unlike")
    scores = {}
    for name in ("linear_svm", "mlp"):
        probe = probe_named("classification", name)
        model, _ = fit_probe(probe, "classification", embeddings[:400], labels[:400])
        scores[name] = np.mean(model.predict(embeddings[400:]) == labels[400:])
    assert scores["mlp"] > 0.85
    assert scores["linear_svm"] < 0.65


def test_the_perceptron_of_values_learns_a_curve():
    rng = np.random.default_rng(0)
    embeddings = rng.normal(size=(600, 3)).astype(np.float32)
    values = 50 + 10 * np.square(embeddings[:, 0])
    model, _ = fit_probe(probe_named("regression", "mlp"), "regression", embeddings[:400], values[:400])
    errors = model.predict(embeddings[400:]) - values[400:]
    assert np.square(errors).mean() < 0.2 * values[400:].var()


@pytest.mark.parametrize(
    "labels", [["a"] * 30 + ["b"] * 9 + ["c"], ["a", "b"], ["a", "a", "b"], list("abcd")]
)
def test_the_perceptron_takes_classes_too_small_to_be_held_out(labels):
    embeddings = np.random.default_rng(0).normal(size=(len(labels), 6)).astype(np.float32)
    model = PerceptronClassifier(0).fit(embeddings, np.array(labels))
    assert set(model.classes_) == set(labels)
    assert model.predict(embeddings).shape == (len(labels),)


def test_the_part_that_stops_the_perceptron_shares_no_group_with_the_rest():
    labels = np.array(list("ab") * 50)
    groups = np.array([f"g{i // 4}" for i in range(100)])
    for perceptron, given in ((PerceptronClassifier(3), labels), (PerceptronRegressor(3), np.arange(100.0))):
        train, held_out = perceptron._held_out(given, groups)
        assert 5 < len(held_out) < 30
        assert not set(groups[train]) & set(groups[held_out])
        assert sorted([*train, *held_out]) == list(range(100))


@pytest.mark.parametrize("dimension", [12, 200])
def test_the_chosen_c_is_that_of_a_brute_force_search(dimension):
    embeddings, labels = problem("classification", n_items=80, dimension=dimension, noise=3)
    inner = [Fold(*parts) for parts in StratifiedKFold(3).split(embeddings, labels)]
    _, details = fit_probe(
        probe_named("classification", "logistic"), "classification", embeddings, labels, inner=inner
    )
    scores = []
    for c in C_GRID:
        right = []
        for fold in inner:
            scaler = StandardScaler().fit(embeddings[fold.train])
            model = LogisticRegression(C=c / dimension, max_iter=5000)
            model.fit(scaler.transform(embeddings[fold.train]), labels[fold.train])
            right.append(model.score(scaler.transform(embeddings[fold.test]), labels[fold.test]))
        scores.append(np.mean(right))
    assert details["C"] == C_GRID[int(np.argmax(scores))]


def test_noisier_values_are_regularised_more():
    chosen = {}
    for noise in (0.01, 20.0):
        embeddings, values = problem("regression", n_items=90, dimension=40, noise=noise)
        inner = [Fold(np.arange(45), np.arange(45, 90))]
        chosen[noise] = fit_probe(
            probe_named("regression", "ridge"), "regression", embeddings, values, inner=inner
        )[1]["C"]
    assert chosen[20.0] < chosen[0.01]


def test_a_solver_that_does_not_converge_is_kept_in_the_details_and_not_printed():
    embeddings, labels = problem("classification")
    model = {"dual": True, "max_iter": 1}
    hasty = Probe("hasty", lambda seed: Pipeline([("model", LinearSVC(**model, random_state=seed))]))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        _, details = fit_probe(hasty, "classification", embeddings, labels)
    assert len(details["warnings"]) == 1
    assert details["warnings"][0].startswith("ConvergenceWarning: Liblinear failed to converge")
    assert details["iterations"] == 1


def test_files_that_others_left_open_are_no_matter_of_the_fit(tmp_path):
    class Left(Ridge):
        def fit(self, embeddings, labels):
            (tmp_path / "left").open("w")
            gc.collect()
            return super().fit(embeddings, labels)

    probe = Probe("left", lambda seed: Pipeline([("model", Left())]))
    _, details = fit_probe(probe, "regression", *problem("regression"))
    assert details["warnings"] == []


@pytest.mark.parametrize("kind", KINDS)
def test_the_headline_comes_first_and_chance_last_in_a_fixed_order(kind):
    assert [probe.name for probe in probes_of(kind)] == [*KINDS[kind], "chance"]
    assert [probe.name for probe in probes_of(kind, ["mlp"])] == ["mlp", "chance"]
    backwards = ["mlp", "svr", "ridge", "logistic", "linear_svm"]
    assert [probe.name for probe in probes_of(kind, backwards)] == [*KINDS[kind], "chance"]


def test_unknown_probes_are_one_clear_line():
    with pytest.raises(
        RecipeError, match="no probe 'knn'; there are linear_svm, logistic, mlp, chance, ridge"
    ):
        probes_of("classification", ["knn"])
    with pytest.raises(RecipeError, match="none of the probes ridge, svr is for classification"):
        probes_of("classification", ["ridge", "svr"])
