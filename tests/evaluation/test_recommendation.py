"""Recommendation of held-out items: what is learnt, what must not leak, and what is refused."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from scipy import sparse

from kerasrep.errors import DataError
from kerasrep.evaluation.base import PlayData
from kerasrep.evaluation.recommendation.evaluate import (
    dense,
    evaluate_recommendation,
    fit_others,
    hold_out,
    preferences,
)
from kerasrep.evaluation.recommendation.ranking import ranking_scores
from kerasrep.evaluation.recommendation.wmf import FactorisationSettings

QUICK = FactorisationSettings(n_factors=8, n_sweeps=5)
SEED = 7


def play_data(plays, groups=None, fraction=0.2):
    n_users, n_items = plays.shape
    items = tuple(f"item-{number}" for number in range(n_items))
    return PlayData(
        items,
        tuple(Path(f"{item}.wav") for item in items),
        tuple(f"user-{number}" for number in range(n_users)),
        sparse.csr_matrix(plays),
        groups,
        held_out_fraction=fraction,
        notices=("a notice",),
    )


def taste(n_users=120, n_items=150, n_traits=6, seed=0):
    """Users play what resembles their taste; embeddings are the items' traits, turned and stretched."""
    rng = np.random.default_rng(seed)
    traits, tastes = rng.normal(size=(n_items, n_traits)), rng.normal(size=(n_users, n_traits))
    plays = rng.poisson(np.exp(0.8 * tastes @ traits.T - 2.5).clip(max=20)).astype(float)
    embeddings = traits @ rng.normal(size=(n_traits, 12)) * 5 + 100
    return play_data(plays), embeddings.astype(np.float32)


def scores_of(result, metric):
    return [score.value for score in result.scores if score.metric == metric]


@pytest.fixture(scope="module")
def informative():
    data, embeddings = taste()
    return data, embeddings, evaluate_recommendation(data, embeddings, k=10, seed=SEED, settings=QUICK)


def test_informative_embeddings_beat_shuffled_ones_which_stay_at_chance(informative):
    data, embeddings, (learnt, chance) = informative
    order = np.random.default_rng(1).permutation(len(embeddings))
    shuffled, _ = evaluate_recommendation(data, embeddings[order], k=10, seed=SEED, settings=QUICK)
    assert learnt.mean > 2 * chance.mean
    assert learnt.low > max(chance.high, shuffled.high)
    assert abs(shuffled.mean - chance.mean) < 0.15 * (learnt.mean - chance.mean)


def test_constant_embeddings_score_as_the_mean_over_all_orders(informative):
    data, embeddings, (_, chance) = informative
    constant, _ = evaluate_recommendation(data, np.ones_like(embeddings), k=10, seed=SEED, settings=QUICK)
    expected = []
    for repeat in range(5):
        relevant = data.plays[:, hold_out(data, SEED, repeat)]
        expected.append(np.nanmean(ranking_scores(np.zeros(relevant.shape), relevant, 10).ap))
    np.testing.assert_allclose(scores_of(constant, "ap"), expected, rtol=1e-12)
    assert constant.mean == pytest.approx(chance.mean, abs=0.03)


def test_results_hold_what_the_contract_says(informative):
    data, _, probes = informative
    assert [probe.probe for probe in probes] == ["wmf_features", "chance"]
    for probe in probes:
        assert probe.metric == "ap"
        assert probe.mean == pytest.approx(probe.unit_scores.mean())
        assert probe.low < probe.mean < probe.high
        assert [(s.fold, s.metric) for s in probe.scores] == [
            (fold, metric) for fold in range(5) for metric in ("ap", "recall", "ndcg")
        ]
        for fold, value in enumerate(scores_of(probe, "ap")):
            assert value == pytest.approx(probe.unit_scores[probe.unit_folds == fold].mean())
            relevant = data.plays[:, hold_out(data, SEED, fold)]
            users = [data.user_ids[user] for user in np.flatnonzero(relevant.sum(axis=1))]
            assert probe.unit_ids[probe.unit_folds == fold].tolist() == users
        np.testing.assert_array_equal(probe.unit_groups, probe.unit_ids)
        assert (probe.truths, probe.predictions, probe.confusion) == (None, None, None)
        json.dumps(probe.details, allow_nan=False)
    details = probes[0].details
    assert [len(sweeps) for sweeps in details["objectives"]] == [QUICK.n_sweeps] * 5
    assert all(after < before for sweeps in details["objectives"] for before, after in pairwise(sweeps))
    assert details["n_held_out_items"] == [30] * 5
    assert details["n_items_learnt_from"] == [120] * 5
    assert details["k"] == [10] * 5


