"""The two functions that an export offers, in TensorFlow's core operations only.

`serving_default` embeds segments, `embed_track` whole recordings of any length. Both call the same model,
so that its weights are stored once.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import tensorflow as tf

from kerasrep import constants

#: Segments that `embed_track` runs at once, over all tracks of the batch: this bounds its memory.
CHUNK_SEGMENTS = 16

Tensor = Any


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

    @tf.function(input_signature=segment_signature(segment_samples), autograph=False)  # type: ignore[untyped-decorator]
    def embed_segments(waveform: Tensor) -> dict[str, Tensor]:
        is_sound = tf.reduce_all(tf.math.is_finite(waveform), axis=[1, 2])[:, tf.newaxis]
        return {name: tf.where(is_sound, values, math.nan) for name, values in model(waveform).items()}

    return embed_segments  # type: ignore[no-any-return]


def segment_signature(segment_samples: int) -> list[tf.TensorSpec]:
    """Inputs of `serving_default`."""
    return [tf.TensorSpec((None, segment_samples, constants.N_CHANNELS), tf.float32, name="waveform")]


def track_signature() -> list[tf.TensorSpec]:
    """Inputs of `embed_track`."""
    return [
        tf.TensorSpec((None, None, constants.N_CHANNELS), tf.float32, name="waveform"),
        tf.TensorSpec((None,), tf.int32, name="length_samples"),
    ]


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

    @tf.function(input_signature=track_signature(), autograph=False)  # type: ignore[untyped-decorator]
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
