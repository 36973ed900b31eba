"""Dropout that does not depend on how a batch is divided among replicas."""

from __future__ import annotations

import contextlib
import dataclasses
from collections.abc import Iterator
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any

import keras

Tensor = Any  # keras.KerasTensor while building, tf.Tensor while running


@dataclass(frozen=True)
class Share:
    """Which examples of a step's batch are here, where it is divided among replicas.

    Attributes:
        replica: Number of this one, int64 [].
        replicas: How many there are.
        paired: Whether the segments are two halves, left and right ones, each divided by itself.
    """

    replica: Tensor
    replicas: int
    paired: bool

    def own(self, values: Tensor) -> Tensor:
        """Rows of the examples that are here, out of those of the whole batch."""
        if self.replicas == 1:
            return values
        shape = values.shape[1:]
        divided = keras.ops.reshape(values, (2 if self.paired else 1, self.replicas, -1, *shape))
        return keras.ops.reshape(keras.ops.take(divided, self.replica, axis=1), (-1, *shape))


_SHARE: ContextVar[Share | None] = ContextVar("share", default=None)


@contextlib.contextmanager
def batch_share(share: Share) -> Iterator[None]:
    """Let dropout inside know which examples it has."""
    token = _SHARE.set(share)
    try:
        yield
    finally:
        _SHARE.reset(token)


class GlobalDropout(keras.layers.Dropout):
    """Dropout whose masks belong to the examples of the whole batch, however it is divided among replicas.

    Each replica draws the masks of all and keeps its own: a few thousand values, for which nothing is sent.
    """

    #: Whether an example is a pair of segments.
    of_pairs = False

    def call(self, inputs: Tensor, training: bool = False) -> Tensor:
        """Drop values in training, of a batch [examples, values]."""
        share = _SHARE.get()
        if share is None or share.replicas == 1 or not training or not self.rate:
            return super().call(inputs, training=training)
        n_examples, n_values = keras.ops.shape(inputs)
        ones = keras.ops.ones((share.replicas * n_examples, n_values), inputs.dtype)
        masks = keras.random.dropout(ones, self.rate, seed=self.seed_generator)
        own = dataclasses.replace(share, paired=share.paired and not self.of_pairs).own(masks)
        return inputs * own
