"""The six strategies: how much of the network the learning sources share.

`build_network` makes, out of the same blocks, an encoder and a head for each source; the strategy says
how many blocks the encoders have in common (Kim et al. 2018, section 4.2 and figure 3).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.model.blocks import BLOCKS, BlockOptions, Tensor, build_head, conv_block, embedding_block
from kerasrep.model.frontend import as_constants, build_frontend
from kerasrep.model.layers import side_by_side
from kerasrep.recipe.base import LossName
from kerasrep.recipe.network import AudioSettings
from kerasrep.recipe.schema import Recipe
from kerasrep.storage import segment_vector

SHARED = segment_vector.SHARED
_Values = list[tuple[keras.Variable, tf.Tensor]]
_Part = tuple[keras.Variable, list[keras.Variable]]
PREFIX = "together"


@dataclass(frozen=True)
class Scaler:
    """Per-band standardisation, from the training set.

    Attributes:
        mean: float32 [mels], decibels.
        sd: float32 [mels], decibels.
    """

    mean: NDArray[np.float32]
    sd: NDArray[np.float32]

    @classmethod
    def identity(cls, n_mels: int) -> Scaler:
        """Leave the decibels as they are."""
        return cls(np.zeros(n_mels, np.float32), np.ones(n_mels, np.float32))

    def layer(self) -> keras.layers.Layer:
        """Standardise [batch, frames, mels, channels]."""
        # [mels, 1] over two axes: Keras 3.13 wants a shape that broadcasts, and 3.14 no axis beside those.
        return keras.layers.Normalization(
            axis=(2, 3),
            mean=self.mean[:, None].tolist(),
            variance=np.square(self.sd)[:, None].tolist(),
            name="standardise",
            dtype="float32",
        )


@dataclass(frozen=True)
class Network:
    """The models of one strategy; all share their layers.

    Attributes:
        strategy: Name of the strategy.
        sources: In recipe order.
        branches: Names of the embeddings: the sources, or `shared` alone for ms-sr@fc.
        features: waveform float32 [batch, samples, 2] -> standardised log-mel [batch, frames, mels, 2].
        trunk: standardised log-mel -> dict: branch -> embedding float32 [batch, 256].
        encoders: Source -> model from standardised log-mel to its embedding.
        heads: Source -> model from the embedding (for `self` two, side by side) to logits.
        embedder: waveform -> dict: `embedding` [batch, 256 x branches], the branches side by side, and
            `embedding_SOURCE` [batch, 256] for each branch (not for ms-sr@fc).
        together: The trunk with its branches run together; where that was asked for and there are several.
        losses: Source -> what it is learnt by; divergence where nothing is said.
        scaler: What `features` standardises by.
    """

    strategy: str
    sources: tuple[str, ...]
    branches: tuple[str, ...]
    features: keras.Model
    trunk: keras.Model
    encoders: Mapping[str, keras.Model]
    heads: Mapping[str, keras.Model]
    embedder: keras.Model
    together: BranchesTogether | None = None
    losses: Mapping[str, LossName] = field(default_factory=dict)
    scaler: Scaler = field(default_factory=lambda: Scaler.identity(constants.N_MELS))

    def loss_of(self, source: str) -> LossName:
        """What a source is learnt by."""
        return self.losses.get(source, "divergence")

    def pairs(self, source: str) -> bool:
        """Whether the head of a source takes two segments side by side: `self`, unless by contrast."""
        return source == "self" and self.loss_of(source) != "contrast"

    def begin_with(self, source: str, mean: NDArray[np.floating[Any]]) -> None:
        """Let the head of a source predict its mean target, whatever the embedding is.

        Args:
            source: Name; one that is learnt by divergence, sigmoid or squared error.
            mean: float [size].
        """
        kernel, bias = self.heads[source].get_layer(f"{source}_logits").weights
        kernel.assign(np.zeros(kernel.shape, np.float32))
        bias.assign(mean_logits(self.loss_of(source), mean))

    def logits(self, source: str, mel: Tensor, training: bool) -> Tensor:
        """Logits of one source alone.

        Args:
            source: Name.
            mel: Standardised log-mel [batch, frames, mels, 2]; for `self` all left segments of the
                pairs, then all right ones. The encoder runs on either side separately, so that batch
                norm sees them as two batches.
            training: Whether dropout and batch norm's updates are on.

        Returns:
            float32 [batch, size]; for `self` [pairs, 2], class 1 says same track.
        """
        encoder, head = self.encoders[source], self.heads[source]
        if not self.pairs(source):
            return head(encoder(mel, training=training), training=training)
        left, right = keras.ops.split(mel, 2, axis=0)
        pair = [encoder(left, training=training), encoder(right, training=training)]
        return head(keras.ops.concatenate(pair, axis=-1), training=training)

    def all_logits(self, mel: Tensor, training: bool) -> dict[str, Tensor]:
        """Logits of all sources from one pass over the same segments.

        Args:
            mel: Standardised log-mel [batch, frames, mels, 2]; for `self` the first half of the batch
                is paired with the second.
            training: Whether dropout and batch norm's updates are on.

        Returns:
            Source -> float32 [batch, size]; for `self` [batch / 2, 2].
        """
        trunk = self.trunk if self.together is None else self.together
        embeddings = trunk(mel, training=training)
        logits = {}
        for source in self.sources:
            embedding = embeddings[SHARED if self.branches == (SHARED,) else source]
            if self.pairs(source):
                embedding = keras.ops.concatenate(keras.ops.split(embedding, 2, axis=0), axis=-1)
            logits[source] = self.heads[source](embedding, training=training)
        return logits

    def variables(self, group: str) -> list[keras.Variable]:
        """All weights and statistics of a group, in a fixed order.

        Args:
            group: `shared`, or a source: its branch and its head.
        """
        shared_paths = self._shared_paths()
        if group == SHARED:
            found = [v for v in self.encoders[self.sources[0]].variables if v.path in shared_paths]
        else:
            own = [v for v in self.encoders[group].variables if v.path not in shared_paths]
            found = own + list(self.heads[group].variables)
        return [v for v in found if not _is_seed(v)]

    @property
    def groups(self) -> tuple[str, ...]:
        """`shared` where anything is shared, then the sources."""
        return ((SHARED,) if self._shared_paths() else ()) + self.sources

    def _shared_paths(self) -> frozenset[str]:
        return frozenset(
            v.path for v in self.encoders[self.sources[0]].variables if v.path.startswith(f"{SHARED}_")
        )

    def parameters(self) -> dict[str, int]:
        """Trainable values of each group."""
        return {g: int(sum(np.prod(v.shape) for v in self.variables(g) if v.trainable)) for g in self.groups}

    def seed_states(self, source: str) -> list[keras.Variable]:
        """State variables of a source's dropout layers."""
        return [v for v in self.heads[source].variables if _is_seed(v)]


