import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrep.training.formulas import adam, averaged, clipped, learning_rate, loss_scale


def test_adam_on_a_vector_equals_keras():
    rng = np.random.default_rng(0)
    weights, gradients = rng.normal(size=7).astype(np.float32), rng.normal(size=(5, 7)).astype(np.float32)
    variable = keras.Variable(weights)
    optimizer = keras.optimizers.Adam(3e-3, epsilon=1e-8)
    vector, first, second = tf.constant(weights), tf.zeros(7), tf.zeros(7)
    for number, gradient in enumerate(gradients):
        optimizer.apply([tf.constant(gradient)], [variable])
        vector, first, second = adam(
            vector, tf.constant(gradient), first, second, tf.constant(3e-3), tf.constant(number + 1, tf.int64)
        )
        np.testing.assert_allclose(vector.numpy(), variable.numpy(), rtol=1e-5, atol=1e-6)


def test_a_cosine_rate_falls_from_the_base_to_zero(make_recipe):
    recipe = make_recipe(training={"learning_rate": 0.01, "decay": "cosine"})
    rates = [float(learning_rate(recipe, tf.constant(step, tf.int64), 100)) for step in (0, 25, 50, 100)]
    np.testing.assert_allclose(rates, [0.01, 0.01 * (0.5 + 0.5 / np.sqrt(2)), 0.005, 0.0], atol=1e-8)


def test_paper_scaling_averages_over_all_elements(make_recipe):
    paper = make_recipe(model={"loss_scaling": "paper"})
    assert loss_scale(paper, "tag", 50) == pytest.approx(1 / 50)
    assert loss_scale(paper, "self", 2) == pytest.approx(1 / 2)
    assert loss_scale(make_recipe(), "tag", 50) == 1.0


def test_a_warm_up_rises_to_the_rate_in_a_straight_line(make_recipe):
    recipe = make_recipe(training={"learning_rate": 0.01, "warmup_steps": 4})
    rates = [float(learning_rate(recipe, tf.constant(step, tf.int64), 100)) for step in range(6)]
    np.testing.assert_allclose(rates, [0.0025, 0.005, 0.0075, 0.01, 0.01, 0.01], rtol=1e-6)


def test_gradients_are_shortened_together_and_only_where_they_are_too_long():
    gradients = [tf.constant([3.0, 0.0]), tf.constant([4.0])]
    np.testing.assert_allclose(np.concatenate(clipped(gradients, 1.0)), [0.6, 0.0, 0.8], rtol=1e-6)
    np.testing.assert_allclose(np.concatenate(clipped(gradients, 6.0)), [3.0, 0.0, 4.0], rtol=1e-6)
    assert clipped(gradients, 0.0) is gradients


def test_an_average_is_that_of_the_formula_and_short_in_the_beginning():
    values = np.random.default_rng(0).normal(size=(40, 3)).astype(np.float32)
    average = expected = np.zeros(3, np.float32)
    for number, value in enumerate(values, start=1):
        keep = min(0.7, number / (number + 10))
        expected = keep * expected + (1 - keep) * value
        average = averaged(tf.constant(average), tf.constant(value), 0.7, tf.constant(number, tf.int64))
        average = average.numpy()
    np.testing.assert_allclose(average, expected, rtol=1e-5)


def test_a_source_counts_as_much_as_its_weight_says(make_recipe):
    recipe = make_recipe(training={"source_weights": {"tag": 0.25}})
    assert loss_scale(recipe, "tag", 50) == 0.25
    assert loss_scale(recipe, "self", 2) == 1.0
