import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrep.training.formulas import adam, learning_rate, loss_scale, score


def test_divergence_and_agreement_equal_the_formulas():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(6, 5)), rng.dirichlet(np.ones(5), 6)
    target[0] = np.eye(5)[2]  # zeros in the target count nothing
    weight = rng.uniform(size=6)
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    terms = np.where(target > 0, target * (np.log(np.maximum(target, 1e-300)) - np.log(q)), 0.0)
    found = score(*(tf.constant(value, tf.float32) for value in (logits, target, weight)))
    assert float(found.loss) == pytest.approx((weight * terms.sum(1)).sum(), rel=1e-5)
    assert float(found.agreement) == pytest.approx((weight * (logits.argmax(1) == target.argmax(1))).sum())


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
