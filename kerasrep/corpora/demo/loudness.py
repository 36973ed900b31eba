"""Programme loudness after ITU-R BS.1770-4: K-weighting, blocks of 400 ms, two gates."""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from kerasrep.corpora.demo.score import FloatArray

_BLOCK_SECONDS = 0.4
_STEP_SECONDS = 0.1  # blocks overlap by three quarters
_OFFSET_LUFS = -0.691
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0


def loudness_lufs(audio: NDArray[np.float64], sample_rate_hz: int) -> float:
    """Integrated loudness.

    Args:
        audio: [channels, samples], full scale at 1; two channels at most, each of weight 1.
        sample_rate_hz: Of the audio; at least half a second is needed.

    Returns:
        Loudness in LUFS, minus infinity for silence.
    """
    weighted = signal.sosfilt(_k_weighting(sample_rate_hz), np.asarray(audio, np.float64), axis=-1)
    step = round(_STEP_SECONDS * sample_rate_hz)
    n_steps = weighted.shape[-1] // step
    energy = np.square(weighted[:, : n_steps * step]).reshape(len(weighted), n_steps, step).sum((0, 2)) / step
    overlap = round(_BLOCK_SECONDS / _STEP_SECONDS)
    blocks = np.convolve(energy, np.full(overlap, 1 / overlap), mode="valid")
    loud = blocks[_lufs(blocks) > _ABSOLUTE_GATE_LUFS]
    if not len(loud):
        return -np.inf
    gate = float(_lufs(np.array(loud.mean()))) + _RELATIVE_GATE_LU
    return float(_lufs(np.array(loud[_lufs(loud) > gate].mean())))


def _lufs(power: FloatArray) -> FloatArray:
    with np.errstate(divide="ignore"):
        return np.asarray(_OFFSET_LUFS + 10 * np.log10(power))


@lru_cache(maxsize=4)
def _k_weighting(sample_rate_hz: int) -> FloatArray:
    """Both stages as second-order sections [2, 6].

    The recommendation tabulates 48 kHz only; these are the analogue prototypes that reproduce its table,
    moved to any rate by the bilinear transform.
    """
    shelf_k = np.tan(np.pi * 1681.974450955533 / sample_rate_hz)
    shelf_q, gain = 0.7071752369554196, 10 ** (3.999843853973347 / 20)
    middle = gain**0.4996667741545416
    a0 = 1 + shelf_k / shelf_q + shelf_k**2
    shelf = [
        (gain + middle * shelf_k / shelf_q + shelf_k**2) / a0,
        2 * (shelf_k**2 - gain) / a0,
        (gain - middle * shelf_k / shelf_q + shelf_k**2) / a0,
        1.0,
        2 * (shelf_k**2 - 1) / a0,
        (1 - shelf_k / shelf_q + shelf_k**2) / a0,
    ]
    pass_k, pass_q = np.tan(np.pi * 38.13547087602444 / sample_rate_hz), 0.5003270373238773
    a0 = 1 + pass_k / pass_q + pass_k**2
    high_pass = [1.0, -2.0, 1.0, 1.0, 2 * (pass_k**2 - 1) / a0, (1 - pass_k / pass_q + pass_k**2) / a0]
    return np.array([shelf, high_pass])
