"""Weights as an export keeps them: as they were trained, folded when a server or TensorFlow loads them.

A SavedModel may have variables that an operation fills when it is loaded, as tables are filled. Those that
the graph reads are such: they are empty in the file, and become the stored weights with batch norm folded. So
one set of weights is in the file, training can go on from it, and no call pays for the folding.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasrep.model.folding import fold_batch_norm, folded_weights

Tensor = Any
#: Part of all values of kernels that may stay float32 where the others are float16.
WHOLE_PART = 1 / 16


class StoredWeights(tf.Module):  # type: ignore[misc]
    """What a SavedModel keeps of a model.

    Args:
        model: Waveform -> dict of outputs, in float32.
        kernels: Type that kernels are stored in, `float32` or `float16`; but see `_kept_whole`. Vectors are
            few and may be very small, such as variances; they are float32 always.

    Attributes:
        stored: Path of each variable of the model -> its value, not folded.
        used: Path of each variable of the folded model -> float32, filled on loading.
    """

    def __init__(self, model: keras.Model, kernels: str) -> None:
        super().__init__()
        folded = fold_batch_norm(model)
        whole = _kept_whole(model.variables)
        self.stored = {
            variable.path: tf.Variable(tf.cast(variable, "float32" if variable.path in whole else kernels))
            for variable in model.variables
        }
        self.used = {
            variable.path: tf.Variable(
                tf.zeros([0] * len(variable.shape)), shape=[None] * len(variable.shape)
            )
            for variable in folded.variables
        }
        self.loading = _Loading(lambda: self._fold(model))
        # In a function, so that the model's own variables are not saved as well.
        self._call: Callable[[Tensor], dict[str, Tensor]] = lambda waveform: self._outputs(folded, waveform)

    def __call__(self, waveform: Tensor) -> dict[str, Tensor]:
        """Outputs of the model; in a graph that is saved, and runs after loading."""
        return self._call(waveform)

    def _fold(self, model: keras.Model) -> None:
        values = {path: tf.cast(variable, tf.float64) for path, variable in self.stored.items()}
        for path, value in folded_weights(model, values).items():
            self.used[path].assign(tf.cast(value, tf.float32))

    def _outputs(self, folded: keras.Model, waveform: Tensor) -> dict[str, Tensor]:
        trainable, others = (
            # A known shape again: without it TensorFlow fuses less.
            [tf.reshape(self.used[variable.path], variable.shape) for variable in variables]
            for variables in (folded.trainable_variables, folded.non_trainable_variables)
        )
        outputs: dict[str, Tensor] = folded.stateless_call(trainable, others, waveform, training=False)[0]
        return outputs


def _kept_whole(variables: Sequence[keras.Variable]) -> frozenset[str]:
    """Paths of what stays float32: vectors, and the smallest kernels, at most `WHOLE_PART` of all values.

    The first layer and the skips have few values, and rounding them moved the outputs of the residual trunk
    more than that of all others together.
    """
    sizes = {v.path: int(np.prod(v.shape)) for v in variables if len(v.shape) > 1}
    kernels = sorted(sizes, key=sizes.__getitem__)
    sums = np.cumsum([sizes[path] for path in kernels])
    few = kernels[: int((sums <= WHOLE_PART * sums[-1]).sum())] if kernels else []
    return frozenset({*few, *(v.path for v in variables if len(v.shape) < 2)})


class _Loading(tf.saved_model.experimental.TrackableResource):  # type: ignore[misc]
    """Makes servers and `tf.saved_model.load` run a function once the variables are restored."""

    def __init__(self, run: Callable[[], None]) -> None:
        super().__init__()
        self._run = run

    def _create_resource(self) -> Tensor:
        return tf.constant(0)  # there is none

    def _initialize(self) -> None:
        self._run()

    def _destroy_resource(self) -> None:
        pass
