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


# Only what symusic 0.5.8 plays in tune from TimGM6mb, measured note by note: it mistunes other programs by
# semitones (the piano, guitars, violin and drawbar organs among them), never returns for high notes of some,
# and reads past the samples of program 78. The ranges are what was found in tune within them.
INSTRUMENTS = (
    Instrument(5, "electric piano", "keyboard", 36, 72, False),
    Instrument(6, "harpsichord", "keyboard", 48, 76, False),
    Instrument(19, "church organ", "keyboard", 36, 60),
    Instrument(8, "celesta", "tuned percussion", 48, 91, False),
    Instrument(10, "music box", "tuned percussion", 48, 91, False),
    Instrument(12, "marimba", "tuned percussion", 40, 65, False),
    Instrument(28, "muted guitar", "plucked", 40, 67, False),
    Instrument(45, "pizzicato strings", "plucked", 36, 78, False),
    Instrument(46, "harp", "plucked", 33, 75, False),
    Instrument(107, "koto", "plucked", 40, 76, False),
    Instrument(43, "contrabass", "strings", 33, 60),
    Instrument(44, "tremolo strings", "strings", 40, 91),
    Instrument(48, "string ensemble", "strings", 33, 91),
    Instrument(56, "trumpet", "brass", 54, 84),
    Instrument(57, "trombone", "brass", 38, 68),
    Instrument(58, "tuba", "brass", 33, 60),
    Instrument(59, "muted trumpet", "brass", 52, 69),
    Instrument(64, "soprano saxophone", "reed", 56, 88),
    Instrument(65, "alto saxophone", "reed", 49, 81),
    Instrument(66, "tenor saxophone", "reed", 44, 73),
    Instrument(68, "oboe", "reed", 58, 88),
    Instrument(69, "english horn", "reed", 52, 72),
    Instrument(70, "bassoon", "reed", 34, 61),
    Instrument(71, "clarinet", "reed", 59, 76),
    Instrument(73, "flute", "pipe", 60, 91),
    Instrument(74, "recorder", "pipe", 62, 76),
    Instrument(79, "ocarina", "pipe", 57, 89),
    Instrument(53, "voice", "voice", 45, 73),
)

FAMILIES = tuple(dict.fromkeys(instrument.family for instrument in INSTRUMENTS))
BY_PROGRAM = {instrument.program: instrument for instrument in INSTRUMENTS}


def of_family(family: str) -> tuple[Instrument, ...]:
    """Instruments of a family, in program order of the table."""
    return tuple(instrument for instrument in INSTRUMENTS if instrument.family == family)


def misfit(instrument: Instrument, low: int, high: int) -> int:
    """Semitones by which a range of notes exceeds the instrument's, below and above together."""
    return max(0, instrument.low - low) + max(0, high - instrument.high)
