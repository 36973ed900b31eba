import numpy as np
import pytest
import tensorflow as tf
from sklearn.metrics import log_loss
from sklearn.metrics.pairwise import cosine_similarity

from kerasrep.recipe.network import ContrastSettings
from kerasrep.training.losses import contrasted, cosine, divergence, score, sigmoid, squared


def test_divergence_and_accuracy_equal_the_formulas():
    rng = np.random.default_rng(0)
    logits, target = rng.normal(size=(6, 5)), rng.dirichlet(np.ones(5), 6)
    target[0] = np.eye(5)[2]  # zeros in the target count nothing
    weight = rng.uniform(size=6)
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    terms = np.where(target > 0, target * (np.log(np.maximum(target, 1e-300)) - np.log(q)), 0.0)
    arrays = (tf.constant(value, tf.float32) for value in (logits, target, weight))
    found = score("divergence", *arrays, ContrastSettings())
    assert float(found.loss) == pytest.approx((weight * terms.sum(1)).sum(), rel=1e-5)
    assert float(found.accuracy) == pytest.approx((weight * (logits.argmax(1) == target.argmax(1))).sum())


def test_divergence_to_one_class_is_cross_entropy():
    rng = np.random.default_rng(1)
    logits, classes = rng.normal(size=(8, 4)), np.arange(8) % 4
    q = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = divergence(tf.constant(logits, tf.float32), tf.one_hot(classes, 4))
    assert float(tf.reduce_mean(found.loss)) == pytest.approx(log_loss(classes, q), rel=1e-5)


def test_sigmoid_is_the_sum_of_the_labels_cross_entropies():
    rng = np.random.default_rng(2)
    logits, target = rng.normal(size=(7, 3)), rng.integers(0, 2, (7, 3))
    target[0], target[1] = 0, 1
    p = 1 / (1 + np.exp(-logits))
    expected = sum(log_loss(target[:, k], p[:, k], labels=[0, 1]) for k in range(3))
    found = sigmoid(tf.constant(logits, tf.float32), tf.constant(target, tf.float32))
    assert float(tf.reduce_mean(found.loss)) == pytest.approx(expected, rel=1e-5)
    assert float(tf.reduce_mean(found.accuracy)) == pytest.approx(((p > 0.5) == (target > 0.5)).mean())


def test_squared_error_is_the_mean_over_columns_and_half_a_deviation_is_near():
    found = squared(tf.constant([[1.0, 2.0], [0.0, 0.0]]), tf.constant([[1.4, 0.0], [3.0, 0.4]]))
    np.testing.assert_allclose(found.loss, [(0.16 + 4) / 2, (9 + 0.16) / 2], rtol=1e-6)
    np.testing.assert_allclose(found.accuracy, [0.5, 0.5])


def test_cosine_does_not_depend_on_lengths_and_zeros_are_finite():
    rng = np.random.default_rng(3)
    vectors, target = rng.normal(size=(5, 6)), rng.normal(size=(5, 6)) * 100
    found = cosine(tf.constant(vectors, tf.float32), tf.constant(target, tf.float32))
    expected = np.diag(cosine_similarity(vectors, target))
    np.testing.assert_allclose(found.loss, 1 - expected, rtol=1e-5)
    np.testing.assert_allclose(found.accuracy, expected, rtol=1e-4, atol=1e-6)
    assert np.isfinite(cosine(tf.zeros((1, 3)), tf.zeros((1, 3))).loss).all()


def nt_xent_by_loops(z, groups, temperature, views):
    """Equation 1 of Chen et al. 2020, one crop after the other."""
    n = len(z) // 2
    z = z / np.linalg.norm(z, axis=1, keepdims=True)
    losses = np.zeros(2 * n)
    for i in range(2 * n):
        partner = (i + n) % (2 * n)
        candidates = []
        for j in range(2 * n):
            same_side = (i < n) == (j < n)
            if j == i or (views == "across" and same_side):
                continue
            if j != partner and groups[j % n] == groups[i % n]:
                continue
            candidates.append(np.exp(z[i] @ z[j] / temperature))
        losses[i] = -np.log(np.exp(z[i] @ z[partner] / temperature) / np.sum(candidates))
    return (losses[:n] + losses[n:]) / 2


@pytest.mark.parametrize("views", ["across", "all"])
@pytest.mark.parametrize("groups", [[0, 1, 2, 3, 4], [0, 1, 0, 3, 3]])
def test_contrast_equals_the_formula_computed_by_loops(views, groups):
    z = np.random.default_rng(4).normal(size=(10, 7))
    places = tf.constant(np.stack([np.arange(5), groups], 1), tf.float32)
    settings = ContrastSettings(temperature=0.3, views=views)
    found = contrasted(tf.constant(z, tf.float32), places, settings)
    np.testing.assert_allclose(found.loss, nt_xent_by_loops(z, groups, 0.3, views), rtol=1e-4)


@pytest.mark.parametrize("views", ["across", "all"])
def test_contrast_with_the_crops_of_all_replicas_is_that_of_the_whole_batch(views):
    z = np.random.default_rng(5).normal(size=(12, 7))
    groups = np.array([0, 1, 0, 3, 3, 5])
    settings = ContrastSettings(temperature=0.3, views=views, negatives="all")
    expected = nt_xent_by_loops(z, groups, 0.3, views)
    unit = z / np.linalg.norm(z, axis=1, keepdims=True)
    for replica in range(2):
        own = np.arange(3) + 3 * replica
        parts = iter([unit[:6], unit[6:], groups[:, None]])

        def gather(values, parts=parts, first=3 * replica):
            whole = next(parts)
            np.testing.assert_allclose(values, whole[first : first + 3], rtol=1e-5)
            return tf.constant(whole, tf.float32), first

        places = tf.constant(np.stack([own, groups[own]], 1), tf.float32)
        projections = tf.constant(np.concatenate([z[own], z[6 + own]]), tf.float32)
        found = contrasted(projections, places, settings, gather)
        np.testing.assert_allclose(found.loss, expected[own], rtol=1e-4)


def test_contrast_of_equal_projections_is_the_logarithm_of_the_candidates():
    places = tf.constant(np.stack([np.arange(6)] * 2, 1), tf.float32)
    found = contrasted(tf.ones((12, 3)), places, ContrastSettings())
    np.testing.assert_allclose(found.loss, np.log(6), rtol=1e-5)
    found = contrasted(tf.ones((12, 3)), places, ContrastSettings(views="all"))
    np.testing.assert_allclose(found.loss, np.log(11), rtol=1e-5)


def test_examples_without_weight_count_nothing():
    logits, target = tf.constant([[0.0, 9.0], [1.0, 2.0]]), tf.constant([[1.0, 0.0], [0.0, 1.0]])
    found = score("sigmoid", logits, target, tf.constant([0.0, 1.0]), ContrastSettings())
    alone = sigmoid(logits[1:], target[1:])
    assert float(found.loss) == pytest.approx(float(alone.loss[0]))
