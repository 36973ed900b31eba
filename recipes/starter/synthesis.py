"""From notes to audio: several SoundFonts through symusic, drum hits through TinySoundFont, and a room."""

from __future__ import annotations

import random
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.signal import fftconvolve
from sound import SAMPLE_RATE_HZ, Samples
from soundfont import DRUM_BANK, SoundFont

Audio = NDArray[np.float32]
"""[samples, 2]."""

SILENT_BELOW = 1e-4
_DRUM_CHANNEL = 9


@lru_cache(maxsize=8)
def _synthesizer(font: str) -> Any:
    import symusic

    return symusic.Synthesizer(font, SAMPLE_RATE_HZ, 1)


@lru_cache(maxsize=8)
def read_font(font: str) -> SoundFont:
    """The bank's presets and samples, read once a process."""
    return SoundFont(Path(font))


def drum_kits(font: str) -> list[int]:
    """Programs of the drum kits of a bank."""
    return [program for bank, program in read_font(font).presets if bank == DRUM_BANK]


def play(score: Any, font: str, length: int) -> Audio:
    """Renders a score in seconds, cut or filled with silence to a length in samples."""
    rendered = np.asarray(_synthesizer(font).render(score, stereo=True), np.float32)
    audio = np.zeros((length, 2), np.float32)
    rendered = rendered.T[:length]
    audio[: len(rendered)] = rendered
    return audio


@lru_cache(maxsize=8)
def _hit_synthesizer(font: str) -> tuple[Any, int]:
    import tinysoundfont

    synthesizer = tinysoundfont.Synth(samplerate=SAMPLE_RATE_HZ)
    return synthesizer, synthesizer.sfload(font)


def play_hit(font: str, kit: int, key: int, velocity: int, length: int) -> Audio:
    """One hit of a drum kit.

    symusic 0.5.8 leaves many keys of these banks silent (hi-hats, toms) or ends them after 13 ms.
    """
    synthesizer, number = _hit_synthesizer(font)
    synthesizer.sounds_off()
    synthesizer.generate(SAMPLE_RATE_HZ)
    synthesizer.program_select(_DRUM_CHANNEL, number, DRUM_BANK, kit, True)
    synthesizer.noteon(_DRUM_CHANNEL, key, velocity)
    return np.frombuffer(bytes(synthesizer.generate(length)), np.float32).reshape(-1, 2)


def play_with_fonts(score: Any, fonts: list[str], length: int, draw: random.Random) -> Audio:
    """Renders each track with one of the fonts."""
    font_of = [draw.choice(fonts) for _ in score.tracks]
    audio = np.zeros((length, 2), np.float32)
    for font in dict.fromkeys(font_of):
        part = score.copy()
        kits = drum_kits(font) or [0]
        tracks = [
            track for track, own in zip(part.tracks, font_of, strict=True) if own == font and len(track.notes)
        ]
        for track in tracks:
            if track.is_drum:
                track.program = draw.choice(kits)
        part.tracks = tracks
        if tracks:
            audio += play(part, font, length)
    return audio


def in_a_room(audio: Audio, draw: random.Random) -> Audio:
    """Adds reverberation: noise that decays within 0.3 to 2.5 s, darker the longer it lasts."""
    decay_seconds, share = draw.uniform(0.3, 2.5), draw.uniform(0.05, 0.35)
    noise = np.random.default_rng(draw.randrange(2**32))
    count = int(decay_seconds * SAMPLE_RATE_HZ)
    envelope = np.exp(-6.9 * np.arange(count) / count)[:, None]
    response = noise.standard_normal((count, 2), np.float32) * envelope
    response[1:] = 0.5 * (response[1:] + response[:-1])
    response /= np.sqrt((response**2).sum(axis=0))
    wet = fftconvolve(audio, response.astype(np.float32), axes=0)[: len(audio)]
    gain = np.sqrt((audio**2).mean() / max((wet**2).mean(), 1e-12))
    return np.asarray((1 - share) * audio + share * gain * wet, np.float32)


def as_int16(audio: Audio, peak: float) -> Samples:
    """Scaled to a peak.

    Raises:
        RuntimeError: There is nothing to hear.
    """
    loudest = float(np.abs(audio).max())
    if loudest < SILENT_BELOW:
        raise RuntimeError("silent")
    return np.asarray(np.round(audio * (peak / loudest * 32_767)), np.int16)
