"""Dance types: read from headers, titles and the order of a printed collection."""

from __future__ import annotations

import re

# Type -> words that name it, and beats a minute at which players commonly take it (the felt beat).
_TYPES: tuple[tuple[str, str, float], ...] = (
    ("slip jig", r"slip ?jig|hop jig", 125.0),
    ("jig", r"jig|gigg?|slide", 115.0),
    ("strathspey", r"strathspey", 150.0),
    ("highland fling", r"fling|highland schottische", 150.0),
    ("reel", r"reel|rant\b", 105.0),
    ("clog", r"clog", 85.0),
    ("hornpipe", r"hornpipe", 80.0),
    ("waltz", r"waltz|valse", 140.0),
    ("minuet", r"minuet", 110.0),
    ("polka", r"polka", 120.0),
    ("quickstep", r"quick ?-?step|quick march", 110.0),
    ("march", r"march\b", 90.0),
    ("gavotte", r"gavott", 120.0),
    ("cotillion", r"cotill", 110.0),
    ("walkaround", r"walk ?around", 110.0),
    ("air", r"\bair\b|lament|planxty", 75.0),
)
BEATS_PER_MINUTE = {name: bpm for name, _, bpm in _TYPES}

# O'Neill's Music of Ireland (1903) prints its tunes by kind, under these numbers.
_ONEILL_NUMBERS = (
    (1, 700, "air"),
    (701, 1115, "jig"),
    (1116, 1175, "slip jig"),
    (1176, 1555, "reel"),
    (1556, 1780, "hornpipe"),
    (1801, 1850, "march"),
)


def dance_type(rhythm: str, title: str, collection: str = "", number: int = 0) -> str:
    """Dance type of a tune, or an empty string.

    Args:
        rhythm: Its `R:` field, which decides where it names a type.
        title: Looked at where the rhythm is silent and the number says nothing.
        collection: `oneill` where its numbers count.
        number: In the printed collection.
    """
    if found := _named_in(rhythm):
        return found
    if collection == "oneill":
        for first, last, name in _ONEILL_NUMBERS:
            if first <= number <= last:
                return name
    return _named_in(title)


def _named_in(text: str) -> str:
    return next((name for name, pattern, _ in _TYPES if re.search(pattern, text.lower())), "")
