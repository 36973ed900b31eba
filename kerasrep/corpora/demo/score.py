"""Notes of one piece, whatever notation they were read from."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

MODES = ("major", "minor", "dorian", "phrygian", "lydian", "mixolydian", "locrian")
KEY_NAMES = ("c", "c sharp", "d", "e flat", "e", "f", "f sharp", "g", "a flat", "a", "b flat", "b")

LEAST_NOTES = 12
#: Semitones of each mode's scale above its tonic.
SCALES = {
    "major": (0, 2, 4, 5, 7, 9, 11),
    "minor": (0, 2, 3, 5, 7, 8, 10),
    "dorian": (0, 2, 3, 5, 7, 9, 10),
    "phrygian": (0, 1, 3, 5, 7, 8, 10),
    "lydian": (0, 2, 4, 6, 7, 9, 11),
    "mixolydian": (0, 2, 4, 5, 7, 9, 10),
    "locrian": (0, 1, 3, 5, 6, 8, 10),
}

# Probe-tone ratings of Krumhansl and Kessler (1982), from the tonic up.
_MAJOR_PROFILE = (6.35, 2.23, 3.48, 2.33, 4.38, 4.09, 2.52, 5.19, 2.39, 3.66, 2.29, 2.88)
_MINOR_PROFILE = (6.33, 2.68, 3.52, 5.38, 2.60, 3.53, 2.54, 4.75, 3.98, 2.69, 3.34, 3.17)


class UnreadableScoreError(Exception):
    """A file or tune that gives no usable notes; its message is the reason to report."""


@dataclass(frozen=True)
class Part:
    """Notes of one voice or instrument.

    Attributes:
        starts: [notes], quarter notes from the beginning, ascending.
        durations: [notes], quarter notes.
        pitches: int64 [notes], MIDI note numbers.
    """

    starts: FloatArray
    durations: FloatArray
    pitches: NDArray[np.int64]

    @classmethod
    def from_rows(cls, rows: Sequence[tuple[float, float, int]]) -> Part:
        """Sort `(start, duration, pitch)` rows into a part."""
        ordered = sorted(rows)
        return cls(
            np.array([row[0] for row in ordered], np.float64),
            np.array([row[1] for row in ordered], np.float64),
            np.array([row[2] for row in ordered], np.int64),
        )


@dataclass(frozen=True)
class Metre:
    """A time signature.

    Attributes:
        beats: Upper number.
        unit: Lower number.
    """

    beats: int = 4
    unit: int = 4

    @property
    def bar_quarters(self) -> float:
        """Length of a bar in quarter notes."""
        return self.beats * 4 / self.unit

    @property
    def compound(self) -> bool:
        """Whether beats divide in three: 6/8, 9/8, 12/8, and 3/8 felt in one."""
        return self.beats % 3 == 0 and (self.beats > 3 or self.unit >= 8)

    @property
    def beat_quarters(self) -> float:
        """Length of the felt beat in quarter notes: the dotted one in compound metres, the minim in x/2."""
        return (12 if self.compound else 4) / self.unit

    def __str__(self) -> str:
        return f"{self.beats}/{self.unit}"


@dataclass(frozen=True)
class Score:
    """One piece.

    Attributes:
        parts: From the top down; none is empty.
        metre: The first time signature.
        tonic: Pitch class, 0 for C.
        mode: One of `MODES`.
        pickup_quarters: Length of the incomplete first bar, 0 where it is complete.
        words: Sung words, lower case, with how often they stand in the part that has each most often.
    """

    parts: tuple[Part, ...]
    metre: Metre
    tonic: int
    mode: str
    pickup_quarters: float = 0.0
    words: Mapping[str, int] = field(default_factory=dict)

    @property
    def length_quarters(self) -> float:
        """Where the last note ends."""
        return max(float((part.starts + part.durations).max()) for part in self.parts)


def estimate_key(parts: Sequence[Part]) -> tuple[int, str]:
    """Tonic and mode (`major` or `minor`) after Krumhansl and Schmuckler.

    The key whose probe-tone profile correlates best with the time each pitch class sounds.

    Returns:
        Pitch class of the tonic, and the mode.
    """
    histogram = np.zeros(12)
    for part in parts:
        np.add.at(histogram, part.pitches % 12, part.durations)
    best = (-2.0, 0, "major")
    if np.ptp(histogram) > 0:
        for mode, profile in (("major", _MAJOR_PROFILE), ("minor", _MINOR_PROFILE)):
            for tonic in range(12):
                correlation = float(np.corrcoef(np.roll(profile, tonic), histogram)[0, 1])
                best = max(best, (correlation, tonic, mode))
    return best[1], best[2]


def check_usable(parts: Sequence[Part]) -> tuple[Part, ...]:
    """Drop empty parts.

    Raises:
        UnreadableScoreError: Where too few notes are left, or pitches lie outside MIDI's range.
    """
    kept = tuple(part for part in parts if len(part.pitches))
    n_notes = sum(len(part.pitches) for part in kept)
    if n_notes < LEAST_NOTES:
        raise UnreadableScoreError(f"has {n_notes} notes, fewer than {LEAST_NOTES}")
    if any(part.pitches.min() < 0 or part.pitches.max() > 127 for part in kept):
        raise UnreadableScoreError("has pitches outside MIDI's range")
    return kept
