"""Waveform to log-mel decibels, out of Kapre layers and one of ours. The only module that imports kapre.

Where Kapre is not installed, `spectral` has layers of the same names, configuration and numbers.

No Kapre layer gives librosa's numbers by itself; this chain does, within 2e-3 dB of
`librosa.power_to_db(librosa.feature.melspectrogram(...), ref=1, amin=1e-10, top_db=80)` with centred,
zero-padded frames. Every layer is float32 whatever the precision of the trunk: TensorFlow has no
half-precision FFT.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import keras
import numpy as np
import tensorflow as tf

from kerasrep import constants
from kerasrep.errors import RunError
from kerasrep.recipe.network import AudioSettings
from kerasrep.runtime.threads import core_count

try:
    import kapre
except ModuleNotFoundError as error:
    if error.name != "kapre":
        raise
    from kerasrep.model import spectral as kapre

    kapre.register()

#: Filters that `BandedFilterbank` applies at once.
_FILTERS_AT_ONCE = 16
#: Examples that go through the front end at once on a CPU.
CHUNK_EXAMPLES = 4


@keras.saving.register_keras_serializable(package="kerasrep")
class Power(keras.layers.Layer):
    """Squared magnitude of a complex tensor.

    The same numbers as Kapre's `Magnitude`, squared, without the square root in between: on a CPU that
    root is a good part of the front end's time.
    """

    def call(self, inputs: Any) -> Any:
        """complex64 [...] -> float32 [...]."""
        return tf.square(tf.math.real(inputs)) + tf.square(tf.math.imag(inputs))

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's; stated, as Keras would trace a graph to find it."""
        return input_shape


@keras.saving.register_keras_serializable(package="kerasrep")
class BandedFilterbank(kapre.ApplyFilterbank):
    """Kapre's filterbank without most of its products with zero.

    A mel filter is zero outside of its band, so that a dense product is 98% zeros. Neighbouring filters are
    applied together, to the bins that any of them needs: a seventh of the products for 128 mel bands.
    """

    def __init__(self, type: str, filterbank_kwargs: dict[str, Any], **kwargs: Any) -> None:
        """Take Kapre's arguments."""
        super().__init__(type, filterbank_kwargs, **kwargs)
        filters = np.asarray(self.filterbank)
        self._parts = []
        for first in range(0, filters.shape[1], _FILTERS_AT_ONCE):
            part = filters[:, first : first + _FILTERS_AT_ONCE]
            bins = np.flatnonzero(part.any(axis=1))
            low, high = (int(bins[0]), int(bins[-1]) + 1) if len(bins) else (0, 1)
            self._parts.append((low, high, part[low:high]))

    def call(self, x: Any) -> Any:
        """float32 [batch, channels, frames, bins], or with the last three as in [frames, bins, channels]."""
        last = self.data_format == "channels_last"
        if last:
            x = tf.transpose(x, (0, 1, 3, 2))
        products = [tf.tensordot(x[..., low:high], part, 1) for low, high, part in self._parts]
        found = tf.concat(products, -1)
        return tf.transpose(found, (0, 1, 3, 2)) if last else found

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """Filters in the place of bins."""
        axis = 2 if self.data_format == "channels_last" else 3
        filters = sum(part.shape[1] for _, _, part in self._parts)
        return (*input_shape[:axis], filters, *input_shape[axis + 1 :])


@keras.saving.register_keras_serializable(package="kerasrep")
class BelowLoudest(keras.layers.Layer):
    """Decibels below the loudest value of each example, so that its level makes no difference."""

    def call(self, inputs: Any) -> Any:
        """float32 [batch, frames, mels, channels], the loudest value becomes 0."""
        return inputs - tf.reduce_max(inputs, axis=(1, 2, 3), keepdims=True)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's."""
        return input_shape


