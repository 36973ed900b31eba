"""One take, from its source to a WAV file and its record in the manifest. Runs in worker processes."""

from __future__ import annotations

import hashlib
import wave
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kerasrep.constants import N_CHANNELS, SAMPLE_RATE_HZ
from kerasrep.corpora.demo import abc_notation, dances, draws, rendering, staff_notation
from kerasrep.corpora.demo.arrangement import Arrangement, arrange
from kerasrep.corpora.demo.catalogue import BY_NAME, Attribution, attribute
from kerasrep.corpora.demo.labels import catalogue_terms, tags_of
from kerasrep.corpora.demo.pieces import read_text
from kerasrep.corpora.demo.score import KEY_NAMES, Score, UnreadableScoreError
from kerasrep.corpora.demo.selection import Take


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
        audio = rendering.render(arrangement, studio.seconds, studio.sound_font)
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
    return hashlib.sha256(path.read_bytes()).hexdigest()


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
