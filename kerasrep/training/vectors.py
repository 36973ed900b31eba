"""Weights, Adam moments and batch-norm statistics as a few flat vectors.

All trainable values of a group (what the sources share; each branch with its head) lie in one float32
vector, likewise both Adam moments and the batch-norm statistics. A step then reads, reduces over replicas
and updates a handful of tensors instead of hundreds, and a source's step cannot touch another branch.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.model.strategies import Network

Vector = NDArray[np.float32]


@dataclass(frozen=True)
class Layout:
    """Where each variable lies in a vector.

    Attributes:
        variables: In order.
    """

    variables: tuple[keras.Variable, ...]

    @property
    def sizes(self) -> list[int]:
        """Values of each variable."""
        return [int(np.prod(v.shape)) for v in self.variables]

    @property
    def total(self) -> int:
        """Values of all variables."""
        return sum(self.sizes)

    def split(self, vector: tf.Tensor) -> list[tuple[keras.Variable, tf.Tensor]]:
        """Variables with their values cut out of `vector`, as `keras.StatelessScope` takes them."""
        if not self.variables:
            return []
        parts = tf.split(vector, self.sizes)
        return [(v, tf.reshape(part, v.shape)) for v, part in zip(self.variables, parts, strict=True)]

    def join(self, values: Sequence[tf.Tensor]) -> tf.Tensor:
        """One float32 vector out of the variables' values."""
        if not values:
            return tf.zeros((0,), tf.float32)
        return tf.concat([tf.reshape(tf.cast(value, tf.float32), (-1,)) for value in values], 0)

    def get(self) -> Vector:
        """Present values of the variables, as one vector."""
        parts = [np.asarray(v.numpy(), np.float32).ravel() for v in self.variables]
        return np.concatenate(parts) if parts else np.zeros(0, np.float32)

    def set(self, vector: Vector) -> None:
        """Fill the variables from a vector."""
        for variable, value in self.split(tf.constant(vector)):
            variable.assign(value)


@dataclass(frozen=True)
class GroupLayout:
    """The layouts of a group.

    Attributes:
        weights: Trainable variables.
        statistics: Running means and variances of batch norm.
        frozen: All variables of layers that stay as they are.
    """

    weights: Layout
    statistics: Layout
    frozen: Layout

    @classmethod
    def of(cls, network: Network, group: str) -> GroupLayout:
        """Layouts of a group of `network`."""
        variables = network.variables(group)
        layers = {_layer(v) for v in variables if not (v.trainable or _is_statistic(v))}
        frozen = tuple(v for v in variables if _layer(v) in layers)
        others = [v for v in variables if _layer(v) not in layers]
        return cls(
            Layout(tuple(v for v in others if v.trainable)),
            Layout(tuple(v for v in others if not v.trainable)),
            Layout(frozen),
        )


def _layer(variable: keras.Variable) -> str:
    return str(variable.path).rpartition("/")[0]


def _is_statistic(variable: keras.Variable) -> bool:
    """Whether it is a running mean or variance, which are not trainable in layers that learn either."""
    return str(variable.path).endswith(("/moving_mean", "/moving_variance"))


#: The vectors of a group, in the order in which they are saved.
PARTS = ("weights", "first_moment", "second_moment", "statistics")
#: Updates so far, float32 [1], of a group that many joint steps leave as it is.
UPDATES = "updates"
#: What no step changes, nor sums up over replicas: in groups with frozen layers.
FROZEN = "frozen"
#: What is averaged over the steps where the recipe says so.
AVERAGES = {"weights": "average_weights", "statistics": "average_statistics"}


class GroupState:
    """Vectors of one group on every replica.

    The variables are read and written by each replica alone; all replicas compute the same values, so
    that no copy needs to be sent. A part without values has no variable: a head alone has no statistics,
    and TensorFlow dies sending an empty vector from one worker to the others.
    """

    def __init__(
        self,
        name: str,
        layout: GroupLayout,
        distribution: tf.distribute.Strategy,
        average: bool = False,
        counted: bool = False,
    ) -> None:
        """Make the variables and fill them from the network.

        Args:
            name: Of the group.
            layout: Where its variables lie.
            distribution: Over all replicas.
            average: Whether averages of weights and statistics are kept beside them.
            counted: Whether its updates are counted, as not every step is one.
        """
        self.name, self.layout = name, layout
        self.parts = (
            *PARTS,
            *(AVERAGES.values() if average else ()),
            *((UPDATES,) if counted else ()),
            *((FROZEN,) if layout.frozen.variables else ()),
        )
        initial = {
            "weights": layout.weights.get(),
            "first_moment": np.zeros(layout.weights.total, np.float32),
            "second_moment": np.zeros(layout.weights.total, np.float32),
            "statistics": layout.statistics.get(),
            FROZEN: layout.frozen.get(),
        }
        initial |= {name: initial[part] for part, name in AVERAGES.items()}
        initial[UPDATES] = np.zeros(1, np.float32)
        with distribution.scope():
            self.variables = {
                part: tf.Variable(
                    initial[part],
                    trainable=False,
                    name=f"{name}_{part}",
                    synchronization=tf.VariableSynchronization.ON_READ,
                    aggregation=tf.VariableAggregation.ONLY_FIRST_REPLICA,
                )
                for part in self.parts
                if initial[part].size
            }
        self.distribution = distribution

    def local(self) -> dict[str, tf.Tensor]:
        """Values on the present replica."""
        empty = {part: tf.zeros((0,)) for part in self.parts if part not in self.variables}
        return empty | {part: variable.read_value() for part, variable in self.variables.items()}

    def first(self, part: str) -> tf.Tensor:
        """The first replica's values."""
        if part not in self.variables:
            return tf.zeros((0,))
        return self.distribution.experimental_local_results(self.variables[part])[0].read_value()

    def kept(self, part: str) -> tf.Tensor:
        """The first replica's values that are validated and exported: averages, where there are any."""
        average = AVERAGES.get(part, part)
        return self.first(average if average in self.parts else part)

    def update(self, values: dict[str, tf.Tensor]) -> None:
        """Write values on the present replica."""
        for part, variable in self.variables.items():
            if part != FROZEN:
                variable.assign(values[part])

    def arrays(self) -> dict[str, Vector]:
        """All vectors, named `GROUP.PART`."""
        return {f"{self.name}.{part}": self.first(part).numpy() for part in self.parts}

    def restore(self, arrays: dict[str, NDArray[Any]]) -> None:
        """Write saved vectors to all replicas, and what is frozen into the Keras variables as well."""
        if FROZEN in self.parts:
            self.layout.frozen.set(arrays[f"{self.name}.{FROZEN}"])
        for part, everywhere in self.variables.items():
            value = arrays[f"{self.name}.{part}"]
            for variable in self.distribution.experimental_local_results(everywhere):
                variable.assign(value)

    def fill_network(self) -> None:
        """Copy weights and statistics into the Keras variables."""
        self.layout.weights.set(self.kept("weights").numpy())
        self.layout.statistics.set(self.kept("statistics").numpy())
