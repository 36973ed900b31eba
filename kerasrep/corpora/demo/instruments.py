"""General MIDI instruments: families that a listener tells apart, and where each instrument sounds well."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Instrument:
    """One General MIDI program.

    Attributes:
        program: 0 to 127.
        name: Short, lower case.
        family: One of `FAMILIES`.
        low: Lowest MIDI note that it is given.
        high: Highest MIDI note that it is given.
        sustains: Whether a note goes on as long as it is held; such instruments can hold a drone.
    """

    program: int
    name: str
    family: str
    low: int
    high: int
    sustains: bool = True


# Ranges are also what symusic 0.5.8 renders well with TimGM6mb: above them programs 19, 22, 40, 72 and 110
# never return, and program 78 reads past its samples and is left out.
INSTRUMENTS = (
    Instrument(0, "piano", "keyboard", 28, 100, False),
    Instrument(6, "harpsichord", "keyboard", 36, 89, False),
    Instrument(4, "electric piano", "keyboard", 33, 96, False),
    Instrument(16, "drawbar organ", "organ", 36, 96),
    Instrument(19, "church organ", "organ", 36, 96),
    Instrument(21, "accordion", "organ", 50, 91),
    Instrument(22, "harmonica", "organ", 55, 91),
    Instrument(24, "guitar", "plucked", 40, 81, False),
    Instrument(46, "harp", "plucked", 28, 98, False),
    Instrument(105, "banjo", "plucked", 48, 84, False),
    Instrument(15, "dulcimer", "plucked", 48, 88, False),
    Instrument(40, "violin", "strings", 55, 96),
    Instrument(41, "viola", "strings", 48, 81),
    Instrument(42, "cello", "strings", 36, 72),
    Instrument(48, "string ensemble", "strings", 33, 93),
    Instrument(110, "fiddle", "strings", 55, 93),
    Instrument(56, "trumpet", "brass", 54, 84),
    Instrument(57, "trombone", "brass", 38, 70),
    Instrument(58, "tuba", "brass", 28, 56),
    Instrument(60, "horn", "brass", 41, 77),
    Instrument(66, "tenor saxophone", "reed", 44, 76),
    Instrument(68, "oboe", "reed", 58, 88),
    Instrument(70, "bassoon", "reed", 34, 67),
    Instrument(71, "clarinet", "reed", 50, 86),
    Instrument(109, "bagpipe", "reed", 50, 84),
    Instrument(72, "piccolo", "pipe", 74, 98),
    Instrument(73, "flute", "pipe", 60, 96),
    Instrument(74, "recorder", "pipe", 60, 96),
    Instrument(75, "pan flute", "pipe", 55, 91),
    Instrument(52, "choir", "voice", 43, 79),
    Instrument(53, "voice", "voice", 43, 81),
    Instrument(9, "glockenspiel", "tuned percussion", 72, 108, False),
    Instrument(11, "vibraphone", "tuned percussion", 53, 89, False),
    Instrument(12, "marimba", "tuned percussion", 45, 91, False),
)

FAMILIES = tuple(dict.fromkeys(instrument.family for instrument in INSTRUMENTS))
BY_PROGRAM = {instrument.program: instrument for instrument in INSTRUMENTS}


def of_family(family: str) -> tuple[Instrument, ...]:
    """Instruments of a family, in program order of the table."""
    return tuple(instrument for instrument in INSTRUMENTS if instrument.family == family)


def misfit(instrument: Instrument, low: int, high: int) -> int:
    """Semitones by which a range of notes exceeds the instrument's, below and above together."""
    return max(0, instrument.low - low) + max(0, high - instrument.high)
