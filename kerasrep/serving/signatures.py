"""The two functions that an export offers, in TensorFlow's core operations only.

`serving_default` embeds segments, `embed_track` whole recordings of any length. Both call the same model,
so that its weights are stored once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasrep import constants
from kerasrep.model.folding import fold_batch_norm, folded_weights

#: Segments that `embed_track` runs at once, over all tracks of the batch: this bounds its memory.
CHUNK_SEGMENTS = 16

Tensor = Any
#: Part of all values of kernels that may stay float32 where the others are float16.
WHOLE_PART = 1 / 32


def segment_function(
    model: Callable[[Tensor], dict[str, Tensor]], segment_samples: int
) -> Callable[[Tensor], dict[str, Tensor]]:
    """Make `serving_default`; `embed_track` calls it too, so that the network is traced and stored once.

    A segment with NaN or infinite samples gives NaN: the front end would make them decibels like any others.

    Args:
        model: Waveform -> outputs by name.
        segment_samples: Samples a channel in one segment.

    Returns:
        waveform float32 [batch, segment_samples, 2] -> the outputs of the model.
    """
    signature = [tf.TensorSpec((None, segment_samples, constants.N_CHANNELS), tf.float32, name="waveform")]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def embed_segments(waveform: Tensor) -> dict[str, Tensor]:
        is_sound = tf.reduce_all(tf.math.is_finite(waveform), axis=[1, 2])[:, tf.newaxis]
        return {name: tf.where(is_sound, values, math.nan) for name, values in model(waveform).items()}

    return embed_segments  # type: ignore[no-any-return]


def track_function(
    embed_segments: Callable[[Tensor], dict[str, Tensor]], segment_samples: int, widths: Mapping[str, int]
) -> Callable[[Tensor, Tensor], dict[str, Tensor]]:
    """Make `embed_track`, given `serving_default`.

    A track is cut into consecutive segments, the last one padded with zeros; samples at or beyond its
    length count as zeros, and segments that begin there are left out. A length of 0 (or less) is one silent
    segment; one beyond the waveform is that of the waveform. Only segments that count are run, at most
    `CHUNK_SEGMENTS` at once; the statistics of chunks are merged in float64 (Chan, Golub, LeVeque 1979), so
    that a feature that does not vary has a standard deviation of 0 however large it is.

    Args:
        embed_segments: What `segment_function` made.
        segment_samples: Samples a channel in one segment.
        widths: Outputs of it that tracks have as well, such as `embedding` -> values of a segment.

    Returns:
        waveform float32 [batch, samples, 2], length_samples int32 [batch] -> each of these outputs, float32
        [batch, 2 x width]: all means over segments, then all standard deviations (ddof 0).
    """
    signature = [
        tf.TensorSpec((None, None, constants.N_CHANNELS), tf.float32, name="waveform"),
        tf.TensorSpec((None,), tf.int32, name="length_samples"),
    ]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def embed_track(waveform: Tensor, length_samples: Tensor) -> dict[str, Tensor]:
        shape = tf.shape(waveform, out_type=tf.int64)
        lengths = tf.clip_by_value(tf.cast(length_samples, tf.int64), 0, shape[1])
        counts = tf.maximum(-(-lengths // segment_samples), 1)
        # Pairs (track, segment of the track), int64 [segments, 2]
        pairs = tf.where(tf.sequence_mask(counts))
        n_pairs = tf.shape(pairs)[0]

        def add_chunk(
            start: Tensor, n: Tensor, mean: Tensor, squares: Tensor
        ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
            chunk = pairs[start : start + CHUNK_SEGMENTS]
            segments = _cut_segments(waveform, lengths, chunk, segment_samples)
            found = embed_segments(segments)
            features = tf.cast(tf.concat([found[name] for name in widths], axis=1), tf.float64)
            merged = _merge(n, mean, squares, *_by_track(features, chunk[:, 0], shape[0]))
            return start + CHUNK_SEGMENTS, *merged

        n = tf.zeros(tf.stack([shape[0], 1]), tf.float64)
        zeros = tf.zeros(tf.stack([shape[0], sum(widths.values())]), tf.float64)
        _, n, mean, squares = tf.while_loop(
            lambda start, *_: start < n_pairs,
            add_chunk,
            (tf.constant(0), n, zeros, zeros),
            parallel_iterations=1,
        )
        both = [tf.split(values, list(widths.values()), axis=1) for values in (mean, tf.sqrt(squares / n))]
        return {
            name: tf.cast(tf.concat([means, deviations], axis=1), tf.float32)
            for name, means, deviations in zip(widths, *both, strict=True)
        }

    return embed_track  # type: ignore[no-any-return]


def _by_track(features: Tensor, tracks: Tensor, batch: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Counts [batch, 1], means and sums of squared deviations [batch, dimension] of some segments.

    Args:
        features: float64 [segments, dimension].
        tracks: int64 [segments]: the track that each belongs to.
        batch: Number of tracks; those without a segment here get zeros.
    """
    n = tf.math.unsorted_segment_sum(tf.ones_like(features[:, :1]), tracks, batch)
    mean = tf.math.divide_no_nan(tf.math.unsorted_segment_sum(features, tracks, batch), n)
    deviations = features - tf.gather(mean, tracks)
    return n, mean, tf.math.unsorted_segment_sum(tf.square(deviations), tracks, batch)


def _merge(
    n: Tensor, mean: Tensor, squares: Tensor, new_n: Tensor, new_mean: Tensor, new_squares: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Count, mean and sum of squared deviations of two groups together."""
    total = n + new_n
    share = tf.math.divide_no_nan(new_n, total)
    difference = new_mean - mean
    return total, mean + difference * share, squares + new_squares + tf.square(difference) * n * share


def _cut_segments(waveform: Tensor, lengths: Tensor, pairs: Tensor, segment_samples: int) -> Tensor:
    """Take segments out of a batch of tracks without copying the rest.

    Args:
        waveform: float32 [batch, samples, 2].
        lengths: int64 [batch], at most `samples`.
        pairs: int64 [segments, 2]: track, and segment within it.
        segment_samples: Samples a channel in one segment.

    Returns:
        float32 [segments, segment_samples, 2], zero at and beyond each track's length.
    """
    tracks, numbers = pairs[:, 0, tf.newaxis], pairs[:, 1, tf.newaxis]
    positions = numbers * segment_samples + tf.range(segment_samples, dtype=tf.int64)
    counts = positions < tf.gather(lengths, tracks)
    # Without any sample there is nothing to gather from: one zero stands in.
    flat = tf.cond(
        tf.size(waveform) > 0,
        lambda: tf.reshape(waveform, [-1, constants.N_CHANNELS]),
        lambda: tf.zeros([1, constants.N_CHANNELS]),
    )
    index = tracks * tf.shape(waveform, out_type=tf.int64)[1] + positions
    samples = tf.gather(flat, tf.where(counts, index, tf.zeros_like(index)))
    # Not a product: garbage beyond the length may be NaN.
    segments = tf.where(counts[..., tf.newaxis], samples, tf.zeros_like(samples))
    return tf.ensure_shape(segments, [None, segment_samples, constants.N_CHANNELS])


class StoredWeights(tf.Module):  # type: ignore[misc]
    """What a SavedModel keeps of a model: its weights as they were trained, folded when they are loaded.

    A SavedModel may have variables that an operation fills when it is loaded, as tables are filled. Those
    that the graph reads are such: they are empty in the file, and become the stored weights with batch norm
    folded. So one set of weights is in the file, training can go on from it, and no call pays for the
    folding.

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
