"""Which files are the same recording, whatever their names and encodings."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

import numpy as np
import soxr
from numpy.typing import NDArray
from sound import SAMPLE_RATE_HZ, Samples

_RATE_HZ = 6_000
_FRAME_SAMPLES = 1_500
"""A frame is 0.25 s."""
_BANDS = 24
_FRAMES_MOST = 600
_OVERLAP_FRAMES = 60
"""Two recordings must share 15 s."""

_CLIP = 2.5
"""Deviations: breaks and blows alone must not make two recordings alike."""

SAME_FROM = 0.8
"""Correlation from which two recordings count as one."""


def audio_hash(samples: Samples) -> str:
    """SHA-256 of decoded audio."""
    return hashlib.sha256(np.ascontiguousarray(samples).tobytes()).hexdigest()


def fingerprint(samples: Samples) -> NDArray[np.float32]:
    """Log energy in bands every 0.25 s of at most 150 s, against its own course over 4 s.

    Independent of level and of slow equalisation.

    Returns:
        [frames, bands], of mean 0 and deviation 1 in each band.
    """
    seconds = _FRAMES_MOST * _FRAME_SAMPLES / _RATE_HZ
    mono = samples[: int(seconds * SAMPLE_RATE_HZ)].mean(axis=1) / 32_768
    slow = soxr.resample(mono.astype(np.float32), SAMPLE_RATE_HZ, _RATE_HZ)
    frames = slow[: len(slow) // _FRAME_SAMPLES * _FRAME_SAMPLES].reshape(-1, _FRAME_SAMPLES)
    power = np.abs(np.fft.rfft(frames * np.hanning(_FRAME_SAMPLES), axis=1)) ** 2
    edges = np.geomspace(20, power.shape[1], _BANDS + 1).astype(int)
    energy = np.add.reduceat(power, edges[:-1], axis=1)
    level = np.log(energy + 1e-6 * energy.mean() + 1e-12)
    padded = np.pad(level, ((8, 8), (0, 0)), mode="edge")
    sums = np.cumsum(np.pad(padded, ((1, 0), (0, 0))), axis=0)
    level = level - (sums[17:] - sums[:-17]) / 17
    return np.asarray((level - level.mean(0)) / (level.std(0) + 1e-6), np.float32)


class _Print:
    """A fingerprint prepared for comparison: outliers clipped, spectra of values, energies and presence."""

    def __init__(self, values: NDArray[np.float32]) -> None:
        clipped = np.clip(values[:_FRAMES_MOST], -_CLIP, _CLIP)
        self.values = self._spectrum(clipped)
        self.energy = self._spectrum((clipped**2).sum(axis=1))
        self.presence = self._spectrum(np.ones(len(clipped), np.float32))

    @staticmethod
    def _spectrum(values: NDArray[np.float32]) -> NDArray[np.complex64]:
        return np.asarray(np.fft.rfft(values, 2 * _FRAMES_MOST, axis=0), np.complex64)


def _at_all_shifts(first: NDArray[np.complex64], second: NDArray[np.complex64]) -> NDArray[np.float64]:
    return np.asarray(np.fft.irfft(first * second.conj(), 2 * _FRAMES_MOST), np.float64)


def _best(first: _Print, second: _Print) -> float:
    """The largest correlation over all shifts that share 15 s, normalised over what they share."""
    shared = _at_all_shifts(first.presence, second.presence)
    usable = shared > _OVERLAP_FRAMES - 0.5
    if not usable.any():
        return -1.0
    product = np.fft.irfft((first.values * second.values.conj()).sum(axis=1), 2 * _FRAMES_MOST)[usable]
    energy = _at_all_shifts(first.energy, second.presence) * _at_all_shifts(first.presence, second.energy)
    return float((product / np.sqrt(np.maximum(energy[usable], 1.0))).max())


def best_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The largest correlation of two fingerprints over all shifts that share 15 s; -1 where none does."""
    return _best(_Print(first), _Print(second))


def first_of_each(
    hashes: Sequence[str], fingerprints: Sequence[NDArray[np.float32]]
) -> list[tuple[int, float]]:
    """For each recording, the first in the order given that is the same.

    Returns:
        Its index (a recording's own where it is the first) and the correlation with it.
    """
    prints = [_Print(values) for values in fingerprints]
    answers: list[tuple[int, float]] = []
    for index, own in enumerate(prints):
        answer = (index, 1.0)
        for other in (other for other in range(index) if answers[other][0] == other):
            correlation = 1.0 if hashes[index] == hashes[other] else _best(own, prints[other])
            if correlation >= SAME_FROM:
                answer = (other, correlation)
                break
        answers.append(answer)
    return answers
