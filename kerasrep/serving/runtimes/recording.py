"""A whole recording in one call, for formats that may hold a loop."""

from __future__ import annotations

from typing import Any

import tensorflow as tf
from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

from kerasrep import constants
from kerasrep.serving.runtimes import Source

#: Output that has what `kerasrep.load(...).embed` gives.
VECTOR = "vector"


def frozen_segments(source: Source) -> Any:
    """`serving_default` with constants for variables: waveform float32 [batch, samples, 2] -> outputs."""
    frozen = convert_variables_to_constants_v2(source.function)
    names = sorted(source.function.structured_outputs)  # flat outputs come in this order

    def embed_segments(waveform: Any) -> dict[str, Any]:
        return dict(zip(names, frozen(waveform), strict=True))

    return embed_segments


def recording_function(source: Source) -> Any:
    """Make the function that embeds one recording, segment by segment, so that memory does not grow.

    Sums are kept as Welford (1962) did, in float32: a feature that does not vary has a deviation of 0.

    Returns:
        waveform float32 [samples, 2] -> `vector`, and what `embed_track` gives of a single track.
    """
    embed_segments, widths, chosen = frozen_segments(source), source.widths, source.vector
    size, dimension = source.card.segment_samples, sum(source.widths.values())
    signature = [tf.TensorSpec((None, constants.N_CHANNELS), tf.float32, name="waveform")]

    @tf.function(input_signature=signature, autograph=False)  # type: ignore[untyped-decorator]
    def embed_track(waveform: Any) -> dict[str, Any]:
        samples = tf.shape(waveform)[0]
        count = tf.maximum((samples + size - 1) // size, 1)
        padded = tf.pad(waveform, [[0, count * size - samples], [0, 0]])

        def add_segment(number: Any, mean: Any, squares: Any) -> tuple[Any, Any, Any]:
            segment = tf.slice(padded, tf.stack([number * size, 0]), [size, constants.N_CHANNELS])
            found = embed_segments(segment[tf.newaxis])
            values = tf.reshape(tf.concat([found[name] for name in widths], axis=1), [dimension])
            difference = values - mean
            mean += difference / tf.cast(number + 1, tf.float32)
            return number + 1, mean, squares + difference * (values - mean)

        zeros = tf.zeros([dimension])
        _, mean, squares = tf.while_loop(
            lambda number, *_: number < count, add_segment, (tf.constant(0), zeros, zeros)
        )
        deviation = tf.sqrt(squares / tf.cast(count, tf.float32))
        means, deviations = (
            dict(zip(widths, tf.split(both, list(widths.values())), strict=True))
            for both in (mean, deviation)
        )
        parts = [part[name] for part in (means, deviations) for name in chosen]
        return {VECTOR: tf.concat(parts, axis=0)} | {
            name: tf.concat([means[name], deviations[name]], axis=0) for name in widths
        }

    return embed_track
