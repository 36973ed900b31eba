"""Mel spectra of recordings of any length, with librosa's numbers and bounded memory, and their MFCC."""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import metadata
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.embedding.recordings import RecordingRepresentation
from kerasrep.embedding.segments import SegmentStatistics
from kerasrep.recipe.schema import fingerprint

#: Frames transformed at once.
BATCH_FRAMES = 1024
#: Raised whenever the code gives other values for the same audio.
VERSION = 1
N_COEFFICIENTS = 20
DELTA_FRAMES = 9
#: Longer recordings are taken in parts of this length: within a part the decibels are cut 80 below its own
#: loudest value and deltas do not look across its ends. Statistics are over all frames alike.
PART_SECONDS = 600


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


GEOMETRY = MelGeometry(constants.SAMPLE_RATE_HZ, fft_samples=2048, hop_samples=512, n_mels=128)
PART_FRAMES = PART_SECONDS * GEOMETRY.sample_rate_hz // GEOMETRY.hop_samples


class Mfcc(RecordingRepresentation):
    """Mel-frequency cepstral coefficients with deltas, the classic of music retrieval.

    20 coefficients of librosa's defaults (22,050 Hz mono, frames of 2048 samples every 512, 128 mel bands,
    80 dB below the loudest), their first and second deltas over 9 frames, and of these 60 series mean and
    standard deviation: the MFCC baseline of Choi, Fazekas, Sandler, Cho (2017), arXiv 1703.09179, section
    4.2.
    """

    name = "mfcc"
    sample_rate_hz = GEOMETRY.sample_rate_hz
    dimension = 2 * 3 * N_COEFFICIENTS

    @property
    def fingerprint(self) -> str:
        """Digest of this code and of librosa's version."""
        return fingerprint(["mfcc", VERSION, metadata.version("librosa")])

    def embed_blocks(self, blocks: Iterable[NDArray[np.float32]]) -> NDArray[np.float32]:
        """float32 [samples, 2] blocks -> float32 [120]."""
        statistics = SegmentStatistics(self.dimension // 2)
        for part in _parts(mel_frames(blocks, GEOMETRY), PART_FRAMES):
            statistics.add(_coefficients(part))
        return statistics.result()

    def prepare(self) -> None:
        """Import librosa."""
        importlib.import_module("librosa.feature")  # librosa loads its modules when they are first named


def _coefficients(mel: NDArray[np.float32]) -> NDArray[np.float32]:
    """Power [frames, mels] -> coefficients and both deltas, float32 [frames, 60]."""
    import librosa

    mfcc = librosa.feature.mfcc(S=librosa.power_to_db(mel.T), n_mfcc=N_COEFFICIENTS)
    # The mode for which any number of frames will do.
    deltas = [librosa.feature.delta(mfcc, width=DELTA_FRAMES, order=o, mode="nearest") for o in (1, 2)]
    series: NDArray[np.float32] = np.concatenate([mfcc, *deltas]).T.astype(np.float32)
    return series


def _parts(frames: Iterator[NDArray[np.float32]], size: int) -> Iterator[NDArray[np.float32]]:
    """Join batches of frames to parts of `size` frames; the last one may have fewer."""
    held: list[NDArray[np.float32]] = []
    n_held = 0
    for batch in frames:
        taken = 0
        while n_held + len(batch) - taken > size:
            cut = taken + size - n_held
            yield np.concatenate([*held, batch[taken:cut]])
            held, n_held, taken = [], 0, cut
        held.append(batch[taken:])
        n_held += len(batch) - taken
    yield np.concatenate(held)
