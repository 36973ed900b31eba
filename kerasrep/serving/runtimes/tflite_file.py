"""TensorFlow Lite (LiteRT), with its built-in operations alone: one file with a signature of each kind.

`serving_default` takes one segment at a time: the front end's frames have a fixed place in the converted
graph, and a larger batch would give the first segment's embedding alone. So the graph begins with a reshape
that the interpreter refuses where the input has been resized. `embed_track` takes a whole recording.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import ExportError
from kerasrep.serving.runtimes import Embed, Source, short
from kerasrep.storage.export_directory import EMBED_TRACK, SERVING_DEFAULT

FILES = ("model.tflite",)
BATCHES = (1,)
SEGMENTS, TRACK = SERVING_DEFAULT, EMBED_TRACK


def require() -> None:
    """The converter comes with TensorFlow."""


def write(folder: Path, source: Source) -> None:
    """Convert; both signatures share the weights.

    Raises:
        ExportError: Where an operation has no counterpart among the built-in ones.
    """
    import tensorflow as tf

    from kerasrep.serving.runtimes.recording import frozen_segments, recording_function

    shape = (1, source.card.segment_samples, constants.N_CHANNELS)
    segments = frozen_segments(source)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="waveform")], autograph=False)  # type: ignore[untyped-decorator]
    def embed_segment(waveform: Any) -> Any:
        samples = tf.reshape(waveform, shape[1:])
        # Parts that are put together again keep the converter from dropping the reshapes as idle.
        samples = tf.concat([samples[:1], samples[1:]], axis=0)
        return segments(tf.reshape(samples, shape))

    signatures = {SEGMENTS: embed_segment, TRACK: recording_function(source)}
    with tempfile.TemporaryDirectory(prefix=".tflite-", dir=folder) as saved:
        tf.saved_model.save(tf.Module(), saved, signatures=signatures)
        converter = tf.lite.TFLiteConverter.from_saved_model(saved, signature_keys=list(signatures))
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
        try:
            (folder / FILES[0]).write_bytes(converter.convert())
        except Exception as error:  # the converter's own kinds, and what MLIR raises
            raise ExportError(
                f"tflite: cannot be converted to built-in operations ({short(error)})"
            ) from error
    _check_batch_is_refused(folder, shape)


def read(folder: Path, name: str) -> Embed:
    """Load a signature of the file in the interpreter."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=str(folder / FILES[0]))
    runner = interpreter.get_signature_runner(name)

    def embed(waveform: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        outputs: dict[str, NDArray[np.float32]] = runner(waveform=waveform)
        return outputs

    return embed


def _check_batch_is_refused(folder: Path, shape: tuple[int, ...]) -> None:
    embed = read(folder, SEGMENTS)
    try:
        embed(np.zeros((2, *shape[1:]), np.float32))
    except (RuntimeError, ValueError):
        return
    raise ExportError("tflite: a batch of 2 is not refused, and its values would be wrong")
