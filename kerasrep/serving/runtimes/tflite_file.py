"""TensorFlow Lite (LiteRT), with its built-in operations alone.

One segment at a time: the front end's frames have a fixed place in the converted graph, and a larger batch
would give the first segment's embedding alone. So the graph begins with a reshape that the interpreter
refuses where the input has been resized.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.errors import ExportError
from kerasrep.serving.runtimes import Embed, Source, short
from kerasrep.storage.export_directory import SERVING_DEFAULT

FILE = "model.tflite"
BATCHES = (1,)


def require() -> None:
    """The converter comes with TensorFlow."""


def write(path: Path, source: Source) -> None:
    """Convert for one segment.

    Raises:
        ExportError: Where an operation has no counterpart among the built-in ones.
    """
    import tensorflow as tf

    shape = (1, source.segment_samples, constants.N_CHANNELS)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.float32, name="waveform")], autograph=False)  # type: ignore[untyped-decorator]
    def embed_segment(waveform: Any) -> Any:
        samples = tf.reshape(waveform, shape[1:])
        # Parts that are put together again keep the converter from dropping the reshapes as idle.
        samples = tf.concat([samples[:1], samples[1:]], axis=0)
        return source.function(waveform=tf.reshape(samples, shape))

    converter = tf.lite.TFLiteConverter.from_concrete_functions(
        [embed_segment.get_concrete_function()], source.loaded
    )
    converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS]
    try:
        path.write_bytes(converter.convert())
    except Exception as error:  # the converter's own kinds, and what MLIR raises
        raise ExportError(f"tflite: cannot be converted to built-in operations ({short(error)})") from error
    _check_batch_is_refused(path, shape)


def read(path: Path) -> Embed:
    """Load the file in the interpreter."""
    import tensorflow as tf

    interpreter = tf.lite.Interpreter(model_path=str(path))
    runner = interpreter.get_signature_runner(SERVING_DEFAULT)

    def embed(waveform: NDArray[np.float32]) -> dict[str, NDArray[np.float32]]:
        outputs: dict[str, NDArray[np.float32]] = runner(waveform=waveform)
        return outputs

    return embed


def _check_batch_is_refused(path: Path, shape: tuple[int, ...]) -> None:
    embed = read(path)
    try:
        embed(np.zeros((2, *shape[1:]), np.float32))
    except (RuntimeError, ValueError):
        return
    raise ExportError("tflite: a batch of 2 is not refused, and its values would be wrong")
