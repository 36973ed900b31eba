"""One take, from its source to a WAV file and its record in the manifest. Runs in worker processes.

Samples of 16 bits come from an arrangement: one synthesizer a voice, mixed, panned, brought to one loudness.
"""

from __future__ import annotations

import wave
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import signal

from kerasrep.constants import N_CHANNELS, SAMPLE_RATE_HZ
from kerasrep.corpora.demo import abc_notation, dances, draws, staff_notation
from kerasrep.corpora.demo.arrangement import DRUMS, Arrangement, Voice, arrange
from kerasrep.corpora.demo.catalogue import BY_NAME, Attribution, attribute
from kerasrep.corpora.demo.labels import catalogue_terms, tags_of
from kerasrep.corpora.demo.pieces import read_text
from kerasrep.corpora.demo.score import KEY_NAMES, FloatArray, Score, UnreadableScoreError
from kerasrep.corpora.demo.selection import Take
from kerasrep.storage.regular_file import sha256_of

LOUDNESS_LUFS = -23.0  # as broadcasters do (EBU R 128): headroom enough for plucked strings
PEAK = 10 ** (-1 / 20)  # one decibel below full scale
_FADE_SECONDS = 0.03
_TICKS_PER_QUARTER = 480
_TICKS_PER_SECOND = 960  # at 120 beats a minute
_FULL_SCALE = 32767
_SILENCE = 1e-5
_LEVEL_STRIDE = 4  # a voice's level is measured on every fourth sample
_BLOCK_SECONDS = 0.4
_STEP_SECONDS = 0.1  # blocks overlap by three quarters
_OFFSET_LUFS = -0.691
_ABSOLUTE_GATE_LUFS = -70.0
_RELATIVE_GATE_LU = -10.0


@dataclass(frozen=True)
class Studio:
    """What all takes of a corpus share.

    Attributes:
        scores: Folder of the scores.
        sound_font: SoundFont file.
        audio: Folder that the WAV files go to.
        seconds: Length of a track.
        seed: Of all draws.
    """

    scores: Path
    sound_font: Path
    audio: Path
    seconds: float
    seed: int


@dataclass(frozen=True)
class Outcome:
    """How a take went.

    Attributes:
        take: Which.
        record: Its entry in the manifest; `None` where it failed.
        reason: Why it failed.
        warnings: Lines that the notation's reader wrote.
    """

    take: Take
    record: Mapping[str, Any] | None
    reason: str = ""
    warnings: int = 0


def record(take: Take, studio: Studio) -> Outcome:
    """Read, arrange, render and write one take.

    Raises:
        OSError: The WAV file cannot be written.
    """
    try:
        score, attribution, dance, warnings = _read(take, studio.scores)
        rng = draws.generator(studio.seed, "arrangement", take.track_id)
        arrangement = arrange(score, dance, attribution.artist, studio.seconds, rng)
        if not arrangement.programs:
            raise UnreadableScoreError("nothing sounds in the excerpt")
        audio = render(arrangement, studio.seconds, studio.sound_font)
    except UnreadableScoreError as error:
        return Outcome(take, None, str(error))
    except OSError as error:
        return Outcome(take, None, f"cannot be read ({error.strerror})")
    name = f"{take.track_id}.wav"
    checksum = write_wav(studio.audio / name, audio)
    described = _describe(take, score, attribution, dance, arrangement)
    return Outcome(take, {**described, "audio": f"audio/{name}", "sha256": checksum}, "", warnings)


def write_wav(path: Path, audio: NDArray[np.int16]) -> str:
    """Write 16-bit WAV.

    Args:
        path: New file.
        audio: int16 [samples, 2].

    Returns:
        SHA-256 of the file.
    """
    with wave.open(str(path), "wb") as file:
        file.setnchannels(N_CHANNELS)
        file.setsampwidth(audio.dtype.itemsize)
        file.setframerate(SAMPLE_RATE_HZ)
        file.writeframes(audio.astype("<i2").tobytes())
    return sha256_of(path)


@lru_cache(maxsize=4)
def _tunes(path: Path) -> list[abc_notation.AbcTune]:
    return abc_notation.split_tunes(read_text(path))


def _read(take: Take, folder: Path) -> tuple[Score, Attribution, str, int]:
    """Score, attribution, dance type, and the reader's warnings."""
    piece = take.piece
    collection = BY_NAME[piece.collection]
    path = folder / piece.source
    if collection.reader == "music21":
        return staff_notation.read_staff_file(path), attribute(collection, piece.source), "", 0
    tunes = _tunes(path)
    if collection.reader == "abc-parts":
        score, warnings = abc_notation.read_parts(tunes)
        return score, attribute(collection, piece.source), "", warnings
    tune = tunes[piece.tune]
    number = "".join(digit for digit in tune.first("X") if digit.isdigit())
    dance = dances.dance_type(tune.first("R"), piece.title, piece.collection, int(number or 0))
    header = " ".join(value for key in "CN" for value in tune.fields.get(key, []))
    score, warnings = abc_notation.read_tune(tune)
    return score, attribute(collection, piece.source, header), dance, warnings