def test_scores_are_those_of_predictions_made_by_hand(informative):
    data, embeddings, (learnt, _) = informative
    held_out = hold_out(data, SEED, 2)
    fitted = fit_others(data, embeddings, held_out, (SEED, 1, 2), QUICK)
    others = np.setdiff1d(np.arange(150), held_out)
    mean, deviation = (f(embeddings[others].astype(float), axis=0) for f in (np.mean, np.std))
    predicted = fitted.user_factors @ ((embeddings[held_out] - mean) / deviation @ fitted.feature_map).T
    found = ranking_scores(predicted, data.plays[:, held_out], 10)
    for metric in ("ap", "recall", "ndcg"):
        assert scores_of(learnt, metric)[2] == pytest.approx(np.nanmean(getattr(found, metric)))


def test_a_second_run_gives_the_same_numbers_and_another_seed_others(informative):
    data, embeddings, first = informative
    second = evaluate_recommendation(data, embeddings, k=10, seed=SEED, settings=QUICK)
    for a, b in zip(first, second, strict=True):
        assert (a.mean, a.low, a.high, a.scores, a.details) == (b.mean, b.low, b.high, b.scores, b.details)
        np.testing.assert_array_equal(a.unit_scores, b.unit_scores)
    other = evaluate_recommendation(data, embeddings, k=10, seed=SEED + 1, n_repeats=1, settings=QUICK)
    assert scores_of(other[0], "ap")[0] != scores_of(first[0], "ap")[0]
    assert scores_of(other[1], "ap")[0] != scores_of(first[1], "ap")[0]


def test_plays_of_held_out_items_change_no_prediction():
    data, embeddings = taste(40, 60)
    held_out = hold_out(data, SEED, 0)
    plays = data.plays.toarray()
    plays[:, held_out] = np.random.default_rng(0).poisson(5, size=(40, len(held_out)))
    changed = replace(data, plays=sparse.csr_matrix(plays))
    np.testing.assert_array_equal(hold_out(changed, SEED, 0), held_out)
    before, after = (
        preferences(fit_others(d, embeddings, held_out, SEED, QUICK), embeddings[held_out])(slice(0, 40))
        for d in (data, changed)
    )
    np.testing.assert_array_equal(before, after)


def test_features_of_held_out_items_change_no_fitted_parameter():
    data, embeddings = taste(40, 60)
    held_out = hold_out(data, SEED, 0)
    changed = embeddings.copy()
    changed[held_out] = 1e6
    before, after = (fit_others(data, e, held_out, SEED, QUICK) for e in (embeddings, changed))
    for name in ("user_factors", "item_factors", "feature_map"):
        np.testing.assert_array_equal(getattr(before, name), getattr(after, name))
    np.testing.assert_array_equal(before.standardiser.mean, after.standardiser.mean)
    np.testing.assert_array_equal(before.standardiser.inverse_deviation, after.standardiser.inverse_deviation)
    # The check can fail: an item that is learnt from does change them.
    changed[np.setdiff1d(np.arange(60), held_out)[0]] = 1e6
    assert (fit_others(data, changed, held_out, SEED, QUICK).feature_map != before.feature_map).any()


