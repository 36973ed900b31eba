"""Branches of the same shape, run together: one layer computes all of them side by side.

In the joint schedule every branch sees the same segments. On a GPU eight small convolutions after one
another leave it idle between them; one convolution in eight groups does not. The layers that compute all
branches have variables of their own, which are never used: a step puts the branches' values, side by side,
in their place.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import keras
import tensorflow as tf

from kerasrep.model.blocks import BLOCKS, BlockOptions, conv_block, embedding_block

Tensor = Any
_Values = list[tuple[keras.Variable, tf.Tensor]]
_Part = tuple[keras.Variable, list[keras.Variable]]

PREFIX = "together"


class BranchesTogether:
    """The trunk of a network, its branches run together.

    Attributes:
        model: mel -> branch -> embedding; its layers have variables of their own, which are never used.
    """

    def __init__(self, model: keras.Model, parts: Sequence[_Part]) -> None:
        """Keep the parts.

        Args:
            model: mel -> branch -> embedding.
            parts: Each variable of the model's own, with those of the branches that lie in it side by side.
        """
        self.model, self._parts = model, parts

    def __call__(self, mel: Tensor, training: bool) -> dict[str, Tensor]:
        """Embeddings of all branches, as the trunk gives them."""
        found: dict[str, Tensor] = self.model(mel, training=training)
        return found

    def joined(self, values: _Values) -> _Values:
        """Values of the model's own variables, out of those of the branches."""
        of = {id(variable): value for variable, value in values}
        return [(whole, tf.concat([of[id(one)] for one in own], -1)) for whole, own in self._parts]

    def divided(self, value_of: Callable[[keras.Variable], tf.Tensor]) -> dict[int, tf.Tensor]:
        """Values of the branches' variables, by their `id`, out of those of the model's own.

        Args:
            value_of: Present value of a variable.
        """
        found = {}
        for whole, own in self._parts:
            pieces = tf.split(value_of(whole), len(own), axis=-1)
            found.update({id(one): piece for one, piece in zip(own, pieces, strict=True)})
        return found


def branches_together(
    trunk: keras.Model, branches: Sequence[str], n_shared: int, options: BlockOptions
) -> BranchesTogether:
    """Build the trunk once more, with layers that compute all branches.

    Args:
        trunk: Standardised log-mel -> branch -> embedding.
        branches: Their names, in order.
        n_shared: Blocks that they have in common.
        options: Of the branches' layers.
    """
    x = trunk.get_layer(f"shared_conv{n_shared}_pool").output if n_shared else trunk.input
    options = dataclasses.replace(options, groups=len(branches))
    for number in range(n_shared + 1, len(BLOCKS) + 1):
        own_inputs = number > n_shared + 1  # the first of them all take what is shared
        x = conv_block(x, number, PREFIX, dataclasses.replace(options, own_inputs=own_inputs))
    x = embedding_block(x, PREFIX, options)
    pieces = keras.ops.split(x, len(branches), axis=-1)
    model = keras.Model(trunk.input, dict(zip(branches, pieces, strict=True)), name=PREFIX)
    parts = []
    for layer in model.layers:
        if not layer.variables or not layer.name.startswith(f"{PREFIX}_"):
            continue
        own = [trunk.get_layer(branch + layer.name.removeprefix(PREFIX)).variables for branch in branches]
        for whole, *ones in zip(layer.variables, *own, strict=True):
            parts.append((whole, ones))
    return BranchesTogether(model, parts)
