"""Classification and regression end to end: scores as scikit-learn's, and honest intervals."""

from dataclasses import fields, replace
from inspect import signature

import numpy as np
import pytest
from made_problems import problem
from scipy import stats
from sklearn import metrics
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from kerasrep.errors import DataError
from kerasrep.evaluation.base import METRICS
from kerasrep.evaluation.probing.folds import folds
from kerasrep.evaluation.probing.labelled import N_REPEATS, evaluate_labelled
from kerasrep.evaluation.probing.probes import C_GRID
from kerasrep.evaluation.significance import blocks_of, mean_interval

KINDS = ["classification", "regression"]


def by_fold(result):
    for fold in sorted(set(result.unit_folds.tolist())):
        rows = result.unit_folds == fold
        scores = {score.metric: score.value for score in result.scores if score.fold == fold}
        yield result.truths[rows], result.predictions[rows], result.unit_scores[rows], scores


def equal(first, second):
    for field in fields(first):
        one, other = getattr(first, field.name), getattr(second, field.name)
        if isinstance(one, np.ndarray):
            assert one.dtype == other.dtype, field.name
            assert one.tolist() == other.tolist(), field.name
        else:
            assert one == other, field.name
    return True


# Scores


def test_classification_scores_are_scikit_learns_fold_by_fold():
    data, embeddings = problem("classification")
    for result in evaluate_labelled(data, embeddings, "classification"):
        assert len(result.scores) == 5 * 3
        for truths, predictions, units, scores in by_fold(result):
            assert tuple(scores) == METRICS["classification"]
            assert scores["accuracy"] == pytest.approx(metrics.accuracy_score(truths, predictions))
            expected = metrics.balanced_accuracy_score(truths, predictions)
            assert scores["balanced_accuracy"] == pytest.approx(expected)
            expected = metrics.f1_score(truths, predictions, average="macro", zero_division=0)
            assert scores["macro_f1"] == pytest.approx(expected)
            assert units.mean() == pytest.approx(scores["accuracy"])
        assert result.mean == pytest.approx(metrics.accuracy_score(result.truths, result.predictions))
        assert result.mean == result.unit_scores.mean()


def test_regression_scores_are_scikit_learns_and_unit_scores_average_to_r2():
    data, embeddings = problem("regression", n_items=103)
    for result in evaluate_labelled(data, embeddings, "regression"):
        r2, sizes = [], []
        for truths, predictions, units, scores in by_fold(result):
            assert tuple(scores) == METRICS["regression"]
            assert scores["r2"] == pytest.approx(metrics.r2_score(truths, predictions))
            assert scores["rmse"] ** 2 == pytest.approx(metrics.mean_squared_error(truths, predictions))
            assert units.mean() == pytest.approx(scores["r2"])
            r2.append(scores["r2"])
            sizes.append(len(truths))
        assert result.mean == pytest.approx(np.average(r2, weights=sizes))
        assert result.mean == result.unit_scores.mean()


def test_classes_and_confusion_are_scikit_learns_report():
    data, embeddings = problem("classification")
    result = evaluate_labelled(data, embeddings, "classification", probes=["linear_svm"])[0]
    assert result.classes == ("a", "b", "c")
    expected = metrics.confusion_matrix(result.truths, result.predictions)
    assert result.confusion.tolist() == expected.tolist()
    assert result.confusion.dtype == np.int64
    report = metrics.classification_report(
        result.truths, result.predictions, output_dict=True, zero_division=0
    )
    for name in result.classes:
        expected = report[name]
        assert result.per_class[name]["f1"] == pytest.approx(expected["f1-score"])
        for what in ("precision", "recall", "support"):
            assert result.per_class[name][what] == pytest.approx(expected[what])