def mean_logits(loss: LossName, mean: NDArray[np.floating[Any]]) -> NDArray[np.float32]:
    """What a head has to give so that it predicts a mean target, float32 [size].

    Args:
        loss: `divergence`, `sigmoid` or `squared`.
        mean: float [size].
    """
    if loss == "squared":
        return np.asarray(mean, np.float32)
    share = np.clip(np.asarray(mean, np.float64), 1e-4, 1 - 1e-4)
    return (np.log(share) - (np.log(1 - share) if loss == "sigmoid" else 0)).astype(np.float32)


def _is_seed(variable: keras.Variable) -> bool:
    return bool(variable.path.endswith("seed_generator_state"))


def build_network(
    strategy: str,
    sources: Sequence[str],
    sizes: Mapping[str, int],
    audio: AudioSettings | None = None,
    options: BlockOptions | None = None,
    scaler: Scaler | None = None,
    losses: Mapping[str, LossName] | None = None,
) -> Network:
    """Build the network of a strategy with seeded initial values.

    Args:
        strategy: One of `constants.STRATEGIES`.
        sources: Learning sources, in the order of the branches.
        sizes: Source -> dimension of its target.
        audio: Rates and mel geometry; the paper's by default.
        options: Width, dropout, precision, seed.
        scaler: Per-band standardisation; none by default.
        losses: Source -> what it is learnt by; divergence by default.

    Returns:
        The network.
    """
    losses = losses or {}
    audio, options = audio or AudioSettings(), options or BlockOptions()
    scaler = scaler or Scaler.identity(audio.n_mels)
    # Layers
    frontend, standardise = build_frontend(audio, audio.segment_samples, options.compiled), scaler.layer()
    heads = {
        source: build_head(source, sizes[source], options, losses.get(source, "divergence"))
        for source in sources
    }
    # Graph
    waveform = keras.Input((audio.segment_samples, constants.N_CHANNELS), dtype="float32", name="waveform")
    features = keras.Model(waveform, standardise(frontend(waveform)), name="features")
    as_constants(standardise, "mean", "variance")
    mel = keras.Input((audio.segment_frames, audio.n_mels, constants.N_CHANNELS), name="mel")
    embeddings = _encode(mel, strategy, tuple(sources), options)
    branches = tuple(embeddings)
    encoders = {
        source: keras.Model(mel, embeddings.get(source, embeddings.get(SHARED)), name=f"{source}_encoder")
        for source in sources
    }
    trunk = keras.Model(mel, embeddings, name="trunk")
    # Outputs by name, as the export has them
    found = trunk(features(waveform))
    outputs = {"embedding": side_by_side([found[b] for b in branches], "embedding")}
    if branches != (SHARED,):
        outputs |= {f"embedding_{b}": found[b] for b in branches}
    embedder = keras.Model(waveform, outputs, name="embedder")
    together = None
    if options.together and len(branches) > 1:
        together = branches_together(trunk, branches, constants.N_SHARED_BLOCKS[strategy], options)
    names = strategy, tuple(sources), branches
    return Network(*names, features, trunk, encoders, heads, embedder, together, losses, scaler)


