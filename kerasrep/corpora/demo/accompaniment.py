"""Accompaniment for single melodies: drones, bass and chords, and a drum that beats the time."""

from __future__ import annotations

import numpy as np

from kerasrep.corpora.demo.score import SCALES, FloatArray, Part, Score

_BASS_FROM = 36  # C2
_CHORDS_FROM = 52  # E3
_DEGREES = {"major": (0, 3, 4, 5, 1), "mixolydian": (0, 6, 3, 4), "lydian": (0, 1, 4)}
_MINOR_DEGREES = (0, 6, 3, 2, 5, 4)
_KICK, _SIDE_STICK, _CLOSED_HAT = 36, 37, 42  # General MIDI percussion keys


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
