"""Pools of tracks: shares of every step, in both schedules, whatever was drawn before."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kerasrep.data.pools import PoolSequence, TrackPools
from kerasrep.data.schedule import Examples, Schedule, self_examples
from kerasrep.recipe.schema import Recipe

N_TRACKS = 60
REAL = 15  # of the tracks; the others are rendered
POOLS = TrackPools((np.arange(N_TRACKS) >= REAL).astype(np.int8), (0.75, 0.25))


def make_schedule(schedule, replicas=1, pools=POOLS):
    values = {"name": "test", "strategy": "mss-cr", "sources": ["self", "tag"], "batches": {"size": 16}}
    recipe = Recipe.model_validate(values | {"training": {"schedule": schedule}})
    rows = np.arange(N_TRACKS)
    tagged = rows[REAL - 5 :]
    examples = {
        "self": self_examples(rows),
        "tag": Examples(tagged, np.eye(N_TRACKS, dtype=np.float32)[tagged]),
    }
    return Schedule(recipe, examples, np.full(N_TRACKS, 99_999), 40, replicas, pools)


@given(
    st.lists(st.integers(1, 20), min_size=1, max_size=4),
    st.integers(0, 3000),
    st.integers(1, 300),
)
def test_any_stretch_has_the_shares_and_every_place_of_a_pool_comes_once(parts, first, count):
    shares = tuple(part / sum(parts) for part in parts)
    sequence = PoolSequence(TrackPools(np.arange(len(parts), dtype=np.int8), shares), np.arange(len(parts)))
    pools, places = sequence.of(np.arange(first, first + count))
    for pool, share in enumerate(shares):
        own = places[pools == pool]
        assert abs(len(own) - share * count) <= 2 + count / 1000
        assert (np.diff(own) == 1).all()


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_every_step_has_the_shares(schedule):
    made = make_schedule(schedule)
    for step in range(40):
        plan = made.plan(step, 0)
        rows = plan.rows[: len(plan.rows) // 2] if made.sources[plan.source] == "self" else plan.rows
        assert abs((rows < REAL).mean() - 0.75) <= 0.26


@pytest.mark.parametrize("schedule", ["alternating", "joint"])
def test_steps_are_the_same_wherever_training_begins_and_on_any_number_of_replicas(schedule):
    made, again, halves = (make_schedule(schedule, replicas) for replicas in (1, 1, 2))
    for step in (39, 3):
        whole = made.plan(step, 0)
        np.testing.assert_array_equal(again.plan(step, 0).rows, whole.rows)
        parts = [halves.plan(step, replica).rows for replica in (0, 1)]
        assert sorted(np.concatenate(parts)) == sorted(whole.rows)


def test_without_pools_nothing_changes():
    one = TrackPools(np.zeros(N_TRACKS, np.int8), (1.0,))
    plain = make_schedule("alternating", pools=None)
    assert sorted(plain._stream(0, np.arange(N_TRACKS), 0, N_TRACKS)) == list(range(N_TRACKS))
    same = make_schedule("alternating", pools=one)
    assert sorted(same._stream(0, np.arange(N_TRACKS), 0, N_TRACKS)) == list(range(N_TRACKS))
