"""Copies of a recording are grouped, or told where a split has them on both sides."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import sparse
from sklearn.model_selection import StratifiedGroupKFold

from kerasrep.evaluation.base import LabelledData, PlayData
from kerasrep.evaluation.copies import Seen, equal_rows, join_groups, with_copies_together


def task(labels, splits=None, groups=None):
    names = tuple(f"i{n}" for n in range(len(labels)))
    return LabelledData(
        names,
        names,
        np.array(labels),
        None if splits is None else np.array(splits),
        None if groups is None else np.array(groups),
        (),
    )


def embeddings(*values):
    return np.array(values, np.float32)[:, None]


def test_copies_become_one_group_that_no_fold_divides():
    data = task(list("aabbab"), groups=["g", "h", "g", "k", "l", "m"])
    grouped, said = with_copies_together(data, [(4, 0)])
    assert grouped.groups[0] == grouped.groups[4] == grouped.groups[2]
    assert len(set(grouped.groups)) == 4
    assert said.startswith("1 items are copies of another one")
    for train, test in StratifiedGroupKFold(2).split(grouped.labels, grouped.labels, grouped.groups):
        assert not set(grouped.groups[train]) & set(grouped.groups[test])


def test_copies_on_both_sides_of_a_given_split_are_counted():
    data = task(list("abab"), splits=["train", "train", "test", "test"])
    same, said = with_copies_together(data, [(2, 0)])
    assert same is data and "1 test items are in training as well" in said
    _, said = with_copies_together(data, [(3, 2)])
    assert "training" not in said and said.startswith("1 items are copies")


def test_without_copies_nothing_is_said_or_changed():
    data = task(list("abab"))
    assert with_copies_together(data, []) == (data, "")


@pytest.mark.parametrize("pair", [(1, 0), (3, 2)])
def test_a_class_of_two_copies_stays_as_it_is(pair):
    data = task(list("aabb"))
    same, said = with_copies_together(data, [pair])
    assert same is data and "they stay apart" in said


def test_copies_are_held_out_together_in_recommendation():
    names = ("i0", "i1", "i2")
    data = PlayData(names, names, ("u",), sparse.csr_matrix(np.ones((1, 3))))
    grouped, said = with_copies_together(data, [(2, 0)])
    assert grouped.groups[2] == grouped.groups[0] != grouped.groups[1]
    assert said.startswith("1 items are copies")


def test_what_models_have_seen_is_said():
    seen = Seen({"one": ("a", "b"), "two": ("b",)}, 40, removed=True)
    assert seen.reasons["b"] == "trained on by one and two"
    assert seen.sentence().startswith(
        "of 40 items, models were trained on 2 (one on 2, two on 1); they are left"
    )
    assert "seen in training" in replace(seen, removed=False).sentence()
    assert seen.counts() == {"items": 2, "removed": True, "by_model": {"one": 2, "two": 1}}


@given(st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=12))
def test_joined_groups_are_the_connected_ones(pairs):
    """Against sets that are merged until nothing changes."""
    groups = [f"g{n // 2}" for n in range(10)]
    sets = [{n for n in range(10) if groups[n] == groups[m]} for m in range(10)]
    for _ in range(10):
        for one, other in pairs:
            merged = sets[one] | sets[other]
            for n in merged:
                sets[n] = merged
    joined = join_groups(groups, pairs)
    assert all((joined[a] == joined[b]) == (b in sets[a]) for a in range(10) for b in range(10))


def test_equal_rows_are_the_first_of_their_values():
    assert equal_rows(embeddings(5, 6, 5, 5, 6)) == [0, 1, 0, 0, 1]
