"""Layers for steps that XLA compiles: the numbers of the usual ones, in a form that it can fuse.

XLA merges element-wise work into one pass over memory, but not the windows of a pooling layer, whose
gradient it scatters; and it runs a convolution over two channels far below what tensor cores give. On a
GPU the early blocks are bound by memory, so that passes are what counts. Names, weights and results are
those of the layers that are replaced, up to rounding.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

Tensor = Any


class PairMaxPooling(keras.layers.MaxPooling2D):
    """2x2 max pooling, out of comparisons alone.

    The gradient goes to the first largest value of each square, as in the layer that it replaces.
    """

    def call(self, inputs: Tensor) -> Tensor:
        """[batch, frames, bands, channels] -> [batch, frames // 2, bands // 2, channels]."""
        return _pooled(inputs)


@tf.custom_gradient  # type: ignore[untyped-decorator]
def _pooled(x: Tensor) -> tuple[Tensor, Any]:
    shape = tf.shape(x)
    frames, bands = int(x.shape[1]), int(x.shape[2])
    whole = x[:, : frames // 2 * 2, : bands // 2 * 2]
    squares = tf.reshape(whole, (shape[0], frames // 2, 2, bands // 2, 2, x.shape[3]))
    largest = squares[:, :, 0, :, 0]
    place = tf.zeros_like(largest, tf.int8)
    for number in range(1, 4):
        other = squares[:, :, number // 2, :, number % 2]
        better = other > largest
        place = tf.where(better, tf.constant(number, tf.int8), place)
        largest = tf.maximum(largest, other)

    def gradient(slope: Tensor) -> Tensor:
        places = tf.constant([0, 1, 2, 3], tf.int8, (1, 1, 2, 1, 2, 1))
        chosen = tf.equal(places, place[:, :, None, :, None])
        slopes = tf.where(chosen, slope[:, :, None, :, None], tf.zeros((), slope.dtype))
        slopes = tf.reshape(slopes, tf.shape(whole))
        return tf.pad(slopes, ((0, 0), (0, frames % 2), (0, bands % 2), (0, 0)))

    return largest, gradient


class GroupedDense(keras.layers.Layer):
    """Dense layers side by side, each on channels of its own; their kernels lie side by side as well."""

    def __init__(
        self, groups: int, units: int, kernel_initializer: Any, bias_initializer: Any, **kwargs: Any
    ) -> None:
        """Keep the sizes.

        Args:
            groups: Dense layers.
            units: Outputs of all of them.
            kernel_initializer: Of [inputs of one, units].
            bias_initializer: Of [units].
            kwargs: Of every layer.
        """
        super().__init__(**kwargs)
        self.groups, self.units = groups, units
        self._initializers = kernel_initializer, bias_initializer

    def build(self, input_shape: tuple[int, ...]) -> None:
        """Make kernel and bias."""
        shape, (kernel, bias) = (input_shape[-1] // self.groups, self.units), self._initializers
        self.kernel = self.add_weight(shape=shape, initializer=kernel, name="kernel")
        self.bias = self.add_weight(shape=shape[1:], initializer=bias, name="bias")

    def call(self, inputs: Tensor) -> Tensor:
        """[batch, inputs] -> [batch, units]."""
        size = int(self.kernel.shape[0])
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), self.compute_dtype)
        bias = tf.cast(tf.convert_to_tensor(self.bias), self.compute_dtype)
        inputs = tf.reshape(inputs, (-1, self.groups, size))
        found = tf.einsum("bgi,igu->bgu", inputs, tf.reshape(kernel, (size, self.groups, -1)))
        return tf.reshape(found, (-1, self.units)) + bias

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """[batch, inputs] -> [batch, units]."""
        return (*input_shape[:-1], self.units)


class PhaseConv2D(keras.layers.Conv2D):
    """A convolution with stride 2 in frames and 1 in bands, as one over squares of 2x2 inputs.

    Four neighbouring inputs become channels, two neighbouring outputs become filters; the kernel is laid
    out anew at each call, with zeros where a square holds more than the kernel covers. Eight channels and
    twice the filters suit tensor cores better than two channels do.
    """

    def call(self, inputs: Tensor) -> Tensor:
        """[batch, frames, bands, channels], padded -> [batch, frames', bands', filters]."""
        size, _, channels, filters = self.kernel.shape
        inputs = tf.cast(inputs, self.compute_dtype)
        kernel = tf.cast(tf.convert_to_tensor(self.kernel), self.compute_dtype)
        frames, bands = (int(inputs.shape[axis]) for axis in (1, 2))
        blocks = size // 2 + 1
        outputs = ((frames - size) // 2 + 1, bands - size + 1)
        inputs = tf.pad(inputs, ((0, 0), (0, frames % 2), (0, bands % 2), (0, 0)))  # whole squares
        rows, columns = (frames + 1) // 2, (bands + 1) // 2
        phases = [
            tf.pad(kernel, ((0, 2 * blocks - size), (phase, 2 * blocks - size - phase), (0, 0), (0, 0)))
            for phase in range(2)
        ]
        kernel = tf.reshape(tf.stack(phases, 3), (blocks, 2, blocks, 2, channels, 2 * filters))
        kernel = tf.transpose(kernel, (0, 2, 1, 3, 4, 5))
        kernel = tf.reshape(kernel, (blocks, blocks, 4 * channels, 2 * filters))
        x = tf.reshape(inputs, (-1, rows, 2, columns, 2, channels))
        x = tf.transpose(x, (0, 1, 3, 2, 4, 5))
        x = tf.reshape(x, (-1, rows, columns, 4 * channels))
        x = tf.nn.conv2d(x, kernel, 1, "VALID")
        x = tf.reshape(x, (-1, rows - blocks + 1, 2 * (columns - blocks + 1), filters))
        x = x[:, : outputs[0], : outputs[1]]
        return x + tf.cast(tf.convert_to_tensor(self.bias), self.compute_dtype)
