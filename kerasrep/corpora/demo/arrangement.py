"""What is chosen at rendering: instruments, accompaniment, tempo, key, register and places on the stage.

Accompaniment for single melodies is drones, bass and chords, and a drum that beats the time.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from kerasrep.corpora.demo import dances
from kerasrep.corpora.demo.draws import digest
from kerasrep.corpora.demo.instruments import BY_PROGRAM, FAMILIES, INSTRUMENTS, Instrument, misfit, of_family
from kerasrep.corpora.demo.score import SCALES, FloatArray, Part, Score

BPM_RANGE = (55.0, 205.0)
DRUMS = -1  # stands for the percussion channel where a program is asked for

_LEAST_NOTE_SECONDS = 0.085  # of the 10th percentile: faster is no longer played by people
_MOST_NOTE_SECONDS = 1.3  # of the median: slower no longer shows its tempo
_HOUSE_SOUND = 0.5  # chance that a track takes its artist's favourite family
_LEAST_AUDIBLE_SECONDS = 0.05
_BASS_FROM = 36  # C2
_CHORDS_FROM = 52  # E3
_DEGREES = {"major": (0, 3, 4, 5, 1), "mixolydian": (0, 6, 3, 4), "lydian": (0, 1, 4)}
_MINOR_DEGREES = (0, 6, 3, 2, 5, 4)
_KICK, _SIDE_STICK, _CLOSED_HAT = 36, 37, 42  # General MIDI percussion keys


@dataclass(frozen=True)
class Voice:
    """Notes of one instrument, in seconds.

    Attributes:
        program: General MIDI program, or `DRUMS`.
        starts_seconds: [notes], ascending, from the beginning of the track.
        durations_seconds: [notes].
        pitches: int64 [notes], MIDI note numbers.
        velocities: int64 [notes], 1 to 127.
        level: Loudness relative to the leading voice.
        pan: -1 left to 1 right.
    """

    program: int
    starts_seconds: FloatArray
    durations_seconds: FloatArray
    pitches: NDArray[np.int64]
    velocities: NDArray[np.int64]
    level: float
    pan: float


@dataclass(frozen=True)
class Arrangement:
    """One performance of a score.

    Attributes:
        voices: The leading one first.
        bpm: Felt beats a minute.
        transposition: Semitones by which the key is moved.
        ensemble: `solo`, `unison`, `drone`, `accompanied`, `one instrument`, `consort` or `broken consort`.
        excerpt_quarters: Where in the score the track begins.
    """

    voices: tuple[Voice, ...]
    bpm: float
    transposition: int
    ensemble: str
    excerpt_quarters: float

    @property
    def programs(self) -> tuple[int, ...]:
        """Programs of the pitched voices, the leading one first, each once."""
        return tuple(dict.fromkeys(voice.program for voice in self.voices if voice.program != DRUMS))

    @property
    def families(self) -> tuple[str, ...]:
        """Instrument families heard, the leading one first."""
        return tuple(dict.fromkeys(BY_PROGRAM[program].family for program in self.programs))

    @property
    def percussion(self) -> bool:
        """Whether drums beat the time."""
        return any(voice.program == DRUMS for voice in self.voices)


@dataclass(frozen=True)
class _Line:
    """A part with its instrument, still in quarter notes of the score."""

    part: Part
    program: int
    level: float


def arrange(
    score: Score, dance: str, artist: str, track_seconds: float, rng: np.random.Generator
) -> Arrangement:
    """Draw one performance of a score.

    Args:
        score: What is played.
        dance: Its dance type, which moves the tempo drawn; may be empty.
        artist: Half of an artist's tracks are led by one family, chosen for that artist.
        track_seconds: Length of the track; shorter scores are repeated as players do.
        rng: Where every choice comes from.
    """
    bpm = _draw_bpm(score, dance, rng)
    transposition = int(rng.integers(-5, 7))
    favourite = FAMILIES[digest("house sound", artist) % len(FAMILIES)]
    family = favourite if rng.random() < _HOUSE_SOUND else FAMILIES[int(rng.integers(len(FAMILIES)))]
    quarter_seconds = 60.0 / bpm / score.metre.beat_quarters
    start = _draw_excerpt(score, track_seconds / quarter_seconds, rng)
    moved = [Part(p.starts, p.durations, p.pitches + transposition) for p in score.parts]
    if len(moved) == 1:
        ensemble, lines = _arrange_tune(score, moved[0], transposition, family, rng)
    else:
        ensemble, lines = _arrange_parts(moved, family, rng)
    if rng.random() < (0.35 if len(moved) == 1 else 0.15):
        lines.append(_Line(pulse(score), DRUMS, 0.4))
    pans = _draw_pans(len(lines), rng)
    voices = []
    for line, pan in zip(lines, pans, strict=True):
        voice = _perform(line, pan, score, start, quarter_seconds, track_seconds, rng)
        if len(voice.pitches):
            voices.append(voice)
    return Arrangement(tuple(voices), bpm, transposition, ensemble, start)


def _draw_bpm(score: Score, dance: str, rng: np.random.Generator) -> float:
    """Around the dance's usual tempo or anywhere, within what can be played and heard."""
    low, high = BPM_RANGE
    if dance:
        bpm = dances.BEATS_PER_MINUTE[dance] * float(np.exp(rng.normal(0, 0.28)))
    else:
        bpm = float(np.exp(rng.uniform(np.log(60), np.log(200))))
    beat = score.metre.beat_quarters
    durations = max(score.parts, key=lambda part: len(part.pitches)).durations
    fastest = 60 * float(np.quantile(durations, 0.1)) / beat / _LEAST_NOTE_SECONDS
    slowest = 60 * float(np.median(durations)) / beat / _MOST_NOTE_SECONDS
    return round(float(np.clip(max(min(bpm, fastest), slowest), low, high)), 1)


