from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.data.schedule import JOINT, Examples, Schedule, self_examples
from kerasrep.data.validation_plans import ValidationPlans, mean_candidates
from kerasrep.recipe.schema import Recipe
from kerasrep.sources.stretches import Stretches

SEGMENT = 55_125


def make_recipe(sources=("self", "tag", "bpm"), schedule="alternating", size=8, crops=2, seed=0):
    return Recipe.model_validate(
        {
            "name": "test",
            "strategy": "mss-cr" if len(sources) > 1 else "ss-r",
            "sources": list(sources),
            "batches": {"size": size, "crops_per_visit": crops},
            "training": {"schedule": schedule},
            "seed": seed,
        }
    )


def make_examples(n_tracks=20, seed=0):
    """All tracks have `self` and `tag`, a random half has `bpm`; targets are one-hot by track."""
    rng = np.random.default_rng(seed)
    some = np.sort(rng.choice(n_tracks, n_tracks // 2, replace=False)).astype(np.int64)
    everything = np.arange(n_tracks, dtype=np.int64)
    eye = np.eye(n_tracks, dtype=np.float32)
    return {
        "self": self_examples(everything),
        "tag": Examples(everything, eye),
        "bpm": Examples(some, eye[some]),
    }


def lengths(n_tracks=20):
    return SEGMENT + np.arange(n_tracks, dtype=np.int64) * 1000


def make_schedule(n_steps=60, replicas=1, **settings):
    return Schedule(make_recipe(**settings), make_examples(), lengths(), n_steps, replicas)


def test_a_step_does_not_depend_on_what_was_planned_before():
    first, second = make_schedule(), make_schedule()
    for step in (37, 5, 58):
        for plan_a, plan_b in [(first.plan(step, 0), second.plan(step, 0))]:
            np.testing.assert_array_equal(plan_a.rows, plan_b.rows)
            np.testing.assert_array_equal(plan_a.starts, plan_b.starts)


def test_another_seed_gives_other_sources_tracks_and_crops():
    first, second = make_schedule(sources=("tag",)), make_schedule(sources=("tag",), seed=1)
    assert not np.array_equal(first.plan(3, 0).rows, second.plan(3, 0).rows)
    assert not np.array_equal(first.plan(3, 0).starts, second.plan(3, 0).starts)
    drawn = [make_schedule(seed=seed).source_of_step for seed in (0, 1)]
    assert not np.array_equal(*drawn)


def test_sources_are_drawn_uniformly():
    drawn = make_schedule(n_steps=30_000).source_of_step
    shares = np.bincount(drawn, minlength=3) / len(drawn)
    np.testing.assert_allclose(shares, 1 / 3, atol=0.012)  # 4 standard deviations


def test_a_longer_training_begins_with_the_same_steps():
    np.testing.assert_array_equal(
        make_schedule(n_steps=40).source_of_step, make_schedule(n_steps=90).source_of_step[:40]
    )


def test_each_track_is_visited_once_before_any_is_visited_again():
    schedule = make_schedule(sources=("tag",), n_steps=10)
    visited = np.concatenate([schedule.plan(step, 0).rows[::2] for step in range(10)])  # 4 visits a step
    for start in (0, 20):
        assert sorted(visited[start : start + 20]) == list(range(20))


def test_a_source_draws_only_tracks_that_have_it():
    schedule, members = make_schedule(n_steps=200), set(make_examples()["bpm"].rows.tolist())
    steps = np.flatnonzero(schedule.source_of_step == 2)
    rows = set(np.concatenate([schedule.plan(step, 0).rows for step in steps]).tolist())
    assert rows == members


def test_targets_belong_to_their_tracks_and_weights_sum_to_one():
    schedule = make_schedule(n_steps=50)
    for step in np.flatnonzero(schedule.source_of_step > 0):
        plan = schedule.plan(step, 0)
        np.testing.assert_array_equal(plan.targets[plan.source].argmax(1), plan.rows)
        assert plan.weights[plan.source].sum() == pytest.approx(1)
        others = [place for place in range(3) if place != plan.source]
        assert all(len(plan.targets[place]) == len(plan.weights[place]) == 0 for place in others)


@given(size=st.sampled_from([2, 4, 8, 16]), seed=st.integers(0, 2**31 - 1))
def test_half_of_the_pairs_are_of_the_same_track_and_the_target_says_so(size, seed):
    schedule = Schedule(make_recipe(size=size, seed=seed), make_examples(), lengths(), n_steps=60)
    for step in np.flatnonzero(schedule.source_of_step == 0):
        plan = schedule.plan(step, 0)
        left, right = np.split(plan.rows, 2)
        np.testing.assert_array_equal(plan.targets[0].argmax(1), left == right)
        assert (left == right).sum() == size // 2
        assert schedule.segments(step) == len(plan.rows) == 2 * size


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
@pytest.mark.parametrize("sources", [("self", "tag", "bpm"), ("tag", "bpm")])
def test_replicas_divide_what_one_replica_has(schedule, sources):
    whole = make_schedule(schedule=schedule, sources=sources)
    parts = make_schedule(schedule=schedule, sources=sources, replicas=2)
    for step in range(12):
        together, halves = whole.plan(step, 0), [parts.plan(step, replica) for replica in (0, 1)]
        found = sorted(
            zip(*(np.concatenate([getattr(h, k) for h in halves]) for k in ("rows", "starts")), strict=True)
        )
        assert found == sorted(zip(together.rows, together.starts, strict=True))
        for place in range(len(sources)):
            weights = np.concatenate([half.weights[place] for half in halves])
            assert weights.sum() == pytest.approx(together.weights[place].sum())


def test_crops_lie_inside_their_tracks_and_reach_both_ends():
    schedule = make_schedule(sources=("tag",), n_steps=4000)
    plans = [schedule.plan(step, 0) for step in range(4000)]
    rows = np.concatenate([plan.rows for plan in plans])
    starts = np.concatenate([plan.starts for plan in plans])
    room = lengths()[rows] - SEGMENT
    assert (starts >= 0).all()
    assert (starts <= room).all()
    assert (starts[rows == 0] == 0).all()
    in_second = starts[rows == 1]  # 1,001 possible starts, about 1,600 draws
    assert in_second.min() < 10
    assert in_second.max() > 990


def test_a_joint_step_uses_all_sources_and_masks_missing_labels():
    schedule, members = make_schedule(schedule="joint"), make_examples()["bpm"].rows
    plan = schedule.plan(7, 0)
    assert plan.source == JOINT
    has = np.isin(plan.rows, members)
    np.testing.assert_allclose(plan.weights[2], has / max(1, has.sum()), rtol=1e-6)
    np.testing.assert_array_equal(plan.targets[2].argmax(1)[has], plan.rows[has])
    left, right = np.split(plan.rows, 2)
    np.testing.assert_array_equal(plan.targets[0].argmax(1), left == right)


def test_uses_count_the_earlier_steps_of_the_same_source():
    schedule = make_schedule(n_steps=100)
    for step in (0, 13, 99):
        source = schedule.source_of_step[step]
        assert schedule.uses_before[step] == (schedule.source_of_step[:step] == source).sum()


def test_validation_covers_every_track_with_fixed_crops_inside_it():
    examples = make_examples()
    rows = np.arange(20, dtype=np.int64)
    plans = ValidationPlans(list(examples.values()), rows, lengths(), SEGMENT, crops=4)
    assert len(plans) == 2
    for plan in plans:
        first, second = np.split(plan.rows, 2)
        np.testing.assert_array_equal(first, rows)
        np.testing.assert_array_equal(second, rows)
        assert (plan.starts >= 0).all()
        assert (plan.starts + SEGMENT <= lengths()[plan.rows]).all()
        assert plan.targets[0].argmax(1).tolist() == [1] * 20 + [0] * 20
        assert plan.weights[2].sum() == 2 * len(examples["bpm"].rows)
    assert not np.array_equal(plans[0].starts, plans[1].starts)


def test_large_validation_sets_are_cut_into_batches_of_two_tracks_or_more():
    rows = np.arange(65, dtype=np.int64)
    plans = ValidationPlans([self_examples(rows)], rows, np.full(65, SEGMENT), SEGMENT, crops=2)
    assert [len(plan.rows) // 2 for plan in plans] == [33, 32]


def test_the_candidates_of_contrast_are_the_other_crops_of_a_chunk():
    def tracks(n, groups=None):
        return replace(self_examples(np.arange(n)), groups=groups)

    assert mean_candidates(tracks(16)) == pytest.approx(16)
    assert mean_candidates(tracks(16), "all") == pytest.approx(31)  # a crop meets itself not
    assert mean_candidates(tracks(128)) == pytest.approx(64)  # two chunks
    groups = np.array([7, 7, 7, 8])
    assert mean_candidates(tracks(4, groups)) == pytest.approx((2**3 * 4) ** 0.25)
    assert mean_candidates(tracks(4, groups), "all") == pytest.approx((3**3 * 7) ** 0.25)


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_class_weights_make_rare_classes_count_more_and_weights_still_sum_to_one(schedule):
    classes = (np.arange(20) >= 15).astype(np.int32)
    stretches = Stretches("classes", 2, np.arange(21), classes)
    weighted = Examples(
        np.arange(20),
        np.zeros((0, 2), np.float32),
        np.arange(20, dtype=np.int32),
        "classes",
        stretches,
        class_weights=np.array([2 / 3, 2], np.float32),
    )
    recipe = make_recipe(sources=("self", "tag"), schedule=schedule)
    plans = Schedule(recipe, make_examples() | {"tag": weighted}, lengths(), 40, replicas=2)
    for step in range(40):
        parts = [plans.plan(step, replica) for replica in (0, 1)]
        target = np.concatenate([part.targets[1] for part in parts])
        weight = np.concatenate([part.weights[1] for part in parts])
        if len(target):
            expected = np.where(target[:, 1] == 1, 2, 2 / 3)
            np.testing.assert_allclose(weight, expected / expected.sum(), rtol=1e-5)
