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


def _spectrum(values: NDArray[np.float32]) -> NDArray[np.complex64]:
    return np.asarray(np.fft.rfft(values, 2 * _FRAMES_MOST, axis=0), np.complex64)


def _shared_frames(first: int, second: int) -> NDArray[np.float32]:
    """How many frames two fingerprints share at each shift, in the order of a circular correlation."""
    ones = np.fft.rfft(np.ones(first), 2 * _FRAMES_MOST) * np.conj(
        np.fft.rfft(np.ones(second), 2 * _FRAMES_MOST)
    )
    return np.asarray(np.fft.irfft(ones, 2 * _FRAMES_MOST).round(), np.float32)


def best_correlation(first: NDArray[np.float32], second: NDArray[np.float32]) -> float:
    """The largest correlation of two fingerprints over all shifts that share 15 s; -1 where none does."""
    first, second = first[:_FRAMES_MOST], second[:_FRAMES_MOST]
    shared = _shared_frames(len(first), len(second))
    product = (_spectrum(first) * np.conj(_spectrum(second))).sum(axis=1)
    correlation = np.fft.irfft(product, 2 * _FRAMES_MOST) / _BANDS
    usable = shared >= _OVERLAP_FRAMES
    return float((correlation[usable] / shared[usable]).max()) if usable.any() else -1.0


def first_of_each(
    hashes: Sequence[str], fingerprints: Sequence[NDArray[np.float32]]
) -> list[tuple[int, float]]:
    """For each recording, the first in the order given that is the same.

    Returns:
        Its index (a recording's own where it is the first) and the correlation with it.
    """
    spectra = [_spectrum(values[:_FRAMES_MOST]) for values in fingerprints]
    answers: list[tuple[int, float]] = []
    shared_of: dict[tuple[int, int], NDArray[np.float32]] = {}
    for index, spectrum in enumerate(spectra):
        answer = (index, 1.0)
        for other in range(index):
            if answers[other][0] != other:
                continue
            if hashes[index] == hashes[other]:
                answer = (other, 1.0)
                break
            lengths = (
                min(len(fingerprints[index]), _FRAMES_MOST),
                min(len(fingerprints[other]), _FRAMES_MOST),
            )
            if lengths not in shared_of:
                shared_of[lengths] = _shared_frames(*lengths)
            usable = shared_of[lengths] >= _OVERLAP_FRAMES
            if not usable.any():
                continue
            product = np.einsum("fb,fb->f", spectrum, spectra[other].conj())
            correlation = (
                np.fft.irfft(product, 2 * _FRAMES_MOST)[usable] / shared_of[lengths][usable] / _BANDS
            )
            if correlation.max() >= SAME_FROM:
                answer = (other, float(correlation.max()))
                break
        answers.append(answer)
    return answers