def _draw_excerpt(score: Score, wanted_quarters: float, rng: np.random.Generator) -> float:
    """Beginning of a bar from which enough music is left; 0 for scores that are repeated."""
    bars = int((score.length_quarters - score.pickup_quarters - wanted_quarters) / score.metre.bar_quarters)
    place = int(rng.integers(0, max(bars, 0) + 1))
    return 0.0 if place == 0 else score.pickup_quarters + place * score.metre.bar_quarters


def _fit_octave(part: Part, instrument: Instrument, octaves: Sequence[int] = (0, -1, 1, -2, 2)) -> Part:
    """Move by the octaves that suit the instrument best, the first of equally good ones.

    Notes still outside its range are folded back by octaves.
    """
    low, high = (int(value) for value in np.quantile(part.pitches, (0.02, 0.98)))
    best = min(octaves, key=lambda octave: misfit(instrument, low + 12 * octave, high + 12 * octave))
    moved = part.pitches + 12 * best
    moved = np.where(moved < instrument.low, instrument.low + (moved - instrument.low) % 12, moved)
    moved = np.where(moved > instrument.high, instrument.high - (instrument.high - moved) % 12, moved)
    return Part(part.starts, part.durations, moved)


def _choose(instruments: Sequence[Instrument], rng: np.random.Generator) -> Instrument:
    return instruments[int(rng.integers(len(instruments)))]


