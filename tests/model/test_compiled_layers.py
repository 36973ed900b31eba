import keras
import numpy as np
import pytest
import tensorflow as tf

from kerasrep.model.blocks import BatchNorm, BlockOptions, OnePassBatchNorm
from kerasrep.model.compiled_layers import PairMaxPooling, PhaseConv2D
from kerasrep.model.strategies import Scaler, build_network


def value_and_slope(layer, inputs, variables=()):
    """Output, and the gradient of a sum of its cubes to the inputs and the variables."""
    x = tf.constant(inputs, tf.float32)
    with tf.GradientTape() as tape:
        tape.watch(x)
        outputs = layer(x, training=True) if isinstance(layer, BatchNorm) else layer(x)
        total = tf.reduce_sum(outputs**3)
    slopes = tape.gradient(total, [x, *(v.value for v in variables)])
    return outputs.numpy(), [slope.numpy() for slope in slopes]


@pytest.mark.parametrize("shape", [(2, 8, 6, 3), (2, 27, 16, 3), (1, 5, 7, 2)])
def test_pairwise_pooling_equals_keras_with_its_gradient_ties_and_odd_sizes_included(shape):
    inputs = np.random.default_rng(0).normal(size=shape).round(0)  # whole numbers: many ties
    expected, slope = value_and_slope(keras.layers.MaxPooling2D(2), inputs)
    found, other = value_and_slope(PairMaxPooling(2), inputs)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(other[0], slope[0])


@pytest.mark.parametrize("shape", [(2, 20, 12, 2), (2, 21, 12, 2), (2, 20, 13, 2), (20, 21, 13, 2)])
def test_a_convolution_over_squares_equals_the_one_it_replaces_odd_sizes_included(shape):
    inputs = np.random.default_rng(0).normal(size=shape)
    plain, squares = (kind(4, 5, strides=(2, 1)) for kind in (keras.layers.Conv2D, PhaseConv2D))
    for layer in (plain, squares):
        layer.build(inputs.shape)
    plain.bias.assign(np.arange(4))
    squares.set_weights(plain.get_weights())
    expected, slopes = value_and_slope(plain, inputs, plain.variables)
    found, others = value_and_slope(squares, inputs, squares.variables)
    np.testing.assert_allclose(found, expected, atol=1e-5)
    for slope, other in zip(slopes, others, strict=True):
        np.testing.assert_allclose(other, slope, atol=1e-5 * np.abs(slope).max())


@pytest.mark.parametrize("centre", [0.0, 30.0])
def test_statistics_of_one_pass_equal_those_of_two(centre):
    inputs = np.random.default_rng(0).normal(centre, 0.5, (8, 9, 5, 3))
    pair = [kind(momentum=0.9, epsilon=1e-5) for kind in (BatchNorm, OnePassBatchNorm)]
    results = [value_and_slope(layer, inputs, layer.trainable_variables) for layer in pair]
    np.testing.assert_allclose(results[1][0], results[0][0], atol=1e-4 if centre else 1e-5)
    for one, other in zip(pair[0].weights, pair[1].weights, strict=True):
        np.testing.assert_allclose(other.numpy(), one.numpy(), rtol=1e-4, atol=1e-6)


def test_a_compiled_network_has_the_variables_of_a_plain_one_and_gives_its_embeddings():
    plain, compiled = (
        build_network("ss-r", ("tag",), {"tag": 5}, scaler=Scaler.identity(128), options=options)
        for options in (BlockOptions(width=0.25, compiled=compiled) for compiled in (False, True))
    )
    for one, other in zip(plain.variables("tag"), compiled.variables("tag"), strict=True):
        assert one.path == other.path
        np.testing.assert_array_equal(one.numpy(), other.numpy())
    mel = np.random.default_rng(0).normal(size=(4, 216, 128, 2)).astype(np.float32)
    for training in (False, True):
        outputs = [network.encoders["tag"](mel, training=training).numpy() for network in (plain, compiled)]
        np.testing.assert_allclose(outputs[1], outputs[0], atol=2e-4)
