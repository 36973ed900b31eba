"""Figures of several steps, added up where the steps are made, so that the host need not wait for each."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray


class NotFinite(NamedTuple):
    """A step whose loss or gradient is not finite.

    Attributes:
        step: Its number.
        sources: Positions of the sources concerned.
    """

    step: int
    sources: tuple[int, ...]


class Tally(NamedTuple):
    """What is added up.

    Attributes:
        sums: float32 [3, sources], of loss, accuracy and uses.
        bad: int64 [], the first step whose loss was not finite, or -1.
        bad_losses: float32 [sources], of that step.
    """

    sums: tf.Tensor
    bad: tf.Tensor
    bad_losses: tf.Tensor

    @classmethod
    def empty(cls, n_sources: int) -> Tally:
        """Before any step."""
        return cls(tf.zeros((3, n_sources)), tf.constant(-1, tf.int64), tf.zeros((n_sources,)))

    def with_step(self, step: tf.Tensor, figures: tf.Tensor) -> Tally:
        """With one step more.

        Args:
            step: Its number, int64 [].
            figures: float32 [3, sources]: mean loss, accuracy, and 1 where a source was used, else 0.
        """
        losses, accuracies, used = tf.unstack(figures)
        sums = self.sums + tf.stack([losses * used, accuracies * used, used])
        first_fault = (self.bad < 0) & ~tf.reduce_all(tf.math.is_finite(losses))
        bad_losses = tf.where(first_fault, losses, self.bad_losses)
        return Tally(sums, tf.where(first_fault, step, self.bad), bad_losses)


class Totals:
    """A tally on every replica, the same on all of them."""

    def __init__(self, n_sources: int, distribution: tf.distribute.Strategy) -> None:
        """Make the variables."""
        self._empty, self._distribution = Tally.empty(n_sources), distribution
        with distribution.scope():
            self._variables = [
                tf.Variable(
                    value,
                    trainable=False,
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
                for value in self._empty
            ]

    def local(self) -> Tally:
        """Values on the present replica."""
        return Tally(*(variable.read_value() for variable in self._variables))

    def update(self, values: Tally) -> None:
        """Write values on the present replica."""
        for variable, value in zip(self._variables, values, strict=True):
            variable.assign(value)

    def take(self) -> tuple[NDArray[np.float64], NotFinite | None]:
        """Wait for the steps so far, and begin anew.

        Returns:
            Sums of loss, accuracy and uses, float64 [3, sources]; and the first step whose loss was not
            finite, if there was one.
        """
        everywhere = [self._distribution.experimental_local_results(one) for one in self._variables]
        sums, bad, bad_losses = (replicas[0].numpy() for replicas in everywhere)
        for replicas, value in zip(everywhere, self._empty, strict=True):
            for variable in replicas:
                variable.assign(value)
        fault = None
        if int(bad) >= 0:
            fault = NotFinite(int(bad), tuple(np.flatnonzero(~np.isfinite(bad_losses)).tolist()))
        return sums.astype(np.float64), fault