@pytest.mark.parametrize("kind", KINDS)
def test_units_carry_their_item_truth_and_group(kind):
    data, embeddings = problem(kind, groups=[f"g{i // 4}" for i in range(100)])
    for result in evaluate_labelled(data, embeddings, kind):
        assert sorted(result.unit_ids) == sorted(data.item_ids)
        rows = [data.item_ids.index(name) for name in result.unit_ids]
        assert result.truths.tolist() == data.labels[rows].tolist()
        assert result.unit_groups.tolist() == data.groups[rows].tolist()
        parts = folds(data, kind)
        assert [part.test.tolist() for part in parts] == [
            np.array(rows)[result.unit_folds == i].tolist() for i in range(5)
        ]


@pytest.mark.parametrize("kind", KINDS)
def test_probes_hear_a_signal_and_chance_does_not(kind):
    data, embeddings = problem(kind, noise=0.3)
    *probes, chance = evaluate_labelled(data, embeddings, kind)
    assert chance.probe == "chance"
    for result in probes:
        assert result.low > chance.high, result.probe
        assert result.low < result.mean < result.high
    expected = max(np.unique(data.labels, return_counts=True)[1]) / 100 if kind == "classification" else 0
    assert chance.mean == pytest.approx(expected, abs=0.12)
    assert kind == "classification" or chance.mean <= 0


def test_one_fixed_split_repeats_what_depends_on_the_seed_and_nothing_else():
    splits = ["train"] * 50 + ["validation"] * 10 + ["test"] * 40
    data, embeddings = problem("classification", splits=splits)
    results = {result.probe: result for result in evaluate_labelled(data, embeddings, "classification")}
    for name, n_repeats in (("linear_svm", 1), ("logistic", 1), ("mlp", N_REPEATS), ("chance", 1)):
        result = results[name]
        assert sorted(set(result.unit_folds.tolist())) == list(range(n_repeats))
        assert result.unit_ids.tolist() == list(data.item_ids[60:]) * n_repeats
        assert result.confusion.sum() == 40 * n_repeats
    predictions = results["mlp"].predictions.reshape(N_REPEATS, 40)
    assert len({tuple(row) for row in predictions.tolist()}) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_second_run_gives_identical_results(kind):
    data, embeddings = problem(kind, n_items=60, dimension=70)
    options = {"n_folds": 2, "seed": 3, "tune": True}
    first, second = (evaluate_labelled(data, embeddings, kind, **options) for _ in range(2))
    assert all(equal(one, other) for one, other in zip(first, second, strict=True))


def test_tuning_records_a_c_a_fold_and_small_training_parts_fall_back_to_the_default():
    data, embeddings = problem("classification")
    result = evaluate_labelled(data, embeddings, "classification", probes=["logistic"], tune=True)[0]
    assert len(result.details["C"]) == 5
    assert len(set(result.details["C"])) > 1 or result.details["C"][0] != 1
    groups = [f"g{i % 3}" for i in range(100)]  # two groups are left for training, too few to choose C
    grouped = replace(data, groups=np.array(groups))
    result = evaluate_labelled(
        grouped, embeddings, "classification", probes=["logistic"], n_folds=3, tune=True
    )[0]
    assert result.details["C"] == [1.0, 1.0, 1.0]


def test_c_is_chosen_on_the_data_sets_own_validation_part_where_there_is_one():
    splits = ["train"] * 60 + ["validation"] * 40 + ["test"] * 40
    data, embeddings = problem("classification", n_items=140, noise=4, splits=splits)
    result = evaluate_labelled(data, embeddings, "classification", probes=["logistic"], tune=True)[0]
    scores = []
    for c in C_GRID:
        model = make_pipeline(StandardScaler(), LogisticRegression(C=c / 20, max_iter=5000))
        model.fit(embeddings[:60], data.labels[:60])
        scores.append(model.score(embeddings[60:100], data.labels[60:100]))
    chosen = C_GRID[int(np.argmax(scores))]
    assert result.details["C"] == [chosen]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=chosen / 20, max_iter=5000))
    model.fit(embeddings[:100], data.labels[:100])  # then fitted to both parts
    assert result.mean == pytest.approx(model.score(embeddings[100:], data.labels[100:]), abs=0.03)


# Intervals


