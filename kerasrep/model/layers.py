"""Pooled outputs of the convolution blocks, beside the embedding of a trained network (Choi et al. 2017)."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any

import keras

from kerasrep.model.whitening import Whitening, piece_name, whitening_in
from kerasrep.storage.segment_vector import LAST, LAYERS, SHARED, Piece

Tensor = Any


@keras.saving.register_keras_serializable(package="kerasrep")
class MeanAndMaximum(keras.layers.Layer):
    """[batch, frames, bands, channels] -> [batch, 2 x channels], in one pass over the input.

    First the means over frames and bands, then the maxima over frames of the means over bands.
    """

    def call(self, inputs: Tensor) -> Tensor:
        """Pool."""
        of_frames = keras.ops.mean(inputs, axis=2)  # [batch, frames, channels]
        return keras.ops.concatenate([keras.ops.mean(of_frames, 1), keras.ops.max(of_frames, 1)], axis=-1)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Shape of what `call` gives."""
        return (input_shape[0], 2 * input_shape[-1])  # type: ignore[operator]


def layer_pieces(embedder: keras.Model, branches: Sequence[str]) -> tuple[Piece, ...]:
    """What the convolution blocks of a network can give, in the order of the network.

    Args:
        embedder: As `Network.embedder`.
        branches: Of the network. What they have in common is there once.
    """
    return tuple(
        Piece(layer, branch, 2 * output.shape[-1]) for layer, branch, output in _outputs(embedder, branches)
    )


def with_layers(embedder: keras.Model, branches: Sequence[str], layers: Collection[str]) -> keras.Model:
    """A model of the same layers that gives pooled layers as well.

    Args:
        embedder: As `Network.embedder`: waveform -> dict with `embedding` and each `embedding_BRANCH`.
        branches: Of the network, in the order of the embedding.
        layers: Of `LAYERS`; other names are passed over.

    Returns:
        waveform -> dict: what the embedder gives; `layer_conv3` float32 [batch, 2 x channels], all
        branches side by side; and where each branch has a block of its own, each `layer_conv3_BRANCH`.
    """
    pooled: dict[str, list[tuple[str, Tensor]]] = {}
    for layer, branch, output in _outputs(embedder, branches):
        if layer in layers:
            name = f"{branch}_{layer}_mean_max"
            pooled.setdefault(layer, []).append((branch, MeanAndMaximum(name=name, dtype="float32")(output)))
    return _joined(embedder, branches, pooled, whitening_in(embedder)) if pooled else embedder


def whitened(embedder: keras.Model, branches: Sequence[str], whitening: Whitening | None) -> keras.Model:
    """A model of the same layers whose embeddings are whitened, as will be what `with_layers` adds to it.

    Without `whitening` they are as the network gives them.
    """
    return _joined(embedder, branches, {}, whitening)


def _joined(
    embedder: keras.Model,
    branches: Sequence[str],
    pooled: Mapping[str, Sequence[tuple[str, Tensor]]],
    whitening: Whitening | None,
) -> keras.Model:
    trunk, features = embedder.get_layer("trunk"), embedder.get_layer("features")
    pieces = {(LAST, branch): trunk.output[branch] for branch in branches}
    pieces |= {(layer, branch): tensor for layer, of in pooled.items() for branch, tensor in of}
    names = {piece: piece[1] if piece[0] == LAST else "/".join(piece) for piece in pieces}  # as the trunk's
    inner = {names[piece]: tensor for piece, tensor in pieces.items()}
    values = keras.Model(trunk.input, inner, name=trunk.name)(features(embedder.input))
    found = {piece: values[name] for piece, name in names.items()}
    if whitening is not None:
        found = {piece: whitening(value, piece=piece_name(*piece)) for piece, value in found.items()}
    outputs = {"embedding": side_by_side([found[LAST, branch] for branch in branches], "embedding")}
    if tuple(branches) != (SHARED,):
        outputs |= {f"embedding_{branch}": found[LAST, branch] for branch in branches}
    for layer, of in pooled.items():
        own = {Piece(layer, branch, 0).output: found[layer, branch] for branch, _ in of}
        outputs |= {f"layer_{layer}": side_by_side(list(own.values()), f"layer_{layer}")} | own
    return keras.Model(embedder.input, outputs, name=embedder.name)


def side_by_side(values: Sequence[Tensor], name: str) -> Tensor:
    """[batch, sum of the widths]."""
    if len(values) == 1:
        return keras.layers.Identity(name=name, dtype="float32")(values[0])
    return keras.layers.Concatenate(name=name, dtype="float32")(list(values))


def _outputs(embedder: keras.Model, branches: Sequence[str]) -> list[tuple[str, str, Tensor]]:
    """Layer, branch, and output after ReLU and before pooling, of each block."""
    trunk = embedder.get_layer("trunk")
    there = {layer.name: layer for layer in trunk.layers}
    found: list[tuple[str, str, Tensor]] = []
    for layer in LAYERS:
        for branch in (SHARED, *branches):
            relu = there.get(f"{branch}_{layer}_relu")
            if relu is not None and (layer, branch) not in [one[:2] for one in found]:
                found.append((layer, branch, relu.output))
    return found
