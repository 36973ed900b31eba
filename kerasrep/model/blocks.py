"""The seven convolution blocks, the embedding layer and the heads of the network.

Geometry and order as in Kim et al. (2018), section 4.1, and their code: convolution, batch norm, ReLU,
pool. Padding, epsilon, momentum, running variance and initial values follow PyTorch, with which the
authors trained: TensorFlow's defaults move the features visibly.
"""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass
from functools import partial
from typing import Any

import keras

from kerasrep import constants
from kerasrep.model.compiled_layers import GroupedDense, PairMaxPooling, PhaseConv2D
from kerasrep.model.dropout import GlobalDropout
from kerasrep.recipe.base import LossName, TrunkName

Tensor = Any  # keras.KerasTensor while building, tf.Tensor while running

BATCH_NORM_EPSILON = 1e-5
BATCH_NORM_MOMENTUM = 0.9


@dataclass(frozen=True)
class BlockGeometry:
    """One convolution block.

    Attributes:
        kernel: Square kernel, frames and mel bands.
        filters: Output channels at width 1.
        strides: In frames and mel bands.
        pool: Whether a 2x2 max pooling follows.
    """

    kernel: int
    filters: int
    strides: tuple[int, int] = (1, 1)
    pool: bool = False


BLOCKS = (
    BlockGeometry(5, 16, (2, 1), pool=True),
    BlockGeometry(3, 32, pool=True),
    BlockGeometry(3, 64, pool=True),
    BlockGeometry(3, 64, pool=True),
    BlockGeometry(3, 128, pool=True),
    BlockGeometry(3, 256),
    BlockGeometry(1, 256),
)
#: The first is a convolution, the others are two with a skip connection (compare Won et al. 2020).
RESIDUAL_BLOCKS = (
    BlockGeometry(5, 48, (2, 1), pool=True),
    BlockGeometry(3, 48, pool=True),
    BlockGeometry(3, 96, pool=True),
    BlockGeometry(3, 192, pool=True),
    BlockGeometry(3, 192, pool=True),
    BlockGeometry(3, 384),
    BlockGeometry(3, 384),
)
SELF_HIDDEN_SIZE = 128


@dataclass(frozen=True)
class BlockOptions:
    """What all layers of a network have in common.

    Attributes:
        trunk: `published`, or `residual`.
        width: Multiplies the filters of the convolutions.
        dropout: Rate before the heads.
        precision: Keras dtype policy of the layers.
        synchronised: Whether batch norm computes its statistics over all replicas.
        seed: Initial values depend on it and on the layer's name alone.
        compiled: Whether XLA will compile the layers: they are then in the form that it fuses best.
        together: Whether branches run together where all of them are used.
        groups: Branches that a layer computes side by side; each branch alone by default.
        own_inputs: Whether each of them has channels of its own, or all have the same ones.
    """

    trunk: TrunkName = "published"
    width: float = 1.0
    dropout: float = 0.5
    precision: str = "float32"
    synchronised: bool = False
    seed: int = 0
    compiled: bool = False
    together: bool = False
    groups: int = 1
    own_inputs: bool = False

    def layer_seed(self, name: str) -> int:
        """A seed for one weight, the same in every process."""
        digest = hashlib.sha256(f"{self.seed}/{name}".encode()).digest()
        return int.from_bytes(digest[:4], "little") >> 1

    def filters(self, geometry: BlockGeometry) -> int:
        """Output channels of a block at this width, of all branches that it computes."""
        return self.groups * max(1, round(geometry.filters * self.width))


@keras.saving.register_keras_serializable(package="kerasrep")
class BatchNorm(keras.layers.BatchNormalization):
    """Batch norm that keeps the unbiased running variance, as PyTorch does.

    Where it can, it trains through TensorFlow's fused kernel: Keras composes it of a dozen passes over
    memory and their gradients, which took half of a training step on a CPU.
    """

    #: Whether the fused kernel is used where it can be.
    fused = True

    def call(self, inputs: Tensor, training: bool | None = None, mask: Tensor = None) -> Tensor:
        """Normalise; in training also update the running statistics."""
        if not training or not self.trainable:
            return super().call(inputs, training=training, mask=mask)
        if self.fused and mask is None and len(inputs.shape) == 4 and not self.synchronized:
            return self._call_fused(inputs)
        before = self.momentum * keras.ops.convert_to_tensor(self.moving_variance)
        outputs = super().call(inputs, training=training, mask=mask)
        biased = keras.ops.convert_to_tensor(self.moving_variance) - before
        shape = keras.ops.shape(inputs)
        count = 1.0
        for axis in range(len(shape) - 1):
            count = count * keras.ops.cast(shape[axis], before.dtype)
        if self.synchronized:
            count = count * _replicas()
        self.moving_variance.assign(before + biased * count / keras.ops.maximum(count - 1.0, 1.0))
        return outputs

    def _call_fused(self, inputs: Tensor) -> Tensor:
        """Normalise [batch, frames, bands, channels] over all but its last axis."""
        import tensorflow as tf

        outputs, mean, variance, *_ = tf.raw_ops.FusedBatchNormV3(
            x=tf.cast(inputs, self.compute_dtype),
            scale=tf.convert_to_tensor(self.gamma),
            offset=tf.convert_to_tensor(self.beta),
            mean=tf.zeros([0]),
            variance=tf.zeros([0]),
            epsilon=self.epsilon,
        )  # the variance is the unbiased one
        for running, new in ((self.moving_mean, mean), (self.moving_variance, variance)):
            running.assign(self.momentum * running + (1.0 - self.momentum) * new)
        return outputs


