"""The three layers of Kapre that the front end uses, for where Kapre is not installed.

The metadata of kapre 0.4.1 ask for TensorFlow below 2.21 and Keras below 3.14. These layers have the names,
the configuration and, operation by operation, the numbers of Kapre's, so that a `.keras` file made with
either loads with the other. With Kapre installed, its own layers run.
"""

from __future__ import annotations

from typing import Any

import keras
import numpy as np
import tensorflow as tf


class STFT(keras.layers.Layer):
    """Short-time Fourier transform with a Hann window, frames that are whole alone."""

    def __init__(
        self,
        n_fft: int,
        hop_length: int,
        win_length: int | None = None,
        window_name: str = "hann_window",
        pad_begin: bool = False,
        pad_end: bool = False,
        input_data_format: str = "channels_last",
        output_data_format: str = "channels_first",
        **kwargs: Any,
    ) -> None:
        """Take Kapre's arguments; those that the front end leaves alone have one value."""
        super().__init__(**kwargs)
        self._settings: dict[str, Any] = {
            "n_fft": n_fft,
            "win_length": win_length or n_fft,
            "hop_length": hop_length,
            "window_name": window_name,
            "pad_begin": pad_begin,
            "pad_end": pad_end,
            "input_data_format": input_data_format,
            "output_data_format": output_data_format,
        }
        fixed = (window_name, pad_begin, pad_end, input_data_format, output_data_format)
        if fixed != ("hann_window", False, False, "channels_last", "channels_first"):
            raise ValueError(f"STFT{fixed}: only Kapre's own layer can do that; install kapre")

    def call(self, x: Any) -> Any:
        """float32 [batch, samples, channels] -> complex64 [batch, channels, frames, n_fft // 2 + 1]."""
        return tf.signal.stft(
            tf.transpose(x, (0, 2, 1)),
            frame_length=self._settings["win_length"],
            frame_step=self._settings["hop_length"],
            fft_length=self._settings["n_fft"],
        )

    def compute_output_spec(self, x: Any) -> keras.KerasTensor:
        """Stated, as Keras would trace a graph to find it."""
        batch, samples, channels = x.shape
        frames = samples and max(
            0, 1 + (samples - self._settings["win_length"]) // self._settings["hop_length"]
        )
        return keras.KerasTensor((batch, channels, frames, self._settings["n_fft"] // 2 + 1), "complex64")

    def get_config(self) -> dict[str, Any]:
        """Kapre's."""
        return {**super().get_config(), **self._settings}


class ApplyFilterbank(keras.layers.Layer):
    """Product with a mel filterbank.

    Attributes:
        filterbank: float32 [bins, mels].
    """

    def __init__(
        self, type: str, filterbank_kwargs: dict[str, Any], data_format: str = "channels_last", **kwargs: Any
    ) -> None:
        """Take Kapre's arguments; the only type is `mel`."""
        import librosa

        super().__init__(**kwargs)
        if type != "mel":
            raise ValueError(f"ApplyFilterbank('{type}'): only Kapre's own layer can do that; install kapre")
        self.type, self.filterbank_kwargs, self.data_format = type, filterbank_kwargs, data_format
        self.filterbank = librosa.filters.mel(
            sr=filterbank_kwargs["sample_rate"],
            n_fft=2 * (filterbank_kwargs["n_freq"] - 1),
            n_mels=filterbank_kwargs["n_mels"],
            fmin=filterbank_kwargs["f_min"],
            fmax=filterbank_kwargs["f_max"],
            htk=filterbank_kwargs["htk"],
            norm=filterbank_kwargs["norm"],
        ).T.astype(np.float32)

    def call(self, x: Any) -> Any:
        """float32 [batch, channels, frames, bins], or with the last three as in [frames, bins, channels]."""
        last = self.data_format == "channels_last"
        found = tf.tensordot(x, self.filterbank, axes=(2 if last else 3, 0))
        return tf.transpose(found, (0, 1, 3, 2)) if last else found

    def get_config(self) -> dict[str, Any]:
        """Kapre's."""
        return {
            **super().get_config(),
            "type": self.type,
            "filterbank_kwargs": self.filterbank_kwargs,
            "data_format": self.data_format,
        }


class MagnitudeToDecibel(keras.layers.Layer):
    """Decibels of power, the quietest of them some way below the loudest value of the example."""

    def __init__(self, ref_value: float, amin: float, dynamic_range: float, **kwargs: Any) -> None:
        """Take Kapre's arguments."""
        super().__init__(**kwargs)
        self.ref_value, self.amin, self.dynamic_range = ref_value, amin, dynamic_range

    def call(self, x: Any) -> Any:
        """float32 [batch, ...] -> the same shape."""
        floor = tf.constant(self.amin, x.dtype)
        decibels = 10.0 * _log10(tf.maximum(x, floor)) - 10.0 * _log10(tf.maximum(floor, self.ref_value))
        loudest = tf.reduce_max(decibels, axis=tuple(range(1, len(x.shape))), keepdims=True)
        return tf.maximum(decibels, loudest - self.dynamic_range)

    def compute_output_shape(self, input_shape: tuple[int | None, ...]) -> tuple[int | None, ...]:
        """The input's."""
        return input_shape

    def get_config(self) -> dict[str, Any]:
        """Kapre's."""
        return {
            **super().get_config(),
            "amin": self.amin,
            "dynamic_range": self.dynamic_range,
            "ref_value": self.ref_value,
        }


def _log10(x: Any) -> Any:
    return tf.math.log(x) / tf.math.log(tf.constant(10, x.dtype))


def register() -> None:
    """Make Keras take these layers for Kapre's in files."""
    for layer in (STFT, ApplyFilterbank, MagnitudeToDecibel):
        keras.saving.register_keras_serializable(package="Kapre")(layer)