def _arrange_tune(
    score: Score, tune: Part, transposition: int, family: str, rng: np.random.Generator
) -> tuple[str, list[_Line]]:
    """A single melody: alone, doubled, over a drone, or with bass and chords."""
    lead = _choose(of_family(family), rng)
    register = ((0, -1, 1), (-1, 0), (1, 0))[int(rng.integers(3))]
    lines = [_Line(_fit_octave(tune, lead, register), lead.program, 1.0)]
    ensemble = ("solo", "unison", "drone", "accompanied")[int(rng.choice(4, p=(0.3, 0.2, 0.15, 0.35)))]
    tonic = (score.tonic + transposition) % 12
    if ensemble == "unison":
        second = _choose([other for other in INSTRUMENTS if other != lead], rng)
        lines.append(_Line(_fit_octave(tune, second, register), second.program, 0.8))
    elif ensemble == "drone":
        holder = _choose([other for other in INSTRUMENTS if other.sustains and other.low <= 50], rng)
        lines.append(_Line(_fit_octave(drone(score, tonic), holder), holder.program, 0.45))
    elif ensemble == "accompanied":
        backing = ("keyboard", "plucked", "strings")[int(rng.integers(3))]
        player = _choose([other for other in of_family(backing) if other.low <= 45], rng)
        bass, chords = bass_and_chords(score, tune, tonic)
        lines += [
            _Line(_fit_octave(bass, player), player.program, 0.55),
            _Line(_fit_octave(chords, player), player.program, 0.45),
        ]
    return ensemble, lines


def _arrange_parts(parts: Sequence[Part], family: str, rng: np.random.Generator) -> tuple[str, list[_Line]]:
    """Several written parts: one instrument, one family, or an instrument of any family for each."""
    ensemble = ("one instrument", "consort", "broken consort")[int(rng.choice(3, p=(0.25, 0.45, 0.3)))]
    wide = [other for other in of_family(family) if other.high - other.low >= 28]
    if ensemble == "one instrument" and not wide:
        ensemble = "consort"
    shared = _choose(wide, rng) if ensemble == "one instrument" else None
    lines = []
    for place, part in enumerate(parts):
        low, high = (int(value) for value in np.quantile(part.pitches, (0.02, 0.98)))
        mixed = ensemble == "broken consort" and place > 0
        candidates = of_family(FAMILIES[int(rng.integers(len(FAMILIES)))] if mixed else family)
        best = min(misfit(instrument, low, high) for instrument in candidates)
        fitting = [instrument for instrument in candidates if misfit(instrument, low, high) <= best + 3]
        instrument = shared or _choose(fitting, rng)
        lines.append(_Line(_fit_octave(part, instrument), instrument.program, 1.0 if place == 0 else 0.85))
    return ensemble, lines


def _draw_pans(n_voices: int, rng: np.random.Generator) -> list[float]:
    """Places from left to right; a soloist stands off the centre, so that the channels differ."""
    if n_voices == 1:
        return [float(rng.choice((-1, 1)) * rng.uniform(0.2, 0.5))]
    places = np.linspace(-0.75, 0.75, n_voices)
    return [float(place) for place in rng.permutation(places)]


def _perform(
    line: _Line,
    pan: float,
    score: Score,
    start_quarters: float,
    quarter_seconds: float,
    track_seconds: float,
    rng: np.random.Generator,
) -> Voice:
    """Repeat to the track's length, turn quarters into seconds, and play a little unevenly."""
    bar = score.metre.bar_quarters
    loop = max(np.ceil(round(score.length_quarters / bar, 6)) * bar, bar)
    wanted = start_quarters + track_seconds / quarter_seconds
    turns = np.arange(int(np.ceil(wanted / loop)) + 1) * loop
    starts = (line.part.starts[None, :] + turns[:, None]).ravel()
    durations = np.tile(line.part.durations, len(turns))
    pitches = np.tile(line.part.pitches, len(turns))
    heard = (starts + durations > start_quarters) & (starts < wanted)
    starts, durations, pitches = starts[heard], durations[heard], pitches[heard]
    in_bar = (starts - score.pickup_quarters) % bar
    on_beat = np.minimum(in_bar % score.metre.beat_quarters, 1.0) < 0.02
    velocities = np.where(in_bar < 0.02, 104, np.where(on_beat, 92, 80)) + rng.integers(-5, 6, len(starts))
    begin = (starts - start_quarters) * quarter_seconds
    end = np.minimum(begin + durations * quarter_seconds * 0.96, track_seconds)
    begin = np.maximum(begin + rng.normal(0, 0.004, len(begin)), 0.0)
    seconds = np.maximum(end - begin, _LEAST_AUDIBLE_SECONDS)
    return Voice(line.program, begin, seconds, pitches, velocities, line.level, pan)


