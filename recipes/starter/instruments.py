"""Names of General MIDI's 16 families of programs, and 6 classes of its drum keys."""

from __future__ import annotations

FAMILIES = (
    "piano",
    "chromatic percussion",
    "organ",
    "guitar",
    "bass",
    "strings",
    "ensemble",
    "brass",
    "reed",
    "pipe",
    "synth lead",
    "synth pad",
    "synth effects",
    "ethnic",
    "percussive",
    "sound effects",
)
"""Eight programs each."""

DRUM_CLASSES = ("kick", "snare", "hi-hat", "tom", "cymbal", "other percussion")

_KEYS = (
    {35, 36},
    {37, 38, 39, 40},
    {42, 44, 46},
    {41, 43, 45, 47, 48, 50},
    {49, 51, 52, 53, 55, 57, 59},
)
"""Keys of the first five classes; side stick and hand clap count as snare, ride and splash as cymbal."""

DRUM_KEYS = range(35, 82)


def family(program: int) -> str:
    """The family of a program (0 to 127).

    >>> family(0), family(33)
    ('piano', 'bass')
    """
    return FAMILIES[program // 8]


def drum_class(key: int) -> str:
    """The class of a drum key (35 to 81 in General MIDI).

    >>> drum_class(36), drum_class(46), drum_class(56)
    ('kick', 'hi-hat', 'other percussion')
    """
    for name, keys in zip(DRUM_CLASSES, _KEYS, strict=False):
        if key in keys:
            return name
    return DRUM_CLASSES[-1]
