"""Folds: what a probe may learn from, and what it is judged on."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.errors import DataError
from kerasrep.evaluation.base import LabelledData
from kerasrep.evaluation.probing.folds import folds


def data_of(labels, groups=None, splits=None):
    n_items = len(labels)
    return LabelledData(
        tuple(f"item{i}" for i in range(n_items)),
        (Path("a.wav"),) * n_items,
        np.array(labels),
        None if splits is None else np.array(splits),
        None if groups is None else np.array(groups),
    )


def test_the_data_sets_own_split_is_the_only_fold_and_validation_counts_as_training():
    splits = ["test", "train", "validation", "train", "test", "validation"]
    (fold,) = folds(data_of(list("ababab"), splits=splits), "classification")
    assert fold.train.tolist() == [1, 2, 3, 5]
    assert fold.test.tolist() == [0, 4]


def test_every_item_is_tested_once_and_each_class_in_proportion():
    labels = ["a"] * 50 + ["b"] * 25 + ["c"] * 10
    found = folds(data_of(labels), "classification", 5)
    assert sorted(np.concatenate([fold.test for fold in found])) == list(range(85))
    for fold in found:
        assert Counter(np.array(labels)[fold.test]) == {"a": 10, "b": 5, "c": 2}
        assert sorted([*fold.train, *fold.test]) == list(range(85))


@pytest.mark.parametrize("kind", ["classification", "regression"])
@pytest.mark.parametrize("groups", [None, [f"g{i // 3}" for i in range(60)]])
def test_a_seed_gives_the_same_folds_again_and_another_seed_others(kind, groups):
    rng = np.random.default_rng(0)
    labels = rng.normal(size=60) if kind == "regression" else rng.choice(list("ab"), 60)
    first, again, other = (folds(data_of(labels, groups), kind, 5, seed) for seed in (1, 1, 2))
    assert all(
        (a.test == b.test).all() and (a.train == b.train).all() for a, b in zip(first, again, strict=True)
    )
    assert any(a.test.tolist() != b.test.tolist() for a, b in zip(first, other, strict=True))


def test_values_are_shuffled_not_cut_into_runs():
    found = folds(data_of(np.arange(100.0)), "regression", 5)
    assert all(10 < np.mean(fold.test) < 90 and np.ptp(fold.test) > 50 for fold in found)
    assert [len(fold.test) for fold in found] == [20] * 5


@given(
    labels=st.lists(st.sampled_from("abc"), min_size=1, max_size=40),
    grouping=st.one_of(st.none(), st.integers(1, 12)),
    n_folds=st.integers(0, 6),
    seed=st.integers(0, 99),
    kind=st.sampled_from(["classification", "regression"]),
)
def test_any_labels_and_groups_give_sound_folds_or_one_clear_line(labels, grouping, n_folds, seed, kind):
    rng = np.random.default_rng(seed)
    groups = None if grouping is None else rng.integers(grouping, size=len(labels)).astype(str)
    given_labels = np.array([float(ord(label)) for label in labels]) if kind == "regression" else labels
    data = data_of(given_labels, groups)
    try:
        found = folds(data, kind, n_folds, seed)
    except DataError as error:
        assert len(str(error).splitlines()) == 1
        return
    assert len(found) == n_folds
    assert sorted(np.concatenate([fold.test for fold in found])) == list(range(len(labels)))
    for fold in found:
        assert sorted([*fold.train, *fold.test]) == list(range(len(labels)))
        if groups is not None:
            assert not set(groups[fold.train]) & set(groups[fold.test])
        if kind == "classification":
            assert set(data.labels[fold.test]) <= set(data.labels[fold.train])
        else:
            assert len(set(data.labels[fold.test])) > 1


def test_classes_of_two_groups_are_learnt_in_every_fold_though_one_shuffle_may_not_do_it():
    # Ten classes of two songs: a fold that took both songs of a class could not learn it.
    labels = [f"c{i // 4}" for i in range(40)]
    groups = [f"s{i // 2}" for i in range(40)]
    for seed in range(10):
        for fold in folds(data_of(labels, groups), "classification", 2, seed):
            assert len(set(np.array(labels)[fold.train])) == 10


TRAIN_TEST = ["train"] * 4 + ["test"] * 2


@pytest.mark.parametrize(
    ("data", "kind", "message"),
    [
        (data_of([]), "classification", "no items"),
        (data_of([1.0, np.nan, 3.0, np.inf]), "regression", "2 items are not finite.*'item1'"),
        (data_of([1.0, np.nan, 3.0]), "classification", "1 items are not finite.*'item1'"),
        (data_of(["slow", "fast"] * 5), "regression", "must be numbers.*slow"),
        (data_of(["a", "", "b"]), "classification", "1 items are empty.*'item1'"),
        (data_of(["a"] * 20), "classification", "all 20 items have the one class 'a'"),
        (data_of([3.0] * 20), "regression", "all 20 items have the one value '3.0'"),
        (data_of(list("abab")), "classification", "4 items are too few for 5 folds"),
        (data_of(list("abcabc")), "classification", "largest class has 2 items.*5 folds"),
        (data_of([1.0, 2.0]), "regression", "2 items are too few for 5 folds"),
        (data_of(list("ab") * 10, list("wxyz") * 5), "classification", "4 groups are too few for 5 folds"),
        (data_of(np.arange(20.0), list("wxyz") * 5), "regression", "4 groups are too few for 5 folds"),
        (data_of(["a"] * 20 + ["b"]), "classification", "'b' is tested but in no training.*has 1 items"),
        (
            data_of([c for c in "abcdef" for _ in range(5)], [c for c in "abcdef" for _ in range(5)]),
            "classification",
            "the groups are the labels",
        ),
        (
            data_of(["a"] * 20 + ["b"] * 5, [f"g{i}" for i in range(20)] + ["h"] * 5),
            "classification",
            "'b' is tested but in no training part, because its 5 items are in 1 groups",
        ),
        (data_of([1.0] * 18 + [2.0, 3.0]), "regression", "one single value"),
        (data_of(list("abab"), splits=["train"] * 4), "classification", "a test part has no items"),
        (data_of(list("abab"), splits=["test"] * 4), "classification", "a training part has no items"),
        (data_of(list("ababac"), splits=TRAIN_TEST), "classification", "'c' is tested but in no training"),
        (
            data_of([1.0] * 4 + [2.0, 3.0], splits=TRAIN_TEST),
            "regression",
            "training part has the one value 1",
        ),
        (data_of(list("abab"), splits=["train", "train", "dev", "test"]), "classification", "split 'dev'"),
        (
            data_of(list("ababab"), list("uvwxux"), TRAIN_TEST),
            "classification",
            "group '[ux]' is in training and in test",
        ),
    ],
)
def test_bad_labels_are_one_clear_line(data, kind, message):
    with pytest.raises(DataError, match=message) as caught:
        folds(data, kind)
    assert "\n" not in str(caught.value)


def test_fewer_than_two_folds_are_refused():
    with pytest.raises(DataError, match="1 folds were asked for"):
        folds(data_of(list("ab") * 10), "classification", 1)
