"""The paired test against SciPy's permutation test, exact binomials, and simulation."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

from kerasrep.errors import DataError
from kerasrep.evaluation.base import ProbeResult
from kerasrep.evaluation.significance import N_FLIPS, compare, holm, sign_flip_p_value


def result_of(scores, ids=None, folds=None, groups=None, probe="linear_svm", metric="accuracy"):
    scores = np.asarray(scores, dtype=float)
    ids = np.array([f"u{i}" for i in range(len(scores))] if ids is None else ids)
    folds = np.zeros(len(scores), int) if folds is None else np.array(folds)
    groups = None if groups is None else np.array(groups)
    return ProbeResult(probe, metric, float(scores.mean()), 0, 1, (), ids, folds, scores, groups)


def scipy_p_value(differences):
    zeros = np.zeros_like(differences)
    found = stats.permutation_test(
        (differences, zeros), lambda a, b: np.sum(a - b), permutation_type="samples", n_resamples=np.inf
    )
    return found.pvalue


@given(st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.3, 0.7, 1.0]), min_size=2, max_size=10))
def test_few_units_give_scipys_exact_p_value(differences):
    assert sign_flip_p_value(np.array(differences)) == pytest.approx(scipy_p_value(np.array(differences)))


@pytest.mark.parametrize(("n_better", "n_worse"), [(8, 0), (9, 3), (5, 5), (1, 0), (13, 3)])
def test_right_and_wrong_answers_give_mcnemars_exact_p_value(n_better, n_worse):
    first = [1] * n_better + [0] * n_worse + [1] * 20 + [0] * 7
    second = [0] * n_better + [1] * n_worse + [1] * 20 + [0] * 7
    found = compare("t", "accuracy", "a", result_of(first), "b", result_of(second))
    assert found.p_value == pytest.approx(stats.binomtest(n_better, n_better + n_worse).pvalue)
    assert found.difference == pytest.approx((n_better - n_worse) / len(first))
    assert (found.n_units, found.n_groups) == (len(first), len(first))


def test_drawn_flips_agree_with_the_binomial_and_with_the_normal_distribution():
    differences = np.array([1.0] * 40 + [-1.0] * 24)
    exact = stats.binomtest(40, 64).pvalue
    assert sign_flip_p_value(differences, seed=3) == pytest.approx(exact, abs=3 * (exact / N_FLIPS) ** 0.5)
    values = np.random.default_rng(0).normal(0.1, 1, size=3000)
    normal = 2 * stats.norm.sf(abs(values.sum()) / np.sqrt(np.square(values).sum()))
    drawn = sign_flip_p_value(values)
    assert drawn == pytest.approx(normal, abs=4 * (normal / N_FLIPS) ** 0.5)


def test_a_drawn_p_value_is_never_zero_and_equal_results_give_one():
    assert sign_flip_p_value(np.ones(500)) == pytest.approx(1 / (1 + N_FLIPS))
    same = result_of(np.random.default_rng(0).random(100))
    found = compare("t", "accuracy", "a", same, "b", same)
    assert (found.p_value, found.difference, found.low, found.high) == (1.0, 0.0, 0.0, 0.0)


def test_order_of_units_does_not_matter_and_swapping_turns_the_sign():
    rng = np.random.default_rng(1)
    first, second = rng.random(60), rng.random(60)
    ids, folds = np.array([f"u{i // 2}" for i in range(60)]), np.arange(60) % 2
    a, b = result_of(first, ids, folds), result_of(second, ids, folds)
    order = rng.permutation(60)
    shuffled = result_of(second[order], ids[order], folds[order])
    one, again = compare("t", "accuracy", "a", a, "b", b), compare("t", "accuracy", "a", a, "b", shuffled)
    assert one == again
    swapped = compare("t", "accuracy", "b", b, "a", a)
    assert swapped.difference == pytest.approx(-one.difference)
    assert swapped.p_value == pytest.approx(one.p_value)
    assert (swapped.low, swapped.high) == pytest.approx((-one.high, -one.low), abs=0.02)


@pytest.mark.parametrize("as_groups", [True, False])
def test_groups_and_repeated_units_are_flipped_together(as_groups):
    # Each of 8 blocks has 5 units: what counts is the exact test on 8 sums, not on 40 units.
    rng = np.random.default_rng(2)
    first, second = rng.normal(0.5, 1, 40), rng.normal(0, 1, 40)
    names, folds = [f"b{i % 8}" for i in range(40)], [i // 8 for i in range(40)]
    blocks = {"groups": names} if as_groups else {"ids": names, "folds": folds}
    found = compare("t", "accuracy", "a", result_of(first, **blocks), "b", result_of(second, **blocks))
    sums = (first - second).reshape(5, 8).sum(axis=0)
    assert found.p_value == pytest.approx(scipy_p_value(sums))
    assert (found.n_units, found.n_groups) == (40, 8)


def test_under_the_null_five_percent_of_the_p_values_are_below_five_percent():
    rng = np.random.default_rng(4)
    p_values = []
    for seed in range(400):
        # Two representations that are right equally often, on the same items of varying difficulty.
        chance = rng.beta(2, 1, size=40)
        first, second = rng.random((2, 40)) < chance
        p_values.append(sign_flip_p_value(first.astype(float) - second, seed))
    below = np.mean(np.array(p_values) <= 0.05)
    assert 0.01 < below < 0.075  # ties of whole numbers keep it a little below 0.05


def test_dependent_units_would_be_called_different_too_often_without_their_groups():
    rng = np.random.default_rng(5)
    grouped, alone = [], []
    for seed in range(200):
        differences = np.repeat(rng.normal(size=30), 6)
        groups = [f"g{i // 6}" for i in range(180)]
        zeros = np.zeros(180)
        for kept, names in ((grouped, groups), (alone, None)):
            pair = result_of(differences, groups=names), result_of(zeros, groups=names)
            kept.append(compare("t", "accuracy", "a", pair[0], "b", pair[1], seed).p_value)
    assert np.mean(np.array(grouped) <= 0.05) < 0.1
    assert np.mean(np.array(alone) <= 0.05) > 0.25


def test_a_true_difference_is_found_and_lies_in_the_interval():
    rng = np.random.default_rng(6)
    base = rng.normal(size=400)
    first, second = base + rng.normal(0.3, 0.5, 400), base + rng.normal(0, 0.5, 400)
    found = compare("t", "accuracy", "a", result_of(first), "b", result_of(second))
    assert found.p_value < 0.001
    assert found.low < 0.3 < found.high
    error = np.std(first - second, ddof=1) / 20
    assert found.high - found.low == pytest.approx(2 * 1.96 * error, rel=0.1)  # far narrower than unpaired


@pytest.mark.parametrize(
    ("second", "message"),
    [
        (result_of([1, 0, 1], ["u0", "u1", "u9"]), "1 units were tested with mss alone .*'u2' in fold 0"),
        (result_of([1, 0, 1], folds=[0, 0, 1]), "'u2' in fold 0"),
        (result_of([1, 0, 1, 1]), "1 units were tested with mfcc alone"),
        (result_of([1, 0, 1], groups=["a", "b", "c"]), "other groups"),
        (result_of([1, 0, 1], probe="mlp"), "probes are linear_svm and mlp"),
        (result_of([1, 0, 1], metric="r2"), "metrics are accuracy and r2"),
    ],
)
def test_results_that_do_not_match_are_one_clear_line(second, message):
    first = result_of([1, 1, 0])
    with pytest.raises(DataError, match=message) as caught:
        compare("dance", "accuracy", "mss", first, "mfcc", second)
    assert "dance: mss and mfcc" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_unit_that_stands_twice_in_a_fold_is_refused():
    twice = result_of([1, 0, 1], ["u0", "u0", "u1"])
    with pytest.raises(DataError, match="twice"):
        compare("t", "accuracy", "a", twice, "b", twice)


def test_holm_by_hand():
    # Sorted .01 .02 .03 .04 times 4 3 2 1 = .04 .06 .06 .04, made ascending: .04 .06 .06 .06.
    np.testing.assert_allclose(holm([0.04, 0.01, 0.03, 0.02]), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm([0.001, 0.8, 0.012]), [0.003, 0.8, 0.024])
    np.testing.assert_allclose(holm([0.6, 0.7]), [1.0, 1.0])
    assert holm([]).shape == (0,)
    assert holm([0.3]).tolist() == [0.3]


@pytest.mark.parametrize("wrong", [[0.1, np.nan], [-0.1], [1.1], [[0.1]]])
def test_holm_refuses_what_are_no_p_values(wrong):
    with pytest.raises(ValueError, match="p-values"):
        holm(wrong)
