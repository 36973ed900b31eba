"""How the embeddings of a trained network are whitened, measured over its training tracks."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from kerasrep.data.crops import read_crops
from kerasrep.data.pools import PoolSequence
from kerasrep.data.shards import FULL_SCALE
from kerasrep.model.folding import fold_batch_norm
from kerasrep.model.layers import layer_pieces, with_layers
from kerasrep.model.strategies import Network
from kerasrep.model.whitening import Moments, arrays_of, piece_name
from kerasrep.recipe.schema import Recipe
from kerasrep.report.wording import counted
from kerasrep.runtime.console import Progress
from kerasrep.runtime.run_log import event
from kerasrep.storage.segment_vector import LAYERS, embedding_pieces
from kerasrep.training.inputs import TrainingData

MAX_TRACKS, TRACK_SEGMENTS = 1024, 16
#: Fewer tracks say nothing of how segments of a track differ.
LEAST_TRACKS = 10
_DRAW = 5


def tracks_to_whiten_by(recipe: Recipe, data: TrainingData) -> NDArray[np.int64]:
    """Rows of training tracks of two segments or more, at most 1,024, of each pool its share."""
    segment, rows = recipe.audio.segment_samples, data.train.rows
    rows = np.random.default_rng([recipe.seed, _DRAW]).permutation(
        rows[data.index.samples[rows] >= 2 * segment]
    )
    if data.pools is not None and len(rows):
        sequence = PoolSequence(data.pools, rows)
        pool, rank = sequence.of(np.arange(min(MAX_TRACKS, len(rows))))
        chosen = [
            sequence.members[p][r] for p, r in zip(pool, rank, strict=True) if r < len(sequence.members[p])
        ]
        rows = rows[chosen]
    return rows[:MAX_TRACKS]


def with_possible_whitening(recipe: Recipe, data: TrainingData, say: Callable[[str], None]) -> Recipe:
    """The recipe; without whitening where too few tracks would say how segments differ.

    Args:
        recipe: As it was given.
        data: What it is trained on.
        say: Told that there will be none.
    """
    if not recipe.training.whitening:
        return recipe
    n_tracks = len(tracks_to_whiten_by(recipe, data))
    if n_tracks >= LEAST_TRACKS:
        return recipe
    say(
        f"note: training.whitening: only {counted(n_tracks, 'training track')} of two segments "
        f"({2 * recipe.audio.segment_seconds:g} s) or more, {LEAST_TRACKS} are needed: embeddings are not "
        "whitened"
    )
    return recipe.model_copy(update={"training": recipe.training.model_copy(update={"whitening": 0})})


def fit_whitening(
    recipe: Recipe, network: Network, data: TrainingData, progress: bool = False
) -> dict[str, NDArray[np.float32]]:
    """Measure how the segments of training tracks differ in the embedding and in each pooled layer.

    Args:
        recipe: Audio settings, seed and directions.
        network: As it was trained, in float32.
        data: What it was trained on.
        progress: Show a bar.

    Returns:
        See `model.whitening.arrays_of`.
    """
    model, branches = network.embedder, network.branches
    pieces = (*embedding_pieces(branches), *layer_pieces(model, branches))
    inner = fold_batch_norm(with_layers(model, branches, LAYERS))
    embed = tf.function(
        lambda waveform: inner(waveform, training=False), autograph=False, reduce_retracing=True
    )
    moments = {piece_name(piece.layer, piece.branch): Moments(piece.width) for piece in pieces}
    segment, index = recipe.audio.segment_samples, data.index
    rows = tracks_to_whiten_by(recipe, data)
    with Progress(len(rows), "whitening", "track", progress) as bar:
        for row in rows:
            samples = int(index.samples[row])
            count = min(samples // segment, TRACK_SEGMENTS)
            starts = np.linspace(0, samples - segment, count).astype(np.int64)
            crops = read_crops(index, np.full(count, row), starts, segment)
            found = embed(tf.constant(crops.astype(np.float32) / FULL_SCALE))
            for piece in pieces:
                moments[piece_name(piece.layer, piece.branch)].add(found[piece.output].numpy())
            bar.update()
    event("whitened", tracks=len(rows), directions=recipe.training.whitening)
    return arrays_of(moments, recipe.training.whitening)
