import numpy as np
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from kerasrep.training.totals import Tally, Totals

VALUES = st.floats(-100, 100, width=32) | st.sampled_from([np.nan, np.inf])


@settings(deadline=None, max_examples=40)
@given(hnp.arrays(np.float32, st.tuples(st.integers(1, 6), st.just(3), st.just(2)), elements=VALUES))
def test_a_tally_adds_up_steps_and_keeps_the_first_that_was_not_finite(steps):
    steps[:, 2] = 1.0
    tally = Tally.empty(2)
    for number, figures in enumerate(steps):
        tally = tally.with_step(tf.constant(10 + number, tf.int64), tf.constant(figures))
    expected = np.zeros((3, 2), np.float32)
    for figures in steps:
        with np.errstate(invalid="ignore"):
            expected += figures
    np.testing.assert_allclose(tally.sums, expected, rtol=1e-6)
    bad = [number for number, figures in enumerate(steps) if not np.isfinite(figures[0]).all()]
    assert int(tally.bad) == (10 + bad[0] if bad else -1)
    np.testing.assert_array_equal(tally.bad_losses, steps[bad[0], 0] if bad else [0, 0])


def test_totals_are_the_same_on_all_replicas_and_empty_once_taken():
    distribution = tf.distribute.MirroredStrategy(["CPU:0", "CPU:1"])
    totals = Totals(2, distribution)

    @tf.function
    def step(number, losses):
        def on_replica():
            figures = tf.stack([losses, tf.zeros(2), tf.ones(2)])
            totals.update(totals.local().with_step(number, figures))

        distribution.run(on_replica)

    step(tf.constant(4, tf.int64), tf.constant([1.0, 2.0]))
    step(tf.constant(5, tf.int64), tf.constant([3.0, np.nan]))
    for variable in totals._variables:
        first, second = distribution.experimental_local_results(variable)
        np.testing.assert_array_equal(first, second)
    sums, fault = totals.take()
    np.testing.assert_array_equal(sums, [[4.0, np.nan], [0, 0], [2, 2]])
    assert fault == (5, (1,))
    sums, fault = totals.take()
    assert not sums.any()
    assert fault is None
