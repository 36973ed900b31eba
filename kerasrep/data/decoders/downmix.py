"""More than two channels become stereo by where their loudspeakers stand, as ITU-R BS.775 has it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

_HALF_POWER = float(np.sqrt(0.5))
#: A mono mix with less than this part of the power of its two sides has cancelled.
_CANCELLED = 0.01
#: ffmpeg's names of channels -> gain on the left and on the right; low-frequency effects are left out.
_GAINS = {
    "FL": (1.0, 0.0),
    "FR": (0.0, 1.0),
    "FLC": (1.0, 0.0),
    "FRC": (0.0, 1.0),
    "FC": (_HALF_POWER, _HALF_POWER),
    "BC": (0.5, 0.5),
    "BL": (_HALF_POWER, 0.0),
    "SL": (_HALF_POWER, 0.0),
    "BR": (0.0, _HALF_POWER),
    "SR": (0.0, _HALF_POWER),
    "LFE": (0.0, 0.0),
    "LFE2": (0.0, 0.0),
}


def in_phase(
    blocks: Iterable[NDArray[np.float32]], window_samples: int, told: Callable[[], object]
) -> Iterator[NDArray[np.float32]]:
    """Turn the right side over where it is the left one's opposite, so that their mean is not silence.

    Args:
        blocks: float32 [samples, 2] of one recording.
        window_samples: What is judged at once, from the recording's beginning.
        told: Called where that happens.

    Yields:
        float32 [samples, 2], of `window_samples` and the rest.
    """
    held: list[NDArray[np.float32]] = []
    n_held = 0
    for block in blocks:
        held.append(block)
        n_held += len(block)
        if n_held < window_samples:
            continue
        joined = np.concatenate(held)
        n_whole = n_held - n_held % window_samples
        for start in range(0, n_whole, window_samples):
            yield _turned(joined[start : start + window_samples], told)
        held, n_held = [joined[n_whole:]], n_held - n_whole
    yield _turned(np.concatenate(held) if held else np.zeros((0, 2), np.float32), told)


def _turned(window: NDArray[np.float32], told: Callable[[], object]) -> NDArray[np.float32]:
    left, right = window[:, 0].astype(np.float64), window[:, 1].astype(np.float64)
    power = left @ left + right @ right
    if 2 * np.square((left + right) / 2).sum() >= _CANCELLED * power:
        return window
    told()
    return window * np.array([1, -1], np.float32)


def is_known(names: Sequence[str]) -> bool:
    """Whether each channel's place is one that the recommendation has."""
    return len(set(names)) == len(names) and set(names) <= set(_GAINS)


def to_stereo(block: NDArray[np.float32], names: Sequence[str]) -> NDArray[np.float32]:
    """Mix three and more channels.

    Args:
        block: [frames, channels].
        names: Of the channels. Where their places are not known, each goes to both sides with a power of one
            over their number.

    Returns:
        float32 [frames, 2].
    """
    if len(names) == block.shape[1] and is_known(names):
        gains = [_GAINS[name] for name in names]
    else:
        gains = [(block.shape[1] ** -0.5,) * 2] * block.shape[1]
    mixed = np.zeros((len(block), 2), np.float32)
    for channel, gain in enumerate(gains):  # a matrix product rounds by the length of the block
        mixed += block[:, channel : channel + 1] * np.array(gain, np.float32)
    return mixed