def test_items_with_equal_embeddings_tie_exactly():
    """Products of matrices round equal columns differently at their edges, at these sizes for instance."""
    data, embeddings = taste(40, 60)
    fitted = fit_others(data, embeddings, hold_out(data, SEED, 0), SEED, replace(QUICK, n_factors=50))
    for n_equal in (5, 7, 15, 61):
        score = preferences(fitted, np.repeat(embeddings[:2], n_equal, axis=0))
        for n_users in (1, 3, 7):
            scores = score(slice(0, n_users)).reshape(n_users, 2, n_equal)
            assert (scores == scores[:, :, :1]).all()
            assert (scores[:, 0] != scores[:, 1]).all()


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 6), min_size=2, max_size=25),
    fraction=st.sampled_from([0.05, 0.2, 0.5]),
    repeat=st.integers(0, 4),
    seed=st.integers(0, 1000),
)
def test_groups_are_held_out_whole_and_no_more_of_them_than_needed(sizes, fraction, repeat, seed):
    groups = np.random.default_rng(seed).permutation(np.repeat(np.arange(len(sizes)), sizes)).astype(str)
    data = play_data(np.ones((2, len(groups))), groups, fraction)
    wanted = max(2, round(fraction * len(groups)))
    assume(wanted + max(sizes) < len(groups))  # else too little may be left, which is an error
    held_out = hold_out(data, seed, repeat)
    rest = np.setdiff1d(np.arange(len(groups)), held_out)
    assert not set(groups[held_out]) & set(groups[rest])
    assert wanted <= len(held_out) < wanted + max(sizes)
    assert len(rest) >= 2


def test_repeats_hold_out_different_items():
    data, _ = taste(40, 60)
    drawn = {tuple(hold_out(data, SEED, repeat)) for repeat in range(5)}
    assert len(drawn) == 5
    assert {len(items) for items in drawn} == {12}


def test_the_interval_resamples_users_and_not_their_repeats():
    """Users all alike in every repeat: twice as many repeats tell no more about users."""
    rng = np.random.default_rng(0)
    plays = np.zeros((30, 40))
    plays[:15, :20], plays[15:, 20:] = 1, 1  # two kinds of users ...
    embeddings = np.r_[np.ones((20, 1)), -np.ones((20, 1))].astype(np.float32)
    plays[15:] = plays[15:] * (rng.random((15, 40)) < 0.5)  # ... of which one is harder to serve
    data = play_data(plays, fraction=0.3)
    few, many = (evaluate_recommendation(data, embeddings, n_repeats=n, settings=QUICK)[0] for n in (4, 16))
    means = [np.mean(few.unit_scores[few.unit_ids == user]) for user in np.unique(few.unit_ids)]
    width = 2 * 1.96 * np.std(means) / np.sqrt(len(means))
    assert few.high - few.low == pytest.approx(width, rel=0.2)
    assert many.high - many.low > 0.8 * (few.high - few.low)


def test_dense_keeps_the_largest_part_in_which_all_have_enough():
    data, _ = taste(40, 60)
    kept = dense(data, min_user_items=7, min_item_users=5)
    played = data.plays.toarray() > 0
    users, items = np.arange(40), np.arange(60)
    for _ in range(100):
        users = np.array([u for u in users if played[u, items].sum() >= 7])
        items = np.array([i for i in items if played[users, i].sum() >= 5])
    assert 0 < len(users) < 40
    assert 0 < len(items) < 60
    assert kept.user_ids == tuple(data.user_ids[user] for user in users)
    assert kept.item_ids == tuple(data.item_ids[item] for item in items)
    assert kept.paths == tuple(data.paths[item] for item in items)
    np.testing.assert_array_equal(kept.plays.toarray(), data.plays.toarray()[np.ix_(users, items)])
    assert (kept.held_out_fraction, kept.notices) == (data.held_out_fraction, data.notices)
    assert dense(kept, 7, 5).item_ids == kept.item_ids


def test_dense_goes_on_until_nothing_changes():
    """A chain: each removal leaves the next user or item with too little, until nothing is left."""
    chain = np.eye(5) + np.eye(5, k=1)
    with pytest.raises(
        DataError, match=r"^plays: nothing is left with at least 2 items a user and 2 users.*$"
    ):
        dense(play_data(chain), 2, 2)
    assert dense(play_data(chain), 1, 1).plays.shape == (5, 5)


def test_k_beyond_the_held_out_items_is_all_of_them():
    data, embeddings = taste(40, 60)
    learnt, _ = evaluate_recommendation(data, embeddings, n_repeats=2, k=80, settings=QUICK)
    exact, _ = evaluate_recommendation(data, embeddings, n_repeats=2, k=12, settings=QUICK)
    assert learnt.details["k"] == [12, 12]
    assert learnt.scores == exact.scores
    np.testing.assert_allclose(scores_of(learnt, "recall"), 1)