def _encode(mel: Tensor, strategy: str, sources: tuple[str, ...], options: BlockOptions) -> dict[str, Tensor]:
    n_shared, n_blocks = constants.N_SHARED_BLOCKS[strategy], 7
    shared = mel
    for number in range(1, n_shared + 1):
        shared = conv_block(shared, number, SHARED, options)
    if strategy == "ms-sr@fc":
        return {SHARED: embedding_block(shared, SHARED, options)}
    embeddings = {}
    for source in sources:
        x = shared
        for number in range(n_shared + 1, n_blocks + 1):
            x = conv_block(x, number, source, options)
        embeddings[source] = embedding_block(x, source, options)
    return embeddings


def network_of(
    recipe: Recipe,
    sizes: Mapping[str, int],
    scaler: Scaler,
    precision: str = "float32",
    replicas: int = 1,
    compiled: bool = False,
    together: bool = False,
) -> Network:
    """Build the network that a recipe describes.

    Args:
        recipe: Strategy, sources, audio, model, batch norm and seed are taken from it.
        sizes: Source -> dimension of its target.
        scaler: Per-band standardisation.
        precision: Keras dtype policy of the trunk.
        replicas: With one, there is nothing to synchronise.
        compiled: Whether XLA will compile it.
        together: Whether branches run together where all of them are used.
    """
    options = BlockOptions(
        trunk=recipe.model.trunk,
        width=recipe.model.width,
        dropout=recipe.model.dropout,
        precision=precision,
        synchronised=replicas > 1 and recipe.distribution.batch_norm == "synchronised",
        seed=recipe.seed,
        compiled=compiled,
        together=together,
    )
    losses: dict[str, LossName] = {source: recipe.loss_of(source) for source in recipe.sources}
    if losses.get("self") == "contrast":
        sizes = {**sizes, "self": recipe.contrast.projection}
    return build_network(recipe.strategy, recipe.sources, sizes, recipe.audio, options, scaler, losses)


class BranchesTogether:
    """The trunk of a network, its branches run together: one layer computes all of them side by side.

    In the joint schedule every branch sees the same segments. On a GPU eight small convolutions after one
    another leave it idle between them; one convolution in eight groups does not. The layers that compute all
    branches have variables of their own, which are never used: a step puts the branches' values, side by
    side, in their place.

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