def test_the_interval_is_that_of_scipys_bootstrap():
    values = np.random.default_rng(0).gamma(1, size=80)
    blocks = blocks_of(np.array([f"u{i:02d}" for i in range(80)]), None)
    seed = {"rng" if "rng" in signature(stats.bootstrap).parameters else "random_state": 1}
    expected = stats.bootstrap((values,), np.mean, method="percentile", n_resamples=20_000, **seed)
    np.testing.assert_allclose(
        mean_interval(values, blocks, n_resamples=20_000), expected.confidence_interval, atol=0.01
    )
    assert mean_interval(values, blocks) == mean_interval(values, blocks)


def test_copies_of_an_item_in_one_group_do_not_narrow_the_interval():
    values = np.random.default_rng(0).normal(size=50)
    names = np.array([f"g{i:02d}" for i in range(50)])
    once = mean_interval(values, blocks_of(names, None))
    sixfold = mean_interval(np.repeat(values, 6), blocks_of(np.arange(300).astype(str), np.repeat(names, 6)))
    np.testing.assert_allclose(sixfold, once)
    alone = mean_interval(np.repeat(values, 6), blocks_of(np.arange(300).astype(str), None))
    assert alone[1] - alone[0] < 0.5 * (once[1] - once[0])


@pytest.mark.parametrize("sizes", [[1] * 60, [3] * 40, [1, 2, 9] * 20])
def test_the_interval_covers_the_true_mean_about_19_times_in_20(sizes):
    rng = np.random.default_rng(0)
    groups = np.repeat([f"g{i:02d}" for i in range(len(sizes))], sizes)
    blocks, n_units, covered = blocks_of(groups, groups), len(groups), 0
    for seed in range(300):
        values = rng.normal(size=len(sizes))[blocks] + 0.5 * rng.normal(size=n_units)
        low, high = mean_interval(values, blocks, seed, n_resamples=400)
        covered += low <= 0 <= high
    assert 0.88 < covered / 300 < 0.98


# Controls


@pytest.mark.parametrize("kind", KINDS)
def test_shuffled_labels_score_at_chance(kind):
    data, embeddings = problem(kind, n_items=300, noise=0.1)
    true = evaluate_labelled(data, embeddings, kind, n_folds=2)
    shuffled = evaluate_labelled(data, embeddings, kind, n_folds=2, shuffle_labels=True)
    assert sorted(shuffled[0].truths) == sorted(data.labels)
    for one, other in zip(true[:-1], shuffled[:-1], strict=True):
        assert one.mean > 0.6
        assert other.mean < (0.45 if kind == "classification" else 0.1)


# What cannot be evaluated


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda e: np.where(np.arange(20) == 3, np.nan, e), "embeddings of 100 items have NaN.*'item0'"),
        (lambda e: np.where(np.arange(100)[:, None] == 7, np.inf, e), "of 1 items.*'item7'"),
        (lambda e: e.astype(np.float64) * 1e300, "have NaN or infinite"),
        (lambda e: e[:-1], r"shape \[99, 20\]; 100 items need \[100, dimension\]"),
        (lambda e: e[:, 0], r"shape \[100\]"),
        (lambda e: e[:, :0], r"shape \[100, 0\]"),
    ],
)
def test_unusable_embeddings_are_one_clear_line(change, message):
    data, embeddings = problem("classification")
    with pytest.raises(DataError, match=message) as caught:
        evaluate_labelled(data, change(embeddings), "classification")
    assert "\n" not in str(caught.value)


def test_unusable_labels_are_told_before_anything_is_fitted():
    data, embeddings = problem("regression")
    data.labels[4] = np.nan
    for shuffle in (False, True):
        with pytest.raises(DataError, match=r"1 items are not finite.*'item4'"):
            evaluate_labelled(data, embeddings, "regression", shuffle_labels=shuffle)


def test_recommendation_is_not_for_probes():
    data, embeddings = problem("regression")
    with pytest.raises(ValueError, match="recommendation"):
        evaluate_labelled(data, embeddings, "recommendation")
