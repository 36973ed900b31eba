"""Batch norm folded into the layer in front of it: the network as it is used once training is over.

In inference batch norm multiplies each filter by a constant and adds another; a convolution or dense layer
with scaled weights and a shifted bias gives the same numbers with one pass over memory less (Jacob et al.
2018, section 3.2). They differ by rounding alone, less than 1e-4 of a value.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import keras
import numpy as np

Layer = Any  # keras.layers.Layer, or a model
Values = Any  # float64 array or tensor


def fold_batch_norm(model: keras.Model) -> keras.Model:
    """Copy a model without its batch norms.

    Args:
        model: A graph of layers, models inside it included. Where the input of a batch norm is the output
            of a convolution or dense layer that feeds nothing else, the two become one; others stay.

    Returns:
        A model with the same inputs, outputs and names for inference. Its weights are its own.
    """
    gone = {norm.name for norm, _ in _pairs(model)}

    def copy(layer: Layer) -> Layer:
        return layer.__class__.from_config(layer.get_config())

    def call(layer: Layer, *inputs: Any, **options: Any) -> Any:
        return inputs[0] if layer.name in gone else layer(*inputs, **options)

    folded = keras.models.clone_model(model, clone_function=copy, call_function=call, recursive=True)
    values = folded_weights(model, {v.path: np.asarray(v.numpy(), np.float64) for v in model.variables})
    for variable in folded.variables:
        variable.assign(values[variable.path].astype(variable.dtype))
    return folded


def folded_weights(model: keras.Model, values: Mapping[str, Values]) -> dict[str, Values]:
    """What `fold_batch_norm` makes of weights.

    Args:
        model: As `fold_batch_norm` takes it.
        values: Path of each of its variables -> float64 array or tensor.

    Returns:
        Path of each variable of the folded model -> values of the same kind.
    """
    found = dict(values)
    for norm, layer in _pairs(model):
        gamma, beta, mean, variance = (
            found.pop(variable.path)
            for variable in (norm.gamma, norm.beta, norm.moving_mean, norm.moving_variance)
        )
        scale = gamma / (variance + norm.epsilon) ** 0.5
        kernel, bias = layer.kernel.path, layer.bias.path
        # The last axis of a kernel counts the filters.
        found[kernel], found[bias] = found[kernel] * scale, (found[bias] - mean) * scale + beta
    return found


def _models(model: Layer) -> Iterator[Layer]:
    """A model and all models inside it."""
    yield model
    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _models(layer)


def _layers(model: Layer) -> Iterator[Layer]:
    """All layers that are no models themselves."""
    for part in _models(model):
        yield from (layer for layer in part.layers if not isinstance(layer, keras.Model))


def _pairs(model: Layer) -> Iterator[tuple[Layer, Layer]]:
    """Batch norms, each with the layer that it can be folded into."""
    seen_outside = {id(output) for part in _models(model) for output in part.outputs}
    for norm in _layers(model):
        if not isinstance(norm, keras.layers.BatchNormalization):
            continue
        layer = norm.input._keras_history.operation
        if id(layer.output) not in seen_outside and _foldable(layer, norm):
            yield norm, layer


def _foldable(layer: Layer, norm: Layer) -> bool:
    """Whether a layer feeds this batch norm alone, and nothing but an affine map lies in between."""
    return (
        isinstance(layer, (keras.layers.Conv2D, keras.layers.Dense))
        and len(layer._outbound_nodes) == 1
        and layer.use_bias
        and layer.activation is keras.activations.linear
        and norm.axis in (-1, len(norm.input.shape) - 1)
        and norm.scale
        and norm.center
    )
