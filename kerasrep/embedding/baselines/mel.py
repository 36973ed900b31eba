"""Mel spectra of recordings of any length, with librosa's numbers and bounded memory."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

#: Frames transformed at once.
BATCH_FRAMES = 1024


@dataclass(frozen=True)
class MelGeometry:
    """Arguments of `librosa.feature.melspectrogram`.

    Attributes:
        sample_rate_hz: Of the recording.
        fft_samples: Length of a frame; frames are centred.
        hop_samples: From one frame to the next.
        n_mels: Slaney mel bands of power, from 0 Hz to half the rate.
        padding: What stands before the first and after the last sample: zeros, or the mirrored recording.
    """

    sample_rate_hz: int
    fft_samples: int
    hop_samples: int
    n_mels: int
    padding: Literal["constant", "reflect"] = "constant"


def mel_frames(blocks: Iterable[NDArray[np.float32]], geometry: MelGeometry) -> Iterator[NDArray[np.float32]]:
    """Mel spectra of one recording, mixed to mono.

    All frames together are `librosa.feature.melspectrogram` of the whole recording, transposed.

    Args:
        blocks: float32 [samples, 2] at the geometry's rate, of any lengths. A recording without samples
            is one silent sample.
        geometry: Rates and sizes.

    Yields:
        float32 [frames, mels], at least one frame in all.
    """
    import librosa

    fft_samples = geometry.fft_samples
    basis = librosa.filters.mel(sr=geometry.sample_rate_hz, n_fft=fft_samples, n_mels=geometry.n_mels)
    for samples in _frame_batches(blocks, geometry):
        spectrum = librosa.stft(samples, n_fft=fft_samples, hop_length=geometry.hop_samples, center=False)
        yield np.ascontiguousarray((basis @ np.square(np.abs(spectrum))).T)


def _frame_batches(
    blocks: Iterable[NDArray[np.float32]], geometry: MelGeometry
) -> Iterator[NDArray[np.float32]]:
    """Cut the padded mono recording so that the frames within the pieces are all its frames, each once."""
    half, hop, fft = geometry.fft_samples // 2, geometry.hop_samples, geometry.fft_samples
    step = BATCH_FRAMES * hop
    held: list[NDArray[np.float32]] = []
    n_held, begun = 0, False
    for block in blocks:
        held.append(block.mean(axis=1))
        n_held += len(block)
        # One frame more than is cut stays behind, because its end may have to be mirrored.
        while n_held >= step + 2 * fft:
            samples = np.concatenate(held)
            if not begun:
                samples, begun = np.pad(samples, (half, 0), mode=geometry.padding), True
            yield samples[: step - hop + fft]
            held = [samples[step:]]
            n_held = len(held[0])
    samples = np.concatenate(held) if n_held else np.zeros(1, np.float32)
    yield np.pad(samples, (0 if begun else half, half), mode=geometry.padding)