def drone(score: Score, tonic: int) -> Part:
    """Tonic and fifth, struck anew every four bars.

    Args:
        score: Gives metre and length.
        tonic: Sounding pitch class.
    """
    bars = 4 * score.metre.bar_quarters
    starts = np.arange(0.0, score.length_quarters, bars)
    root = _BASS_FROM + (tonic - _BASS_FROM) % 12
    return Part.from_rows([(float(start), bars, root + step) for start in starts for step in (0, 7)])


def bass_and_chords(score: Score, tune: Part, tonic: int) -> tuple[Part, Part]:
    """A bass note on each bar and chords on its other beats; one diatonic triad a bar.

    The triad is that of a few common degrees whose notes cover most of what the melody holds in the bar.

    Args:
        score: Gives metre, mode and length.
        tune: The melody in its sounding key.
        tonic: Sounding pitch class.

    Returns:
        Bass and chords, in quarter notes.
    """
    beat, bar = score.metre.beat_quarters, score.metre.bar_quarters
    bass, chords = [], []
    for start in bar_starts(score):
        triad = _best_triad(score.mode, tonic, _bar_histogram(tune, start, bar))
        bass.append((float(start), beat, _BASS_FROM + (triad[0] - _BASS_FROM) % 12))
        for offset in np.arange(beat, bar - 1e-6, beat):
            for pitch_class in triad:
                note = _CHORDS_FROM + (pitch_class - _CHORDS_FROM) % 12
                chords.append((float(start + offset), beat * 0.6, note))
        if bar <= beat:  # felt in one: the chord sounds with the bass
            chords += [
                (float(start), beat * 0.6, _CHORDS_FROM + (tone - _CHORDS_FROM) % 12) for tone in triad
            ]
    return Part.from_rows(bass), Part.from_rows(chords)


def pulse(score: Score) -> Part:
    """Percussion keys on every felt beat: a kick on the bar, a stick on the others, a hat half-way."""
    beat, bar = score.metre.beat_quarters, score.metre.bar_quarters
    third = 3 if score.metre.compound else 2
    rows = []
    for start in bar_starts(score):
        for place, offset in enumerate(np.arange(0.0, bar - 1e-6, beat)):
            rows.append((float(start + offset), 0.25, _SIDE_STICK if place else _KICK))
            rows.append((float(start + offset + beat * (third - 1) / third), 0.25, _CLOSED_HAT))
    return Part.from_rows(rows)


def bar_starts(score: Score) -> FloatArray:
    """Beginnings of complete bars, in quarter notes."""
    return np.arange(score.pickup_quarters, max(score.length_quarters, 0.1) - 1e-6, score.metre.bar_quarters)


def _bar_histogram(tune: Part, start: float, bar: float) -> FloatArray:
    """Quarter notes that each pitch class sounds within a bar; the first note counts double."""
    ends = tune.starts + tune.durations
    overlap = np.clip(np.minimum(ends, start + bar) - np.maximum(tune.starts, start), 0, None)
    overlap = overlap * np.where(np.abs(tune.starts - start) < 0.02, 2.0, 1.0)
    histogram: FloatArray = np.bincount(tune.pitches % 12, weights=overlap, minlength=12).astype(np.float64)
    return histogram


def _best_triad(mode: str, tonic: int, histogram: FloatArray) -> tuple[int, int, int]:
    scale = SCALES[mode]
    triads = [
        tuple((tonic + scale[(degree + step) % 7]) % 12 for step in (0, 2, 4))
        for degree in _DEGREES.get(mode, _MINOR_DEGREES)
    ]
    covered = [sum(histogram[tone] for tone in triad) - 0.01 * place for place, triad in enumerate(triads)]
    first, third, fifth = triads[int(np.argmax(covered))]
    return first, third, fifth