class OnePassBatchNorm(BatchNorm):
    """Batch norm that takes mean and variance in one pass over memory.

    Squares are of the distance to the first example's mean: without it, values far from 0 would lose digits.
    """

    fused = False  # XLA does not fuse into it

    def _moments(self, inputs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        if self.synchronized or mask is not None:
            return super()._moments(inputs, mask)  # type: ignore[no-any-return]
        axes = list(range(len(inputs.shape) - 1))
        about = keras.ops.stop_gradient(keras.ops.mean(inputs[:1], axes))  # neither result depends on it
        distance = inputs - about
        mean = keras.ops.mean(distance, axes)
        variance = keras.ops.mean(keras.ops.square(distance), axes) - keras.ops.square(mean)
        return about + mean, keras.ops.maximum(variance, 0.0)


def _replicas() -> int:
    import tensorflow as tf

    return int(tf.distribute.get_strategy().num_replicas_in_sync)


def _batch_norm(name: str, options: BlockOptions) -> keras.layers.Layer:
    kind = OnePassBatchNorm if options.compiled else BatchNorm
    return kind(
        momentum=BATCH_NORM_MOMENTUM,
        epsilon=BATCH_NORM_EPSILON,
        synchronized=options.synchronised,
        name=name,
        dtype=options.precision,
    )


def _torch_uniform(fan_in: int, name: str, options: BlockOptions) -> keras.initializers.Initializer:
    bound = fan_in**-0.5
    return keras.initializers.RandomUniform(-bound, bound, seed=options.layer_seed(name))


def _glorot(name: str, options: BlockOptions) -> keras.initializers.Initializer:
    return keras.initializers.GlorotUniform(seed=options.layer_seed(name))


def conv_block(x: Tensor, number: int, prefix: str, options: BlockOptions) -> Tensor:
    """Apply block `number`, counted from 1: convolution, batch norm, ReLU and pooling.

    Pooling before ReLU gives the same numbers with less to do, but TensorFlow's pooling turns NaN into the
    lowest number, and ReLU that into 0: a network gone wrong would look well.

    Args:
        x: [batch, frames, bands, channels].
        number: 1 to 7.
        prefix: Names of the layers start with it.
        options: Trunk, width, precision, seed.

    Returns:
        [batch, frames', bands', filters].
    """
    name, residual = f"{prefix}_conv{number}", options.trunk == "residual" and number > 1
    geometry = (RESIDUAL_BLOCKS if options.trunk == "residual" else BLOCKS)[number - 1]
    x = _residual(x, name, geometry, options) if residual else _convolution(x, name, geometry, options)
    x = keras.layers.ReLU(name=f"{name}_relu", dtype=options.precision)(x)
    if geometry.pool:
        pooling = PairMaxPooling if options.compiled else keras.layers.MaxPooling2D
        x = pooling(2, name=f"{name}_pool", dtype=options.precision)(x)
    return x


def _convolution(x: Tensor, name: str, geometry: BlockGeometry, options: BlockOptions) -> Tensor:
    """Padding, convolution and batch norm.

    Strided convolutions are padded by half a kernel on every side: TensorFlow's `same` would put one
    row less in front.
    """
    padding = "same"
    if geometry.strides != (1, 1):
        x = keras.layers.ZeroPadding2D(geometry.kernel // 2, name=f"{name}_pad", dtype=options.precision)(x)
        padding = "valid"
    fan_in = geometry.kernel**2 * x.shape[-1]
    strided = options.compiled and geometry.strides == (2, 1)
    kind: type[keras.layers.Conv2D] = PhaseConv2D if strided else keras.layers.Conv2D
    x = kind(
        options.filters(geometry),
        geometry.kernel,
        strides=geometry.strides,
        padding=padding,
        groups=options.groups if options.own_inputs else 1,
        kernel_initializer=_glorot(f"{name}/kernel", options),
        bias_initializer=_torch_uniform(fan_in, f"{name}/bias", options),
        name=name,
        dtype=options.precision,
    )(x)
    return _batch_norm(f"{name}_bn", options)(x)


def _residual(x: Tensor, name: str, geometry: BlockGeometry, options: BlockOptions) -> Tensor:
    """Two convolutions beside a skip connection, which is one of 1x1 where the number of channels changes."""
    inner = _convolution(x, f"{name}a", geometry, options)
    inner = keras.layers.ReLU(name=f"{name}a_relu", dtype=options.precision)(inner)
    # The second convolution of several branches has inputs of its own in each, whatever the first one has.
    inner = _convolution(inner, f"{name}b", geometry, dataclasses.replace(options, own_inputs=True))
    own = options.groups if options.own_inputs else 1
    if x.shape[-1] // own != inner.shape[-1] // options.groups:
        x = _convolution(x, f"{name}skip", dataclasses.replace(geometry, kernel=1), options)
    elif own < options.groups:  # all branches take the same
        x = keras.ops.tile(x, (1, 1, 1, options.groups))
    return keras.layers.Add(name=f"{name}_sum", dtype=options.precision)([inner, x])


def embedding_block(x: Tensor, prefix: str, options: BlockOptions) -> Tensor:
    """Pool over frames and bands, then dense, batch norm, ReLU: the embedding of a segment.

    Args:
        x: [batch, frames, bands, filters].
        prefix: Names of the layers start with it.
        options: Precision, seed.

    Returns:
        float32 [batch, 256], non-negative.
    """
    name = f"{prefix}_fc"
    x = keras.layers.GlobalAveragePooling2D(name=f"{prefix}_pool", dtype=options.precision)(x)
    kind = keras.layers.Dense if options.groups == 1 else partial(GroupedDense, options.groups)
    x = kind(
        options.groups * constants.EMBEDDING_SIZE,
        kernel_initializer=_glorot(f"{name}/kernel", options),
        bias_initializer=_torch_uniform(x.shape[-1], f"{name}/bias", options),
        name=name,
        dtype=options.precision,
    )(x)
    x = _batch_norm(f"{name}_bn", options)(x)
    return keras.layers.ReLU(name=f"{prefix}_embedding", dtype="float32")(x)


def build_head(source: str, size: int, options: BlockOptions, loss: LossName = "divergence") -> keras.Model:
    """Build the head of one source: a model from an embedding to logits.

    Args:
        source: `self` takes two embeddings side by side [batch, 512] (left, right) and has a hidden
            layer, unless it is learnt by contrast; the others take one, [batch, 256].
        size: Logits: the dimension of the source's target; of the projection for contrast.
        options: Dropout, seed.
        loss: What the source is learnt by.

    Returns:
        A model to float32 logits [batch, size].
    """
    paired = source == "self" and loss != "contrast"
    inputs = 2 * constants.EMBEDDING_SIZE if paired else constants.EMBEDDING_SIZE
    embedding = x = keras.Input((inputs,), name=f"{source}_head_input")
    if loss != "contrast":
        x = _dropout(paired, f"{source}_dropout", options)(x)
    if paired:
        x = _dense(x, "self_hidden", SELF_HIDDEN_SIZE, options)
        x = _batch_norm("self_hidden_bn", options)(x)
        x = keras.layers.ReLU(name="self_hidden_relu", dtype=options.precision)(x)
        x = _dropout(paired, "self_hidden_dropout", options)(x)
    if loss == "contrast":
        x = _dense(x, f"{source}_hidden", 2 * constants.EMBEDDING_SIZE, options)
        x = keras.layers.ReLU(name=f"{source}_hidden_relu", dtype=options.precision)(x)
    logits = keras.layers.Dense(
        size,
        kernel_initializer=_torch_uniform(x.shape[-1], f"{source}_logits/kernel", options),
        bias_initializer=_torch_uniform(x.shape[-1], f"{source}_logits/bias", options),
        name=f"{source}_logits",
        dtype="float32",
    )(x)
    return keras.Model(embedding, logits, name=f"{source}_head")


def _dense(x: Tensor, name: str, units: int, options: BlockOptions) -> Tensor:
    """A hidden layer of a head."""
    return keras.layers.Dense(
        units,
        kernel_initializer=_glorot(f"{name}/kernel", options),
        bias_initializer=_torch_uniform(x.shape[-1], f"{name}/bias", options),
        name=name,
        dtype=options.precision,
    )(x)


def _dropout(paired: bool, name: str, options: BlockOptions) -> keras.layers.Layer:
    seed = options.layer_seed(name)
    layer = GlobalDropout(options.dropout, seed=seed, name=name, dtype=options.precision)
    layer.of_pairs = paired
    return layer
