"""Mel-frequency cepstral coefficients with deltas, the classic of music retrieval.

20 coefficients of librosa's defaults (22,050 Hz mono, frames of 2048 samples every 512, 128 mel bands, 80 dB
below the loudest), their first and second deltas over 9 frames, and of these 60 series mean and standard
deviation: the MFCC baseline of Choi, Fazekas, Sandler, Cho (2017), arXiv 1703.09179, section 4.2.
"""

from __future__ import annotations

import importlib
from collections.abc import Iterable, Iterator
from importlib import metadata

import numpy as np
from numpy.typing import NDArray

from kerasrep import constants
from kerasrep.embedding.baselines.mel import MelGeometry, mel_frames
from kerasrep.embedding.recordings import RecordingRepresentation
from kerasrep.embedding.segments import SegmentStatistics
from kerasrep.recipe.schema import fingerprint

#: Raised whenever the code gives other values for the same audio.
VERSION = 1
N_COEFFICIENTS = 20
DELTA_FRAMES = 9
GEOMETRY = MelGeometry(constants.SAMPLE_RATE_HZ, fft_samples=2048, hop_samples=512, n_mels=128)
#: Longer recordings are taken in parts of this length: within a part the decibels are cut 80 below its own
#: loudest value and deltas do not look across its ends. Statistics are over all frames alike.
PART_SECONDS = 600
PART_FRAMES = PART_SECONDS * GEOMETRY.sample_rate_hz // GEOMETRY.hop_samples


class Mfcc(RecordingRepresentation):
    """60 means, then 60 standard deviations: coefficients, first deltas, second deltas."""

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