def test_users_who_played_held_out_items_only_are_scored_as_chance():
    data, embeddings = taste(40, 60)
    held_out = hold_out(data, SEED, 0)
    plays = data.plays.toarray()
    plays[0] = 0
    plays[0, held_out[:3]] = 1
    data = replace(data, plays=sparse.csr_matrix(plays))
    learnt, _ = evaluate_recommendation(data, embeddings, n_repeats=1, k=5, seed=SEED, settings=QUICK)
    relevant = np.isin(np.arange(12), [0, 1, 2])[np.newaxis]
    assert learnt.unit_ids[0] == "user-0"
    assert learnt.unit_scores[0] == pytest.approx(ranking_scores(np.zeros((1, 12)), relevant, 5).ap[0])
    assert learnt.details["n_users_without_other_plays"] == [1]


PLAYS = np.ones((4, 10))


def with_play(value):
    plays = PLAYS.copy()
    plays[1, 2] = value
    return play_data(plays)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (play_data(PLAYS[:1]), "1 users and 10 items; recommendation needs at least 2"),
        (play_data(PLAYS[:, :1]), "4 users and 1 items; recommendation needs at least 2"),
        (play_data(PLAYS[:, :3]), "2 of 3 items are held out, fewer than 2"),
        (
            play_data(PLAYS, np.array(["one"] * 10)),
            "10 of 10 items are held out, fewer than 2 items that are in",
        ),
        (play_data(PLAYS * 0), "the items held out have no play at all"),
        (play_data(PLAYS, fraction=0.0), "held_out_fraction: is 0.0"),
        (play_data(PLAYS, fraction=1.5), "held_out_fraction: is 1.5"),
        (with_play(-1), "user 'user-1' has -1.0 plays of item 'item-2'"),
        (with_play(np.nan), "user 'user-1' has nan plays of item 'item-2'"),
        (replace(play_data(PLAYS), user_ids=("a",)), "are (4, 10), but there are 1 users"),
    ],
)
def test_plays_that_cannot_be_used_are_one_line(data, message):
    embeddings = np.arange(2 * len(data.item_ids), dtype=np.float32).reshape(-1, 2)
    with pytest.raises(DataError) as caught:
        evaluate_recommendation(data, embeddings, settings=QUICK)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("side", ["held out", "to learn from"])
def test_a_side_without_plays_is_one_line(side):
    data = play_data(PLAYS)
    held_out = hold_out(data, 0, 0)
    empty = held_out if side == "held out" else np.setdiff1d(np.arange(10), held_out)
    plays = PLAYS.copy()
    plays[:, empty] = 0
    with pytest.raises(DataError, match=f"^plays, repeat 0: the items {side} have no play at all[^\n]*$"):
        evaluate_recommendation(play_data(plays), np.eye(10, dtype=np.float32), settings=QUICK)


@pytest.mark.parametrize(
    ("row", "column", "value"), [(3, 1, np.nan), (3, 0, np.inf), (3, 1, -np.inf)], ids=str
)
def test_embeddings_that_are_not_finite_name_the_item(row, column, value):
    embeddings = np.ones((10, 2), dtype=np.float32)
    embeddings[row, column] = value
    with pytest.raises(DataError, match=r"^embeddings: hold NaN.*for 1 items, the first is 'item-3'[^\n]*$"):
        evaluate_recommendation(play_data(PLAYS), embeddings)


@pytest.mark.parametrize("shape", [(9, 2), (10,), (10, 0)])
def test_embeddings_of_a_wrong_shape_are_one_line(shape):
    with pytest.raises(DataError, match=r"^embeddings: are .*one row for each of 10 items[^\n]*$"):
        evaluate_recommendation(play_data(PLAYS), np.zeros(shape, dtype=np.float32))


@pytest.mark.parametrize("wrong", [{"n_repeats": 0}, {"k": 0}, {"seed": -1}])
def test_impossible_arguments_are_refused(wrong):
    with pytest.raises(ValueError, match="at least"):
        evaluate_recommendation(play_data(PLAYS), np.ones((10, 2), dtype=np.float32), **wrong)
