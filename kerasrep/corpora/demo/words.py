"""Sung words: syllables joined, cleaned, counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

_LETTERS = re.compile(r"[^\W\d_]+(?:'[^\W\d_]+)?")
_LEAST_LETTERS = 2


def count_words(text: str) -> Counter[str]:
    """Count the words of a text: lower case, letters and inner apostrophes only."""
    words = _LETTERS.findall(text.replace("’", "'").lower())
    return Counter(word for word in words if len(word) >= _LEAST_LETTERS)


def join_syllables(syllables: Iterable[tuple[str, str | None]]) -> str:
    """Join sung syllables to words.

    Args:
        syllables: Text and its place in the word as MusicXML names it: `single`, `begin`, `middle`, `end`.
    """
    pieces: list[str] = []
    for text, place in syllables:
        pieces.append(text.strip().rstrip("-"))
        if place not in ("begin", "middle") and not text.strip().endswith("-"):
            pieces.append(" ")
    return "".join(pieces)


def text_of_abc_lyrics(line: str) -> str:
    """Plain text of the content of an ABC `w:` line (hyphens, holds and skips removed)."""
    sung = re.sub(r"[_*|]", " ", line).replace("~", " ")
    return re.sub(r"\s+", " ", re.sub(r"-\s*", "", sung)).strip()


def merge_parts(counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Each word as often as the part that has it most often sings it, so that voices do not multiply it."""
    merged: Counter[str] = Counter()
    for part in counts:
        merged |= Counter(part)
    return dict(sorted(merged.items()))
