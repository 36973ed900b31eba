"""Waveform to log-mel decibels, out of Kapre layers and one of ours. The only module that imports kapre.

No Kapre layer gives librosa's numbers by itself; this chain does, within 2e-3 dB of
`librosa.power_to_db(librosa.feature.melspectrogram(...), ref=1, amin=1e-10, top_db=80)` with centred,
zero-padded frames. Every layer is float32 whatever the precision of the trunk: TensorFlow has no
half-precision FFT.
"""

from __future__ import annotations

from typing import Any

import kapre
import keras
import tensorflow as tf

from kerasrep import constants
from kerasrep.errors import RunError
from kerasrep.recipe import AudioSettings


@keras.saving.register_keras_serializable(package="kerasrep")
class Power(keras.layers.Layer):
    """Squared magnitude of a complex tensor.

    The same numbers as Kapre's `Magnitude`, squared, without the square root in between: on a CPU that
    root is a good part of the front end's time.
    """

    def call(self, inputs: Any) -> Any:
        """complex64 [...] -> float32 [...]."""
        return tf.square(tf.math.real(inputs)) + tf.square(tf.math.imag(inputs))


def build_frontend(audio: AudioSettings | None = None, samples: int | None = None) -> keras.Model:
    """Build the front end.

    The short-time Fourier transform and the mel product run channels first, because the frequency axis
    is then the last one; the result is permuted once.

    Args:
        audio: Rates and mel geometry; the paper's by default.
        samples: Fixed length of the waveforms, or `None` for any length.

    Returns:
        A model from `waveform`, float32 [batch, samples, 2] in [-1, 1], to `log_mel_db`, float32
        [batch, 1 + samples // hop, mels, 2] in decibels re 1, at most 80 below the loudest value of the
        example, both channels together.

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
    x = kapre.ApplyFilterbank(
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
    )(x)  # [batch, 2, frames, mels]
    x = keras.layers.Permute((2, 3, 1), name="channels_last", dtype="float32")(x)
    x = kapre.MagnitudeToDecibel(
        ref_value=constants.DB_REFERENCE,
        amin=constants.DB_AMIN,
        dynamic_range=constants.DB_TOP,
        name="decibel",
        dtype="float32",
    )(x)
    return keras.Model(waveform, x, name="frontend")