def build_frontend(
    audio: AudioSettings | None = None, samples: int | None = None, compiled: bool = False
) -> keras.Model:
    """Build the front end.

    The short-time Fourier transform and the mel product run channels first, because the frequency axis
    is then the last one; the result is permuted once.

    Args:
        audio: Rates and mel geometry; the paper's by default.
        samples: Fixed length of the waveforms, or `None` for any length.
        compiled: Whether XLA will compile it: on a GPU one dense product is quicker than several.

    Returns:
        A model from `waveform`, float32 [batch, samples, 2] in [-1, 1], to `log_mel_db`, float32
        [batch, 1 + samples // hop, mels, 2] in decibels re 1 or re the loudest value of the example, at most
        80 below that value, both channels together.

    Raises:
        RunError: Where Keras runs on another backend than TensorFlow.
    """
    if keras.backend.backend() != "tensorflow":
        raise RunError(
            f"Keras runs on {keras.backend.backend()}; set KERAS_BACKEND=tensorflow before it is imported"
        )
    audio = audio or AudioSettings()
    half = audio.fft_samples // 2
    waveform = keras.Input((samples, constants.N_CHANNELS), dtype="float32", name="waveform")
    x = keras.layers.ZeroPadding1D(half, name="centre", dtype="float32")(waveform)
    x = kapre.STFT(
        n_fft=audio.fft_samples,
        hop_length=audio.hop_samples,
        window_name="hann_window",
        input_data_format="channels_last",
        output_data_format="channels_first",
        name="stft",
        dtype="float32",
    )(x)  # complex64 [batch, 2, frames, bins]
    x = Power(name="power", dtype="float32")(x)
    filterbank = kapre.ApplyFilterbank if compiled else BandedFilterbank
    mel = filterbank(
        type="mel",
        filterbank_kwargs={
            "sample_rate": audio.sample_rate_hz,
            "n_freq": half + 1,
            "n_mels": audio.n_mels,
            "f_min": 0.0,
            "f_max": audio.sample_rate_hz / 2,
            "htk": False,
            "norm": "slaney",
        },
        data_format="channels_first",
        name="mel",
        dtype="float32",
    )
    as_constants(mel, "filterbank")
    x = mel(x)  # [batch, 2, frames, mels]
    x = keras.layers.Permute((2, 3, 1), name="channels_last", dtype="float32")(x)
    x = kapre.MagnitudeToDecibel(
        ref_value=constants.DB_REFERENCE,
        amin=constants.DB_AMIN,
        dynamic_range=constants.DB_TOP,
        name="decibel",
        dtype="float32",
    )(x)
    if audio.reference == "segment":
        x = BelowLoudest(name="below_loudest", dtype="float32")(x)
    return keras.Model(waveform, x, name="frontend")


def as_constants(layer: keras.layers.Layer, *names: str) -> None:
    """Turn tensors that a layer holds into arrays, which become constants of each graph.

    A tensor lies on one device. In training on several GPUs, the others would copy it from there in every
    step, and wait until that GPU has done all that it was given before.

    Args:
        layer: Built, where building makes the tensors.
        names: Its attributes.
    """
    for name in names:
        setattr(layer, name, np.asarray(getattr(layer, name)))


def in_chunks(features: Callable[[Any], Any]) -> Callable[[Any], Any]:
    """Run the front end on a few examples at a time, where no GPU runs it.

    What lies between its operations, some 8 MB an example, then stays in a processor's cache; with large
    batches every operation reads and writes main memory.

    Args:
        features: waveform [batch, samples, channels] -> [batch, ...], each example by itself and without
            gradient.

    Returns:
        The same function, for use inside a `tf.function`.
    """
    if tf.config.get_visible_devices("GPU"):
        return features

    def run(waveform: Any) -> Any:
        examples = tf.shape(waveform)[0]
        chunks = -(-examples // CHUNK_EXAMPLES)
        static = waveform.shape[0]
        whole = static is not None and static % CHUNK_EXAMPLES == 0
        if not whole:
            waveform = tf.pad(waveform, ((0, chunks * CHUNK_EXAMPLES - examples), (0, 0), (0, 0)))
        chunked = tf.reshape(waveform, (chunks, CHUNK_EXAMPLES, *waveform.shape[1:]))
        found = tf.map_fn(features, chunked, fn_output_signature=tf.float32, parallel_iterations=core_count())
        found = tf.reshape(found, (chunks * CHUNK_EXAMPLES, *found.shape[2:]))
        return tf.ensure_shape(found if whole else found[:examples], (static, *found.shape[1:]))

    return run
