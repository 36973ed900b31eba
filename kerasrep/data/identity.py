"""What a recording is known by, whatever its name: a digest, and a print that other encodings share.

The digest tells recordings that decode to the same samples. The print is after Haitsma and Kalker (2002):
every quarter of a second of the first five minutes, one bit a band says whether the step in energy to the
next band has grown over half a second. Level, lossy codecs, equalisers and band limits change few of these
bits, and another recording has each as likely as not. Time that is cut off at the beginning, or put before
it, moves them.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

#: Raised whenever a recording gives another identity than before.
IDENTITY_VERSION = 2
#: Of the SHA-256. Among a million recordings two share one by chance once in 40 million such catalogues.
DIGEST_BYTES = 8
#: How much of a recording its print is about.
PRINT_SECONDS = 300.0
N_BANDS = 16
LOWEST_HZ, HIGHEST_HZ = 150.0, 5_000.0
#: Shorter prints tell too little: such recordings are known by their digest alone. 6.3 s.
LEAST_WORDS = 20
_FRAME_SECONDS, _HOP_SECONDS = 0.25, 0.125
#: Weights of frames: energies are those of about a second, so that a print bears being late by half a word.
_SMOOTHING = np.hanning(9)[1:-1] / np.hanning(9).sum()
_FRAMES_A_WORD = 2
#: Whose spectra are in memory at once.
_FRAMES_AT_ONCE = 64
#: Words between which energies are compared: half a second.
_LAG_WORDS = 2
#: Added to the energy of a band: what is as quiet as the noise of 16 bits counts as silence.
_FLOOR = 5e-5
#: Changes of log energy below this are none.
_LEAST_CHANGE = 1e-3


@dataclass(frozen=True)
class Identity:
    """What one recording is known by.

    Attributes:
        digest: The first bytes of the SHA-256 of its samples.
        words: uint16 [words], one bit a band; empty for short recordings.
    """

    digest: bytes
    words: NDArray[np.uint16]

    def to_bytes(self) -> bytes:
        """As it is kept."""
        return self.digest + self.words.astype("<u2").tobytes()

    @classmethod
    def from_bytes(cls, content: bytes) -> Identity:
        """What `to_bytes` gave.

        Raises:
            ValueError: Where it cannot have been that.
        """
        if len(content) < DIGEST_BYTES:
            raise ValueError("an identity has 8 bytes or more")
        return cls(content[:DIGEST_BYTES], np.frombuffer(content[DIGEST_BYTES:], "<u2").astype(np.uint16))


def identity_of(blocks: Iterable[NDArray[np.int16]], sample_rate_hz: int) -> Identity:
    """What a recording is known by; of long ones no more than the beginning is kept.

    Args:
        blocks: int16 [samples, channels], full scale 32,768, one behind the other.
        sample_rate_hz: Of `blocks`. Digests of other rates differ; prints do not, above 10,000 Hz.
    """
    digest, beginning, missing = hashlib.sha256(), [], round(PRINT_SECONDS * sample_rate_hz)
    for block in blocks:
        digest.update(np.ascontiguousarray(block, "<i2").data)
        if missing > 0 and len(block):
            beginning.append(block[:missing])
            missing -= len(block)
    first = digest.digest()[:DIGEST_BYTES]
    if not beginning:
        return Identity(first, np.zeros(0, np.uint16))
    return Identity(first, _words(np.concatenate(beginning), sample_rate_hz, first))


def _words(samples: NDArray[np.int16], sample_rate_hz: int, digest: bytes) -> NDArray[np.uint16]:
    energy = _energy(samples, sample_rate_hz)
    if len(energy) < len(_SMOOTHING):
        return np.zeros(0, np.uint16)
    smooth = np.stack([np.convolve(band, _SMOOTHING, "valid") for band in energy.T], axis=1)
    steps = np.diff(np.log(smooth[::_FRAMES_A_WORD] + _FLOOR), axis=1)
    change = steps[_LAG_WORDS:] - steps[:-_LAG_WORDS]
    if len(change) < LEAST_WORDS:
        return np.zeros(0, np.uint16)
    # Where nothing changes, bits are drawn: all silent recordings, or all without treble, shall not be alike.
    drawn = np.random.default_rng(np.frombuffer(digest, np.uint8)).random(change.shape) < 0.5
    bits = np.where(np.abs(change) < _LEAST_CHANGE, drawn, change > 0)
    return np.packbits(bits, axis=1).view(">u2")[:, 0].astype(np.uint16)


def _energy(samples: NDArray[np.int16], sample_rate_hz: int) -> NDArray[np.float32]:
    """Float32 [frames, N_BANDS + 1]; none in bands that the rate does not have."""
    from scipy.fft import rfft

    frame, hop = round(_FRAME_SECONDS * sample_rate_hz), round(_HOP_SECONDS * sample_rate_hz)
    if len(samples) < frame:
        return np.zeros((0, N_BANDS + 1), np.float32)
    edges = np.round(np.geomspace(LOWEST_HZ, HIGHEST_HZ, N_BANDS + 2) * frame / sample_rate_hz).astype(int)
    window = np.hanning(frame).astype(np.float32) / 2**15
    energy = np.zeros((1 + (len(samples) - frame) // hop, N_BANDS + 1), np.float32)
    for channel in samples.T:
        whole = np.lib.stride_tricks.sliding_window_view(channel.astype(np.float32), frame)[::hop]
        for start in range(0, len(whole), _FRAMES_AT_ONCE):
            frames = whole[start : start + _FRAMES_AT_ONCE]
            spectrum = rfft(frames * window, axis=1)
            power = np.zeros((len(frames), edges[-1]), np.float32)
            have = min(edges[-1], spectrum.shape[1])
            power[:, :have] = spectrum.real[:, :have] ** 2 + spectrum.imag[:, :have] ** 2
            energy[start : start + len(frames)] += np.add.reduceat(power, edges[:-1], axis=1)
    return energy