def _describe(
    take: Take, score: Score, attribution: Attribution, dance: str, arrangement: Arrangement
) -> dict[str, Any]:
    """The record in the manifest, plays, file and checksum excepted."""
    collection = BY_NAME[take.piece.collection]
    lead = arrangement.voices[0]
    described: dict[str, Any] = {
        "track_id": take.track_id,
        "source": take.piece.source,
        "tune": take.piece.tune,
        "title": take.piece.title,
        "artist": attribution.artist,
        "collection": collection.name,
        "licence": collection.licence,
        "split": take.split,
        "group": take.group,
        "year": attribution.year,
        "region": attribution.region,
        "form": dance or attribution.form,
        "dance": dance,
        "metre": str(score.metre),
        "mode": score.mode,
        "key": KEY_NAMES[(score.tonic + arrangement.transposition) % 12],
        "bpm": arrangement.bpm,
        "transposition": arrangement.transposition,
        "excerpt_quarters": arrangement.excerpt_quarters,
        "ensemble": arrangement.ensemble,
        "programs": list(arrangement.programs),
        "families": list(arrangement.families),
        "n_voices": len(arrangement.voices),
        "percussion": arrangement.percussion,
        "median_pitch": float(np.median(lead.pitches)),
        "words": dict(score.words),
    }
    described["tags"] = tags_of(described)
    described["catalogue"] = catalogue_terms(described, collection.styles)
    return described


def render(arrangement: Arrangement, seconds: float, sound_font: Path) -> NDArray[np.int16]:
    """Render a performance.

    Args:
        arrangement: What is played.
        seconds: Length.
        sound_font: SoundFont 2 file.

    Returns:
        int16 [samples, 2] at `SAMPLE_RATE_HZ`.

    Raises:
        UnreadableScoreError: Nothing is heard.
    """
    n_samples = round(seconds * SAMPLE_RATE_HZ)
    mix = np.zeros((N_CHANNELS, n_samples), np.float32)
    for voice in arrangement.voices:
        sound = _sound(voice, n_samples, sound_font)
        if not np.isfinite(sound).all():
            raise UnreadableScoreError("the synthesizer gives no finite samples")
        power = np.square(sound[:, ::_LEVEL_STRIDE]).mean(axis=0)
        active = power[power > _SILENCE**2]
        if len(active) < SAMPLE_RATE_HZ // (10 * _LEVEL_STRIDE):
            continue  # the instrument has no sound there
        mix += sound * (_pan_gains(voice.pan) * np.float32(voice.level / np.sqrt(active.mean())))
    fade = round(_FADE_SECONDS * SAMPLE_RATE_HZ)
    mix[:, -fade:] *= np.linspace(1, 0, fade, dtype=np.float32)
    measured = loudness_lufs(mix.astype(np.float64), SAMPLE_RATE_HZ)
    if not np.isfinite(measured):
        raise UnreadableScoreError("sounds like silence")
    gain = min(10 ** ((LOUDNESS_LUFS - measured) / 20), PEAK / np.abs(mix).max())
    samples: NDArray[np.int16] = np.rint(mix.T * (gain * _FULL_SCALE)).astype(np.int16)
    return samples


def _sound(voice: Voice, n_samples: int, sound_font: Path) -> NDArray[np.float32]:
    """One voice alone, [2, n_samples].

    A synthesizer that has played before adds the tails of its last notes; so each voice has a fresh one.
    Voices are rendered apart because symusic's renderer ignores pan and volume controllers.
    """
    from symusic import Note, Score, Synthesizer, Tempo, Track

    score = Score(_TICKS_PER_QUARTER)
    score.tempos.append(Tempo(0, 120))
    track = Track("", max(voice.program, 0), voice.program == DRUMS)
    starts = np.rint(voice.starts_seconds * _TICKS_PER_SECOND).astype(np.int32)
    lengths = np.maximum(np.rint(voice.durations_seconds * _TICKS_PER_SECOND), 1).astype(np.int32)
    track.notes = Note.from_numpy(
        starts, lengths, voice.pitches.astype(np.int8), voice.velocities.astype(np.int8), "tick"
    )
    score.tracks.append(track)
    rendered = Synthesizer(str(sound_font), SAMPLE_RATE_HZ).render(score, stereo=True)
    sound = np.zeros((N_CHANNELS, n_samples), np.float32)
    heard = min(n_samples, rendered.shape[1])
    sound[:, :heard] = rendered[:, :heard]
    return sound


def _pan_gains(pan: float) -> NDArray[np.float32]:
    """Balance by constant power, [2, 1]: the middle leaves both channels as they are."""
    angle = (pan + 1) * np.pi / 4
    return np.array([[np.sqrt(2) * np.cos(angle)], [np.sqrt(2) * np.sin(angle)]], np.float32)


def loudness_lufs(audio: NDArray[np.float64], sample_rate_hz: int) -> float:
    """Integrated loudness after ITU-R BS.1770-4: K-weighting, blocks of 400 ms, two gates.

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
